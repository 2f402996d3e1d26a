package workertest

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/llorch/llorch/orchestrator/worker"
)

// patience bounds every step of the suite that ends by itself.
const patience = 20 * time.Second

// short is a job's clock where the suite wants it to run out, in real time.
const short = 400 * time.Millisecond

// RunAdapterSuite tests an adapter for OpenAI-compatible engines: what it
// relays, what it makes of each way to fail (ORC-402), and that a cancel
// reaches the engine. open returns a new adapter that may dial loopback.
func RunAdapterSuite(t *testing.T, open func(t *testing.T) worker.Adapter) {
	t.Run("answers", func(t *testing.T) { suiteAnswers(t, open) })
	t.Run("failures", func(t *testing.T) { suiteFailures(t, open) })
	t.Run("tolerated", func(t *testing.T) { suiteTolerated(t, open) })
	t.Run("cancel", func(t *testing.T) { suiteCancel(t, open) })
	t.Run("close", func(t *testing.T) { suiteClose(t, open) })
	t.Run("probe", func(t *testing.T) { suiteProbe(t, open) })
}

// suiteEngine starts an engine without latency and of a fixed answer length.
func suiteEngine(t *testing.T, cfg Config, faults string) *Engine {
	t.Helper()
	list, err := ParseFaults(faults)
	if err != nil {
		t.Fatal(err)
	}
	cfg.Faults = list
	if cfg.Preset == "" {
		cfg.Preset = "zero"
	}
	if cfg.Tokens == 0 {
		cfg.Tokens = 8
	}
	e := Start(cfg)
	t.Cleanup(e.Close)
	return e
}

func (e *Engine) target() worker.Target {
	return worker.Target{URL: e.URL, Model: e.cfg.Alias, Flavour: e.cfg.Flavour, Slots: e.cfg.Slots}
}

// transcript is all that a stream gave.
type transcriptOf struct {
	text   string
	tokens int
	raw    []string
	result []byte
	done   *worker.Event
}

// read follows a stream to its end; a nil error means Done and then io.EOF.
func read(s worker.Stream) (transcriptOf, error) {
	var tr transcriptOf
	for {
		ev, err := s.Next()
		switch {
		case err == io.EOF && tr.done != nil:
			return tr, nil
		case err != nil:
			return tr, err
		case tr.done != nil:
			return tr, errors.New("an event after Done")
		}
		if ev.Raw != nil && ev.Kind != worker.Result {
			tr.raw = append(tr.raw, string(ev.Raw))
		}
		switch ev.Kind {
		case worker.Token:
			tr.text += ev.Text
			tr.tokens++
		case worker.Result:
			tr.result = ev.Raw
		case worker.Done:
			tr.done = &ev
		}
	}
}

// run starts j and reads it to its end.
func run(t *testing.T, a worker.Adapter, to worker.Target, j *worker.Job) (transcriptOf, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	s, err := a.Start(ctx, to, j)
	if err != nil {
		return transcriptOf{}, err
	}
	tr, err := read(s)
	if cerr := s.Close(); cerr != nil {
		t.Errorf("Close = %v", cerr)
	}
	return tr, err
}

// want are the engine's own tokens for a /v1/completions prompt.
func (e *Engine) want(t *testing.T, prompt string, maxTokens int) []string {
	t.Helper()
	body, err := json.Marshal(map[string]any{"model": e.cfg.Alias, "prompt": prompt, "max_tokens": maxTokens})
	if err != nil {
		t.Fatal(err)
	}
	p, err := parseParams(body, worker.Completion, &e.cfg)
	if err != nil {
		t.Fatal(err)
	}
	tokens, _ := answer(&e.cfg, p)
	return tokens
}

func suiteAnswers(t *testing.T, open func(t *testing.T) worker.Adapter) {
	e := suiteEngine(t, Config{Seed: 7, Tokens: 24, Keys: []string{"k1"}}, "")
	to := e.target()
	to.Token = "k1"
	prompt := "say it"
	want := strings.Join(e.want(t, prompt, 24), "")
	raw := func(stream bool, more string) []byte {
		body := `{"model":"alias","prompt":"say it","max_tokens":24` + more
		if stream {
			body += `,"stream":true`
		}
		return []byte(body + "}")
	}
	for name, j := range map[string]*worker.Job{
		"completion":        {Kind: worker.Completion, Prompt: prompt, MaxTokens: 24},
		"raw stream":        {Kind: worker.Completion, Raw: raw(true, ""), Stream: true},
		"raw stream, usage": {Kind: worker.Completion, Raw: raw(true, `,"stream_options":{"include_usage":true}`), Stream: true, WantUsage: true},
		"raw":               {Kind: worker.Completion, Raw: raw(false, "")},
		"chat":              {Kind: worker.Chat, Messages: json.RawMessage(`[{"role":"user","content":"say it"}]`), MaxTokens: 24},
	} {
		t.Run(name, func(t *testing.T) {
			tr, err := run(t, open(t), to, j)
			if err != nil {
				t.Fatal(err)
			}
			if u := tr.done.Usage; u.Out != 24 || u.In <= 0 || u.Estimated || tr.done.FinishReason != "stop" {
				t.Errorf("Done = %+v", *tr.done)
			}
			switch {
			case j.Raw == nil:
				if tr.raw != nil || tr.tokens != 24 || j.Kind == worker.Completion && tr.text != want {
					t.Errorf("text %q in %d tokens, %d raw frames, want %q", tr.text, tr.tokens, len(tr.raw), want)
				}
			case j.Stream:
				frames := 25 // and the one with the finish reason
				if j.WantUsage {
					frames++
				}
				if tr.text != want || len(tr.raw) != frames {
					t.Errorf("text %q in %d raw frames, want %d", tr.text, len(tr.raw), frames)
				}
			default:
				var doc struct{ Choices []struct{ Text string } }
				if json.Unmarshal(tr.result, &doc) != nil || len(doc.Choices) != 1 || doc.Choices[0].Text != want {
					t.Errorf("result %s, want the text %q", tr.result, want)
				}
			}
		})
	}
}

// failure is one way to fail and what an adapter must make of it.
type failure struct {
	faults string
	class  worker.Class
	tokens int // that come first
	whole  bool
}

// failures: every class, before and after the first token.
func failures() []failure {
	return []failure{
		{faults: "refuse", class: worker.Connect},
		{faults: "status:429", class: worker.Overload},
		{faults: "status:503", class: worker.Overload},
		{faults: "status:409", class: worker.Overload},
		{faults: "retry-after:7", class: worker.Overload},
		{faults: "status:400", class: worker.Rejected},
		{faults: "status:413", class: worker.Rejected},
		{faults: "status:422", class: worker.Rejected},
		{faults: "status:401", class: worker.Denied},
		{faults: "status:403", class: worker.Denied},
		{faults: "status:404", class: worker.Denied},
		{faults: "status:500", class: worker.Server},
		{faults: "status:502", class: worker.Server},
		{faults: "stream-error@token=3", class: worker.Server, tokens: 3},
		{faults: "reset", class: worker.Reset},
		{faults: "reset@token=0", class: worker.Reset},
		{faults: "reset@token=3", class: worker.Reset, tokens: 3},
		{faults: "truncate@token=2", class: worker.Reset, tokens: 2},
		{faults: "exit", class: worker.Reset},
		{faults: "exit@token=2", class: worker.Reset, tokens: 2},
		{faults: "oom@token=1", class: worker.Reset, tokens: 1},
		{faults: "slow-headers:30s", class: worker.Timeout},
		{faults: "slow-start:30s", class: worker.Timeout},
		{faults: "stall@token=0", class: worker.Timeout},
		{faults: "stall@token=3", class: worker.Timeout, tokens: 3},
		{faults: "bad-json@token=2", class: worker.Protocol, tokens: 2},
		{faults: "long-line@token=2", class: worker.Protocol, tokens: 2},
		{faults: "content-type", class: worker.Protocol},
		{faults: "endless", class: worker.Protocol, tokens: 4 + 16},
		{faults: "truncate", class: worker.Protocol, whole: true},
		{faults: "content-type", class: worker.Protocol, whole: true},
		{faults: "reset@token=2", class: worker.Reset, whole: true},
	}
}

func suiteFailures(t *testing.T, open func(t *testing.T) worker.Adapter) {
	for _, tc := range failures() {
		name := tc.faults
		if tc.whole {
			name += " whole"
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := suiteEngine(t, Config{}, tc.faults)
			j := &worker.Job{Kind: worker.Completion, Prompt: "p", MaxTokens: 4, FirstToken: patience, Idle: patience}
			if tc.class == worker.Timeout && tc.tokens == 0 {
				j.FirstToken = short
			} else if tc.class == worker.Timeout {
				j.Idle = short
			}
			if tc.whole {
				j.Raw = []byte(`{"model":"m","prompt":"p"}`)
			}
			tr, err := run(t, open(t), e.target(), j)
			f, ok := errors.AsType[*worker.Failure](err)
			if !ok || f.Class != tc.class || tr.tokens != tc.tokens {
				t.Fatalf("after %d tokens: %v, want class %s after %d", tr.tokens, err, tc.class, tc.tokens)
			}
			if status, ok := strings.CutPrefix(tc.faults, "status:"); ok && strconv.Itoa(f.Status) != status {
				t.Errorf("Failure %+v does not carry the status", f)
			}
			if tc.faults == "retry-after:7" && f.RetryAfter != 7*time.Second {
				t.Errorf("RetryAfter = %v", f.RetryAfter)
			}
		})
	}
}

// suiteTolerated: what is odd, yet a whole answer.
func suiteTolerated(t *testing.T, open func(t *testing.T) worker.Adapter) {
	for faults, suffix := range map[string]string{ // what is added to the fourth token
		"split": "", "trickle:50us": "", "no-done": "", "after-done": "", "slow-start:1ms slow-headers:1ms": "",
		"bad-utf8@token=3":     "\ufffd",
		"bad-utf8:cut@token=3": "語",
	} {
		t.Run(faults, func(t *testing.T) {
			t.Parallel()
			e := suiteEngine(t, Config{}, faults)
			want := e.want(t, "p", 8)
			tr, err := run(t, open(t), e.target(), &worker.Job{Kind: worker.Completion, Prompt: "p", MaxTokens: 8})
			if err != nil {
				t.Fatal(err)
			}
			want[3] += suffix
			if got := strings.Join(want, ""); tr.text != got {
				t.Errorf("text %q, want %q", tr.text, got)
			}
			if tr.done.Usage.Out != 8 {
				t.Errorf("Usage = %+v", tr.done.Usage)
			}
		})
	}
}

var errSuite = errors.New("the suite cancelled")

// suiteCancel: the end of the context ends the job at the engine, with its cause.
func suiteCancel(t *testing.T, open func(t *testing.T) worker.Adapter) {
	for _, faults := range []string{"slow-headers:30s", "slow-start:30s", "stall@token=2"} {
		t.Run(faults, func(t *testing.T) {
			e := suiteEngine(t, Config{Slots: 1}, faults)
			limit, stop := context.WithTimeout(t.Context(), patience)
			defer stop()
			ctx, cancel := context.WithCancelCause(limit)
			end := make(chan error, 1)
			go func() {
				s, err := open(t).Start(ctx, e.target(), &worker.Job{Kind: worker.Completion, Prompt: "p"})
				if err == nil {
					_, err = read(s)
					_ = s.Close()
				}
				end <- err
			}()
			waitFor(t, e, func(st Stats) bool { return st.Running == 1 })
			cancel(errSuite)
			waitFor(t, e, func(st Stats) bool { return st.Cancelled == 1 && st.Running == 0 })
			if err := <-end; !errors.Is(err, errSuite) {
				t.Errorf("the job ended with %v, want the cause of its context", err)
			}
		})
	}
}

// suiteClose: closing an unread stream stops the engine, and twice is fine.
func suiteClose(t *testing.T, open func(t *testing.T) worker.Adapter) {
	e := suiteEngine(t, Config{Tokens: 5000, Preset: "fast"}, "")
	s, err := open(t).Start(t.Context(), e.target(), &worker.Job{Kind: worker.Completion, Prompt: "p"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Next(); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
	waitFor(t, e, func(st Stats) bool { return st.Cancelled == 1 && st.Running == 0 })
	if _, err := s.Next(); err == nil {
		t.Error("Next after Close gave an event")
	}
}

func suiteProbe(t *testing.T, open func(t *testing.T) worker.Adapter) {
	for _, f := range []worker.Flavour{worker.LlamaCPP, worker.VLLM, worker.Ollama, worker.Generic} {
		t.Run(string(f), func(t *testing.T) {
			e := suiteEngine(t, Config{Flavour: f, Alias: "served", Keys: []string{"k"}}, "")
			to := e.target()
			if _, err := open(t).Probe(t.Context(), to); !hasClass(err, worker.Denied) {
				t.Errorf("without the key: %v", err)
			}
			to.Token = "k"
			for _, known := range []worker.Flavour{f, ""} {
				to.Flavour = known
				st, err := open(t).Probe(t.Context(), to)
				if err != nil || !st.Ready || st.Flavour != f || len(st.Models) != 1 || st.Models[0] != "served" {
					t.Errorf("Probe as %q = %+v, %v", known, st, err)
				}
				if f == worker.LlamaCPP && (st.SlotsTotal != 4 || st.CtxMax != 8192 || st.Version != "sim-1") {
					t.Errorf("Probe = %+v", st)
				}
			}
			loading := suiteEngine(t, Config{Flavour: f, LoadDelay: time.Hour}, "")
			st, err := open(t).Probe(t.Context(), loading.target())
			if err != nil || st.Ready || !st.Loading {
				t.Errorf("Probe of a loading engine = %+v, %v", st, err)
			}
		})
	}
	e := suiteEngine(t, Config{}, "refuse")
	if _, err := open(t).Probe(t.Context(), e.target()); !hasClass(err, worker.Connect) {
		t.Errorf("Probe of nobody = %v", err)
	}
}

func hasClass(err error, c worker.Class) bool {
	f, ok := errors.AsType[*worker.Failure](err)
	return ok && f.Class == c
}

func waitFor(t *testing.T, e *Engine, cond func(Stats) bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := e.Wait(ctx, cond); err != nil {
		t.Fatalf("the engine never came there: %+v", e.Stats())
	}
}
