package narration

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"runtime/debug"
	"strings"
	"sync/atomic"
	"time"
)

// HTTPConfig of a [Middleware].
type HTTPConfig struct {
	// Actor of the events. "" = http-server.
	Actor Actor
	// Skip drops the event of a request, never its ids. nil = none.
	Skip func(*http.Request) bool
	// NoEvent drops all events.
	NoEvent bool
	// ClientIP adds client_ip to the events.
	ClientIP bool
}

// Types that only this package can give to reserved keys.
type (
	outcome    string
	provenance string
)

const (
	outcomeOK       outcome = "ok"
	outcomeError    outcome = "error"
	outcomeTimeout  outcome = "timeout"
	outcomeCanceled outcome = "canceled"
	outcomePanic    outcome = "panic"
	outcomeAborted  outcome = "aborted"
)

const maxStack = 4 << 10

// Middleware is the outermost one and the only maker of ids. The correlation id is
// the one valid X-Correlation-Id of the request, else fresh; it stands in the
// request header, in the context and on every response, also on those that are
// refused, streamed or cut short. At the end it tells one event http_request with
// method, route pattern, status, bytes and duration, never path, query or headers.
// Nothing is buffered.
func Middleware(n *Narrator, c HTTPConfig) func(http.Handler) http.Handler {
	if c.Actor == "" {
		c.Actor = "http-server"
	}
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			x := &exchange{n: n, cfg: c, start: time.Now()}
			x.serve(w, r, next)
		})
	}
}

// exchange is one request on its way through the middleware.
type exchange struct {
	n     *Narrator
	cfg   HTTPConfig
	start time.Time
	w     responseWriter
	route atomic.Pointer[string] // set by NoteRoute
	done  bool                   // the handler returned
}

type exchangeKey struct{}

// NoteRoute tells the [Middleware] the ServeMux pattern of r. It is for handlers
// behind a middleware that gave the mux a copy of the request, which hides the
// pattern from everyone outside.
func NoteRoute(r *http.Request) {
	if x, ok := r.Context().Value(exchangeKey{}).(*exchange); ok && r.Pattern != "" {
		x.route.Store(&r.Pattern)
	}
}

func (x *exchange) serve(w http.ResponseWriter, r *http.Request, next http.Handler) {
	ids := requestIDs(r.Header)
	x.w = responseWriter{ResponseWriter: w, correlation: string(ids.Correlation)}
	w.Header()[headerCorrelation] = []string{x.w.correlation}
	ctx := context.WithValue(Into(WithIDs(r.Context(), ids), x.n), exchangeKey{}, x)
	inner := r.WithContext(ctx)
	inner.Header = maps.Clone(r.Header)
	if inner.Header == nil {
		inner.Header = http.Header{}
	}
	inner.Header[headerCorrelation] = []string{x.w.correlation}
	defer func() {
		v := recover()
		x.tell(ctx, inner, v)
		if v != nil {
			panic(v)
		}
	}()
	next.ServeHTTP(&x.w, inner)
	x.done = true
}

// requestIDs reads or makes the ids of a request.
func requestIDs(h http.Header) (ids IDs) {
	if values := h[headerCorrelation]; len(values) == 1 {
		ids.Correlation, _ = ParseCorrelation(values[0])
	}
	if ids.Correlation == "" {
		ids.Correlation = NewCorrelation()
	}
	if values := h["Traceparent"]; len(values) == 1 {
		if parent, err := ParseTraceParent(values[0]); err == nil {
			ids.Trace, ids.Parent, ids.State = parent.Child(), parent.SpanID, joinState(h["Tracestate"])
			return ids
		}
	}
	ids.Trace = NewTraceParent(false)
	return ids
}

// tell emits the event; v is what the handler panicked with.
func (x *exchange) tell(ctx context.Context, r *http.Request, v any) {
	if x.cfg.NoEvent || x.cfg.Skip != nil && x.cfg.Skip(r) {
		return
	}
	level, what := x.judge(r, v)
	if !x.n.enabled(ctx, level) {
		return
	}
	route, method := r.Pattern, methodName(r.Method)
	if p := x.route.Load(); p != nil {
		route = *p
	}
	target := method + " unmatched"
	switch {
	case strings.Contains(route, " "):
		target = route // the pattern names the method
	case route != "":
		target = method + " " + route
	}
	duration := Ms(keyDuration, time.Since(x.start))
	attrs := []slog.Attr{
		slog.Any(keyActor, x.cfg.Actor), slog.Any(keyAction, Action("http_request")), slog.String(keyTarget, target),
		slog.Any(keyOutcome, what), duration, slog.String(keyHTTPMethod, method), slog.String(keyHTTPRoute, route),
		slog.Int(keyHTTPStatus, x.status(v)), slog.Int64(keyHTTPBytes, x.w.bytes), slog.Any(keyEmittedBy, provenance(x.n.emittedBy)),
	}
	if x.cfg.ClientIP {
		host, _, err := net.SplitHostPort(r.RemoteAddr)
		if err != nil {
			host = r.RemoteAddr
		}
		attrs = append(attrs, slog.String("client_ip", host))
	}
	if what == outcomePanic {
		stack := debug.Stack()
		attrs = append(attrs, slog.String(keyError, fmt.Sprintf("panic of type %T", v)), slog.String("stack", string(stack[:min(len(stack), maxStack)])))
	}
	human := fmt.Sprintf("%s http_request %s: %s after %v ms", x.cfg.Actor, target, what, duration.Value.Float64())
	rec := slog.NewRecord(time.Now(), level, human, 0)
	rec.AddAttrs(attrs...)
	_ = x.n.Handler().Handle(ctx, rec) // counted, and given to OnError
}

// status is what the client got: an unwritten response becomes 200 when its
// handler returns, and nothing when it does not.
func (x *exchange) status(v any) int {
	if x.w.status == 0 && v == nil && x.done {
		return http.StatusOK
	}
	return x.w.status
}

func (x *exchange) judge(r *http.Request, v any) (slog.Level, outcome) {
	status := x.status(v)
	switch {
	case v == http.ErrAbortHandler || v == nil && !x.done: // the latter is runtime.Goexit
		return slog.LevelInfo, outcomeAborted
	case v != nil:
		return slog.LevelError, outcomePanic
	case status >= 500:
		if status == http.StatusGatewayTimeout {
			return slog.LevelError, outcomeTimeout
		}
		return slog.LevelError, outcomeError
	case status == http.StatusRequestTimeout:
		return slog.LevelWarn, outcomeTimeout
	case status == http.StatusTooManyRequests:
		return slog.LevelWarn, outcomeError
	case status >= 400:
		return slog.LevelInfo, outcomeError
	case r.Context().Err() != nil:
		return slog.LevelInfo, outcomeCanceled
	}
	return slog.LevelInfo, outcomeOK
}

// methodName keeps the set of methods closed.
func methodName(m string) string {
	switch m {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete,
		http.MethodConnect, http.MethodOptions, http.MethodTrace:
		return m
	}
	return "OTHER"
}
