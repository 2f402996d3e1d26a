package deadline

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"sync"
	"time"
)

const (
	// readGrace keeps a blocked Body.Read alive until the context's cause is
	// set; a read deadline at the same instant would cancel the request first.
	readGrace = 50 * time.Millisecond
	// lateAfter is how much later than its deadline a handler may return before
	// it is reported; it stays above readGrace, which such a handler may need.
	lateAfter = 100 * time.Millisecond
)

// Config of a [Middleware]. The zero value caps stated deadlines at one hour and
// adds none of its own.
type Config struct {
	// Default bounds requests that state nothing; between Min and Max. 0 = unbounded.
	Default time.Duration
	// Max caps every deadline, counted from arrival. 0 = 1 h, -1 = no cap.
	Max time.Duration
	// Min is what must be left on arrival, or the answer is 504 at once. 0 = 1 ms.
	Min time.Duration
	// WriteGrace is how long after the deadline the connection still takes
	// bytes; over HTTP/2 only of an answer that has begun. 0 = 1 s, -1 = the
	// connection's write deadline is left alone.
	WriteGrace time.Duration
	// Answer writes status and body of a refusal: 400 with a *FormatError or 504
	// with an *Exceeded. The response headers that this package owes are set
	// already. nil = http.Error with the error's text.
	Answer func(w http.ResponseWriter, r *http.Request, status int, err error)
	// Hooks observe what happens.
	Hooks Hooks
}

// Middleware bounds requests by what their clients stated. It has no state.
type Middleware struct{ cfg Config }

// New checks cfg and reports all its faults at once.
func New(cfg Config) (*Middleware, error) {
	var faults []error
	fault := func(bad bool, text string) {
		if bad {
			faults = append(faults, errors.New("deadline config: "+text))
		}
	}
	fault(cfg.Default < 0, "Default is negative")
	fault(cfg.Min < 0, "Min is negative")
	fault(cfg.Max < -1, "Max is negative and not -1")
	fault(cfg.WriteGrace < -1, "WriteGrace is negative and not -1")
	if cfg.Max == 0 {
		cfg.Max = time.Hour
	}
	if cfg.Min == 0 {
		cfg.Min = time.Millisecond
	}
	if cfg.WriteGrace == 0 {
		cfg.WriteGrace = time.Second
	}
	fault(cfg.Max > 0 && cfg.Min > cfg.Max, "Min is above Max")
	fault(cfg.Max > 0 && cfg.Default > cfg.Max, "Default is above Max")
	fault(cfg.Default > 0 && cfg.Default < cfg.Min, "Default is below Min")
	if cfg.Answer == nil {
		cfg.Answer = func(w http.ResponseWriter, _ *http.Request, status int, err error) {
			http.Error(w, err.Error(), status)
		}
	}
	if err := errors.Join(faults...); err != nil {
		return nil, err
	}
	return &Middleware{cfg}, nil
}

// Wrap returns next behind the middleware. next runs on the same goroutine and
// writes straight to the connection: streaming, hijacking and full duplex work.
func (m *Middleware) Wrap(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { m.serve(w, r, next) })
}

func (m *Middleware) serve(w http.ResponseWriter, r *http.Request, next http.Handler) {
	now := time.Now()
	body := bodyOf(w, r, now)
	d, err := FromHeader(r.Header, now)
	if bad, ok := errors.AsType[*FormatError](err); ok {
		m.cfg.Hooks.malformed(bad)
		body.forgo(w.Header())
		m.answer(w, r, http.StatusBadRequest, bad)
		return
	}
	d = m.clamp(d, now)
	if !d.IsZero() && d.budget < m.cfg.Min {
		body.forgo(w.Header())
		m.refuse(w, r, &Exceeded{Stage: StageArrival, Budget: d.budget, At: d.at})
		return
	}
	ex := &exchange{m: m, arrival: now, rw: responseWriter{ResponseWriter: w, body: body}}
	ex.rw.ex, ex.scope.req, ex.begun = ex, ex, r.ProtoMajor == 1
	defer ex.done() // also after a panic
	ctx := context.Context(&ex.scope)
	bounded := ex.scope.enter(r.Context(), d)
	if bounded {
		var cancel context.CancelFunc
		ctx, cancel = ex.scope.bounded(StageHandler)
		defer cancel()
	}
	inner := r.WithContext(ctx)
	defer func() { // the server removes the form's files
		r.MultipartForm, r.Pattern = inner.MultipartForm, inner.Pattern
	}()
	if body != nil {
		inner.Body = body
	}
	if bounded {
		ex.bound(ex.scope.d.at)
	}
	next.ServeHTTP(&ex.rw, inner)
	ex.finish(ctx, r, inner.Pattern)
}

// clamp applies Default and Max. A text that came in is forwarded even then: the
// relative field tells the next hop about the shorter budget.
func (m *Middleware) clamp(d Deadline, now time.Time) Deadline {
	switch {
	case d.IsZero() && m.cfg.Default > 0:
		return since(now, m.cfg.Default)
	case m.cfg.Max >= 0 && d.budget > m.cfg.Max: // both count from now
		capped := since(now, m.cfg.Max)
		capped.wire = d.wire
		return capped
	}
	return d
}

// exchange is one request on its way through the middleware.
type exchange struct {
	m       *Middleware
	arrival time.Time
	rw      responseWriter // what the handler gets
	scope   scope          // the request's context, but for its end

	mu       sync.Mutex // MergeRelative may be called on any goroutine
	merged   *Deadline  // by the body, earlier than scope's; nil = none
	begun    bool       // HTTP/1, or the status is fixed
	returned bool       // the handler has; the connection is the server's again
}

// tighten records d if it is earlier than what is in force, and moves the
// connection's deadlines.
func (ex *exchange) tighten(d Deadline) {
	ex.mu.Lock()
	defer ex.mu.Unlock()
	if now := ex.inForceLocked(); !ex.returned && (now.IsZero() || d.at.Before(now.at)) {
		ex.merged = &d
		ex.bound(d.at)
	}
}

// done ends tighten and returns the deadline that was in force at last.
func (ex *exchange) done() Deadline {
	ex.mu.Lock()
	defer ex.mu.Unlock()
	ex.returned = true
	return ex.inForceLocked()
}

func (ex *exchange) inForceLocked() Deadline {
	if ex.merged != nil {
		return *ex.merged
	}
	return ex.scope.d
}

// bound moves the connection's deadlines, so that a handler blocked in a read or
// write is released. A server that cannot do it is left as it is.
func (ex *exchange) bound(at time.Time) {
	ex.rw.body.hold(at.Add(readGrace))
	if ex.begun {
		ex.boundWrite(at)
	}
}

// begin is called when the status is fixed. Only then an HTTP/2 stream gets its
// write deadline: one that fires resets the stream, and there would be no 504.
func (ex *exchange) begin() {
	ex.mu.Lock()
	defer ex.mu.Unlock()
	if ex.begun {
		return
	}
	ex.begun = true
	if d := ex.inForceLocked(); !d.IsZero() {
		ex.boundWrite(d.at)
	}
}

func (ex *exchange) boundWrite(at time.Time) {
	if grace := ex.m.cfg.WriteGrace; grace >= 0 {
		_ = http.NewResponseController(ex.rw.ResponseWriter).SetWriteDeadline(at.Add(grace))
	}
}

// finish judges a handler that has returned.
func (ex *exchange) finish(ctx context.Context, r *http.Request, route string) {
	d := ex.done()
	if d.IsZero() {
		return
	}
	left := d.Remaining()
	if left < -lateAfter {
		ex.m.cfg.Hooks.late(route, -left)
	}
	if ex.rw.body.leave() && ex.rw.body.http1 && !ex.rw.started {
		// The rest of the body may never come: answer first, then discard it.
		ex.rw.Header().Set("Connection", "close")
	}
	e := expiry(ctx, d, left, ex.rw.body.cutOff())
	switch {
	case e == nil:
	case ex.rw.started:
		ex.m.cfg.Hooks.exceeded(e)
	default:
		ex.boundWrite(time.Now())
		ex.m.refuse(ex.rw.ResponseWriter, r, e)
	}
}

// expiry returns why the request's time is over; nil if it is not, or if the
// client went away first. cutOff says that a read of the body ended by its read
// deadline; over HTTP/1 that cancels the context like a client that went away.
func expiry(ctx context.Context, d Deadline, left time.Duration, cutOff bool) *Exceeded {
	cause := context.Cause(ctx)
	if e, ok := errors.AsType[*Exceeded](cause); ok {
		return e
	}
	ended := errors.Is(cause, context.DeadlineExceeded) // by a context around ours
	if ended || (cause == nil || cutOff) && left <= 0 { // or by the body's deadline_ms
		return &Exceeded{Stage: StageHandler, Budget: d.budget, At: d.at}
	}
	return nil
}

func (m *Middleware) refuse(w http.ResponseWriter, r *http.Request, e *Exceeded) {
	m.cfg.Hooks.exceeded(e)
	h := w.Header()
	// What a handler prepared for its own body would belie ours.
	for _, k := range [...]string{"Content-Length", "Content-Encoding", "Etag", "Last-Modified", "Trailer"} {
		h.Del(k)
	}
	h.Set("Retry-After", "1")
	h.Set("X-Deadline-Exceeded-By-Ms", strconv.FormatInt(max(e.Over(), 0).Milliseconds(), 10))
	m.answer(w, r, http.StatusGatewayTimeout, e)
}

func (m *Middleware) answer(w http.ResponseWriter, r *http.Request, status int, err error) {
	w.Header().Set("Cache-Control", "no-store")
	m.cfg.Answer(w, r, status, err)
}
