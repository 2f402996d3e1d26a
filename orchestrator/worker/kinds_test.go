package worker_test

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/llorch/llorch/orchestrator/worker"
)

// answering serves one answer to everything and tells what was asked.
func answering(t *testing.T, typ, answer string) (url string, asked chan string) {
	t.Helper()
	asked = make(chan string, 1)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		asked <- r.URL.Path + " " + string(b)
		w.Header().Set("Content-Type", typ)
		_, _ = io.WriteString(w, answer)
	}))
	t.Cleanup(srv.Close)
	return srv.URL, asked
}

// events returns all that a job gives.
func events(t *testing.T, d *worker.Dialer, to worker.Target, j *worker.Job) (all []worker.Event, err error) {
	t.Helper()
	s, err := d.Start(t.Context(), to, j)
	if err != nil {
		return nil, err
	}
	defer s.Close()
	for {
		e, err := s.Next()
		if err == io.EOF {
			return all, nil
		}
		if err != nil {
			return all, err
		}
		all = append(all, e)
	}
}

// TestSingleResponse is ORC-440 and ORC-448: embeddings and rerankings are one
// Result and then the end, with what they cost; an engine that does not do them
// is not asked.
func TestSingleResponse(t *testing.T) {
	for name, tc := range map[string]struct {
		to     worker.Target
		job    worker.Job
		answer string
		asked  string // "" = not asked
		in     int
	}{
		"embedding": {
			worker.Target{Model: "served"},
			worker.Job{Kind: worker.Embedding, Model: "m", Inputs: []string{"a", "é"}, MaxTokens: 9, Stream: true},
			`{"data":[{"embedding":[0.5,1]}],"usage":{"prompt_tokens":3,"total_tokens":3}}`,
			`/v1/embeddings {"model":"served","input":["a","é"]}`, 3,
		},
		"raw embedding": {
			worker.Target{Model: "served", Flavour: worker.Ollama},
			worker.Job{Kind: worker.Embedding, Raw: []byte(`{"input": "a", "model":"m","x":1e2}`)},
			`{"data":[]}`, `/v1/embeddings {"input": "a", "model":"served","x":1e2}`, 0,
		},
		"rerank": {
			worker.Target{Flavour: worker.LlamaCPP},
			worker.Job{Kind: worker.Rerank, Model: "m", Prompt: "q", Inputs: []string{"a", "b"}},
			`{"results":[{"index":1,"relevance_score":0.9}],"usage":{"total_tokens":7}}`,
			`/v1/rerank {"model":"m","query":"q","documents":["a","b"]}`, 7,
		},
		"no rerank":      {worker.Target{Flavour: worker.Ollama}, worker.Job{Kind: worker.Rerank, Prompt: "q"}, `{}`, "", 0},
		"no translation": {worker.Target{}, worker.Job{Kind: "translation"}, `{}`, "", 0},
	} {
		t.Run(name, func(t *testing.T) {
			url, asked := answering(t, "application/json", tc.answer)
			tc.to.URL = url
			all, err := events(t, newDialer(t, worker.Config{}), tc.to, &tc.job)
			if tc.asked == "" {
				if class(err) != worker.Rejected || !errors.Is(err, worker.ErrUnsupported) || len(asked) > 0 {
					t.Errorf("err = %v, asked %d times, want ErrUnsupported before anything is sent", err, len(asked))
				}
				return
			}
			if got := <-asked; got != tc.asked {
				t.Errorf("asked %s, want %s", got, tc.asked)
			}
			if err != nil || len(all) != 2 || all[0].Kind != worker.Result || string(all[0].Raw) != tc.answer || all[1].Kind != worker.Done {
				t.Fatalf("%+v, %v, want the Result and Done", all, err)
			}
			if got := all[1].Usage; got != (worker.Usage{In: tc.in, Estimated: tc.in == 0}) {
				t.Errorf("Usage = %+v, want %d tokens in", got, tc.in)
			}
		})
	}
}

// TestFlavourBodies is ORC-440: a prompt for an engine that only chats, and the
// priority, which only a vLLM is told that schedules by it.
func TestFlavourBodies(t *testing.T) {
	for name, tc := range map[string]struct {
		to   worker.Target
		job  worker.Job
		want string
	}{
		"chat only": {
			worker.Target{ChatOnly: true},
			worker.Job{Kind: worker.Completion, Model: "m", Prompt: "say \"é\""},
			`/v1/chat/completions {"model":"m","messages":[{"role":"user","content":"say \"é\""}],"stream":true,"stream_options":{"include_usage":true}}`,
		},
		"chat only, raw": {
			worker.Target{ChatOnly: true},
			worker.Job{Kind: worker.Completion, Raw: []byte(`{"model":"m","prompt":"p"}`), Stream: true},
			`/v1/completions {"model":"m","prompt":"p"}`,
		},
		"priority": {
			worker.Target{Flavour: worker.VLLM, Priority: true},
			worker.Job{Kind: worker.Completion, Model: "m", Prompt: "p", Priority: -3},
			`/v1/completions {"model":"m","prompt":"p","stream":true,"stream_options":{"include_usage":true},"priority":-3}`,
		},
		"priority not enabled": {
			worker.Target{Flavour: worker.VLLM},
			worker.Job{Kind: worker.Completion, Model: "m", Prompt: "p", Priority: -3},
			`/v1/completions {"model":"m","prompt":"p","stream":true,"stream_options":{"include_usage":true}}`,
		},
		"priority unknown": {
			worker.Target{Flavour: worker.LlamaCPP, Priority: true},
			worker.Job{Kind: worker.Completion, Model: "m", Prompt: "p", Priority: -3},
			`/v1/completions {"model":"m","prompt":"p","stream":true,"stream_options":{"include_usage":true}}`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			url, asked := answering(t, "text/event-stream", okStream)
			tc.to.URL = url
			if _, _, err := follow(t.Context(), newDialer(t, worker.Config{}), tc.to, &tc.job); err != nil {
				t.Fatal(err)
			}
			if got := <-asked; got != tc.want {
				t.Errorf("asked %s, want %s", got, tc.want)
			}
		})
	}
}

// TestTruncated is ORC-440: an Ollama that counts less than half of the estimate
// has cut the prompt; nobody else is suspected, and nobody who does not count.
func TestTruncated(t *testing.T) {
	frames := func(usage string) string {
		return `data: {"choices":[{"text":"a","finish_reason":"stop"}]}` + "\n\n" + usage + "data: [DONE]\n\n"
	}
	usage := `data: {"choices":[],"usage":{"prompt_tokens":2048,"completion_tokens":1}}` + "\n\n"
	for name, tc := range map[string]struct {
		flavour  worker.Flavour
		estimate int
		usage    string
		want     bool
	}{
		"cut":          {worker.Ollama, 5000, usage, true},
		"half is fine": {worker.Ollama, 4096, usage, false},
		"no estimate":  {worker.Ollama, 0, usage, false},
		"no usage":     {worker.Ollama, 5000, "", false},
		"not ollama":   {worker.LlamaCPP, 5000, usage, false},
	} {
		url, _ := answering(t, "text/event-stream", frames(tc.usage))
		j := &worker.Job{Kind: worker.Completion, Prompt: "p", PromptLen: tc.estimate}
		if _, last, err := follow(t.Context(), newDialer(t, worker.Config{}), worker.Target{URL: url, Flavour: tc.flavour}, j); err != nil || last.Truncated != tc.want {
			t.Errorf("%s: Truncated = %t, %v, want %t", name, last.Truncated, err, tc.want)
		}
	}
	url, _ := answering(t, "application/json", `{"choices":[],"usage":{"prompt_tokens":10,"completion_tokens":1}}`)
	j := &worker.Job{Kind: worker.Chat, Raw: []byte(`{}`), PromptLen: 21}
	if _, last, err := follow(t.Context(), newDialer(t, worker.Config{}), worker.Target{URL: url, Flavour: worker.Ollama}, j); err != nil || !last.Truncated {
		t.Errorf("whole answer: Truncated = %t, %v", last.Truncated, err)
	}
}

// TestTimings is ORC-440: llama.cpp's own account reaches the estimator; nonsense
// in it breaks no answer.
func TestTimings(t *testing.T) {
	for timings, want := range map[string]worker.Timings{
		`{"prompt_n":12,"prompt_ms":34.5,"predicted_n":9,"predicted_ms":1500}`: {Prefilled: 12, Prefill: 34500 * time.Microsecond, Decode: 1500 * time.Millisecond},
		`{"prompt_n":-1,"prompt_ms":5}`:                                        {},
		`{"prompt_n":1,"prompt_ms":-5,"predicted_ms":1e300}`:                   {Prefilled: 1, Decode: 24 * time.Hour},
		`"soon"`: {}, `[1]`: {}, `null`: {},
	} {
		answer := `{"choices":[{"text":"a","finish_reason":"stop"}],"timings":` + timings + `}`
		for typ, text := range map[string]string{"text/event-stream": "data: " + answer + "\n\ndata: [DONE]\n\n", "application/json": answer} {
			url, _ := answering(t, typ, text)
			j := &worker.Job{Kind: worker.Completion, Raw: []byte("{}"), Stream: strings.HasPrefix(typ, "text")}
			if _, last, err := follow(t.Context(), newDialer(t, worker.Config{}), worker.Target{URL: url, Flavour: worker.LlamaCPP}, j); err != nil || last.Timings != want {
				t.Errorf("%s of %s: Timings = %+v, %v, want %+v", timings, typ, last.Timings, err, want)
			}
		}
	}
}
