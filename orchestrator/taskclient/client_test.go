package taskclient_test

import (
	"context"
	"errors"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/llorch/llorch/orchestrator/taskapi"
	"github.com/llorch/llorch/orchestrator/taskclient"
)

// TestNew: all faults at once, none of them repeats what was given.
func TestNew(t *testing.T) {
	for _, bases := range [][]string{nil, {"ftp://x"}, {"http://ok", "http://u:CANARY@x"}, {"http://x?CANARY=1"}, {":"}, {"/v2"}} {
		_, err := taskclient.New(taskclient.Config{BaseURLs: bases})
		if err == nil || strings.Contains(err.Error(), "CANARY") || !strings.Contains(err.Error(), "Config.BaseURLs") {
			t.Errorf("New with %q: %v", bases, err)
		}
	}
	_, err := taskclient.New(taskclient.Config{BaseURLs: []string{"x", "http://ok", "y"}})
	if err == nil || !strings.Contains(err.Error(), "[0]") || !strings.Contains(err.Error(), "[2]") {
		t.Errorf("faults: %v", err)
	}
}

func full(after time.Duration) error {
	e := taskapi.NewError(taskapi.QueueFull)
	e.RetryAfter = after
	return e
}

// TestSubmitRetries proves ORC-940: refusals that may pass are waited out as the
// server asks, at most five times, always with the same idempotency key.
func TestSubmitRetries(t *testing.T) {
	for name, tt := range map[string]struct {
		refusals []error
		calls    int
		least    time.Duration
		want     taskapi.Code
	}{
		"at once":        {nil, 1, 0, ""},
		"waits":          {[]error{full(3 * time.Second), taskapi.NewError(taskapi.StoreUnavailable)}, 3, 4 * time.Second, ""},
		"gives up":       {slices.Repeat([]error{full(2 * time.Second)}, 9), 5, 8 * time.Second, taskapi.QueueFull},
		"useless":        {[]error{taskapi.NewError(taskapi.ModelNotFound)}, 1, 0, taskapi.ModelNotFound},
		"useless 429":    {[]error{taskapi.NewError(taskapi.BudgetExceeded)}, 1, 0, taskapi.BudgetExceeded},
		"useless 504":    {[]error{taskapi.NewError(taskapi.DeadlineUnmet)}, 1, 0, taskapi.DeadlineUnmet},
		"internal":       {[]error{errors.New("x")}, 1, 0, taskapi.Internal},
		"operation runs": {[]error{taskapi.NewError(taskapi.OperationRunning)}, 1, 0, taskapi.OperationRunning}, // 409 is not a passing status
	} {
		synctest.Test(t, func(t *testing.T) {
			w, f := newWorld(t), &fake{refusals: tt.refusals}
			defer w.stop()
			w.add("a", handler(f), nil)
			begin := time.Now()
			a, err := w.client("a").Submit(t.Context(), taskapi.Submit{Model: "m", Prompt: "hi"})
			took := time.Since(begin)
			if tt.want == "" && (err != nil || a.TaskID != theID.String() || a.Status != "queued") || tt.want != "" && !errors.Is(err, tt.want) {
				t.Errorf("%s: %+v, %v", name, a, err)
			}
			if len(f.specs) != tt.calls || took < tt.least || took > tt.least+5*time.Second {
				t.Errorf("%s: %d calls in %v, want %d in %v", name, len(f.specs), took, tt.calls, tt.least)
			}
			for _, s := range f.specs {
				if s.Key == "" || s.Key != f.specs[0].Key {
					t.Errorf("%s: idempotency key %q, then %q", name, f.specs[0].Key, s.Key)
				}
			}
		})
	}
}

// TestHintBeyondDeadline: a hint that the context does not allow for ends the call
// at once, with the refusal.
func TestHintBeyondDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, f := newWorld(t), &fake{refusals: []error{full(time.Minute)}}
		defer w.stop()
		w.add("a", handler(f), nil)
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		begin := time.Now()
		_, err := w.client("a").Submit(ctx, taskapi.Submit{Model: "m", Prompt: "hi"})
		if e, ok := errors.AsType[*taskapi.Error](err); !ok || e.RetryAfter != time.Minute || time.Since(begin) > time.Second {
			t.Errorf("%v after %v", err, time.Since(begin))
		}
	})
}

// TestReplicasInTurn: a replica that is gone is passed over, and stays so.
func TestReplicasInTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, f := newWorld(t), &fake{}
		defer w.stop()
		asked := map[string]int{}
		gate := func(name string, h http.Handler) http.Handler {
			return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) { asked[name]++; h.ServeHTTP(rw, r) })
		}
		w.add("proxy", gate("proxy", http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) { http.Error(rw, "bad gateway", http.StatusBadGateway) })), nil)
		w.add("b", gate("b", handler(f)), nil)
		c := w.client("gone", "proxy", "b")
		for range 3 {
			if _, err := c.Task(t.Context(), theID.String()); err != nil {
				t.Error(err)
			}
		}
		if asked["proxy"] != 1 || asked["b"] != 3 {
			t.Errorf("asked %v", asked)
		}
	})
}

// TestForeignRefusals: what is not our error body still has a meaning.
func TestForeignRefusals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, status, asked := newWorld(t), 0, 0
		defer w.stop()
		w.add("a", http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) { asked++; http.Error(rw, "<html>", status) }), nil)
		for s, tries := range map[int]int{400: 1, 404: 1, 500: 1, 429: 5, 502: 5, 503: 5, 504: 5} {
			status, asked = s, 0
			_, err := w.client("a").Task(t.Context(), "x")
			if !errors.Is(err, taskapi.Internal) || asked != tries || strings.Contains(err.Error(), "html") {
				t.Errorf("%d: %v after %d tries, want %d", s, err, asked, tries)
			}
		}
	})
}

// TestToken: a token goes with every request; one that can not be had ends the
// call, and no replica is asked.
func TestToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, f := newWorld(t), &fake{events: answer(1)}
		defer w.stop()
		seen := map[string]int{}
		w.add("a", http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			seen[r.Header.Get("Authorization")]++
			handler(f).ServeHTTP(rw, r)
		}), nil)
		broken := errors.New("no token today")
		var fault error
		c, err := taskclient.New(taskclient.Config{
			BaseURLs: []string{"http://a"}, HTTPClient: w.http,
			Token: func(context.Context) (string, error) { return "secret", fault },
		})
		if err != nil {
			t.Fatal(err)
		}
		_, e1 := c.Task(t.Context(), theID.String())
		_, e2 := c.Wait(t.Context(), theID.String())
		if e1 != nil || e2 != nil || seen["Bearer secret"] != 2 {
			t.Errorf("%v, %v; %v", e1, e2, seen)
		}
		fault = broken
		_, e1 = c.Task(t.Context(), theID.String())
		_, e2 = c.Wait(t.Context(), theID.String())
		if !errors.Is(e1, broken) || !errors.Is(e2, broken) || len(seen) != 1 || seen["Bearer secret"] != 2 {
			t.Errorf("%v, %v; %v", e1, e2, seen)
		}
	})
}

// TestTasksPages: pages are asked for as they are needed, and the filter goes with each.
func TestTasksPages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, f := newWorld(t), &fake{tasks: 250}
		defer w.stop()
		w.add("a", handler(f), nil)
		n := 0
		for task, err := range w.client("a").Tasks(t.Context(), taskclient.Filter{Model: "m"}) {
			if err != nil || task.Status != "m" {
				t.Fatalf("%+v, %v", task, err)
			}
			n++
		}
		if n != 250 {
			t.Errorf("%d tasks, want 250", n)
		}
		for range w.client("a").Tasks(t.Context(), taskclient.Filter{Before: "x"}) {
			n++
		}
		if n != 251 {
			t.Errorf("a refused list yields %d times, want once", n-250)
		}
		if err := w.client("a").Cancel(t.Context(), theID.String()); err != nil || f.cancels != 1 {
			t.Errorf("cancel: %v, %d", err, f.cancels)
		}
	})
}

// TestBrokenAnswers: a success that can not be read is asked for again, and is an
// error in the end, never an empty answer.
func TestBrokenAnswers(t *testing.T) {
	for name, body := range map[string]string{"no JSON": "<html>", "too large": `{"x":"` + strings.Repeat("x", 16<<20) + `"}`, "nothing": ""} {
		synctest.Test(t, func(t *testing.T) {
			w, asked := newWorld(t), 0
			defer w.stop()
			w.add("a", http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) { asked++; _, _ = rw.Write([]byte(body)) }), nil)
			if _, err := w.client("a").Task(t.Context(), "x"); err == nil || asked != 5 || strings.Contains(err.Error(), "html") {
				t.Errorf("%s: %v after %d tries", name, err, asked)
			}
		})
	}
}

// TestClientConcurrentSafe: one client serves many callers at once, also while
// replicas come and go.
func TestClientConcurrentSafe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, f := newWorld(t), &fake{events: answer(20), pace: 10 * time.Millisecond}
		defer w.stop()
		w.add("a", handler(f), func(c net.Conn) net.Conn { return &cut{c, 900} })
		w.add("b", handler(f), func(c net.Conn) net.Conn { return &cut{c, 2500} })
		c := w.client("a", "b")
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() {
				a, err := c.Submit(t.Context(), taskapi.Submit{Model: "m", Prompt: "hi"})
				if err != nil {
					t.Error(err)
					return
				}
				if res, err := c.Wait(t.Context(), a.TaskID); err != nil || strings.Count(res.Text, "t") != 20 {
					t.Errorf("%+v, %v", res, err)
				}
			})
		}
		wg.Wait()
	})
}
