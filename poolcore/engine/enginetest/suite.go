package enginetest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/llorch/llorch/poolcore/engine"
)

// token is the key of the scripted server, secret what its misbehaving answers
// hold: neither may appear in an error.
const (
	token  = "scripted-key-of-the-suite"
	secret = "text-that-only-the-server-knows"
)

// tooLong is when a probe that should have ended counts as stuck.
const tooLong = 20 * time.Second

// RunKindSuite runs every case of the suite against k as a subtest.
func RunKindSuite(t *testing.T, k engine.Kind, s Script) {
	t.Helper()
	for _, c := range cases(k, s) {
		t.Run(c.name, func(t *testing.T) {
			if err := c.run(t.Context()); err != nil {
				t.Errorf("%s: %v", k.Name(), err)
			}
		})
	}
}

// Faults runs the suite without a test and returns what failed, "case: reason".
func Faults(ctx context.Context, k engine.Kind, s Script) []string {
	var out []string
	for _, c := range cases(k, s) {
		if err := c.run(ctx); err != nil {
			out = append(out, c.name+": "+err.Error())
		}
	}
	return out
}

// testCase is one state or misbehaviour of the server.
type testCase struct {
	name string
	run  func(ctx context.Context) error
}

func cases(k engine.Kind, s Script) []testCase {
	b := bench{k, s}
	out := []testCase{
		{"ready", func(ctx context.Context) error { return b.state(ctx, nil, b.isReady) }},
		{"loading", func(ctx context.Context) error { return b.state(ctx, s.Loading, isLoading) }},
		{"overloaded", func(ctx context.Context) error { return b.state(ctx, s.Overloaded, isOverloaded) }},
		{"wrong model", func(ctx context.Context) error { return b.state(ctx, s.WrongModel, b.isAnother) }},
	}
	for _, path := range s.Required {
		for _, m := range misbehaviours() {
			if m.structured && !slices.Contains(s.Structured, path) {
				continue
			}
			out = append(out, testCase{m.name + " " + path, func(ctx context.Context) error { return b.misbehaves(ctx, path, m) }})
		}
		out = append(out, testCase{"slow " + path, func(ctx context.Context) error { return b.slow(ctx, path) }})
		out = append(out, testCase{"redirect " + path, func(ctx context.Context) error { return b.redirects(ctx, path) }})
	}
	return append(out, testCase{"nobody there", b.nobody})
}

// bench is a kind on its script.
type bench struct {
	kind   engine.Kind
	script Script
}

// serve starts a server that answers as in Ready, but for the routes of other and
// for handlers.
func (b bench) serve(other map[string]Answer, handlers map[string]http.HandlerFunc) (engine.Endpoint, func()) {
	answers := maps.Clone(b.script.Ready)
	maps.Copy(answers, other)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if h := handlers[r.URL.Path]; h != nil {
			h(w, r)
			return
		}
		a, ok := answers[r.URL.Path]
		if !ok {
			http.NotFound(w, r)
			return
		}
		w.WriteHeader(a.Status)
		_, _ = w.Write([]byte(a.Body)) // a client that is gone is its own business
	}))
	return engine.Endpoint{URL: srv.URL, Token: token, Model: b.script.Model, Client: srv.Client()}, srv.Close
}

// state probes a server in one of its recorded states; such an answer is never an
// error.
func (b bench) state(ctx context.Context, other map[string]Answer, judge func(engine.Report) error) error {
	ep, stop := b.serve(other, nil)
	defer stop()
	r, err := b.kind.Probe(ctx, ep)
	if err != nil {
		return fmt.Errorf("probe: %w", err)
	}
	if err := sane(r); err != nil {
		return err
	}
	return judge(r)
}

func (b bench) isReady(r engine.Report) error {
	if !r.Live || !r.Ready || r.Loading || r.Overloaded || r.Alias != b.script.Alias {
		return fmt.Errorf("not ready as %q: %+v", b.script.Alias, r)
	}
	return nil
}

func isLoading(r engine.Report) error {
	if !r.Live || r.Ready || !r.Loading {
		return fmt.Errorf("a server that loads is not loading: %+v", r)
	}
	return nil
}

func isOverloaded(r engine.Report) error {
	if !r.Live || r.Loading || !r.Overloaded && !r.Ready {
		return fmt.Errorf("a full server counts as broken: %+v", r)
	}
	return nil
}

// isAnother: not ready, or ready under a name that is not ours.
func (b bench) isAnother(r engine.Report) error {
	if r.Ready && (b.script.Alias == "" || r.Alias == b.script.Alias) {
		return fmt.Errorf("another model counts as ours: %+v", r)
	}
	return nil
}

// sane checks what holds for every report.
func sane(r engine.Report) error {
	var errs []error
	for name, n := range map[string]*int{"ctx_max": r.CtxMax, "slots_total": r.SlotsTotal} {
		if n != nil && *n < 1 {
			errs = append(errs, fmt.Errorf("%s is %d", name, *n))
		}
	}
	for name, n := range map[string]*int{"slots_busy": r.SlotsBusy, "queue": r.Queue} {
		if n != nil && *n < 0 {
			errs = append(errs, fmt.Errorf("%s is %d", name, *n))
		}
	}
	if r.KVUsed != nil && (*r.KVUsed < 0 || *r.KVUsed > 1) {
		errs = append(errs, fmt.Errorf("kv_used is %v", *r.KVUsed))
	}
	if r.Ready && (!r.Live || r.Loading) {
		errs = append(errs, fmt.Errorf("contradiction: %+v", r))
	}
	return errors.Join(errs...)
}

// misbehaviour is an answer that is none; structured ones matter only where an
// answer has content.
type misbehaviour struct {
	name       string
	structured bool
	handler    http.HandlerFunc
}

func misbehaviours() []misbehaviour {
	return []misbehaviour{
		{"garbage", true, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("<html>" + secret)) }},
		{"empty", true, func(http.ResponseWriter, *http.Request) {}},
		{"another status", false, func(w http.ResponseWriter, _ *http.Request) { http.Error(w, secret, http.StatusTeapot) }},
		{"truncated", false, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "1000")
			_, _ = w.Write([]byte(`{"` + secret))
		}},
		{"huge", false, func(w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write([]byte(strings.Repeat(" ", 2<<20) + `{}`))
		}},
	}
}

// misbehaves: one route answers with nonsense, and the probe says so.
func (b bench) misbehaves(ctx context.Context, path string, m misbehaviour) error {
	ep, stop := b.serve(nil, map[string]http.HandlerFunc{path: m.handler})
	defer stop()
	r, err := b.kind.Probe(ctx, ep)
	if r.Ready {
		return fmt.Errorf("ready: %+v", r)
	}
	return discreet(err)
}

// discreet: the error, if any, holds neither the key nor the answer.
func discreet(err error) error {
	if err != nil && (strings.Contains(err.Error(), secret) || strings.Contains(err.Error(), token)) {
		return errors.New("the error repeats what it must not")
	}
	return nil
}

// slow: a route that never answers ends with the context.
func (b bench) slow(ctx context.Context, path string) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ep, stop := b.serve(nil, map[string]http.HandlerFunc{path: func(_ http.ResponseWriter, r *http.Request) {
		cancel()
		<-r.Context().Done()
	}})
	defer stop()
	done := make(chan error, 1)
	go func() {
		r, err := b.kind.Probe(ctx, ep)
		if err == nil && !r.Overloaded {
			done <- fmt.Errorf("no error: %+v", r)
			return
		}
		done <- discreet(err)
	}()
	select {
	case err := <-done:
		return err
	case <-time.After(tooLong):
		return errors.New("the probe outlives its context")
	}
}

// nobody: a closed port is an error, and no report.
func (b bench) nobody(ctx context.Context) error {
	ep, stop := b.serve(nil, nil)
	stop()
	r, err := b.kind.Probe(ctx, ep)
	if err == nil || r.Live || r.Ready {
		return fmt.Errorf("nobody answers: %+v, %w", r, err)
	}
	return discreet(err)
}
