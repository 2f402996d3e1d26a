package placement

import "slices"

// Decision is the outcome of one choice. Without a worker either Load says where
// the model can be loaded, or there is no capacity now.
type Decision struct {
	Worker   *Worker // has the model and a free slot; nil: the task waits
	Tier     int     // 0 as it is, 1 after a load, 2 after a load that ends other models
	Load     *Worker // tiers 1 and 2: best place to load the model; only while no worker that has it is merely busy
	Evict    []string
	Fallback bool   // no preferred pool was feasible, others were asked
	Reason   string // without a worker: "empty", "model_loading" (with Load), "pinned_pool_infeasible", "no_preferred_feasible", else the Filter
	Filter   string // without a worker: the filter that keeps the task waiting
}

// Decide picks a worker for r: of those that pass every filter the one of the best
// tier, in it the session's last worker, else the first by the policy's strategy,
// at last by the tie rule and by key (ORC-301…305). Workers that failed this task
// before are taken only if no other is feasible. It notes in v what it
// may use again, and changes nothing else, save that a scorer which panics is
// removed from v.
func Decide(v *View, r Request, p Policy) Decision {
	s := decide(v, &r, &p, 1)
	v.broken = s.broken
	return s.decision()
}

// Look is Decide without that: no later decision changes.
func Look(v *View, r Request, p Policy) Decision { return decide(v, &r, &p, 1).decision() }

func (s *search) decision() Decision {
	d := Decision{Fallback: s.fallback}
	if len(s.best) > 0 {
		c := &s.best[0]
		w := s.v.rows[c.at].Worker
		if d.Tier = int(c.rank[byTier]); d.Tier == 0 {
			d.Worker = w
			return d
		}
		if d.Load = w; d.Tier == 2 {
			d.Evict = slices.Clone(w.Models)
		}
		d.Reason, d.Filter = "model_loading", filters[model].name
		return d
	}
	d.Reason = "empty"
	if len(s.v.rows) > 0 {
		d.Filter = filters[s.why.filter()].name
		switch mode := s.r.Place.mode(); {
		case mode == modePin:
			d.Reason = "pinned_pool_infeasible"
		case mode == modePrefer && s.r.Place.NoFallback:
			d.Reason = "no_preferred_feasible"
		default:
			d.Reason = d.Filter
		}
	}
	return d
}

// search is one look at all workers.
type search struct {
	v        *View
	r        *Request
	p        *Policy
	m        *memo
	key      uint64
	by       *strategy
	last     int // row of the last turn, −1 none
	warm     int // row of the session's last turn, −1 none
	keep     int
	best     []candidate // the best so many, best first
	feasible int         // of tier 0
	loadable int         // of tiers 1 and 2
	busy     bool        // a worker that has the model lacks but a free slot
	fallback bool
	removed  [passed]int
	example  [passed]int32
	why      binding
	broken   []string // scorers that panicked, sorted
	buf      [shown + 1]candidate
}

// shown is how many candidates an explanation lists.
const shown = 8

// decide keeps the best candidates; of preferred pools, else of all (ORC-302).
func decide(v *View, r *Request, p *Policy, keep int) *search {
	s := &search{v: v, r: r, p: p, by: strategyOf(p.Strategy), key: v.key(r), keep: keep, last: -1, warm: -1, broken: v.broken}
	if at, ok := find(v.rows, r.Affinity); ok {
		s.warm = at
	}
	if i, ok := v.cursor(s.key); ok {
		if at, ok := find(v.rows, v.cursors[i].last); ok {
			s.last = at
		} else {
			s.last = at - 1
		}
	}
	prefer := r.Place.mode() == modePrefer
	s.pass(prefer)
	if prefer && len(s.best) == 0 && !r.Place.NoFallback {
		s.fallback = true
		s.pass(false)
	}
	return s
}

// pass scans until no scorer broke on the way: one that did counts for no worker.
func (s *search) pass(preferred bool) {
	for broken := -1; broken != len(s.broken); {
		broken = len(s.broken)
		s.scan(preferred)
	}
}

func (s *search) scan(preferred bool) {
	s.m = s.v.static(s.r, s.key, preferred)
	s.best, s.feasible, s.loadable, s.busy = s.buf[:0], 0, 0, false
	s.removed, s.example, s.why = [passed]int{}, [passed]int32{}, s.m.binding
	copy(s.removed[:], s.m.removed[:])
	copy(s.example[:], s.m.example[:])
	for _, i := range s.m.open {
		row, isCold := &s.v.rows[i], s.m.fails[i]&cold != 0
		fails, tier := row.fails, 0
		if isCold || s.r.Place.Spread > 0 {
			fails, tier = s.dynamic(row, isCold)
		}
		switch {
		case fails != 0:
			s.remove(int(i), fails|s.m.fails[i]&cold)
			continue
		case isCold:
			s.loadable++
		default:
			s.feasible++
		}
		s.insert(int(i), row, tier)
	}
	if s.feasible == 0 && s.busy {
		s.best = s.best[:0]
	}
}

// remove counts a worker that fails dynamic filters.
func (s *search) remove(at int, fails uint32) {
	f := first(fails)
	if s.removed[f]++; s.removed[f] == 1 {
		s.example[f] = int32(at)
	}
	s.why.add(fails)
	s.busy = s.busy || fails&^(1<<quarantine|1<<slots) == 0
}

// insert keeps the best candidates in order and drops what is beyond them.
func (s *search) insert(at int, row *row, tier int) {
	c := candidate{at: at}
	c.rank[byLoad], c.rank[byTier] = flag(tier > 0), int64(tier)
	c.rank[byTried] = flag(len(s.r.Tried) > 0 && slices.Contains(s.r.Tried, row.Key))
	c.rank[byAffinity] = flag(at != s.warm)
	c.rank[byFirst], c.rank[bySecond] = s.by.measure(s, at)
	if tier == 2 { // what rested longest loses its model (ORC-341)
		c.rank[byFirst], c.rank[bySecond] = int64(row.last), -row.vram
	}
	if s.p.TieRule == rotate {
		c.rank[byRest] = int64(row.last)
	}
	i := len(s.best)
	for ; i > 0; i-- {
		if order, _ := s.best[i-1].compare(&c); order < 0 {
			break
		}
	}
	if i == s.keep {
		return
	}
	s.best = slices.Insert(s.best, i, c)
	s.best = s.best[:min(s.keep, len(s.best))]
}
