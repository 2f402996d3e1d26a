package narration

import (
	"context"
	"log/slog"
	"net/http"
	"time"
)

// Transport carries the ids of the request's context on: traceparent with a child
// span, tracestate, and X-Correlation-Id unless the caller put a valid one. The
// caller's request, the response and errors stay as they are. The Narrator of the
// context tells an event http_call at Debug, or at Warn when there was an error;
// it names the host, not the path. base nil = http.DefaultTransport.
func Transport(base http.RoundTripper) http.RoundTripper {
	if base == nil {
		base = http.DefaultTransport
	}
	return &transport{base}
}

type transport struct{ base http.RoundTripper }

// RoundTrip implements http.RoundTripper.
func (t *transport) RoundTrip(r *http.Request) (*http.Response, error) {
	ctx := r.Context()
	ids, start := IDsFrom(ctx), time.Now()
	out := r.Clone(ctx)
	if out.Header == nil {
		out.Header = http.Header{}
	}
	if !ids.Trace.IsZero() {
		out.Header["Traceparent"] = []string{ids.Trace.Child().String()}
		delete(out.Header, "Tracestate")
		if ids.State != "" {
			out.Header["Tracestate"] = []string{ids.State}
		}
	}
	if ids.Correlation != "" {
		given := out.Header[headerCorrelation]
		valid := false
		if len(given) == 1 {
			_, valid = ParseCorrelation(given[0])
		}
		if !valid {
			out.Header[headerCorrelation] = []string{string(ids.Correlation)}
		}
	}
	resp, err := t.base.RoundTrip(out)
	tellCall(ctx, r, resp, err, time.Since(start))
	return resp, err
}

func tellCall(ctx context.Context, r *http.Request, resp *http.Response, err error, took time.Duration) {
	level, what := slog.LevelDebug, outcomeOK
	if err != nil {
		level, what = slog.LevelWarn, outcomeError
		switch errorKind(err) {
		case "canceled":
			what = outcomeCanceled
		case "timeout":
			what = outcomeTimeout
		}
	}
	n := From(ctx)
	if !n.enabled(ctx, level) {
		return
	}
	target := methodName(r.Method) + " " + r.URL.Host
	rec := slog.NewRecord(time.Now(), level, "http-client http_call "+target+": "+string(what), 0)
	rec.AddAttrs(slog.Any(keyActor, Actor("http-client")), slog.Any(keyAction, Action("http_call")), slog.String(keyTarget, target),
		slog.Any(keyOutcome, what), Ms(keyDuration, took), slog.String(keyHTTPMethod, methodName(r.Method)))
	if resp != nil {
		rec.AddAttrs(slog.Int(keyHTTPStatus, resp.StatusCode))
	}
	rec.AddAttrs(Err(err))
	_ = n.Handler().Handle(ctx, rec) // counted, and given to OnError
}
