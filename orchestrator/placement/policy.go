package placement

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
)

// Policy says how to choose among workers that pass every filter. It is data:
// swapped at run time, recorded, compared. The zero value is the default.
type Policy struct {
	Strategy string   `json:"strategy,omitempty"` // least-loaded (default), most-vram-free, round-robin, predicted
	TieRule  string   `json:"tie_rule,omitempty"` // "" = node, pool, worker; rotate
	Weights  Weights  `json:"weights,omitzero"`   // of the terms, for predicted; zero = 1,000,000 each
	Scorers  []Scored `json:"scorers,omitempty"`  // custom ones, by name, for predicted; at most 16
}

// Weights are parts per million, 0 to 1,000,000,000.
type Weights struct {
	Queue   int64 `json:"queue,omitempty"`
	Prefill int64 `json:"prefill,omitempty"`
	Decode  int64 `json:"decode,omitempty"`
	Load    int64 `json:"load,omitempty"`
}

// Scored names a custom scorer and its weight in parts per million, 0 to
// 1,000,000,000.
type Scored struct {
	Name   string `json:"name"` // 1 to 64 of a-z, 0-9, _ and -
	Weight int64  `json:"weight"`
}

// Scorer is a custom term: nanoseconds, the smaller the better; negative ones count
// as 0. It must be pure. One that panics is removed.
type Scorer func(r Request, w *Worker) int64

const (
	maxScorers = 16
	maxName    = 64
	maxWeight  = 1_000_000_000
)

// A PolicyError is one fault of a policy.
type PolicyError struct {
	Field string // such as "scorers[2].weight"
	Fault string // unknown, range, name, repeated, too many
}

func (e *PolicyError) Error() string { return "placement: policy: " + e.Field + ": " + e.Fault }

// Validate returns every fault of p, joined; each is a [*PolicyError].
func (p Policy) Validate() error {
	var errs []error
	check := func(field string, fine bool, fault string) {
		if !fine {
			errs = append(errs, &PolicyError{field, fault})
		}
	}
	check("strategy", p.Strategy == "" || strategyOf(p.Strategy).name == p.Strategy, "unknown")
	check("tie_rule", p.TieRule == "" || p.TieRule == rotate, "unknown")
	for _, w := range [...]struct {
		name  string
		value int64
	}{{"queue", p.Weights.Queue}, {"prefill", p.Weights.Prefill}, {"decode", p.Weights.Decode}, {"load", p.Weights.Load}} {
		check("weights."+w.name, w.value >= 0 && w.value <= maxWeight, "range")
	}
	check("scorers", len(p.Scorers) <= maxScorers, "too many")
	seen := make(map[string]bool)
	for i, s := range p.Scorers[:min(len(p.Scorers), maxScorers)] {
		field := fmt.Sprintf("scorers[%d].", i)
		check(field+"name", isName(s.Name), "name")
		check(field+"name", !seen[s.Name], "repeated")
		check(field+"weight", s.Weight >= 0 && s.Weight <= maxWeight, "range")
		seen[s.Name] = true
	}
	return errors.Join(errs...)
}

func isName(s string) bool {
	for i := range len(s) {
		if c := s[i]; (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '_' && c != '-' {
			return false
		}
	}
	return s != "" && len(s) <= maxName
}

// Hash is the SHA-256 of p's JSON, in hex; two policies with one hash decide alike.
func (p Policy) Hash() string {
	b, err := json.Marshal(p)
	if err != nil {
		panic("placement: a policy is plain data: " + err.Error())
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}
