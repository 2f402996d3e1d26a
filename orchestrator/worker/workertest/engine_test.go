package workertest_test

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/llorch/llorch/orchestrator/worker"
	"github.com/llorch/llorch/orchestrator/worker/workertest"
)

func parse(t *testing.T, s string) []workertest.Fault {
	t.Helper()
	list, err := workertest.ParseFaults(s)
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// post sends body and returns the status and the answer.
func post(t *testing.T, c *http.Client, url, body string, header ...string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := c.Do(req)
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return resp.StatusCode, err.Error()
	}
	return resp.StatusCode, string(b)
}

// text is the completion of a prompt.
func text(t *testing.T, e *workertest.Engine, body string) string {
	t.Helper()
	status, answer := post(t, http.DefaultClient, e.URL+"/v1/completions", body)
	var doc struct{ Choices []struct{ Text string } }
	if err := json.Unmarshal([]byte(answer), &doc); err != nil || status != 200 || len(doc.Choices) != 1 {
		t.Fatalf("%d %s", status, answer)
	}
	return doc.Choices[0].Text
}

// TestTextIsPure covers ORC-449: text follows from model, version, seed, prompt
// and parameters, and from nothing else.
func TestTextIsPure(t *testing.T) {
	base := workertest.Config{Preset: "zero", Seed: 1, Tokens: 32}
	start := func(change func(*workertest.Config)) *workertest.Engine {
		cfg := base
		change(&cfg)
		e := workertest.Start(cfg)
		t.Cleanup(e.Close)
		return e
	}
	one := start(func(*workertest.Config) {})
	want := text(t, one, `{"prompt":"p"}`)
	same := map[string]string{
		"again":         text(t, one, `{"prompt":"p"}`),
		"seed repeated": text(t, one, `{"prompt":"p","seed":1}`),
		"other alias, slots, timing": text(t, start(func(c *workertest.Config) {
			c.Alias, c.Slots, c.Preset = "x", 1, "fast"
		}), `{"prompt":"p","user":"u"}`),
	}
	for name, got := range same {
		if got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	differ := map[string]string{
		"prompt":       text(t, one, `{"prompt":"q"}`),
		"request seed": text(t, one, `{"prompt":"p","seed":3}`),
		"temperature":  text(t, one, `{"prompt":"p","temperature":0.5}`),
		"model":        text(t, start(func(c *workertest.Config) { c.Model = "m2" }), `{"prompt":"p"}`),
		"version":      text(t, start(func(c *workertest.Config) { c.Version = "v2" }), `{"prompt":"p"}`),
		"engine seed":  text(t, start(func(c *workertest.Config) { c.Seed = 2 }), `{"prompt":"p"}`),
	}
	seen := map[string]string{want: "base"}
	for name, got := range differ {
		if other, ok := seen[got]; ok {
			t.Errorf("%s gives the text of %s", name, other)
		}
		seen[got] = name
	}
	if got := text(t, one, `{"prompt":"p","max_tokens":3}`); !strings.HasPrefix(want, got) || len(strings.Fields(got)) != 3 {
		t.Errorf("three tokens of %q are %q", want, got)
	}
	if got := text(t, one, `{"prompt":"p","max_tokens":90,"ignore_eos":true}`); !strings.HasPrefix(got, want) || len(strings.Fields(got)) != 90 {
		t.Errorf("ninety tokens that start with %q are %q", want, got)
	}
	stop := want[10:14]
	if got := text(t, one, `{"prompt":"p","stop":[`+string(must(json.Marshal(stop)))+`]}`); got != want[:strings.Index(want, stop)] {
		t.Errorf("stopped at %q: %q", stop, got)
	}
}

func must(b []byte, err error) []byte {
	if err != nil {
		panic(err)
	}
	return b
}

// TestLatency covers ORC-449: first token = base + prompt ÷ prefill, then token
// + slope × batch.
func TestLatency(t *testing.T) {
	for batch, want := range map[int]time.Duration{
		1: 100*time.Millisecond + 25*time.Millisecond + 4*11*time.Millisecond,
		3: 100*time.Millisecond + 25*time.Millisecond + 4*13*time.Millisecond,
	} {
		synctest.Test(t, func(t *testing.T) {
			var n workertest.Net
			e := n.Start(workertest.Config{Tokens: 5, Latency: &workertest.Latency{
				Base: 100 * time.Millisecond, Prefill: 4000, Token: 10 * time.Millisecond, Slope: time.Millisecond,
			}})
			defer e.Close()
			c := &http.Client{Transport: &http.Transport{DialContext: n.Dial}}
			defer c.CloseIdleConnections()
			begin := time.Now()
			var wg sync.WaitGroup
			for range batch {
				wg.Go(func() {
					if status, answer := post(t, c, e.URL+"/v1/completions", `{"prompt":"`+strings.Repeat("abcd", 100)+`"}`); status != 200 {
						t.Errorf("%d %s", status, answer)
					}
				})
			}
			wg.Wait()
			if d := time.Since(begin); d != want {
				t.Errorf("batch %d took %v, want %v", batch, d, want)
			}
		})
	}
}

// TestSlotsAndQueue covers ORC-449: slots run, the queue waits in order, one
// more is told so in the dialect's way.
func TestSlotsAndQueue(t *testing.T) {
	for flavour, busy := range map[worker.Flavour]int{worker.LlamaCPP: 503, worker.Ollama: 503, worker.VLLM: 429, worker.Generic: 429} {
		synctest.Test(t, func(t *testing.T) {
			var n workertest.Net
			e := n.Start(workertest.Config{Flavour: flavour, Model: "m", Slots: 2, Queue: 1, Tokens: 2, Latency: &workertest.Latency{Base: time.Second}})
			defer e.Close()
			c := &http.Client{Transport: &http.Transport{DialContext: n.Dial}}
			defer c.CloseIdleConnections()
			var wg sync.WaitGroup
			for range 3 {
				wg.Go(func() {
					if status, answer := post(t, c, e.URL+"/v1/completions", `{"model":"m","prompt":"p"}`); status != 200 {
						t.Errorf("%d %s", status, answer)
					}
				})
			}
			synctest.Wait()
			if st := e.Stats(); st.Running != 2 || st.Waiting != 1 {
				t.Errorf("Stats = %+v", st)
			}
			if status, _ := post(t, c, e.URL+"/v1/completions", `{"model":"m","prompt":"p"}`); status != busy {
				t.Errorf("%s: status %d, want %d", flavour, status, busy)
			}
			begin := time.Now()
			wg.Wait()
			if d := time.Since(begin); d != 2*time.Second {
				t.Errorf("three requests on two slots took %v", d)
			}
			if st := e.Stats(); st.Finished != 3 || st.Refused != 1 || st.Running != 0 || st.Waiting != 0 {
				t.Errorf("Stats = %+v", st)
			}
		})
	}
}

// TestCancelWhileWaiting: a client that leaves the queue takes no slot.
func TestCancelWhileWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var n workertest.Net
		e := n.Start(workertest.Config{Slots: 1, Tokens: 1, Latency: &workertest.Latency{Base: time.Hour}})
		defer e.Close()
		c := &http.Client{Transport: &http.Transport{DialContext: n.Dial}}
		var wg sync.WaitGroup
		var leave []context.CancelFunc
		for range 2 { // the first gets the slot
			ctx, cancel := context.WithCancel(t.Context())
			leave = append(leave, cancel)
			wg.Go(func() {
				req, err := http.NewRequestWithContext(ctx, http.MethodPost, e.URL+"/v1/completions", strings.NewReader(`{"prompt":"p"}`))
				if err != nil {
					t.Error(err)
					return
				}
				if resp, err := c.Do(req); err == nil {
					_ = resp.Body.Close()
				}
			})
			synctest.Wait()
		}
		for i, want := range []workertest.Stats{{Cancelled: 1, Running: 1}, {Cancelled: 2}} {
			leave[1-i]()
			if err := e.Wait(t.Context(), func(st workertest.Stats) bool {
				return st.Cancelled == want.Cancelled && st.Running == want.Running && st.Waiting == 0
			}); err != nil {
				t.Error(err)
			}
		}
		wg.Wait()
		if st := e.Stats(); st.Arrived != 2 || st.Started != 1 {
			t.Errorf("Stats = %+v", st)
		}
	})
}

// TestIgnoreCancel: the engine works on and keeps its slot.
func TestIgnoreCancel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var n workertest.Net
		e := n.Start(workertest.Config{Slots: 1, Tokens: 10, Faults: parse(t, "ignore-cancel"), Latency: &workertest.Latency{Token: time.Second}})
		defer e.Close()
		c := &http.Client{Transport: &http.Transport{DialContext: n.Dial}, Timeout: 3500 * time.Millisecond}
		begin := time.Now()
		if status, answer := post(t, c, e.URL+"/v1/completions", `{"prompt":"p","stream":true}`); time.Since(begin) != 3500*time.Millisecond {
			t.Errorf("%d %s after %v", status, answer, time.Since(begin))
		}
		if st := e.Stats(); st.Running != 1 || st.Cancelled != 0 {
			t.Errorf("after the client left: %+v", st)
		}
		if err := e.Wait(t.Context(), func(st workertest.Stats) bool { return st.Finished == 1 && st.Running == 0 }); err != nil {
			t.Fatal(err)
		}
		if d := time.Since(begin); d != 9*time.Second {
			t.Errorf("it worked for %v", d)
		}
	})
}

func TestLoadingAndKeys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var n workertest.Net
		e := n.Start(workertest.Config{Keys: []string{"k1", "k2"}, LoadDelay: time.Minute, Preset: "zero"})
		defer e.Close()
		c := &http.Client{Transport: &http.Transport{DialContext: n.Dial}}
		defer c.CloseIdleConnections()
		health := func() int {
			resp, err := c.Get(e.URL + "/health")
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			return resp.StatusCode
		}
		work := func(key string) int {
			status, _ := post(t, c, e.URL+"/v1/chat/completions", `{"messages":[{"role":"user","content":[{"type":"text","text":"hi"}]}]}`, "Authorization", key)
			return status
		}
		if h, w := health(), work("Bearer k2"); h != 503 || w != 503 {
			t.Errorf("while loading: %d, %d", h, w)
		}
		<-time.After(time.Minute)
		if h, w, other, none := health(), work("Bearer k2"), work("Bearer k3"), work(""); h != 200 || w != 200 || other != 401 || none != 401 {
			t.Errorf("loaded: %d, right key %d, other %d, none %d", h, w, other, none)
		}
	})
}

func TestBadRequests(t *testing.T) {
	e := workertest.Start(workertest.Config{Preset: "zero", Flavour: worker.VLLM, Model: "m", Ctx: 100})
	defer e.Close()
	for body, want := range map[string]int{
		`{`: 400, `{"prompt":1}`: 400, `{"model":"m"}`: 400, `{"model":"m","prompt":["a","b"]}`: 400, `{"model":"m","prompt":"p","n":2}`: 400,
		`{"model":"m","prompt":"p","max_tokens":-1}`: 400, `{"model":"m","prompt":"p","stop":5}`: 400, `{"model":"x","prompt":"p"}`: 404,
		`{"model":"m","prompt":"` + strings.Repeat("a", 400) + `"}`: 400, `{"model":"m","prompt":"` + strings.Repeat("a", 8<<20) + `"}`: 413,
		`{"model":"m","prompt":["p"]}`: 200,
	} {
		if status, answer := post(t, http.DefaultClient, e.URL+"/v1/completions", body); status != want || status != 200 && !strings.Contains(answer, `"error"`) {
			t.Errorf("%.40s: %d %s, want %d", body, status, answer, want)
		}
	}
	if _, answer := post(t, http.DefaultClient, e.URL+"/v1/chat/completions", `{"model":"m","messages":[]}`); !strings.Contains(answer, "error") {
		t.Errorf("no messages: %s", answer)
	}
}
