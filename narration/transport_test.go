package narration_test

import (
	"errors"
	"net"
	"net/http"
	"testing"

	"github.com/llorch/llorch/narration"
	"github.com/llorch/llorch/narration/narrationtest"
	"pgregory.net/rapid"
)

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// NAR-21: what the next hop gets, and what is told.
func TestTransport(t *testing.T) {
	n, rec := narrationtest.Capture(t)
	var sent http.Header
	var fail error
	tr := narration.Transport(roundTripper(func(r *http.Request) (*http.Response, error) {
		sent = r.Header
		return &http.Response{StatusCode: 200, Body: http.NoBody}, fail
	}))
	ctx := narration.Into(narration.WithIDs(t.Context(), ids), n)
	ctx = narration.WithIDs(ctx, narration.IDs{State: "a=1"})
	do := func(r *http.Request) {
		t.Helper()
		before := len(r.Header)
		resp, err := tr.RoundTrip(r)
		if !errors.Is(err, fail) || len(r.Header) != before {
			t.Errorf("%v, the caller's header %v", err, r.Header)
		}
		if resp != nil {
			resp.Body.Close()
		}
	}
	r, _ := http.NewRequestWithContext(ctx, http.MethodGet, "http://user:pass@hop/private?token=canary", nil)
	do(r)
	parent, err := narration.ParseTraceParent(sent.Get("Traceparent"))
	if err != nil || parent.TraceID != ids.Trace.TraceID || parent.SpanID == ids.Trace.SpanID || sent.Get("Tracestate") != "a=1" || sent.Get("X-Correlation-Id") != "corr-1" {
		t.Errorf("sent %v, %v", sent, err)
	}
	r.Header.Set("X-Correlation-Id", "mine")
	if do(r); sent.Get("X-Correlation-Id") != "mine" {
		t.Errorf("sent %v", sent)
	}
	r.Header.Set("X-Correlation-Id", "not valid")
	if do(r); sent.Get("X-Correlation-Id") != "corr-1" {
		t.Errorf("sent %v", sent)
	}
	fail = &net.OpError{Op: "dial", Err: errors.New("password=canary")}
	do(r)
	all := rec.All()
	if last := all[3]; last.Fields["level"] != "WARN" || last.Outcome() != "error" || last.Fields["target"] != "GET hop" || last.Fields["error_kind"] != "other" {
		t.Error(last.Raw)
	}
	rec.NoSecrets(t, "canary", "private", "pass@")
	fail = nil
	bare, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://hop/", nil)
	bare.Header = nil
	if resp, err := tr.RoundTrip(bare); err != nil || len(sent) != 0 {
		t.Errorf("without ids: %v, %v", sent, err)
	} else {
		resp.Body.Close()
	}
	if len(rec.All()) != 4 || narration.From(t.Context()).Logger().Enabled(t.Context(), narration.LevelFatal) {
		t.Error("a context without narrator speaks")
	}
}

// WithIDs: zero members are inherited.
func TestWithIDsInherits(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		draw := func(name string) narration.IDs {
			var out narration.IDs
			if rapid.Bool().Draw(rt, name+" correlation") {
				out.Correlation = narration.NewCorrelation()
			}
			if rapid.Bool().Draw(rt, name+" trace") {
				out.Trace = narration.NewTraceParent(false)
			}
			if rapid.Bool().Draw(rt, name+" parent") {
				out.Parent = narration.NewTraceParent(false).SpanID
			}
			if rapid.Bool().Draw(rt, name+" state") {
				out.State = "a=" + name
			}
			return out
		}
		a, b := draw("a"), draw("b")
		got, want := narration.IDsFrom(narration.WithIDs(narration.WithIDs(t.Context(), a), b)), b
		if want.Correlation == "" {
			want.Correlation = a.Correlation
		}
		if want.Trace.IsZero() {
			want.Trace = a.Trace
		}
		if want.Parent == ([8]byte{}) {
			want.Parent = a.Parent
		}
		if want.State == "" {
			want.State = a.State
		}
		if got != want {
			rt.Fatalf("%+v then %+v gave %+v", a, b, got)
		}
	})
	if got := narration.IDsFrom(t.Context()); got != (narration.IDs{}) {
		t.Errorf("%+v", got)
	}
}
