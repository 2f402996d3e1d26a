package deadline_test

import (
	"bytes"
	"fmt"
	"go/parser"
	"go/token"
	"log"
	"maps"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/llorch/llorch/deadline"
)

// counters are what a program maps the hooks to, by name and label.
type counters map[string]int

func (c counters) hooks() deadline.Hooks {
	return deadline.Hooks{
		Exceeded:  func(e *deadline.Exceeded) { c[`deadline_exceeded_total{stage="`+e.Stage+`"}`]++ },
		Malformed: func(e *deadline.FormatError) { c[`deadline_malformed_total{source="`+e.Source+`"}`]++ },
		Late:      func(route string, _ time.Duration) { c[`deadline_late_total{route="`+route+`"}`]++ },
	}
}

// A program counts what its hooks are told. Stages and sources are closed sets;
// routes are the patterns that the program has registered itself.
func ExampleHooks() {
	total := counters{}
	m, err := deadline.New(deadline.Config{Hooks: total.hooks()})
	if err != nil {
		panic(err)
	}
	h := m.Wrap(http.NotFoundHandler())
	for _, stated := range []string{"0", "0", "soon"} {
		r, _ := http.NewRequest(http.MethodGet, "/", nil)
		r.Header.Set("X-Request-Timeout-Ms", stated)
		h.ServeHTTP(newRecorder(), r)
	}
	for _, name := range slices.Sorted(maps.Keys(total)) {
		fmt.Println(name, total[name])
	}
	// Output:
	// deadline_exceeded_total{stage="arrival"} 2
	// deadline_malformed_total{source="X-Request-Timeout-Ms"} 1
}

// DL-32: whatever clients send, the label values are those of the closed sets,
// and what a client chose is not among them.
func TestLabels(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		total := counters{}
		m, err := deadline.New(deadline.Config{Hooks: total.hooks()})
		if err != nil {
			t.Fatal(err)
		}
		mux := http.NewServeMux()
		mux.HandleFunc("POST /{id}", func(_ http.ResponseWriter, r *http.Request) {
			if r.PathValue("id") == "busy" {
				time.Sleep(time.Minute)
			}
			<-r.Context().Done()
		})
		client := serve(t, m.Wrap(mux))
		send := func(path string, pairs ...string) {
			r, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://hop/"+path, nil)
			for i := 0; i < len(pairs); i += 2 {
				r.Header.Add(pairs[i], pairs[i+1])
			}
			resp, err := client.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
		}
		for _, bad := range []string{"evil", "-1", "1\\", strings.Repeat("9", 99), "{}"} {
			for _, key := range []string{"X-Deadline", "X-Request-Timeout-Ms", "Grpc-Timeout"} {
				send("x", key, bad)
			}
		}
		send("x", "Grpc-Timeout", "0S")
		send("x", "Grpc-Timeout", "5S")
		send("busy", "Grpc-Timeout", "5S")
		send("", "Grpc-Timeout", "5S") // no route: answered at once
		want := counters{
			`deadline_malformed_total{source="X-Deadline"}`:           5,
			`deadline_malformed_total{source="X-Request-Timeout-Ms"}`: 5,
			`deadline_malformed_total{source="grpc-timeout"}`:         5,
			`deadline_exceeded_total{stage="arrival"}`:                1,
			`deadline_exceeded_total{stage="handler"}`:                2,
			`deadline_late_total{route="POST /{id}"}`:                 1,
		}
		if !maps.Equal(total, want) {
			t.Errorf("counted %v, want %v", total, want)
		}
	})
}

// DL-17: more than 100 ms after the deadline is late, 100 ms is not; the pattern
// is found with the mux on either side, and without one the route is empty.
func TestLateRoute(t *testing.T) {
	for name, c := range map[string]struct {
		work   time.Duration
		inside bool // the middleware stands inside the mux
		mux    bool
		want   string
	}{
		"in time":         {999 * time.Millisecond, false, true, ""},
		"not yet":         {1100 * time.Millisecond, false, true, ""},
		"late":            {1100*time.Millisecond + 1, false, true, "GET /x 100.000001ms"},
		"late inside mux": {2 * time.Second, true, true, "GET /x 1s"},
		"late, no mux":    {2 * time.Second, false, false, " 1s"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				got := ""
				m, err := deadline.New(deadline.Config{Hooks: deadline.Hooks{Late: func(route string, by time.Duration) { got += fmt.Sprint(route, " ", by) }}})
				if err != nil {
					t.Fatal(err)
				}
				work := http.Handler(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { time.Sleep(c.work) }))
				mux := http.NewServeMux()
				var h http.Handler = mux
				switch {
				case !c.mux:
					h = m.Wrap(work)
				case c.inside:
					mux.Handle("GET /x", m.Wrap(work))
				default:
					mux.Handle("GET /x", work)
					h = m.Wrap(mux)
				}
				r, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, "/x", nil)
				r.Header.Set("X-Request-Timeout-Ms", "1000")
				h.ServeHTTP(newRecorder(), r)
				if got != c.want {
					t.Errorf("late: %q, want %q", got, c.want)
				}
			})
		})
	}
}

// DL-33: a panic in a hook or in Answer goes up to whoever recovers; nil hooks
// are fine.
func TestHookPanics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		boom := func(name string) { panic("hook " + name) }
		for name, c := range map[string]struct {
			cfg    deadline.Config
			stated string
		}{
			"Exceeded":  {deadline.Config{Hooks: deadline.Hooks{Exceeded: func(*deadline.Exceeded) { boom("Exceeded") }}}, "0"},
			"Malformed": {deadline.Config{Hooks: deadline.Hooks{Malformed: func(*deadline.FormatError) { boom("Malformed") }}}, "x"},
			"Late":      {deadline.Config{Hooks: deadline.Hooks{Late: func(string, time.Duration) { boom("Late") }}}, "1000"},
			"Answer":    {deadline.Config{Answer: func(http.ResponseWriter, *http.Request, int, error) { boom("Answer") }}, "0"},
		} {
			work := func(http.ResponseWriter, *http.Request) { time.Sleep(2 * time.Second) }
			serveOne := func(cfg deadline.Config) (got any) {
				defer func() { got = recover() }()
				r := newRequest(t)
				r.Header.Set("X-Request-Timeout-Ms", c.stated)
				wrap(t, cfg, work).ServeHTTP(newRecorder(), r)
				return nil
			}
			if got := serveOne(c.cfg); got != "hook "+name {
				t.Errorf("%s: recovered %v", name, got)
			}
			if got := serveOne(deadline.Config{}); got != nil {
				t.Errorf("%s nil: recovered %v", name, got)
			}
		}
	})
}

// DL-33: the module writes no log: it imports nothing that it could write one
// with, and the default loggers stay silent while everything goes wrong.
func TestNoLog(t *testing.T) {
	names, err := filepath.Glob("*.go")
	if err != nil || len(names) < 10 {
		t.Fatalf("%d files, %v", len(names), err)
	}
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ImportsOnly)
		if err != nil {
			t.Fatal(err)
		}
		for _, i := range file.Imports {
			if slices.Contains([]string{`"log"`, `"log/slog"`, `"os"`, `"syscall"`}, i.Path.Value) {
				t.Errorf("%s imports %s", name, i.Path.Value)
			}
		}
	}
	var out bytes.Buffer
	old := log.Writer()
	log.SetOutput(&out) // log/slog's default handler ends there too
	defer log.SetOutput(old)
	for _, stated := range []string{"0", "x", "1"} {
		r := newRequest(t)
		r.Header.Set("X-Request-Timeout-Ms", stated)
		wrap(t, deadline.Config{}, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }).ServeHTTP(newRecorder(), r)
	}
	if out.Len() > 0 {
		t.Errorf("logged %s", &out)
	}
}
