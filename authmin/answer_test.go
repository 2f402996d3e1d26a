package authmin_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/llorch/llorch/authmin"
)

// AUTH-28: a client cannot tell an expired token from an unknown one, nothing
// of the request comes back, and HEAD has no body.
func TestAnswersTellNothing(t *testing.T) {
	tok, old := authmin.Generate("demo"), authmin.Generate("demo")
	set := keySet(t, authmin.Key{Name: "a", Token: tok}, authmin.Key{Name: "a", Token: old, NotAfter: time.Now().Add(-time.Hour)})
	h := newGate(t, authmin.Config{Keys: set}).Wrap(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	answer := func(c call) string {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, c.request(t))
		return fmt.Sprintln(w.Code, w.Header(), w.Body)
	}
	unknown := answer(call{header: bearerHeader(strangerToken)})
	if expired := answer(call{header: bearerHeader(old.Reveal())}); expired != unknown || !strings.HasPrefix(expired, "401 ") {
		t.Errorf("expired: %s, unknown: %s", expired, unknown)
	}
	const echo = "echo-7c1d"
	for _, c := range []call{
		{target: "/" + echo + "?" + echo, header: http.Header{"X-Any": {echo}, "Authorization": {"Bearer " + echo}, "User-Agent": {echo}, "Cookie": {echo}}},
		{method: "X" + echo},
		{host: echo},
		{header: http.Header{"Authorization": {echo}, "Origin": {"https://" + echo}}},
	} {
		if got := answer(c); strings.Contains(got, echo) || strings.HasPrefix(got, "200") {
			t.Errorf("the answer to %+v is %s", c, got)
		}
	}
	for _, srv := range bothProtocols(t, h) {
		resp, body := srv.do(t, http.MethodHead, "/v2/tasks", nil)
		if resp.StatusCode != 401 || body != "" {
			t.Errorf("HEAD over %s: %d %q", resp.Proto, resp.StatusCode, body)
		}
	}
	w := httptest.NewRecorder()
	if h.ServeHTTP(w, call{method: http.MethodHead}.request(t)); w.Body.Len() > 0 {
		t.Errorf("the gate writes a body to HEAD: %s", w.Body)
	}
}

// countingWriter counts what a gate sends.
type countingWriter struct {
	*httptest.ResponseRecorder
	headers int
}

func (w *countingWriter) WriteHeader(status int) { w.headers++; w.ResponseRecorder.WriteHeader(status) }

// AUTH-28: a hook may send its own status as often as it likes; the gate sends
// that of the refusal, once.
func TestAnswerSendsOneStatus(t *testing.T) {
	hook := func(w http.ResponseWriter, _ *http.Request, r *authmin.Refusal) {
		w.WriteHeader(http.StatusOK)
		io.WriteString(w, r.Reason)
		w.WriteHeader(http.StatusTeapot)
	}
	w := &countingWriter{ResponseRecorder: httptest.NewRecorder()}
	gate := newGate(t, authmin.Config{LoopbackOptional: true, Answer: hook})
	gate.Wrap(http.NotFoundHandler()).ServeHTTP(w, call{host: "evil.example"}.request(t))
	if w.Code != 421 || w.headers != 1 || w.Body.String() != "HOST_NOT_ALLOWED" {
		t.Errorf("status %d sent %d times, body %s", w.Code, w.headers, w.Body)
	}
}
