package engine_test

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/llorch/llorch/poolcore/engine"
	"github.com/llorch/llorch/poolcore/engine/enginetest"
)

// play serves a kind's recorded ready answers, but for other.
func play(t testing.TB, kind string, other map[string]enginetest.Answer) engine.Endpoint {
	t.Helper()
	s, err := enginetest.Recorded(kind)
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a, ok := other[r.URL.Path]
		if !ok {
			a, ok = s.Ready[r.URL.Path]
		}
		if !ok {
			http.NotFound(w, r)
			return
		}
		w.WriteHeader(a.Status)
		_, _ = w.Write([]byte(a.Body))
	}))
	t.Cleanup(srv.Close)
	return engine.Endpoint{URL: srv.URL, Token: "key", Model: s.Model, Client: srv.Client()}
}

// kind returns one of engine.All by its name.
func kind(t testing.TB, name string) engine.Kind {
	t.Helper()
	all := engine.All()
	i := slices.IndexFunc(all, func(k engine.Kind) bool { return k.Name() == name })
	if i < 0 {
		t.Fatalf("no kind %s", name)
	}
	return all[i]
}

// asText writes a report with its pointers followed.
func asText(t testing.TB, r engine.Report) string {
	t.Helper()
	data, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// TestReports (PCO-53): everything that a recorded engine tells, and nothing that
// it does not.
func TestReports(t *testing.T) {
	llama := engine.Report{
		Live: true, Ready: true, Detail: "ok", Model: "m-q8_0.gguf", Alias: "pool-0-r0-abcdef", Version: "b6123-79c1160b", CtxMax: new(8192),
		SlotsTotal: new(4), SlotsBusy: new(1), Queue: new(2), KVUsed: new(0.25), TokensPerSecond: new(51.25), Tokens: new(uint64(1545)),
	}
	bare := llama
	bare.SlotsBusy, bare.Queue, bare.KVUsed, bare.TokensPerSecond, bare.Tokens = nil, nil, nil, nil, nil
	vllm := engine.Report{
		Live: true, Ready: true, Detail: "ok", Model: "org-m", Alias: "pool-0-r0-abcdef", Version: "0.10.1", CtxMax: new(8192), SlotsBusy: new(3),
		Queue: new(1), KVUsed: new(0.5), Tokens: new(uint64(1234)),
	}
	old := vllm
	old.SlotsBusy, old.Queue, old.Tokens, old.KVUsed, old.TokensPerSecond = new(5), nil, nil, new(0.75), new(12.5)
	silent := vllm
	silent.SlotsBusy, silent.Queue, silent.Tokens, silent.KVUsed = nil, nil, nil, nil
	ollama := engine.Report{
		Live: true, Ready: true, Detail: "ok", Model: "qwen3:0.6b", Version: "0.11.4", CtxMax: new(4096),
		Offload: &engine.Offload{Done: 1362000000, Total: 1362000000},
	}
	idle := ollama
	idle.Detail, idle.CtxMax, idle.Offload = "not loaded", nil, nil
	closed := map[string]enginetest.Answer{"/slots": {Status: 501}, "/metrics": {Status: 501}}
	for name, c := range map[string]struct {
		kind  string
		other map[string]enginetest.Answer
		want  engine.Report
	}{
		"llamacpp":        {"llamacpp", nil, llama},
		"llamacpp closed": {"llamacpp", closed, bare},
		"simulator":       {"simulator", nil, llama},
		"vllm":            {"vllm", nil, vllm},
		"vllm, old names": {"vllm", map[string]enginetest.Answer{"/metrics": {Status: 200, Body: "vllm:num_requests_running{model_name=\"a b} 9\"} 2\nvllm:num_requests_running{model_name=\"c\"} 3\nvllm:num_requests_running{model_name=\"d\"} NaN\n" +
			"vllm:gpu_cache_usage_perc 0.75 1754000000\nvllm:avg_generation_throughput_toks_per_s{} 12.5\n"}}, old},
		"vllm, nonsense": {"vllm", map[string]enginetest.Answer{"/metrics": {Status: 200, Body: "vllm:num_requests_running -1\nvllm:num_requests_waiting NaN\nvllm:kv_cache_usage_perc 1.5\n" +
			"vllm:generation_tokens_total 1e300\nvllm:prompt_tokens_total\n{} 3\n\n{\n"}}, silent},
		"ollama":      {"ollama", nil, ollama},
		"ollama idle": {"ollama", map[string]enginetest.Answer{"/api/ps": {Status: 200, Body: `{"models":[]}`}}, idle},
		"external":    {"external", nil, engine.Report{Live: true, Ready: true, Detail: "ok", Model: "org/m", CtxMax: new(16384)}},
	} {
		r, err := kind(t, c.kind).Probe(t.Context(), play(t, c.kind, c.other))
		if got, want := asText(t, r), asText(t, c.want); err != nil || got != want {
			t.Errorf("%s:\n%s, %v\nwant\n%s", name, got, err, want)
		}
	}
}

// TestSlowBigModelIsNotKilled (trap; PCO-30, the probe's half): a server that loads
// is loading at every probe, never an error, however long it takes.
func TestSlowBigModelIsNotKilled(t *testing.T) {
	for _, name := range []string{"llamacpp", "vllm", "simulator"} {
		s, err := enginetest.Recorded(name)
		if err != nil {
			t.Fatal(err)
		}
		ep := play(t, name, s.Loading)
		for range 50 {
			if r, err := kind(t, name).Probe(t.Context(), ep); err != nil || !r.Loading || !r.Live || r.Ready {
				t.Fatalf("%s: %+v, %v", name, r, err)
			}
		}
	}
}

// TestForeignServerOnPortIsNotReady (trap; PCO-29, the probe's half): a program that
// answers 200 to everything is no engine.
func TestForeignServerOnPortIsNotReady(t *testing.T) {
	for body, kinds := range map[string][]string{
		"hello": {"llamacpp", "vllm", "ollama", "simulator"}, "{}": {"llamacpp", "vllm", "ollama", "simulator"}, "[]": {"llamacpp", "vllm", "ollama", "simulator"},
	} {
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, body) }))
		for _, name := range kinds {
			r, err := kind(t, name).Probe(t.Context(), engine.Endpoint{URL: srv.URL, Client: srv.Client(), Model: "m"})
			if !errors.Is(err, engine.ErrBadAnswer) || r.Ready || r.Live {
				t.Errorf("%s believes %q: %+v, %v", name, body, r, err)
			}
		}
		srv.Close()
	}
}

// TestPartialOffload (PCO-18, the engine's half): llama.cpp tells it in its log,
// Ollama by sizes.
func TestPartialOffload(t *testing.T) {
	for line, want := range map[string]engine.Offload{
		"load_tensors: offloaded 15/49 layers to GPU": {Done: 15, Total: 49}, "llm_load_tensors: offloaded 33/33 layers to GPU\r": {Done: 33, Total: 33},
		"offloaded 0/33 layers to GPU": {Total: 33},
	} {
		if o, ok := (engine.LlamaCPP{}).Offloaded(line); !ok || o != want || o.Partial() != (want.Done != want.Total) {
			t.Errorf("%q: %+v, %v", line, o, ok)
		}
	}
	for _, line := range []string{"", "offloaded", "offloaded layers", "offloaded 1 layers", "offloaded 34/33 layers", "offloaded -1/33 layers", "offloaded 1/99999999999 layers", "offloading 32 repeating layers to GPU"} {
		if o, ok := (engine.LlamaCPP{}).Offloaded(line); ok {
			t.Errorf("%q: %+v", line, o)
		}
	}
	body := `{"models":[{"name":"other:1b","size":9,"size_vram":9},{"name":"qwen3:0.6b","size":1000,"size_vram":400}]}`
	r, err := engine.Ollama{}.Probe(t.Context(), play(t, "ollama", map[string]enginetest.Answer{"/api/ps": {Status: 200, Body: body}}))
	if err != nil || r.Offload == nil || !r.Offload.Partial() || *r.Offload != (engine.Offload{Done: 400, Total: 1000}) {
		t.Errorf("ollama: %+v, %v", r.Offload, err)
	}
}

// TestOllamaNames: no tag is "latest", and a registry's port is no tag.
func TestOllamaNames(t *testing.T) {
	for stored, asked := range map[string]string{"m:latest": "m", "host:5000/m:latest": "host:5000/m", "m:1b": "m:1b"} {
		ep := play(t, "ollama", map[string]enginetest.Answer{"/api/tags": {Status: 200, Body: `{"models":[{"name":"` + stored + `"}]}`}})
		ep.Model = asked
		if r, err := (engine.Ollama{}).Probe(t.Context(), ep); err != nil || !r.Ready {
			t.Errorf("%s: %+v, %v", asked, r, err)
		}
		ep.Model = asked + "x"
		if r, err := (engine.Ollama{}).Probe(t.Context(), ep); err != nil || r.Ready || !r.Loading {
			t.Errorf("%sx: %+v, %v", asked, r, err)
		}
	}
}

// TestOllamaLoader (4.12): an empty generate loads, keep_alive 0 unloads.
func TestOllamaLoader(t *testing.T) {
	var mu sync.Mutex
	var got []string
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		mu.Lock()
		defer mu.Unlock()
		got = append(got, r.Method+" "+r.URL.Path+" "+string(body))
		if strings.Contains(string(body), "absent") {
			http.Error(w, `{"error":"model 'absent' not found"}`, http.StatusNotFound)
		}
	}))
	defer srv.Close()
	ep := engine.Endpoint{URL: srv.URL}
	var loader engine.Loader = engine.Ollama{}
	if err := errors.Join(loader.Load(t.Context(), ep, "m"), loader.Unload(t.Context(), ep, "m")); err != nil {
		t.Error(err)
	}
	want := []string{`POST /api/generate {"model":"m","keep_alive":-1,"stream":false}`, `POST /api/generate {"model":"m","keep_alive":0,"stream":false}`}
	if !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	if err := loader.Load(t.Context(), ep, "absent"); !errors.Is(err, engine.ErrBadAnswer) || strings.Contains(err.Error(), "not found") {
		t.Errorf("absent: %v", err)
	}
}

// TestExternalPath (4.12): the configured path, and only its 2xx, is ready.
func TestExternalPath(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(map[string]int{"/info": 204, "/health": 200, "/busy": 503}[r.URL.Path] + map[bool]int{true: 404}[r.URL.Path == "/none"])
	}))
	defer srv.Close()
	for path, want := range map[string]engine.Report{
		"": {Live: true, Ready: true, Detail: "status 200"}, "/info": {Live: true, Ready: true, Detail: "status 204"},
		"/busy": {Live: true, Loading: true, Detail: "status 503"}, "/none": {Live: true, Detail: "status 404"},
	} {
		r, err := engine.External{}.Probe(t.Context(), engine.Endpoint{URL: srv.URL, Path: path})
		if err != nil || r != want {
			t.Errorf("%q: %+v, %v; want %+v", path, r, err, want)
		}
	}
	for _, ep := range []engine.Endpoint{{URL: srv.URL, Path: "@127.0.0.1:1/"}, {URL: "http://127.0.0.1:1\n"}} {
		if _, err := (engine.External{}).Probe(t.Context(), ep); !errors.Is(err, engine.ErrBadEndpoint) {
			t.Errorf("%+v: %v", ep, err)
		}
	}
}

// FuzzProbeAnswers: whatever a server answers to every route, no kind panics, and
// what it reports is in range.
func FuzzProbeAnswers(f *testing.F) {
	for _, k := range engine.All() {
		s, err := enginetest.Recorded(k.Name())
		if err != nil {
			f.Fatal(err)
		}
		for _, a := range s.Ready {
			f.Add(a.Body, s.Ready["/v1/models"].Body)
		}
	}
	f.Add("llamacpp:requests_deferred 1e999\nvllm:num_requests_running{ 3", `{"data":[{"id":"w","max_model_len":-3}]}`)
	var body, models string
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		text := body
		if strings.HasPrefix(r.URL.Path, "/v1/") || r.URL.Path == "/api/version" {
			text = models
		}
		_, _ = io.WriteString(w, text)
	}))
	f.Cleanup(srv.Close)
	f.Fuzz(func(t *testing.T, a, b string) {
		body, models = a, b
		for _, k := range engine.All() {
			r, err := k.Probe(t.Context(), engine.Endpoint{URL: srv.URL, Client: srv.Client()})
			if err != nil {
				continue
			}
			for _, n := range []*int{r.CtxMax, r.SlotsTotal} {
				if n != nil && *n < 1 {
					t.Errorf("%s: %s", k.Name(), asText(t, r))
				}
			}
			if r.KVUsed != nil && (*r.KVUsed < 0 || *r.KVUsed > 1) || r.SlotsBusy != nil && *r.SlotsBusy < 0 || r.Queue != nil && *r.Queue < 0 || len(r.Alias)+len(r.Model)+len(r.Version) > 1000 {
				t.Errorf("%s: %s", k.Name(), asText(t, r))
			}
		}
	})
}

// TestRealEngines (PCO-55): where an engine is on PATH, it knows every flag that
// Command gives it.
func TestRealEngines(t *testing.T) {
	for name, c := range map[string]struct {
		kind engine.Kind
		help []string
	}{
		"llama-server": {engine.LlamaCPP{}, []string{"--help"}}, "vllm": {engine.VLLM{}, []string{"serve", "--help=all"}}, "ollama": {engine.Ollama{}, []string{"serve", "--help"}},
	} {
		t.Run(name, func(t *testing.T) {
			path, err := exec.LookPath(name)
			if err != nil {
				t.Skipf("SKIPPED: %s is not on PATH; its flags were not compared with the real program", name)
			}
			cmd := exec.CommandContext(t.Context(), path, c.help...)
			cmd.Env = append(os.Environ(), "CUDA_VISIBLE_DEVICES=")
			help, err := cmd.CombinedOutput()
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			r := request()
			r.Devices, r.TensorSplit, r.Deterministic = []string{"0", "1"}, []float64{0.5, 0.5}, true
			if name == "ollama" {
				r.TensorSplit = nil
			}
			want, err := c.kind.Command(r)
			if err != nil {
				t.Fatal(err)
			}
			for _, word := range slices.Concat(want.Args, want.Env) {
				word, _, _ = strings.Cut(word, "=")
				if strings.HasPrefix(word, "-") || strings.HasPrefix(word, "OLLAMA_") {
					if !strings.Contains(string(help), word) {
						t.Errorf("%s does not know %s", name, word)
					}
				}
			}
		})
	}
}
