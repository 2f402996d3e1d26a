package workertest_test

import (
	"encoding/json"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/llorch/llorch/orchestrator/worker"
	"github.com/llorch/llorch/orchestrator/worker/workertest"
)

// inMemory starts an engine in a bubble and returns a client for it.
func inMemory(t *testing.T, cfg workertest.Config) (*workertest.Engine, *http.Client) {
	t.Helper()
	n := new(workertest.Net)
	e := n.Start(cfg)
	c := &http.Client{Transport: &http.Transport{DialContext: n.Dial}}
	t.Cleanup(func() { c.CloseIdleConnections(); e.Close() })
	return e, c
}

// TestPrefixCache covers ORC-449: what a prompt shares with an earlier one, in
// whole blocks of 16 tokens from its start, takes no time.
func TestPrefixCache(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e, c := inMemory(t, workertest.Config{Tokens: 1, KV: 4096, Latency: &workertest.Latency{Prefill: 1000}})
		ask := func(prompt string) time.Duration {
			began := time.Now()
			if status, answer := post(t, c, e.URL+"/v1/completions", `{"prompt":"`+prompt+`"}`); status != 200 {
				t.Fatalf("%d %s", status, answer)
			}
			return time.Since(began)
		}
		long := strings.Repeat("abcd", 100) // 100 tokens, 6 whole blocks
		for i, tc := range []struct {
			prompt string
			want   time.Duration
		}{
			{long, 100 * time.Millisecond},
			{long, 4 * time.Millisecond},
			{long + "more", 5 * time.Millisecond},
			{strings.Repeat("abcd", 64), time.Millisecond}, // all of it is known, one token is computed
			{"x" + long, 101 * time.Millisecond},
			{strings.Repeat("abcd", 40) + strings.Repeat("zzzz", 60), 68 * time.Millisecond},
		} {
			if got := ask(tc.prompt); got != tc.want {
				t.Errorf("prompt %d took %v, want %v", i, got, tc.want)
			}
		}
		for i := range 40 { // pushes it out
			ask(strings.Repeat(string(rune('A'+i)), 4*256))
		}
		if got := ask(long); got != 100*time.Millisecond {
			t.Errorf("a prompt that was pushed out took %v, want all of it", got)
		}
	})
}

// TestKV covers ORC-449: what does not fit into the KV memory waits for others to
// end, what never fits is refused, and nobody overtakes.
func TestKV(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e, c := inMemory(t, workertest.Config{
			Flavour: worker.VLLM, Slots: 8, Queue: 8, Tokens: 32, KV: 10 * 16, Latency: &workertest.Latency{Token: time.Millisecond},
		})
		ask := func(tokens int) int {
			status, _ := post(t, c, e.URL+"/v1/completions", `{"model":"sim-8b","prompt":"`+strings.Repeat("abcd", tokens)+`"}`)
			return status
		}
		if status := ask(9 * 16); status != http.StatusTooManyRequests {
			t.Errorf("a request above the whole memory = %d, want 429", status)
		}
		var wg sync.WaitGroup
		began := time.Now()
		for _, tokens := range []int{4 * 16, 4 * 16, 1} { // with the answer 6, 6 and 3 blocks
			wg.Go(func() {
				if status := ask(tokens); status != 200 {
					t.Errorf("status %d", status)
				}
			})
			synctest.Wait()
		}
		if st := e.Stats(); st.Running != 1 || st.Waiting != 2 {
			t.Errorf("%d run and %d wait, want 1 and 2: the small one does not overtake", st.Running, st.Waiting)
		}
		wg.Wait()
		if d := time.Since(began); d != 62*time.Millisecond {
			t.Errorf("all took %v, want two rounds of 31 ms", d)
		}
	})
}

// TestVRAM covers ORC-449: VRAM is held until some time after the end, or for ever.
func TestVRAM(t *testing.T) {
	for faults, after := range map[string]int64{"": 0, "leak-vram": 1 << 30} {
		synctest.Test(t, func(t *testing.T) {
			leaks := 0
			e, c := inMemory(t, workertest.Config{
				Preset: "zero", VRAM: 1 << 30, VRAMReturn: 2 * time.Second, Faults: parse(t, faults), Hooks: workertest.Hooks{Leak: func() { leaks++ }},
			})
			if status, _ := post(t, c, e.URL+"/v1/completions", `{"prompt":"p"}`); status != 200 || e.VRAM() != 1<<30 || leaks != min(1, len(faults)) {
				t.Errorf("%q: status %d, VRAM %d, %d leaks", faults, status, e.VRAM(), leaks)
			}
			e.Close()
			if got := e.VRAM(); got != 1<<30 {
				t.Errorf("%q: VRAM at once after the end is %d, want all", faults, got)
			}
			<-time.After(2 * time.Second)
			if got := e.VRAM(); got != after {
				t.Errorf("%q: VRAM 2 s after the end is %d, want %d", faults, got, after)
			}
		})
	}
}

// TestSingleDocuments covers ORC-449: embeddings and rerankings are pure
// functions of model, version and texts.
func TestSingleDocuments(t *testing.T) {
	e := workertest.Start(workertest.Config{Preset: "zero"})
	defer e.Close()
	other := workertest.Start(workertest.Config{Preset: "zero", Model: "another", Alias: "sim-8b", Flavour: worker.Ollama})
	defer other.Close()
	embed := func(e *workertest.Engine) (out struct {
		Data []struct {
			Index     int
			Embedding []float64
		}
		Usage struct {
			Prompt int `json:"prompt_tokens"`
		}
	},
	) {
		status, answer := post(t, http.DefaultClient, e.URL+"/v1/embeddings", `{"model":"sim-8b","input":["abcd","efgh","abcd"],"stream":true}`)
		if err := json.Unmarshal([]byte(answer), &out); err != nil || status != 200 || len(out.Data) != 3 || out.Usage.Prompt != 3 {
			t.Fatalf("%d %s", status, answer)
		}
		return out
	}
	a, b := embed(e), embed(other)
	same := func(x, y []float64) bool {
		return len(x) > 0 && string(must(json.Marshal(x))) == string(must(json.Marshal(y)))
	}
	if !same(a.Data[0].Embedding, a.Data[2].Embedding) || same(a.Data[0].Embedding, a.Data[1].Embedding) || same(a.Data[0].Embedding, b.Data[0].Embedding) {
		t.Errorf("embeddings %+v and of another model %+v", a, b)
	}
	status, answer := post(t, http.DefaultClient, e.URL+"/v1/rerank", `{"query":"q","documents":["a","b"]}`)
	if status != 200 || strings.Count(answer, "relevance_score") != 2 {
		t.Errorf("rerank = %d %s", status, answer)
	}
	for url, body := range map[string]string{
		e.URL + "/v1/rerank": `{"query":"q","documents":[]}`, e.URL + "/v1/embeddings": `{"input":[]}`, other.URL + "/v1/rerank": `{"model":"sim-8b","query":"q","documents":["a"]}`,
	} {
		if status, answer := post(t, http.DefaultClient, url, body); status != 400 && status != 404 {
			t.Errorf("%s = %d %s, want it refused", body, status, answer)
		}
	}
}

// TestIdleMemory covers ORC-449: thousands of idle engines fit into one process.
func TestIdleMemory(t *testing.T) {
	const engines, bound = 500, 40 << 10
	var n workertest.Net
	used := func() uint64 {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapInuse + m.StackInuse
	}
	before := used()
	var all []*workertest.Engine
	for range engines {
		all = append(all, n.Start(workertest.Config{}))
	}
	if each := (int64(used()) - int64(before)) / engines; each > bound {
		t.Errorf("an idle engine takes %d bytes, want at most %d", each, bound)
	} else {
		t.Logf("an idle engine takes %d bytes", each)
	}
	for _, e := range all {
		e.Close()
	}
}
