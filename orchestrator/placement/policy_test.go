package placement_test

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/llorch/llorch/orchestrator/placement"
)

// TestPolicyFaults: all faults of a policy are told at once, by field and never with
// what was written there (ORC-311).
func TestPolicyFaults(t *testing.T) {
	p := placement.Policy{
		Strategy: "fastest-secret", TieRule: "dice", Weights: placement.Weights{Queue: -1, Load: 1_000_000_001},
		Scorers: []placement.Scored{{Name: "ok"}, {Name: "ok", Weight: -1}, {Name: "A b"}, {}, {Name: strings.Repeat("x", 65)}},
	}
	err := p.Validate()
	var got []string
	for e := range strings.SplitSeq(err.Error(), "\n") {
		got = append(got, strings.TrimPrefix(e, "placement: policy: "))
	}
	want := []string{
		"strategy: unknown", "tie_rule: unknown", "weights.queue: range", "weights.load: range", "scorers[1].name: repeated", "scorers[1].weight: range",
		"scorers[2].name: name", "scorers[3].name: name", "scorers[4].name: name",
	}
	if !slices.Equal(got, want) {
		t.Errorf("faults = %q, want %q", got, want)
	}
	if e, ok := errors.AsType[*placement.PolicyError](err); !ok || e.Field != "strategy" || e.Fault != "unknown" {
		t.Errorf("first fault = %+v", e)
	}
	many := placement.Policy{}
	for i := range 17 {
		many.Scorers = append(many.Scorers, placement.Scored{Name: string(rune('a' + i))})
	}
	if err := many.Validate(); err == nil || err.Error() != "placement: policy: scorers: too many" {
		t.Errorf("17 scorers: %v", err)
	}
	for _, fine := range []placement.Policy{
		{},
		{Strategy: "predicted", TieRule: "rotate", Weights: placement.Weights{Queue: 1_000_000_000}, Scorers: []placement.Scored{{Name: "a_b-9", Weight: 5}}},
	} {
		if err := fine.Validate(); err != nil {
			t.Errorf("Validate(%+v) = %v", fine, err)
		}
	}
}

// TestPolicyHash: the hash is that of the JSON, equal for equal policies only, and
// stands in every explanation (ORC-309, ORC-311).
func TestPolicyHash(t *testing.T) {
	const zero = "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a" // printf '{}' | sha256sum
	if got := (placement.Policy{}).Hash(); got != zero {
		t.Errorf("Hash of the zero policy = %s, want %s", got, zero)
	}
	p := placement.Policy{TieRule: "rotate"}
	if p.Hash() == zero || p.Hash() != (placement.Policy{TieRule: "rotate"}).Hash() {
		t.Errorf("Hash of another policy = %s", p.Hash())
	}
	if e := placement.Explain(viewOf(plain("x", 1)), placement.Request{Model: "a"}, p); e.Policy != p.Hash() || e.TieRule != "rotate, node, pool, worker" {
		t.Errorf("explanation has %s, %s", e.Policy, e.TieRule)
	}
}

// FuzzPolicyJSON: any policy that is read either has faults or decides; its hash
// survives a round trip; nothing panics (ORC-311).
func FuzzPolicyJSON(f *testing.F) {
	for _, s := range []string{
		`{}`, `{"strategy":"predicted","tie_rule":"rotate","weights":{"queue":1,"load":1000000000},"scorers":[{"name":"far","weight":5}]}`, `{"strategy":"x"}`,
		`{"weights":{"queue":-9223372036854775808}}`, `{"scorers":[{"name":"a"},{"name":"a"}]}`, `{"scorers":[{"name":"bad","weight":9223372036854775807}]}`, `null`, `{"strategy":"round-robin"}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var p placement.Policy
		if json.Unmarshal(b, &p) != nil {
			return
		}
		v := viewOf(plain("x", 1), plain("y", 2))
		v.SetScorers(map[string]placement.Scorer{
			"far": func(r placement.Request, w *placement.Worker) int64 { return int64(w.SlotsTotal) << 60 },
			"bad": func(placement.Request, *placement.Worker) int64 { panic("bug") },
		})
		r := placement.Request{Model: "a", Prompt: 1 << 40, Expected: 1 << 40}
		d, e := placement.Decide(v, r, p), placement.Explain(v, r, p)
		if d.Worker == nil || e.Winner != d.Worker.Key.String() || e.Scores[0].Total < 0 {
			t.Fatalf("Decide = %+v, Explain = %+v", d, e)
		}
		valid := p.Validate() == nil
		if valid && p.Strategy != "" && e.Strategy != p.Strategy {
			t.Fatalf("a valid policy asks for %q and gets %q", p.Strategy, e.Strategy)
		}
		again, err := json.Marshal(p)
		if err != nil {
			t.Fatal(err)
		}
		var q placement.Policy
		if err := json.Unmarshal(again, &q); err != nil || q.Hash() != p.Hash() || (q.Validate() == nil) != valid {
			t.Fatalf("a round trip changes it: %s, %v", again, err)
		}
	})
}

// TestEmptyMaskStays: a list of no devices is not any device, also after it was
// written down (ORC-301).
func TestEmptyMaskStays(t *testing.T) {
	b, err := json.Marshal(placement.Constraints{Mask: []string{}})
	var back placement.Constraints
	if err != nil || json.Unmarshal(b, &back) != nil || back.Mask == nil {
		t.Errorf("an empty mask came back as %v from %s", back.Mask, b)
	}
	if b, _ := json.Marshal(placement.Constraints{}); string(b) != "{}" {
		t.Errorf("no constraints are %s", b)
	}
}

// TestLookRemovesNothing: a question about a decision takes no scorer away (ORC-311).
func TestLookRemovesNothing(t *testing.T) {
	v := viewOf(plain("x", 1), plain("y", 1))
	v.SetScorers(map[string]placement.Scorer{"bad": func(placement.Request, *placement.Worker) int64 { panic("bad") }})
	p := placement.Policy{Strategy: "predicted", Scorers: []placement.Scored{{Name: "bad", Weight: 1}}}
	if d := placement.Look(v, placement.Request{Model: "a"}, p); d.Worker == nil || len(v.Broken()) != 0 {
		t.Errorf("Look = %+v and removed %q", d, v.Broken())
	}
	if placement.Decide(v, placement.Request{Model: "a"}, p); len(v.Broken()) != 1 {
		t.Error("Decide removed nothing")
	}
}
