package placement

// strategy orders the workers of a tier by two numbers, the smaller the better.
type strategy struct {
	name    string
	by      [2]string // what the numbers are
	measure func(s *search, at int) (a, b int64)
}

// strategies are all there are, the default first (ORC-303).
var strategies = [...]strategy{
	{"least-loaded", [2]string{"slots_free", "vram_free_bytes"}, func(s *search, at int) (int64, int64) {
		w := &s.v.rows[at]
		return -int64(w.free), -w.vram
	}},
	{"most-vram-free", [2]string{"vram_free_bytes", "active"}, func(s *search, at int) (int64, int64) {
		w := &s.v.rows[at]
		return -w.vram, int64(w.ours) + int64(w.foreign)
	}},
	{"round-robin", [2]string{"turn", ""}, func(s *search, at int) (int64, int64) {
		if at <= s.last {
			at += len(s.v.rows)
		}
		return int64(at), 0
	}},
	{"predicted", [2]string{"predicted_ns", ""}, func(s *search, at int) (int64, int64) {
		_, total, _ := s.terms(&s.v.rows[at])
		return total, 0
	}},
}

// strategyOf returns the strategy of a name; an unknown one is the default, which
// [Policy.Validate] keeps from happening.
func strategyOf(name string) *strategy {
	for i := range strategies {
		if strategies[i].name == name {
			return &strategies[i]
		}
	}
	return &strategies[0]
}

// rotate is the tie rule that puts the worker that rested longest first.
const rotate = "rotate"

// What orders candidates, in this order; the strategy's own numbers stand at
// byFirst and bySecond. The last rule is the order of the keys.
const (
	byLoad = iota
	byTried
	byTier
	byAffinity
	byFirst
	bySecond
	byRest
	ranks
)

// candidate is a feasible worker with what orders it.
type candidate struct {
	at   int // its row
	rank [ranks]int64
}

// compare orders candidates, the better one first, and says by what; it is a total
// order, since rows stand in the order of their keys.
func (c *candidate) compare(o *candidate) (order, by int) {
	for i := range ranks {
		switch {
		case c.rank[i] < o.rank[i]:
			return -1, i
		case c.rank[i] > o.rank[i]:
			return +1, i
		}
	}
	switch {
	case c.at < o.at:
		return -1, ranks
	case c.at > o.at:
		return +1, ranks
	}
	return 0, ranks
}

func flag(set bool) int64 {
	if set {
		return 1
	}
	return 0
}
