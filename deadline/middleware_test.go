package deadline_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime/debug"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/llorch/llorch/deadline"
)

func wrap(tb testing.TB, cfg deadline.Config, h http.HandlerFunc) http.Handler {
	tb.Helper()
	m, err := deadline.New(cfg)
	if err != nil {
		tb.Fatal(err)
	}
	return m.Wrap(h)
}

// call sends a request with header pairs and returns status, body and header.
func call(t *testing.T, c *http.Client, body io.Reader, pairs ...string) (*http.Response, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://hop/x", body)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(pairs); i += 2 {
		r.Header.Add(pairs[i], pairs[i+1])
	}
	resp, err := c.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, _ := io.ReadAll(resp.Body)
	return resp, string(text)
}

// DL-8: faults of a Config come all at once; the zero Config is fine.
func TestConfigFaults(t *testing.T) {
	if _, err := deadline.New(deadline.Config{}); err != nil {
		t.Error(err)
	}
	_, err := deadline.New(deadline.Config{Default: 3 * time.Hour, Min: 2 * time.Hour, WriteGrace: -2})
	for _, want := range []string{"Default is above Max", "Min is above Max", "WriteGrace is negative"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("New = %v, want %q", err, want)
		}
	}
	_, err = deadline.New(deadline.Config{Default: -1, Min: -1, Max: -2})
	if err == nil || strings.Count(err.Error(), "\n") != 2 {
		t.Errorf("New = %v, want three faults", err)
	}
	if _, err = deadline.New(deadline.Config{Default: time.Microsecond}); err == nil || !strings.Contains(err.Error(), "Default is below Min") {
		t.Errorf("New = %v: a Default that always ends before the handler begins", err)
	}
	if _, err = deadline.New(deadline.Config{Default: time.Second, Min: time.Second, Max: time.Second, WriteGrace: -1}); err != nil {
		t.Errorf("New = %v at the limits", err)
	}
}

// DL-8: Default, Max and their absence.
func TestClamp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, c := range []struct {
			cfg    deadline.Config
			stated string
			want   time.Duration // 0 = no deadline
		}{
			{deadline.Config{}, "", 0},
			{deadline.Config{Default: time.Minute}, "", time.Minute},
			{deadline.Config{Default: time.Minute}, "120000", 2 * time.Minute},
			{deadline.Config{}, "9999999999", time.Hour},
			{deadline.Config{Max: time.Second}, "1001", time.Second},
			{deadline.Config{Max: -1}, "9999999999", 9999999999 * time.Millisecond},
		} {
			var got time.Duration
			client := serve(t, wrap(t, c.cfg, func(_ http.ResponseWriter, r *http.Request) {
				if d, ok := deadline.From(r.Context()); ok {
					got = d.Remaining()
				}
			}))
			var pairs []string
			if c.stated != "" {
				pairs = []string{"X-Request-Timeout-Ms", c.stated}
			}
			if resp, _ := call(t, client, nil, pairs...); resp.StatusCode != http.StatusOK || got != c.want {
				t.Errorf("%+v, stated %q: %d with %v left, want %v", c.cfg, c.stated, resp.StatusCode, got, c.want)
			}
		}
	})
}

// DL-14, DL-18, G5: nothing written → 504 at the deadline, with the promised
// headers and without those of the body that never came; DL-32 stages.
func TestExpiredUnwritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var stages []string
		cfg := deadline.Config{Hooks: deadline.Hooks{Exceeded: func(e *deadline.Exceeded) { stages = append(stages, e.Stage) }}}
		client := serve(t, wrap(t, cfg, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", "5")
			w.WriteHeader(http.StatusEarlyHints) // informational: begins nothing
			<-r.Context().Done()
		}))
		start := time.Now()
		resp, body := call(t, client, nil, "X-Request-Timeout-Ms", "1500")
		h := resp.Header
		if resp.StatusCode != 504 || time.Since(start) != 1500*time.Millisecond || h.Get("Retry-After") != "1" ||
			h.Get("Cache-Control") != "no-store" || h.Get("X-Deadline-Exceeded-By-Ms") != "0" || !strings.Contains(body, "stage handler") {
			t.Errorf("%d after %v, %v, %q", resp.StatusCode, time.Since(start), h, body)
		}
		resp, _ = call(t, client, nil, "Grpc-Timeout", "0S")
		if resp.StatusCode != 504 || len(stages) != 2 || stages[0] != deadline.StageHandler || stages[1] != deadline.StageArrival {
			t.Errorf("%d, stages %v", resp.StatusCode, stages)
		}
	})
}

// DL-5, DL-18, G4: malformed and repeated fields never reach the handler.
func TestMalformed(t *testing.T) {
	var sources []string
	cfg := deadline.Config{Hooks: deadline.Hooks{Malformed: func(e *deadline.FormatError) { sources = append(sources, e.Source) }}}
	h := wrap(t, cfg, func(http.ResponseWriter, *http.Request) { t.Error("the handler ran") })
	for _, header := range []http.Header{{"X-Deadline": {"1767225605"}}, {"Grpc-Timeout": {"5x"}}, {"X-Request-Timeout-Ms": {"5", "5"}}} {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil)
		r.Header = header
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code != 400 || w.Header().Get("Cache-Control") != "no-store" || w.Header().Get("Retry-After") != "" {
			t.Errorf("%v: %d, %v", header, w.Code, w.Header())
		}
	}
	if fmt.Sprint(sources) != "[X-Deadline grpc-timeout X-Request-Timeout-Ms]" {
		t.Errorf("sources %v", sources)
	}
}

// DL-14: a stream that has begun gets nothing added, and its own last event
// still leaves within WriteGrace.
func TestStreamCrossesDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		exceeded := 0
		cfg := deadline.Config{Hooks: deadline.Hooks{Exceeded: func(*deadline.Exceeded) { exceeded++ }}}
		client := serve(t, wrap(t, cfg, func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprint(w, "data: token\n\n")
			w.(http.Flusher).Flush()
			<-r.Context().Done()
			fmt.Fprint(w, "event: error\n\n")
		}))
		resp, body := call(t, client, nil, "X-Request-Timeout-Ms", "1000")
		if resp.StatusCode != 200 || body != "data: token\n\nevent: error\n\n" || exceeded != 1 {
			t.Errorf("%d %q, %d hooks", resp.StatusCode, body, exceeded)
		}
	})
}

// The Answer hook owns status and body; what the package owes is set before it.
func TestAnswerHook(t *testing.T) {
	cfg := deadline.Config{Answer: func(w http.ResponseWriter, _ *http.Request, status int, err error) {
		if _, ok := errors.AsType[*deadline.Exceeded](err); !ok || w.Header().Get("Retry-After") != "1" {
			t.Errorf("Answer got %v with %v", err, w.Header())
		}
		w.WriteHeader(status)
		fmt.Fprint(w, `{"error":{}}`)
	}}
	w, r := httptest.NewRecorder(), httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil)
	r.Header.Set("X-Request-Timeout-Ms", "0")
	wrap(t, cfg, nil).ServeHTTP(w, r)
	if w.Code != 504 || w.Body.String() != `{"error":{}}` {
		t.Errorf("%d %q", w.Code, w.Body)
	}
}

// DL-14, DL-18: a 504 carries nothing that the handler prepared for a body of its
// own, whatever the hook that writes it does.
func TestPreparedHeaders(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		prepared := []string{"Content-Length", "Content-Encoding", "Etag", "Last-Modified", "Trailer"}
		cfg := deadline.Config{Answer: func(w http.ResponseWriter, _ *http.Request, status int, _ error) { w.WriteHeader(status) }}
		w, r := httptest.NewRecorder(), httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil)
		r.Header.Set("X-Request-Timeout-Ms", "1000")
		wrap(t, cfg, func(w http.ResponseWriter, r *http.Request) {
			for _, key := range append(prepared, "X-Kept") {
				w.Header().Set(key, "1")
			}
			<-r.Context().Done()
		}).ServeHTTP(w, r)
		for _, key := range prepared {
			if w.Header().Get(key) != "" {
				t.Errorf("%s is still there", key)
			}
		}
		if w.Code != 504 || w.Header().Get("X-Kept") != "1" {
			t.Errorf("%d %v", w.Code, w.Header())
		}
	})
}

// DL-14, DL-33: Answer and hooks run on the handler's goroutine, the only one that
// writes.
func TestOneGoroutine(t *testing.T) {
	self := func() string {
		text := string(debug.Stack())
		return text[:strings.Index(text, " [")]
	}
	var seen []string
	note := func() { seen = append(seen, self()) }
	h := wrap(t, deadline.Config{
		Answer: func(http.ResponseWriter, *http.Request, int, error) { note() },
		Hooks:  deadline.Hooks{Exceeded: func(*deadline.Exceeded) { note() }, Malformed: func(*deadline.FormatError) { note() }},
	}, func(_ http.ResponseWriter, r *http.Request) {
		note()
		<-r.Context().Done()
	})
	for _, stated := range []string{"5", "0", "x"} {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil)
		r.Header.Set("X-Request-Timeout-Ms", stated)
		h.ServeHTTP(httptest.NewRecorder(), r)
	}
	if want := slices.Repeat([]string{self()}, 7); !slices.Equal(seen, want) {
		t.Errorf("ran on %q, want %q", seen, want)
	}
}

// DL-17: who hangs up is not told anything, and it is no expiry.
func TestClientGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		exceeded := 0
		cfg := deadline.Config{Default: time.Hour, Hooks: deadline.Hooks{Exceeded: func(*deadline.Exceeded) { exceeded++ }}}
		cause := make(chan error, 1)
		client := serve(t, wrap(t, cfg, func(_ http.ResponseWriter, r *http.Request) {
			<-r.Context().Done()
			cause <- context.Cause(r.Context())
		}))
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		r, _ := http.NewRequestWithContext(ctx, http.MethodGet, "http://hop/", nil)
		if _, err := client.Do(r); err == nil {
			t.Error("an answer")
		}
		err := <-cause
		synctest.Wait()
		if !errors.Is(err, context.Canceled) || exceeded != 0 {
			t.Errorf("cause %v, %d hooks", err, exceeded)
		}
	})
}

// DL-13: a context around the middleware that ends earlier wins, and still gives
// a 504.
func TestOuterContextWins(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		inner := wrap(t, deadline.Config{Default: time.Hour}, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
		client := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			ctx, cancel := context.WithTimeout(r.Context(), time.Second)
			defer cancel()
			inner.ServeHTTP(w, r.WithContext(ctx))
		}))
		start := time.Now()
		if resp, _ := call(t, client, nil); resp.StatusCode != 504 || time.Since(start) != time.Second {
			t.Errorf("%d after %v", resp.StatusCode, time.Since(start))
		}
	})
}

// DL-17: a handler that ignores its context is reported under its route.
func TestLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		got := ""
		m, err := deadline.New(deadline.Config{Hooks: deadline.Hooks{Late: func(route string, by time.Duration) { got = fmt.Sprint(route, " ", by) }}})
		if err != nil {
			t.Fatal(err)
		}
		mux := http.NewServeMux()
		mux.HandleFunc("POST /x", func(_ http.ResponseWriter, r *http.Request) { time.Sleep(time.Second + 100*time.Millisecond + 1) })
		if resp, _ := call(t, serve(t, m.Wrap(mux)), nil, "X-Request-Timeout-Ms", "1000"); resp.StatusCode != 504 || resp.Header.Get("X-Deadline-Exceeded-By-Ms") != "100" {
			t.Errorf("%d %v", resp.StatusCode, resp.Header)
		}
		if got != "POST /x 100.000001ms" {
			t.Errorf("late %q", got)
		}
	})
}

// DL-4: a deadline_ms that is merged inside of a shorter context bounds the
// request by what the client stated, not by that context.
func TestMergeRelativeInShorterContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		expiries := 0
		cfg := deadline.Config{Hooks: deadline.Hooks{Exceeded: func(*deadline.Exceeded) { expiries++ }}}
		client := serve(t, wrap(t, cfg, func(_ http.ResponseWriter, r *http.Request) {
			short, cancel := context.WithTimeout(r.Context(), time.Second)
			defer cancel()
			ctx, cancel, err := deadline.MergeRelative(short, 5000)
			defer cancel()
			if d, _ := deadline.From(ctx); err != nil || d.Remaining() != time.Second {
				t.Errorf("%v left, %v", d.Remaining(), err)
			}
			time.Sleep(5*time.Second - 1) // the request has time
		}))
		if resp, _ := call(t, client, nil, "X-Request-Timeout-Ms", "9000"); resp.StatusCode != 200 || expiries != 0 {
			t.Errorf("%d, %d expiries", resp.StatusCode, expiries)
		}
	})
}

// DL-4: deadline_ms counts from arrival, is capped by Max, and gives a 504 too.
func TestMergeRelativeInRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client := serve(t, wrap(t, deadline.Config{Max: 5 * time.Second}, func(_ http.ResponseWriter, r *http.Request) {
			time.Sleep(time.Second) // decoding the body
			ctx, cancel, err := deadline.MergeRelative(r.Context(), 60_000)
			defer cancel()
			if d, _ := deadline.From(ctx); err != nil || d.Remaining() != 4*time.Second {
				t.Errorf("capped: %v left, %v", d.Remaining(), err)
			}
			ctx, cancel, err = deadline.MergeRelative(r.Context(), 3000)
			defer cancel()
			if err != nil {
				t.Error(err)
			}
			<-ctx.Done()
		}))
		start := time.Now()
		if resp, _ := call(t, client, nil); resp.StatusCode != 504 || time.Since(start) != 3*time.Second {
			t.Errorf("%d after %v", resp.StatusCode, time.Since(start))
		}
	})
}
