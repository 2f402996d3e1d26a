package taskclient

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/llorch/llorch/orchestrator/taskapi"
	"github.com/llorch/llorch/orchestrator/worker/sse"
)

// ErrGap: events between the last one and this one are lost: the server no longer
// keeps them.
var ErrGap = errors.New("taskclient: events are missing before this one")

// ErrStreamLost: the stream could not be taken up again. It wraps the last reason.
var ErrStreamLost = errors.New("taskclient: the stream is lost")

var errSilent = errors.New("taskclient: the connection is silent")

const (
	// silence is how long a connection may say nothing: three keep-alives of the server.
	silence = 45 * time.Second
	// fruitless is how many connections in a row may bring nothing new.
	fruitless = 10
	// maxText bounds the text that Wait gathers, in bytes.
	maxText = 64 << 20
)

// The types of events that mean something here.
const (
	eventTokenKind = "token"
	eventResult    = "result"
	eventEnd       = "end"
	eventError     = "error"
)

// Event is one event of a task's stream; see the payloads of package taskapi.
type Event struct {
	ID   uint64
	Type string // queued, started, token, metrics, result, end, error
	Data json.RawMessage
}

// Events yields the events of a task from the first on and ends behind the
// terminal one. It reconnects as often as needed, to the next replica first, and
// yields no event twice. With [ErrGap] comes the event behind the gap; going on
// with the loop goes on with the stream. Every other error is the last: a
// *[taskapi.Error] when the server refused, [ErrStreamLost], or the context's.
//
// Leaving the loop tells the server that this reader is gone, which may cancel
// the task (see Submit.OnDisconnect). The ids of a /v1 call's events have gaps here.
func (c *Client) Events(ctx context.Context, id string) iter.Seq2[Event, error] {
	return c.EventsAfter(ctx, id, 0)
}

// EventsAfter is Events for a reader who has everything up to the id after.
func (c *Client) EventsAfter(ctx context.Context, id string, after uint64) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		r := &reader{c: c, id: id, last: after, yield: yield}
		for n := 1; ; n++ {
			before := r.last
			base, turn := c.replica()
			err := r.connect(ctx, func(ctx context.Context) (*http.Response, error) {
				return c.send(ctx, base, request{method: http.MethodGet, path: taskPath(id) + "/events", after: r.last, stream: true})
			})
			if r.over {
				return
			}
			if ctx.Err() != nil {
				yield(Event{}, context.Cause(ctx))
				return
			}
			hint, again := time.Duration(0), true
			if e, ok := errors.AsType[*taskapi.Error](err); ok {
				hint, again = e.RetryAfter, e.Retriable
			} else if _, useless := errors.AsType[*tokenErr](err); useless {
				again = false
			}
			if !again {
				yield(Event{}, err)
				return
			}
			c.pass(turn)
			if r.last > before {
				n = 0
			}
			if n == fruitless || !c.pause(ctx, max(n, 1), hint, err) {
				if ctx.Err() != nil {
					err = context.Cause(ctx)
				} else {
					err = fmt.Errorf("%w: %w", ErrStreamLost, err)
				}
				yield(Event{}, err)
				return
			}
		}
	}
}

// reader is one pass through a task's events.
type reader struct {
	c     *Client
	id    string
	last  uint64 // id of the last event that was yielded
	over  bool   // the terminal event came, or the loop was left
	yield func(Event, error) bool
}

// connect reads one connection until it ends, says nothing for too long, or
// everything is read. Its error says why the stream is not over.
func (r *reader) connect(ctx context.Context, open func(context.Context) (*http.Response, error)) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	quiet := time.AfterFunc(silence, func() { cancel(errSilent) })
	defer quiet.Stop()
	res, err := open(ctx)
	if err != nil {
		return silent(ctx, err)
	}
	switch res.StatusCode {
	case http.StatusOK:
	case http.StatusNoContent: // everything was read before
		r.over = true
		return res.Body.Close()
	default:
		return refusal(res)
	}
	defer res.Body.Close()
	if media, _, _ := strings.Cut(res.Header.Get("Content-Type"), ";"); media != "text/event-stream" {
		return errors.New("taskclient: the answer is no event stream")
	}
	frames := sse.NewDecoder(&heard{res.Body, quiet}, sse.Limits{})
	for {
		f, err := frames.Next()
		if err != nil {
			return silent(ctx, err)
		}
		quiet.Stop() // a consumer that takes its time is not silence
		if err := r.take(f); err != nil || r.over {
			return err
		}
		quiet.Reset(silence)
	}
}

// silent tells our own cut from that of others.
func silent(ctx context.Context, err error) error {
	if context.Cause(ctx) == errSilent {
		return errSilent
	}
	return err
}

// heard puts the end of a connection off with every byte.
type heard struct {
	io.Reader
	quiet *time.Timer
}

func (h *heard) Read(p []byte) (int, error) {
	n, err := h.Reader.Read(p)
	if n > 0 {
		h.quiet.Reset(silence)
	}
	return n, err
}

// take passes one frame on, unless the reader has it.
func (r *reader) take(f sse.Frame) error {
	id, err := strconv.ParseUint(f.ID, 10, 64)
	if err != nil {
		return errors.New("taskclient: an event has no id")
	}
	if id <= r.last {
		return nil
	}
	var gap error
	if id != r.last+1 {
		gap = ErrGap
	}
	r.last = id
	ev := Event{ID: id, Type: f.Event, Data: bytes.Clone(f.Data)}
	left := !r.yield(ev, gap)
	r.over = left || ev.Type == eventEnd || ev.Type == eventError
	return nil
}

// Result is how a task ended well.
type Result struct {
	Text   string          // of all tokens
	Result json.RawMessage // of an embedding, a reranking or a call that did not stream; nil without one
	End    taskapi.End
}

// Wait reads a task to its end. A task that failed or was cancelled is a
// *[taskapi.Error]; for other errors see [Client.Events]. With [ErrGap], which
// says that the text is not whole, the result holds what came.
func (c *Client) Wait(ctx context.Context, id string) (Result, error) {
	var out Result
	var text strings.Builder
	var gap error
	for ev, err := range c.Events(ctx, id) {
		if errors.Is(err, ErrGap) {
			gap = err
		} else if err != nil {
			return out, err
		}
		if err := out.add(&text, ev); err != nil {
			return out, err
		}
		out.Text = text.String()
	}
	return out, gap
}

// add takes one event up.
func (r *Result) add(text *strings.Builder, ev Event) error {
	switch ev.Type {
	case eventTokenKind:
		var t struct {
			taskapi.Token
			Batch []taskapi.Token `json:"batch"`
		}
		if err := json.Unmarshal(ev.Data, &t); err != nil {
			return fmt.Errorf("decode token: %w", err)
		}
		for _, t := range append(t.Batch, t.Token) {
			text.WriteString(t.T)
		}
		if text.Len() > maxText {
			return errors.New("taskclient: the text is too large")
		}
	case eventResult:
		r.Result = ev.Data
	case eventEnd:
		if err := json.Unmarshal(ev.Data, &r.End); err != nil {
			return fmt.Errorf("decode end: %w", err)
		}
	case eventError:
		var e taskapi.ErrorEvent
		if err := json.Unmarshal(ev.Data, &e); err != nil {
			return fmt.Errorf("decode error: %w", err)
		}
		return e.Err()
	}
	return nil
}
