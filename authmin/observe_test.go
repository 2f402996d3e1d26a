package authmin_test

import (
	"bytes"
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/llorch/llorch/authmin"
)

// AUTH-36: ten failures of a minute are shown, the rest is counted and carried
// by the next event or by the first of a later minute.
func TestFailureWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tok := authmin.Generate("demo")
		var events []authmin.Event
		gate := newGate(t, authmin.Config{Keys: keySet(t, authmin.Key{Name: "a", Token: tok}), Observe: func(_ context.Context, e authmin.Event) { events = append(events, e) }})
		fail := func(n int) {
			for range n {
				decide(t, gate, call{})
			}
		}
		last := func() authmin.Event { return events[len(events)-1] }
		fail(25)
		if len(events) != 10 || last().Suppressed != 0 {
			t.Fatalf("%d events, want 10", len(events))
		}
		decide(t, gate, call{header: bearerHeader(tok.Reveal())})
		if len(events) != 11 || last().Suppressed != 15 || last().Reason != "" {
			t.Fatalf("the next event is %+v, want 15 suppressed", last())
		}
		fail(5)
		time.Sleep(time.Minute - time.Nanosecond)
		fail(1)
		if len(events) != 11 {
			t.Fatalf("%d events within the minute, want 11", len(events))
		}
		time.Sleep(time.Nanosecond)
		fail(12)
		if len(events) != 21 || events[11].Suppressed != 6 || events[12].Suppressed != 0 {
			t.Fatalf("%d events, the first of the later minute carries %d, want 21 and 6", len(events), events[11].Suppressed)
		}
	})
}

// A million bad tokens in a minute write ten records and one count.
func TestTrap_LogFlood(t *testing.T) {
	var out bytes.Buffer
	tok := authmin.Generate("demo")
	total, events := 0, 0
	const flood = 20_000 // as good as a million: the eleventh is the first left out
	synctest.Test(t, func(t *testing.T) {
		gate := newGate(t, authmin.Config{
			Keys: keySet(t, authmin.Key{Name: "a", Token: tok}), Logger: slog.New(slog.NewTextHandler(&out, nil)),
			Observe: func(_ context.Context, e authmin.Event) { total += 1 + e.Suppressed; events++ },
		})
		r := call{header: bearerHeader(strangerToken)}.request(t)
		for range flood {
			if _, err := gate.Authorize(r); err == nil {
				t.Fatal("a wrong token passes")
			}
		}
		decide(t, gate, call{header: bearerHeader(tok.Reveal())})
	})
	if total != flood+1 || events != 11 {
		t.Errorf("%d events count %d, want 11 and %d", events, total, flood+1)
	}
	if n := strings.Count(out.String(), "\n"); n != 11 || !strings.Contains(out.String(), "suppressed=19990") {
		t.Errorf("%d records: %.500s", n, out.String())
	}
}

// AUTH-21, AUTH-36, AUTH-37
func TestEvent(t *testing.T) {
	tok := authmin.Generate("demo")
	var e authmin.Event
	var out bytes.Buffer
	gate := newGate(t, authmin.Config{
		Keys: keySet(t, authmin.Key{Name: "laptop", Token: tok}), Proxies: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")},
		Observe: func(_ context.Context, got authmin.Event) { e = got },
		Logger: slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug, ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
			if a.Key == slog.TimeKey {
				return slog.Attr{}
			}
			return a
		}})),
	})
	serve := func(c call, correlationID string) string {
		out.Reset()
		w := httptest.NewRecorder()
		w.Header().Set("X-Correlation-Id", correlationID)
		gate.Wrap(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})).ServeHTTP(w, c.request(t))
		return strings.TrimSpace(out.String())
	}
	fp := authmin.FP6(tok.Reveal())
	if got, want := serve(call{header: bearerHeader(tok.Reveal())}, "abc-1"), `level=DEBUG msg=auth_success identity=token:`+fp+
		` auth_code=0 reason="" client=127.0.0.1 method=GET path=/v2/tasks correlation_id=abc-1 suppressed=0`; got != want {
		t.Errorf("log = %s, want %s", got, want)
	}
	if e.Principal.Name != "laptop" || e.CorrelationID != "abc-1" || e.At.IsZero() || e.Reason != "" {
		t.Errorf("event = %+v", e)
	}
	if got, want := serve(call{header: bearerHeader(strangerToken), target: "/a%0Ab%22c"}, "bad id"), `level=WARN msg=auth_failed identity=token:`+authmin.FP6(strangerToken)+
		` auth_code=40102 reason=BAD_TOKEN client=127.0.0.1 method=GET path="/a\\nb\\\"c" correlation_id="" suppressed=0`; got != want {
		t.Errorf("log = %s, want %s", got, want)
	}
	serve(call{header: bearerHeader(strangerToken[:31])}, "")
	if e.Principal.FP6 != "" || e.Principal.String() != "anonymous" {
		t.Errorf("a short token, perhaps a password, is labelled: %+v", e.Principal)
	}
	if serve(call{header: bearerHeader(strangerToken[:32])}, ""); e.Principal.FP6 != authmin.FP6(strangerToken[:32]) {
		t.Errorf("a rejected token of 32 bytes has no label: %+v", e.Principal)
	}
	if serve(call{target: "/" + strings.Repeat("a", 256)}, ""); e.Path != "/"+strings.Repeat("a", 255) {
		t.Errorf("path = %d bytes", len(e.Path))
	}
	serve(call{target: "/" + strings.Repeat("%C3%A9", 300)}, "")
	if len(e.Path) != 256 || !strings.HasPrefix(e.Path, `/\u00e9\u00e9`) {
		t.Errorf("path = %d bytes %q", len(e.Path), e.Path)
	}
}

// AUTH-21: the gate makes no correlation id, neither on the answer nor in events,
// and believes only one of the suite's form.
func TestGateMakesNoCorrelationID(t *testing.T) {
	var e authmin.Event
	gate := newGate(t, authmin.Config{LoopbackOptional: true, Observe: func(_ context.Context, got authmin.Event) { e = got }})
	h := gate.Wrap(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	for _, c := range []call{{}, {host: "evil.example"}, {header: http.Header{"X-Correlation-Id": {"from-the-client"}}}} {
		for _, set := range []string{"", "a b", strings.Repeat("a", 65)} {
			w := httptest.NewRecorder()
			if set != "" {
				w.Header().Set("X-Correlation-Id", set)
			}
			h.ServeHTTP(w, c.request(t))
			if got := w.Header().Get("X-Correlation-Id"); got != set || e.CorrelationID != "" || e.At.IsZero() {
				t.Errorf("with %q set outside: %q on the answer, event %+v", set, got, e)
			}
		}
	}
}

// AUTH-37
func TestVerifierDownIsLogged(t *testing.T) {
	var out bytes.Buffer
	gate := newGate(t, authmin.Config{Keys: failing{http.ErrServerClosed}, Logger: slog.New(slog.NewTextHandler(&out, nil))})
	if got := decide(t, gate, call{header: bearerHeader(strangerToken)}); got != "50301" || !strings.Contains(out.String(), "level=ERROR msg=auth_verifier_down") {
		t.Errorf("%s, log %s", got, out.String())
	}
}

// AUTH-30: a listed proxy decides which address is logged, and nothing else.
func TestClientAddress(t *testing.T) {
	tok := authmin.Generate("demo")
	gate := newGate(t, authmin.Config{Keys: keySet(t, authmin.Key{Name: "a", Token: tok}), Proxies: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/8")}})
	for _, c := range []struct {
		remote string
		fields []string
		want   string
	}{
		{"10.1.1.1:5", []string{"1.1.1.1, 3.3.3.3, 2.2.2.2"}, "2.2.2.2"},
		{"10.1.1.1:5", []string{"1.1.1.1", "3.3.3.3 ,  4.4.4.4 "}, "4.4.4.4"},
		{"[fd00::1]:5", []string{"2001:db8::1"}, "2001:db8::1"},
		{"[::ffff:10.1.1.1]:5", []string{"1.1.1.1"}, "1.1.1.1"},
		{"10.1.1.1:5", []string{"1.1.1.1, unknown"}, "10.1.1.1"},
		{"10.1.1.1:5", []string{""}, "10.1.1.1"},
		{"10.1.1.1:5", nil, "10.1.1.1"},
		{"192.0.2.9:5", []string{"1.1.1.1"}, "192.0.2.9"},
		{"broken", []string{"1.1.1.1"}, "invalid IP"},
	} {
		req := call{remote: c.remote, local: publicAddr, header: bearerHeader(tok.Reveal())}.request(t)
		if c.fields != nil {
			req.Header["X-Forwarded-For"] = c.fields
		}
		if p, err := gate.Authorize(req); err != nil || p.Client.String() != c.want {
			t.Errorf("client of %s %q = %v, %v, want %s", c.remote, c.fields, p.Client, err, c.want)
		}
	}
}
