package workertest

import (
	"context"
	"sync"
	"time"
)

// Outcome is how a request for work ended.
type Outcome string

// The outcomes.
const (
	Running   Outcome = "running"   // it has not ended
	Finished  Outcome = "finished"  // the whole answer was sent
	Cancelled Outcome = "cancelled" // the client went away first
	Refused   Outcome = "refused"   // answered with an error status
	Broken    Outcome = "broken"    // ended by a fault
)

// Request is the account of one request for work.
type Request struct {
	Number      int64 // from 1, in order of arrival
	Key         string
	Correlation string
	Path        string
	Arrived     time.Time
	Started     time.Time // when it got a slot; zero if it never did
	Ended       time.Time
	Outcome     Outcome
	Status      int // HTTP status of a refused one
	Tokens      int // sent
}

// Stats counts requests for work.
type Stats struct {
	Arrived, Started                     int64
	Finished, Cancelled, Refused, Broken int64
	Running, Waiting                     int // now
	Tokens                               int64
	LastCancel                           time.Time
}

// Event is one line of an engine's trace. It holds the text that was sent, and
// no prompt.
type Event struct {
	Seq         int64     `json:"seq"`
	Time        time.Time `json:"time"`
	Event       string    `json:"event"` // arrived, started, token, fault, finished, cancelled, refused, broken
	Request     int64     `json:"request"`
	Key         string    `json:"key,omitempty"`
	Correlation string    `json:"correlation_id,omitempty"`
	Path        string    `json:"path,omitempty"`
	Status      int       `json:"status,omitempty"`
	Token       int       `json:"token,omitempty"` // from 1
	Text        string    `json:"text,omitempty"`
	Fault       string    `json:"fault,omitempty"`
}

// maxRequests bounds the accounts that are kept; the oldest go first.
const maxRequests = 4096

// book keeps the accounts.
type book struct {
	trace func(Event)

	mu       sync.Mutex
	seq      int64
	stats    Stats
	requests []*Request // the last maxRequests, by number
	changed  chan struct{}
}

func (b *book) changedLocked() {
	if b.changed != nil {
		close(b.changed)
		b.changed = nil
	}
}

func (b *book) emitLocked(e Event) {
	b.seq++
	if b.trace != nil {
		e.Seq, e.Time = b.seq, time.Now()
		b.trace(e)
	}
}

// touch wakes those who wait for a change.
func (b *book) touch() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.changedLocked()
}

// arrive opens an account.
func (b *book) arrive(key, correlation, path string) *Request {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.stats.Arrived++
	r := &Request{Number: b.stats.Arrived, Key: key, Correlation: correlation, Path: path, Arrived: time.Now(), Outcome: Running}
	if len(b.requests) == maxRequests {
		b.requests = append(b.requests[:0], b.requests[1:]...)
	}
	b.requests = append(b.requests, r)
	b.emitLocked(Event{Event: "arrived", Request: r.Number, Key: key, Correlation: correlation, Path: path})
	b.changedLocked()
	return r
}

func (b *book) start(r *Request) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.stats.Started++
	r.Started = time.Now()
	b.emitLocked(Event{Event: "started", Request: r.Number, Key: r.Key})
	b.changedLocked()
}

func (b *book) token(r *Request, text string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.stats.Tokens++
	r.Tokens++
	b.emitLocked(Event{Event: "token", Request: r.Number, Token: r.Tokens, Text: text})
	b.changedLocked()
}

func (b *book) fault(r *Request, f Fault) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.emitLocked(Event{Event: "fault", Request: r.Number, Key: r.Key, Fault: f.String()})
}

// end closes an account; a second end changes nothing.
func (b *book) end(r *Request, o Outcome, status int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if r.Outcome != Running {
		return
	}
	r.Outcome, r.Status, r.Ended = o, status, time.Now()
	switch o {
	case Finished:
		b.stats.Finished++
	case Cancelled:
		b.stats.Cancelled++
		b.stats.LastCancel = r.Ended
	case Refused:
		b.stats.Refused++
	case Broken:
		b.stats.Broken++
	}
	b.emitLocked(Event{Event: string(o), Request: r.Number, Key: r.Key, Status: status})
	b.changedLocked()
}

// Stats returns the counts so far.
func (e *Engine) Stats() Stats {
	e.book.mu.Lock()
	defer e.book.mu.Unlock()
	st := e.book.stats
	st.Running, st.Waiting = e.slots.load()
	return st
}

// Requests returns the accounts of the last 4,096 requests for work, in order
// of arrival.
func (e *Engine) Requests() []Request {
	e.book.mu.Lock()
	defer e.book.mu.Unlock()
	out := make([]Request, len(e.book.requests))
	for i, r := range e.book.requests {
		out[i] = *r
	}
	return out
}

// Wait blocks until the counts satisfy cond, which is asked again after every
// change, or ctx ends.
func (e *Engine) Wait(ctx context.Context, cond func(Stats) bool) error {
	for {
		e.book.mu.Lock()
		if e.book.changed == nil {
			e.book.changed = make(chan struct{})
		}
		changed := e.book.changed
		e.book.mu.Unlock()
		if cond(e.Stats()) {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}
