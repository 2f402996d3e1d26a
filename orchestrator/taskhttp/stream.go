package taskhttp

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/llorch/llorch/orchestrator"
	"github.com/llorch/llorch/orchestrator/taskapi"
)

const (
	// writeWait is how long one write to a reader may take (ORC-504).
	writeWait = 10 * time.Second
	// sendPiece is how much has to get through in writeWait, in bytes.
	sendPiece = 64 << 10
	// coalesce is how much is gathered for a reader who is behind, in bytes.
	coalesce = 16 << 10
	// readAhead is how many events wait between engine and connection; with
	// more, the engine sees that this reader lags.
	readAhead = 64
)

// stream is the response of one event stream. Its owner is the handler's goroutine.
type stream struct {
	c     *call
	rc    *http.ResponseController
	buf   []byte
	begun bool // the status is sent
}

// begin sends the status (ORC-503); later failures have to go into the stream.
func (s *stream) begin() {
	if s.begun {
		return
	}
	s.begun = true
	h := s.c.w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("Cache-Control", "no-cache, no-transform")
	h.Set("X-Accel-Buffering", "no")
	h.Set("X-Content-Type-Options", "nosniff")
	if s.c.r.ProtoMajor == 1 && s.c.r.ProtoMinor == 1 {
		h.Set("Connection", "keep-alive")
	}
	s.c.w.WriteHeader(http.StatusOK)
}

// flush sends what was gathered.
func (s *stream) flush() error {
	if len(s.buf) == 0 && s.begun {
		return nil
	}
	s.begin()
	err := send(s.c.w, s.rc, s.buf)
	s.buf = s.buf[:0]
	return err
}

// send writes p, each piece of it within writeWait. The deadline is lifted
// afterwards: on HTTP/2 one that passes between two writes ends a stream.
func send(w http.ResponseWriter, rc *http.ResponseController, p []byte) error {
	for piece := range slices.Chunk(p, sendPiece) {
		_ = rc.SetWriteDeadline(time.Now().Add(writeWait)) // not every writer has one
		if _, err := w.Write(piece); err != nil {
			return err
		}
	}
	err := rc.Flush()
	_ = rc.SetWriteDeadline(time.Time{})
	return err
}

// reader is how one kind of client wants its stream.
type reader interface {
	// event appends what the client shall see of ev. Its error is the answer
	// while nothing was sent.
	event(s *stream, ev orchestrator.Event) error
	// idle appends what tells that the connection lives.
	idle(s *stream)
	// broken appends what tells of a failure in mid-stream.
	broken(s *stream, e *taskapi.Error)
	// end is called when the engine has nothing more, instead of a last event.
	end(s *stream) error
}

// relay carries events to the client until they end, the client is gone or it
// does not read. Before the first byte an error is returned and answered by the
// caller. wait is how long the first byte is held back for that.
func (c *call) relay(items <-chan item, wait time.Duration, r reader) error {
	s := &stream{c: c, rc: http.NewResponseController(c.w)}
	quiet := time.NewTimer(wait)
	defer quiet.Stop()
	for {
		select {
		case it, more := <-items:
			done, err := c.step(s, r, it, more)
			if err != nil || done {
				return err
			}
			if len(s.buf) == 0 || len(items) > 0 && len(s.buf) < coalesce {
				continue // nothing to show, or more follows at once
			}
		case <-quiet.C:
			r.idle(s)
		}
		if err := s.flush(); err != nil {
			c.lost(err)
			return nil
		}
		if c.h.KeepAlive > 0 {
			quiet.Reset(c.h.KeepAlive)
		} else {
			quiet.Stop()
		}
	}
}

// step handles one event, or the end of all. done means that the stream is over.
func (c *call) step(s *stream, r reader, it item, more bool) (done bool, err error) {
	switch {
	case more && it.err != nil:
		err = it.err
	case more:
		err = r.event(s, it.ev)
	case c.r.Context().Err() != nil:
		err = c.r.Context().Err()
	default:
		done, err = true, r.end(s)
	}
	if err != nil && !s.begun && len(s.buf) == 0 {
		return true, err
	}
	if err != nil {
		r.broken(s, c.fault(err))
	} else if !done {
		return false, nil
	}
	if err := s.flush(); err != nil {
		c.lost(err)
	}
	return true, nil
}

// errUnfinished is a broken promise of the engine.
var errUnfinished = errors.New("taskhttp: events ended without a terminal event")

// lost notes a reader that could not be written to. A reader that went away is
// everyday business; one that stopped reading is worth a line.
func (c *call) lost(err error) {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		c.h.Logger.LogAttrs(c.r.Context(), slog.LevelInfo, "A reader did not take its events in time and was cut.",
			slog.String("event", "slow_reader"), slog.String("correlation_id", c.correlation))
	}
}

// item is one step of the engine's iterator.
type item struct {
	ev  orchestrator.Event
	err error
}

// follow runs the engine's iterator beside the handler, so that the handler can
// wait for silence too. stop leaves the iterator and joins it. From here on the
// server's own WriteTimeout does not count: the answer takes as long as the
// task. (Its ReadTimeout ended with the request's body.)
func (c *call) follow(id orchestrator.TaskID, after uint64) (items <-chan item, stop func()) {
	_ = http.NewResponseController(c.w).SetWriteDeadline(time.Time{})
	ctx, cancel := context.WithCancel(c.r.Context())
	ch := make(chan item, readAhead)
	var wg sync.WaitGroup
	wg.Go(func() {
		defer close(ch)
		for ev, err := range c.h.Orchestrator.Events(ctx, c.p, id, after) {
			select {
			case ch <- item{ev, err}:
			case <-ctx.Done():
				return
			}
			if err != nil {
				return
			}
		}
	})
	return ch, func() { cancel(); wg.Wait() }
}

// enter takes one of the places for streams; leave gives it back.
func (h *handler) enter() error {
	if h.streams.Add(1) > int64(h.MaxStreams) {
		h.streams.Add(-1)
		return taskapi.TooManyStreams
	}
	return nil
}

func (h *handler) leave() { h.streams.Add(-1) }
