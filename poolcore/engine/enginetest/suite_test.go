package enginetest_test

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/llorch/llorch/poolcore/engine"
	. "github.com/llorch/llorch/poolcore/engine/enginetest"
)

func script(t testing.TB, kind string) Script {
	t.Helper()
	s, err := Recorded(kind)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestKinds (PCO-55): every kind of ours passes the suite.
func TestKinds(t *testing.T) {
	for _, k := range engine.All() {
		t.Run(k.Name(), func(t *testing.T) { RunKindSuite(t, k, script(t, k.Name())) })
	}
}

// broken is llama-server's kind with one fault of a careless author.
type broken struct {
	engine.LlamaCPP
	probe func(ctx context.Context, ep engine.Endpoint) (engine.Report, error)
}

func (b broken) Probe(ctx context.Context, ep engine.Endpoint) (engine.Report, error) {
	return b.probe(ctx, ep)
}

// TestSuiteFindsBrokenKinds (PCO-55): each case of the suite catches the fault it is
// there for.
func TestSuiteFindsBrokenKinds(t *testing.T) {
	honest := engine.LlamaCPP{}.Probe
	status := func(ctx context.Context, ep engine.Endpoint) (engine.Report, error) { // readiness by status code only
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, ep.URL+"/health", http.NoBody)
		if err != nil {
			return engine.Report{}, err
		}
		res, err := ep.Client.Do(req)
		if err != nil {
			return engine.Report{}, err
		}
		defer res.Body.Close()
		return engine.Report{Live: true, Ready: res.StatusCode == http.StatusOK, Loading: res.StatusCode != http.StatusOK, Alias: "pool-0-r0-abcdef"}, nil
	}
	for name, c := range map[string]struct {
		probe func(ctx context.Context, ep engine.Endpoint) (engine.Report, error)
		cases []string
	}{
		"status code only": {status, []string{"wrong model", "overloaded", "redirect /health", "garbage /v1/models", "huge /health"}},
		"loading is an error": {func(ctx context.Context, ep engine.Endpoint) (engine.Report, error) {
			r, err := honest(ctx, ep)
			if r.Loading {
				return r, engine.ErrBadAnswer
			}
			return r, err
		}, []string{"loading"}},
		"deaf to its context": {func(_ context.Context, ep engine.Endpoint) (engine.Report, error) {
			return engine.Report{}, nil
		}, []string{"ready", "slow /health", "nobody there"}},
		"repeats the key": {func(ctx context.Context, ep engine.Endpoint) (engine.Report, error) {
			r, err := honest(ctx, ep)
			if err != nil {
				err = fmt.Errorf("key %s: %w", ep.Token, err)
			}
			return r, err
		}, []string{"garbage /v1/models", "nobody there"}},
		"guesses": {func(ctx context.Context, ep engine.Endpoint) (engine.Report, error) {
			r, err := honest(ctx, ep)
			r.SlotsTotal = new(int)
			return r, err
		}, []string{"ready"}},
		"another alias": {func(ctx context.Context, ep engine.Endpoint) (engine.Report, error) {
			r, err := honest(ctx, ep)
			r.Alias = "x"
			return r, err
		}, []string{"ready"}},
	} {
		faults := Faults(t.Context(), broken{probe: c.probe}, script(t, "llamacpp"))
		for _, want := range c.cases {
			if !slices.ContainsFunc(faults, func(f string) bool { return strings.HasPrefix(f, want+": ") }) {
				t.Errorf("%s: %q did not fail; failed: %q", name, want, faults)
			}
		}
	}
	if faults := Faults(t.Context(), engine.LlamaCPP{}, script(t, "llamacpp")); len(faults) > 0 {
		t.Errorf("the honest kind: %q", faults)
	}
	if _, err := Recorded("unheard-of"); err == nil {
		t.Error("a script that nobody recorded")
	}
}

func ExampleFaults() {
	s, _ := Recorded("ollama")
	fmt.Println(len(Faults(context.Background(), engine.Ollama{}, s)))
	// Output: 0
}
