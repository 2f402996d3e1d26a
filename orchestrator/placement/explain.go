package placement

import (
	"fmt"
	"math/bits"
	"slices"
)

// Explanation is why a task went where it went, or why it waits. Its JSON form
// is stable.
type Explanation struct {
	DecisionID        string           `json:"decision_id"`
	At                int64            `json:"at_ns"` // on the scheduler's monotonic clock
	Generation        uint64           `json:"view_generation"`
	Policy            string           `json:"policy_sha256"`
	Key               string           `json:"key"` // of the static requirements
	Model             string           `json:"model"`
	Attempt           int              `json:"attempt,omitempty"`
	Total             int              `json:"candidates_total"`
	Feasible          int              `json:"candidates_feasible"`           // have the model and a free slot
	Loadable          int              `json:"candidates_loadable,omitempty"` // could load it now
	Filters           []Removed        `json:"filters"`
	Scores            []Score          `json:"scores"` // the best eight, best first
	Winner            string           `json:"winner,omitempty"`
	RunnerUp          string           `json:"runner_up,omitempty"`
	Margin            Margin           `json:"margin,omitzero"` // of the winner before the runner-up
	Strategy          string           `json:"strategy"`
	TieRule           string           `json:"tie_rule"`
	Pinned            bool             `json:"pinned"`
	Fallback          bool             `json:"fallback_used"`
	Warm              bool             `json:"kv_warmth,omitempty"` // the winner answered the session's last turn
	Load              *Load            `json:"load,omitempty"`
	Missing           []string         `json:"signals_missing"`
	Removed           []string         `json:"scorers_removed,omitempty"` // they panicked
	AllowedRegions    []string         `json:"allowed_regions"`           // null = all
	RegionsConsidered []string         `json:"regions_considered"`        // the allowed region, by which each remaining worker is in
	Without           []Counterfactual `json:"counterfactual,omitempty"`  // without a winner
	Tried             []string         `json:"tried,omitempty"`           // workers that failed this task before
	Reason            string           `json:"reason,omitempty"`          // without a winner, as in Decision
	Filter            string           `json:"binding_filter,omitempty"`
	Words             string           `json:"why"` // one sentence for people
}

// Removed says how many workers one filter took out, and names one of them.
type Removed struct {
	Name    string `json:"name"`
	Removed int    `json:"removed"`
	Example string `json:"example,omitempty"`
}

// Score shows the terms that ordered a feasible worker.
type Score struct {
	Worker    string   `json:"worker"`
	Tier      int      `json:"tier"`
	SlotsFree int      `json:"slots_free"`
	VRAMFree  uint64   `json:"vram_free_bytes"`
	Terms     Terms    `json:"terms"`
	Total     int64    `json:"total_ns"` // weighted
	Tried     bool     `json:"tried,omitempty"`
	Missing   []string `json:"signals_missing,omitempty"`
}

// Margin says what put the winner before the runner-up, and by how much.
type Margin struct {
	By     string `json:"by"` // only, tier, tried, affinity, slots_free, vram_free_bytes, active, turn, predicted_ns, rest, name
	Amount int64  `json:"amount"`
}

// Load says where the model can be loaded, and which models end for it.
type Load struct {
	Worker string   `json:"worker"`
	Tier   int      `json:"tier"`
	Evict  []string `json:"evict,omitempty"`
}

// Counterfactual says how many workers would be feasible with one filter off: those
// that fail nothing else. For numbers it says the smallest amount that is missing.
type Counterfactual struct {
	Filter  string `json:"filter"`
	Workers int    `json:"workers"`
	Worker  string `json:"worker"`            // the one that is nearest
	Missing int64  `json:"missing,omitempty"` // tokens, bytes, slots, or tenths of a compute capability
	Words   string `json:"words"`
}

// Explain repeats a decision on the same view and request and writes down what
// it saw; the winner is the worker that [Decide] returns. It changes no later
// decision: a scorer that panics is left out, and removed only by Decide.
func Explain(v *View, r Request, p Policy) Explanation {
	s := decide(v, &r, &p, shown)
	d := s.decision()
	e := Explanation{
		Generation: v.gen, Policy: p.Hash(), Key: fmt.Sprintf("%016x", s.key), Model: r.Model, Total: len(v.rows), Feasible: s.feasible, Loadable: s.loadable,
		Strategy: s.by.name, TieRule: "node, pool, worker", Pinned: r.Place.mode() == modePin, Fallback: s.fallback,
		AllowedRegions: slices.Clone(r.Regions), RegionsConsidered: append([]string{}, s.m.regions...), Reason: d.Reason, Filter: d.Filter,
		Filters: []Removed{}, Scores: make([]Score, 0, len(s.best)), Missing: []string{},
	}
	if p.TieRule == rotate {
		e.TieRule = "rotate, node, pool, worker"
	}
	for _, k := range r.Tried {
		e.Tried = append(e.Tried, k.String())
	}
	for i, n := range s.removed {
		if n > 0 {
			e.Filters = append(e.Filters, Removed{filters[i].name, n, v.rows[s.example[i]].Key.String()})
		}
	}
	for i := range s.best {
		e.show(s, &s.best[i])
	}
	e.Removed = slices.Clone(s.broken)
	switch {
	case d.Worker != nil:
		e.Winner, e.Warm = d.Worker.Key.String(), d.Worker.Key == r.Affinity
		e.Margin = s.margin()
		if len(e.Scores) > 1 {
			e.RunnerUp = e.Scores[1].Worker
		}
	case d.Load != nil:
		e.Load = &Load{d.Load.Key.String(), d.Tier, d.Evict}
	}
	if d.Worker == nil {
		e.Without = s.counterfactual()
	}
	e.Words = e.sentence()
	return e
}

// show lists a candidate.
func (e *Explanation) show(s *search, c *candidate) {
	row := &s.v.rows[c.at]
	x := Score{Worker: row.Key.String(), Tier: int(c.rank[byTier]), SlotsFree: row.free, VRAMFree: row.VRAMFree, Tried: c.rank[byTried] != 0}
	x.Terms, x.Total, x.Missing = s.terms(row)
	if row.VRAMTotal == 0 {
		x.Missing = append(slices.Clone(x.Missing), "vram_free")
	}
	for _, m := range x.Missing {
		if i, ok := slices.BinarySearch(e.Missing, m); !ok {
			e.Missing = slices.Insert(e.Missing, i, m)
		}
	}
	e.Scores = append(e.Scores, x)
}

// margin compares the two best.
func (s *search) margin() Margin {
	if len(s.best) < 2 {
		return Margin{By: "only"}
	}
	a, b := &s.best[0], &s.best[1]
	_, by := a.compare(b)
	if by == ranks {
		return Margin{By: "name"}
	}
	name := [ranks]string{"tier", "tried", "tier", "affinity", s.by.by[0], s.by.by[1], "rest"}[by]
	return Margin{name, b.rank[by] - a.rank[by]}
}

// counterfactual runs the decision with each filter off at once: a worker that fails
// one filter alone is what that one keeps away (ORC-309).
func (s *search) counterfactual() []Counterfactual {
	var found [passed]Counterfactual
	for i := range s.v.rows {
		row := &s.v.rows[i]
		fails := s.m.fails[i]
		if bits.OnesCount32(fails&^cold) > 1 {
			continue
		}
		now, _ := s.dynamic(row, fails&cold != 0)
		at := first(fails | now)
		if at == passed || (fails|now)&^cold != 1<<at {
			continue
		}
		short := s.short(row, at)
		if c := &found[at]; c.Workers == 0 || short > 0 && (short < c.Missing || c.Missing == 0) {
			c.Worker, c.Missing, c.Words = row.Key.String(), short, row.Why
		}
		found[at].Workers++
	}
	var out []Counterfactual
	for i, c := range found {
		if c.Workers > 0 {
			c.Filter, c.Words = filters[i].name, c.worded(i)
			out = append(out, c)
		}
	}
	return out
}

// short is how much w lacks to pass a filter, 0 if that is no number or not known.
func (s *search) short(w *row, filter int) int64 {
	switch filter {
	case ctx:
		return int64(s.r.Ctx - w.CtxMax)
	case compute:
		return int64(s.r.Place.MinCompute - w.Compute)
	case vram:
		d, _ := w.disk(s.r.Model)
		return int64(min(max(s.r.Place.MinVRAM, d.Need)-w.VRAMTotal, 1<<62))
	case slots:
		return 1
	case memory:
		_, short := w.room(s.r.Model)
		return max(0, short)
	}
	return 0
}

func (c *Counterfactual) worded(filter int) string {
	amount := fmt.Sprint(c.Missing)
	switch filter {
	case compute:
		amount = fmt.Sprintf("%d.%d", c.Missing/10, c.Missing%10)
	case vram, memory:
		amount = size(c.Missing)
	case ctx, slots:
	default:
		words := fmt.Sprintf(filters[filter].without, c.Worker)
		if c.Words != "" && (filter == online || filter == ready) {
			words += " (" + c.Words + ")"
		}
		return words
	}
	if c.Missing == 0 { // its models stay for now, or it does not say how much it needs
		return c.Worker + " fits once its other models have ended"
	}
	return fmt.Sprintf(filters[filter].without, amount, c.Worker)
}
