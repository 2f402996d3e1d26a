package worker

import (
	"context"
	"io"
	"math"
	"mime"
	"net/http"
	"net/http/httptrace"
	"sync/atomic"
	"time"

	"github.com/llorch/llorch/orchestrator/worker/sse"
)

// Limits of an answer (ORC-447). The text of a stream may have 64 bytes per
// token; a frame carries a lot around its token, with logprobs some KiB.
const (
	textPerToken = 64
	wirePerToken = 4 << 10
	wireSlack    = 1 << 20
	tokenSlack   = 16
	maxResult    = 64 << 20 // an answer that is held whole
)

// Start implements [Adapter]. The first-token time runs from here, and covers
// the wait for a connection; neither it nor Idle applies to a job that does not
// stream, which only ctx bounds.
func (d *Dialer) Start(ctx context.Context, t Target, j *Job) (Stream, error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	body, err := j.body(t)
	if err != nil {
		return nil, err
	}
	tr, base, err := d.transport(t)
	if err != nil {
		return nil, err
	}
	c := newCall(ctx, j)
	req, err := newRequest(c.run, base, t, j, body)
	if err == nil {
		err = c.send(tr, req)
	}
	if err == nil {
		err = c.accept(j)
	}
	if err != nil {
		c.close()
		return nil, err
	}
	if j.streams() {
		return newStream(d, c, t, j), nil
	}
	return &result{call: c, limit: min(wireLimit(j), maxResult), cut: j.cutBy(t)}, nil
}

func wireLimit(j *Job) int64 { return int64(j.maxTokens()+tokenSlack)*wirePerToken + wireSlack }

// call is one HTTP exchange and the clocks on it.
type call struct {
	ctx    context.Context // the caller's: its cause is the answer once it has ended
	run    context.Context // ended by ctx, by a clock and by close
	cancel context.CancelCauseFunc
	first  *clock // until the first token; nil if the job does not stream
	idle   *clock // stopped, except while a read after the first token waits
	wait   time.Duration
	resp   *http.Response
}

func newCall(ctx context.Context, j *Job) *call {
	c := &call{ctx: ctx, wait: orDefault(j.Idle, defaultIdle)}
	c.run, c.cancel = context.WithCancelCause(ctx)
	if j.streams() {
		c.first = c.clock(orDefault(j.FirstToken, defaultFirstToken), "no first token in time")
	}
	return c
}

// A clock that rings this much too late tells that this process stood still, not
// the engine: it then waits this long once more.
const (
	stood    = time.Second
	reprieve = 5 * time.Second
)

// clock ends the call after d.
func (c *call) clock(d time.Duration, reason string) *clock {
	t := &clock{end: func() { c.cancel(&Failure{Class: Timeout, Reason: reason}) }}
	t.timer = time.AfterFunc(math.MaxInt64, t.ring)
	t.Reset(d)
	return t
}

// clock is a timer that does not count the time in which its process stood still.
type clock struct {
	timer *time.Timer
	end   func()
	due   atomic.Int64 // Unix ns on the wall clock, which goes on while a machine sleeps
}

func (t *clock) ring() {
	if late := time.Duration(time.Now().UnixNano() - t.due.Load()); late > stood {
		t.Reset(min(late, reprieve))
		return
	}
	t.end()
}

// Reset begins the clock anew.
func (t *clock) Reset(d time.Duration) {
	t.due.Store(time.Now().Add(d).UnixNano())
	t.timer.Reset(d)
}

// Stop ends the clock.
func (t *clock) Stop() { t.timer.Stop() }

// send makes the round trip up to the response's header.
func (c *call) send(tr *http.Transport, req *http.Request) error {
	var connected, answered atomic.Bool
	req = req.WithContext(httptrace.WithClientTrace(req.Context(), &httptrace.ClientTrace{
		GotConn:              func(httptrace.GotConnInfo) { connected.Store(true) },
		GotFirstResponseByte: func() { answered.Store(true) },
	}))
	resp, err := tr.RoundTrip(req)
	if err != nil {
		if over := c.over(); over != nil {
			return over
		}
		return callFailure(err, connected.Load(), answered.Load())
	}
	c.resp = resp
	return nil
}

// accept judges the response's header.
func (c *call) accept(j *Job) error {
	if c.resp.StatusCode != http.StatusOK {
		c.drain()
		return statusFailure(c.resp.StatusCode, c.resp.Header, time.Now())
	}
	want := "application/json"
	if j.streams() {
		want = "text/event-stream"
	}
	got, _, err := mime.ParseMediaType(c.resp.Header.Get("Content-Type"))
	if err != nil || got != want {
		return &Failure{Class: Protocol, Status: c.resp.StatusCode, Reason: "the answer is not " + want}
	}
	if enc := c.resp.Header.Get("Content-Encoding"); enc != "" && enc != "identity" {
		return &Failure{Class: Protocol, Status: c.resp.StatusCode, Reason: "the answer is compressed though we asked for none"}
	}
	return nil
}

// over returns why the call was ended from our side, nil if it was not.
func (c *call) over() error {
	if c.ctx.Err() != nil {
		return context.Cause(c.ctx)
	}
	if c.run.Err() != nil {
		return context.Cause(c.run)
	}
	return nil
}

// explain turns an error of reading the body into the call's answer.
func (c *call) explain(err error) error {
	if over := c.over(); over != nil {
		return over
	}
	switch {
	case err == errTooMuch || err == sse.ErrFrameTooLarge:
		return &Failure{Class: Protocol, Reason: "the answer is larger than its limit"}
	case err == sse.ErrTruncated || lost(err):
		return &Failure{Class: Reset, Reason: "the engine's answer ended early", Err: err}
	}
	return &Failure{Class: Protocol, Reason: "the answer's transfer coding is broken", Err: err}
}

// Bounds of reading what nobody wants any more, so that the connection can be
// used again (ORC-448).
const (
	drainBytes = 64 << 10
	drainTime  = 250 * time.Millisecond
)

// drain reads the rest of the body if that is short and soon.
func (c *call) drain() {
	defer c.clock(drainTime, "").Stop()
	_, _ = io.CopyN(io.Discard, c.resp.Body, drainBytes)
}

// close ends the exchange. A connection whose body was not read to its end is
// closed.
func (c *call) close() {
	c.cancel(errClosed)
	if c.first != nil {
		c.first.Stop()
	}
	if c.resp != nil {
		_ = c.resp.Body.Close()
	}
}
