package placement

import (
	"math"
	"math/bits"
	"slices"
)

// Rates say how fast a worker serves a model, in nanoseconds.
type Rates struct {
	PrefillNS    int64    // per prompt token
	DecodeNS     int64    // per output token of one task
	OverheadNS   int64    // per task, before the first token
	LoadNSPerMiB int64    // of the model
	Missing      []string // of these, the ones that are only assumed
}

// The rates of a worker of which nothing is known (ORC-252).
const (
	prefillNS    = 500_000
	decodeNS     = 40_000_000
	loadNSPerMiB = 1_000_000
)

// Hints returns the rates that a worker itself states, else the assumed ones.
func Hints(w *Worker) Rates {
	r := Rates{PrefillNS: prefillNS, DecodeNS: decodeNS, OverheadNS: max(0, w.FirstToken), LoadNSPerMiB: loadNSPerMiB}
	from, to := 0, len(assumed)
	if w.TokensPerS > 0 {
		r.DecodeNS, from = 1_000_000_000_000/w.TokensPerS, 1
	}
	if w.FirstToken > 0 {
		to = 1
	}
	r.Missing = assumed[min(from, to):to:to]
	return r
}

// assumed are the hints that a worker may lack.
var assumed = [...]string{"tokens_per_s", "first_token"}

// SetRates says where the rates of a worker for a model come from; f must be pure
// between two reports. nil = [Hints].
func (v *View) SetRates(f func(model string, w *Worker) Rates) { v.rates = f }

// SetScorers says which custom scorers a policy may name. The map is only read.
func (v *View) SetScorers(m map[string]Scorer) { v.scorers = m }

// Broken returns the scorers that were removed since they panicked in [Decide],
// sorted.
func (v *View) Broken() []string { return slices.Clone(v.broken) }

// Terms are what a worker would cost a task, in nanoseconds (ORC-304).
type Terms struct {
	Queue   int64  `json:"queue_ns"`   // what runs there already, by its slots
	Prefill int64  `json:"prefill_ns"` // with the overhead
	Decode  int64  `json:"decode_ns"`
	Load    int64  `json:"load_ns"`
	Custom  []Term `json:"custom,omitempty"`
}

// Term is the answer of a custom scorer.
type Term struct {
	Name  string `json:"name"`
	Value int64  `json:"ns"`
}

// terms returns the terms of a worker, their weighted sum, and the signals that are
// missing for them.
func (s *search) terms(row *row) (t Terms, total int64, missing []string) {
	rates := Hints(row.Worker)
	if s.v.rates != nil {
		rates = s.v.rates(s.r.Model, row.Worker)
	}
	missing = rates.Missing
	expected := int64(max(0, s.r.Expected))
	running := add(row.tokens, times(int64(row.foreign), expected))
	t.Queue = times(running, rates.DecodeNS) / int64(max(1, row.SlotsTotal))
	t.Prefill = add(times(int64(max(0, s.r.Prompt)), rates.PrefillNS), max(0, rates.OverheadNS))
	t.Decode = times(expected, rates.DecodeNS)
	if d, ok := row.disk(s.r.Model); ok {
		t.Load = times(int64(d.Need>>20), rates.LoadNSPerMiB)
		if d.Need == 0 {
			missing = append(slices.Clone(missing), "need_bytes")
		}
	}
	w := s.p.Weights
	if w == (Weights{}) {
		w = Weights{million, million, million, million}
	}
	total = add(add(weigh(t.Queue, w.Queue), weigh(t.Prefill, w.Prefill)), add(weigh(t.Decode, w.Decode), weigh(t.Load, w.Load)))
	for _, named := range s.p.Scorers {
		value, ok := s.score(named.Name, row.Worker)
		if !ok {
			missing = append(slices.Clone(missing), "scorer "+named.Name)
			continue
		}
		t.Custom = append(t.Custom, Term{named.Name, value})
		total = add(total, weigh(value, named.Weight))
	}
	return t, total, missing
}

// score asks a custom scorer; false if there is none of that name. One that panics
// is not asked again, the decision goes on without it (ORC-311).
func (s *search) score(name string, w *Worker) (value int64, ok bool) {
	f := s.v.scorers[name]
	i, removed := slices.BinarySearch(s.broken, name)
	if f == nil || removed {
		return 0, false
	}
	defer func() {
		if recover() != nil {
			s.broken = slices.Insert(slices.Clone(s.broken), i, name)
			value, ok = 0, false
		}
	}()
	return max(0, f(*s.r, w)), true
}

const million = 1_000_000

// weigh returns ns × ppm ÷ 1,000,000 without overflow.
func weigh(ns, ppm int64) int64 {
	hi, lo := bits.Mul64(uint64(max(0, ns)), uint64(max(0, ppm)))
	if hi >= million {
		return math.MaxInt64
	}
	q, _ := bits.Div64(hi, lo, million)
	return int64(min(q, math.MaxInt64))
}

// times and add are of numbers that are not negative, and end at the largest.
func times(a, b int64) int64 {
	hi, lo := bits.Mul64(uint64(max(0, a)), uint64(max(0, b)))
	if hi != 0 || lo > math.MaxInt64 {
		return math.MaxInt64
	}
	return int64(lo)
}

func add(a, b int64) int64 {
	if a > math.MaxInt64-b {
		return math.MaxInt64
	}
	return a + b
}
