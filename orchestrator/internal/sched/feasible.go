package sched

import (
	"math"
	"math/bits"
	"slices"
	"time"

	"github.com/llorch/llorch/orchestrator/placement"
	"github.com/llorch/llorch/orchestrator/queue"
)

// prospect is what tasks of one key meet: it follows from the workers and from
// what was learned, and is made anew when one of them changes.
type prospect struct {
	gen, version uint64
	slots        int64  // of the workers that have the model
	mean         speed  // of them, by slots
	best         speed  // of the fastest
	load         figure // ns until a worker has the model
	blind        bool   // of some worker neither a run nor a hint tells how fast it is
	missing      []string
}

// prospect returns that of a key.
func (c *Core) prospect(id queue.KeyID) *prospect {
	k := c.keys.byID[id]
	p := &k.prospect
	if p.gen == c.gen && p.version == c.est.version {
		return p
	}
	*p = prospect{gen: c.gen, version: c.est.version}
	r := c.request(id)
	var last *placement.Worker
	var s speed
	var missing []string
	for w := range c.view.Workers() {
		if !w.Online || !w.Ready || w.Draining || w.Gone || w.SlotsTotal <= 0 || !slices.Contains(w.Models, r.Model) || !fits(w, r) {
			continue
		}
		if last == nil || last.Node != w.Node || last.Pool != w.Pool || last.Digest != w.Digest || last.TokensPerS != w.TokensPerS {
			s, missing = c.est.speed(r.Model, w)
		}
		last = w
		p.join(s, int64(w.SlotsTotal), missing)
	}
	if p.slots == 0 {
		c.loadProspect(p, r)
	}
	return p
}

// join adds the slots of one worker.
func (p *prospect) join(s speed, slots int64, missing []string) {
	if p.slots == 0 || s.Decode.Mean < p.best.Decode.Mean {
		p.best = s
	}
	all := p.slots + slots
	for _, x := range [...]struct{ into, f *figure }{{&p.mean.Prefill, &s.Prefill}, {&p.mean.Decode, &s.Decode}, {&p.mean.Overhead, &s.Overhead}} {
		x.into.Mean += (x.f.Mean - x.into.Mean) * slots / all
		x.into.Dev += (x.f.Dev - x.into.Dev) * slots / all
	}
	p.slots = all
	p.blind = p.blind || slices.Contains(missing, "tokens_per_s")
	for _, m := range missing {
		if !slices.Contains(p.missing, m) {
			p.missing = append(p.missing, m)
		}
	}
}

// loadProspect looks for the worker that would have the model first.
func (c *Core) loadProspect(p *prospect, r *placement.Request) {
	for w := range c.view.Workers() {
		i := slices.IndexFunc(w.OnDisk, func(d placement.OnDisk) bool { return d.Model == r.Model })
		if i < 0 || !w.Online || w.Draining || w.Gone || w.SlotsTotal <= 0 || !fits(w, r) {
			continue
		}
		s, missing := c.est.speed(r.Model, w)
		need := int64(min(w.OnDisk[i].Need, math.MaxInt64))
		if at := c.loadAt(w.Key); at >= 0 && c.loads[at].Model == r.Model && c.loads[at].Total > 0 {
			need = max(0, c.loads[at].Total-c.loads[at].Bytes)
		} else if need == 0 {
			missing = append(missing, "need_bytes")
		}
		load := s.Load.times(need >> 20)
		if p.slots == 0 || load.Mean < p.load.Mean {
			*p = prospect{gen: p.gen, version: p.version, slots: int64(w.SlotsTotal), mean: s, best: s, load: load, missing: missing, blind: true}
		}
	}
}

// service is how long a task holds a slot: overhead, prompt and output.
func (s *speed) service(prompt int64, out figure) (prefill, decode figure) {
	prefill, decode = s.Prefill.times(prompt), s.Decode.times(out.Mean)
	prefill.Mean, prefill.Dev = sum(prefill.Mean, s.Overhead.Mean), root(prefill.Dev, s.Overhead.Dev)
	if out.Known {
		decode.Dev = root(decode.Dev, product(s.Decode.Mean, out.Dev))
	}
	return prefill, decode
}

// forecast is what is predicted of a task, from now.
type forecast struct {
	Terms
	start time.Duration // until it has its slot
	band  time.Duration // ± of start
	line  queue.Line
	own   figure // time on its slot
	free  int64  // slots
}

// finish is when the task ends; f.Band is the ± of it.
func (f *forecast) finish() time.Duration {
	return time.Duration(sum(int64(f.start), f.own.Mean))
}

// predict says when a task starts and ends if all goes on as learned; false when
// no worker is known for it. Bands are two deviations.
func (c *Core) predict(t *task) (f forecast, ok bool) {
	return c.outlook(t, func(service int64) queue.Line {
		it := t.item
		it.Service = service
		return c.queue.Line(it, c.rivals(t))
	})
}

// outlook is predict for a task whose place in the line is given by its time on a slot.
func (c *Core) outlook(t *task, line func(service int64) queue.Line) (f forecast, ok bool) {
	p := c.prospect(t.item.Key)
	if p.slots == 0 {
		return forecast{}, false
	}
	prefill, decode := p.mean.service(int64(max(0, t.Need.Prompt)), c.est.output(t))
	f.own = figure{Mean: sum(prefill.Mean, decode.Mean), Dev: root(prefill.Dev, decode.Dev)}
	f.Load, f.Prefill, f.Decode = time.Duration(p.load.Mean), time.Duration(prefill.Mean), time.Duration(decode.Mean)
	f.line = line(f.own.Mean)
	if tasks := f.line.Work() / max(1, f.own.Mean); tasks < p.slots { // with more in line none is free
		r := c.request(t.item.Key)
		f.free = c.view.Spare(tasks+2, func(w *placement.Worker) bool { return slices.Contains(w.Models, r.Model) && fits(w, r) })
	}
	f.set(p, f.line.Work())
	return f, true
}

// set computes what depends on the work ahead.
func (f *forecast) set(p *prospect, work int64) {
	wait := f.wait(p, work, f.own.Mean)
	ahead := int64(0)
	if wait > 0 {
		ahead = sum(work, f.own.Mean) / max(1, f.own.Mean)
	}
	dev := product(f.own.Dev, int64(isqrt(uint64(ahead)))) / p.slots
	f.Queue = time.Duration(wait)
	f.start = time.Duration(sum(wait, p.load.Mean))
	f.band = time.Duration(2 * root(dev, p.load.Dev))
	f.Band = time.Duration(2 * root(dev, p.load.Dev, f.own.Dev))
}

// wait predicts how long the work ahead keeps the slots of a key from a task that
// needs one for so long. What runs now is not looked at: on average one of n busy
// slots is free after one n-th of the time that a task takes.
func (f *forecast) wait(p *prospect, work, service int64) int64 {
	if f.free > 0 && work <= product(f.free-1, service) {
		return 0
	}
	return max(0, sum(work, service)-product(f.free, service)) / p.slots
}

// rivals tells which keys compete for the slots of a task: those of its model.
func (c *Core) rivals(t *task) func(queue.KeyID) bool {
	return func(k queue.KeyID) bool { return c.keys.byID[k].need.Model == t.Need.Model }
}

// harms reports whether one of those who were admitted before, and would go after
// the task, would end too late.
func (c *Core) harms(now Instant, t *task, f *forecast, p *prospect) bool {
	if f.line.Behind == 0 {
		return false
	}
	after, ok := c.queue.After(t.item, c.rivals(t))
	if !ok {
		return true
	}
	for e, work := range f.line.Pushed(after) {
		end := sum(sum(f.wait(p, work, e.Service), e.Service), int64(f.band))
		if e.Due > 0 && end > int64(e.Due-now) {
			return true
		}
	}
	return false
}

// startIn predicts when a waiting task starts, and the ± of it.
func (c *Core) startIn(t *task) (at, band time.Duration) {
	f, _ := c.predict(t)
	return f.start, f.band
}

// served is how long a task is expected to hold a slot.
func (c *Core) served(t *task, k queue.KeyID) time.Duration {
	p := c.prospect(k)
	if p.slots == 0 {
		return c.service.value()
	}
	prefill, decode := p.mean.service(int64(max(0, t.Need.Prompt)), c.est.output(t))
	return time.Duration(sum(prefill.Mean, decode.Mean))
}

// shortest is the time on a slot in the best case, on the fastest worker.
func (c *Core) shortest(t *task, k queue.KeyID) time.Duration {
	out := c.est.output(t)
	if !out.Known {
		out = figure{}
	}
	b := c.prospect(k).best
	prefill := product(b.Prefill.least(), int64(max(0, t.Need.Prompt)))
	return time.Duration(sum(b.Overhead.least(), sum(prefill, product(b.Decode.least(), out.least()))))
}

// fastest is how long the task holds a slot in the best case, as thought when it came.
func (t *task) fastest() time.Duration {
	if t.Due <= 0 || t.item.Latest <= 0 {
		return 0
	}
	return time.Duration(max(0, t.Due-t.item.Latest))
}

// feasible refuses a task that will not end by its deadline (ORC-250, 251); false
// if it may go on. Without a deadline, or a worker of known speed, it does. If it
// would start at once only what fails in the best case is refused: trying costs
// nobody anything, and a wrong figure would never be mended else.
func (c *Core) feasible(now Instant, t *task) (Reject, bool) {
	if t.Due <= 0 {
		return Reject{}, false
	}
	f, ok := c.predict(t)
	p, left := c.prospect(t.item.Key), time.Duration(t.Due-now)
	if !ok || p.blind {
		return Reject{}, false
	}
	mild := c.cfg.Optimistic || f.start == 0
	if f.limit(mild) <= left {
		if mild || !c.harms(now, t, &f, p) {
			return Reject{}, false
		}
		f.set(p, f.line.Drain())
	}
	d := Details{EarliestFinish: f.limit(mild), Terms: f.Terms}
	d.Shortfall = max(0, d.EarliestFinish-left)
	return Reject{ID: t.ID, Code: "DEADLINE_UNMET", After: hint(t.ID, min(max(d.Shortfall, minHint), max(f.Queue+f.Load, minHint))), Details: d}, true
}

// limit is the end that can be promised, or the earliest that is thinkable.
func (f *forecast) limit(mild bool) time.Duration {
	if mild {
		return max(0, f.finish()-f.Band)
	}
	return time.Duration(sum(int64(f.finish()), int64(f.Band)))
}

// Bounds of the hint for refused clients (ORC-254).
const (
	minHint = 250 * time.Millisecond
	maxHint = time.Minute
)

// hint spreads a hint by ±10 %, so that those who were refused together do not
// come back together.
func hint(id queue.ID, d time.Duration) time.Duration {
	return spread(id, min(maxHint, max(minHint, d)))
}

// spread is hint without bounds; 0 stays 0.
func spread(id queue.ID, d time.Duration) time.Duration {
	return d / 1000 * time.Duration(900+seed(id)%201)
}

// drainHint predicts when one place of the queue is free again: tasks like this one
// end one after the other on the slots of its key, if it has one.
func (c *Core) drainHint(t *task) time.Duration {
	slots, _ := c.view.Slots()
	each := c.service.value()
	if t.item.Key != 0 {
		if p := c.prospect(t.item.Key); p.slots > 0 {
			each, slots = c.served(t, t.item.Key), int(p.slots)
		}
	}
	return hint(t.ID, each/time.Duration(max(1, slots)))
}

// sum and product end at the largest number; all are ≥ 0.
func sum(a, b int64) int64 {
	if a > math.MaxInt64-b {
		return math.MaxInt64
	}
	return a + b
}

func product(a, b int64) int64 {
	hi, lo := bits.Mul64(uint64(max(0, a)), uint64(max(0, b)))
	if hi != 0 || lo > math.MaxInt64 {
		return math.MaxInt64
	}
	return int64(lo)
}

// root returns the square root of the sum of squares of times in ns, counted in
// µs and each at most 18 minutes, so that nothing overflows.
func root(ns ...int64) int64 {
	var all uint64
	for _, x := range ns {
		us := uint64(min(max(0, x)/1000, 1<<30))
		all += us * us
	}
	return int64(isqrt(all)) * 1000
}

// isqrt returns ⌊√x⌋.
func isqrt(x uint64) uint64 {
	if x == 0 {
		return 0
	}
	for r := uint64(1) << ((bits.Len64(x) + 1) / 2); ; {
		next := (r + x/r) / 2
		if next >= r {
			return r
		}
		r = next
	}
}
