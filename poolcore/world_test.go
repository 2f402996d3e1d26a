package poolcore

import (
	"cmp"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"time"

	"github.com/llorch/llorch/poolcore/engine"
)

// chooser makes the choices of a walk: rapid, or a generator with a fixed seed.
type chooser interface{ choose(what string, n int) int }

// violation is a broken invariant.
type violation string

// world plays the part of the machine and of all callers for decide: it knows
// which processes exist and checks every effect against that.
type world struct {
	chooser
	decide func(poolState, event, time.Duration) (poolState, []effect)
	s      poolState
	now    time.Duration

	spawns    map[gen]bool // attempts without an answer
	live      map[gen]bool // processes
	proved    map[gen]bool // answered with their own identity
	probes    map[gen]bool
	writes    map[gen]bool // handoff files under way
	dying     map[gen]bool
	born      int // processes and failed attempts
	reaped    int
	stages    map[op]bool
	purges    map[op]bool
	journals  []int
	journal   string         // the phase that stands on disk
	waiting   map[op]bool    // requests without a final answer
	undecided map[op]bool    // operations that were neither accepted nor refused
	acquires  map[op]bool    // requests for slots
	slots     map[gen]int    // by worker: slots that were given out
	ours      map[op]event   // every request, by number
	ended     map[op]failure // answers that were failures
	nextOp    op
	editions  int
	bound     bool // places are bound and unbound instead of started
	harsh     bool // no attempt succeeds
	deaf      bool // workers that serve do not answer
	calm      bool // mostly, everything works

	workers map[[3]string]int // transitions that were seen
	pools   map[[2]string]int
	event   event
	trace   []string // nil: not wanted
}

func newWorld(c chooser) *world {
	return &world{
		chooser: c, decide: decide, s: emptyPool(), spawns: map[gen]bool{},
		live: map[gen]bool{}, proved: map[gen]bool{}, probes: map[gen]bool{}, writes: map[gen]bool{}, dying: map[gen]bool{},
		stages: map[op]bool{}, purges: map[op]bool{}, waiting: map[op]bool{}, undecided: map[op]bool{},
		acquires: map[op]bool{}, slots: map[gen]int{}, ours: map[op]event{}, ended: map[op]failure{},
		workers: map[[3]string]int{}, pools: map[[2]string]int{}, editions: 1,
	}
}

func (w *world) broken(format string, args ...any) {
	panic(violation(fmt.Sprintf("%s (after %T at %v)", fmt.Sprintf(format, args...), w.event, w.now)))
}

func (w *world) feed(e event) {
	w.event = e
	before := w.s
	frozen := before.clone()
	next, effects := w.decide(before, e, w.now)
	again, effectsAgain := w.decide(before, e, w.now)
	if !reflect.DeepEqual(next, again) || !reflect.DeepEqual(effects, effectsAgain) {
		w.broken("G1: decide is not a function of its arguments")
	}
	if !slices.Equal(frozen.places, before.places) || !slices.Equal(frozen.drain.ops, before.drain.ops) {
		w.broken("PCO-1: decide changed its input")
	}
	w.s = next
	if w.trace != nil {
		w.trace = append(w.trace, fmt.Sprintf("%v %T%+v → %s %v drain %+v reload %+v: %+v", w.now, e, e, next.phase, statuses(next), next.drain.on, next.reload.phase, effects))
	}
	for _, f := range effects {
		w.apply(before, f)
	}
	w.moved(before, next)
	w.check()
}

func statuses(s poolState) (out []string) {
	for _, p := range s.places {
		out = append(out, fmt.Sprintf("r%d/%p:%d=%s(alive %v gone %v)", p.at, p.edition, p.gen, p.status, p.alive, p.gone))
	}
	return out
}

func (w *world) apply(before poolState, f effect) {
	switch f := f.(type) {
	case effSpawn:
		if before.drain.on && w.s.drain.on {
			w.broken("PCO-44: a start while draining")
		}
		w.spawns[f.gen] = true
	case effAdopt:
		w.live[f.gen] = true
		w.born++
	case effProbe:
		if !w.live[f.gen] || w.probes[f.gen] {
			w.broken("a probe of a process that does not exist, or a second one")
		}
		w.probes[f.gen] = true
	case effAnnounce:
		if f.on {
			w.writes[f.gen] = true
		}
	case effKill:
		if !w.live[f.gen] {
			w.broken("G3: a kill of a process that does not exist")
		}
		w.dying[f.gen] = true
	case effStage:
		w.stages[f.op] = true
	case effPurge:
		if p, ok := w.ours[f.op].(evPurge); ok && p.work.engine && len(w.live)+len(w.spawns) > 0 {
			w.broken("PCO-48: engines are purged while they run")
		}
		w.purges[f.op] = true
	case effJournal:
		w.journals = append(w.journals, f.serial)
		w.journal = f.phase
		if r := w.s.reload; f.phase == "" && r.fail != nil && r.fail.code == ReloadRolledBack && w.s.serving() == 0 {
			w.broken("G6: rolled back, and nothing serves")
		}
	case effAccept:
		if !w.undecided[f.op] {
			w.broken("PCO-3: request %d is accepted twice or was never asked", f.op)
		}
		delete(w.undecided, f.op)
		if f.code != "" || f.done {
			delete(w.waiting, f.op)
		}
	case effDone:
		w.answered(before, f)
	case effReloaded:
		w.reloaded(f)
	}
}

func (w *world) answered(before poolState, f effDone) {
	if !w.waiting[f.op] || w.undecided[f.op] {
		w.broken("PCO-3: request %d is answered twice or was never asked", f.op)
	}
	delete(w.waiting, f.op)
	if f.fail != nil {
		w.ended[f.op] = *f.fail
	}
	if w.acquires[f.op] && f.fail == nil {
		w.slots[f.worker]++
	}
	if _, ok := w.ours[f.op].(evDrain); ok && f.fail == nil && !f.drained.Forced && w.slotsTaken() > 0 {
		w.broken("PCO-44: a drain ends unforced while slots are taken")
	}
	if _, ok := w.ours[f.op].(evDrain); ok && f.fail == nil && !f.drained.Forced && !before.drain.over && slices.ContainsFunc(w.s.places, func(p place) bool {
		return p.status == draining && !w.s.work.knew(p.drainAt)
	}) {
		w.broken("PCO-44: a drain ends unforced by a count from before it")
	}
}

func (w *world) slotsTaken() (n int) {
	for _, p := range w.s.places {
		if p.serving() || p.status == draining {
			n += w.slots[p.gen]
		}
	}
	return n
}

// reloaded checks G6: the reload says what is true.
func (w *world) reloaded(f effReloaded) {
	if w.journal != "" {
		w.broken("PCO-47: a reload ends while its journal stands")
	}
	if f.fail != nil && f.fail.code == HostStopped {
		return
	}
	for _, p := range w.s.places {
		isNew := p.edition != w.s.edition
		if isNew && !p.gone {
			w.broken("G6: a worker of the other configuration stays (%v)", f.fail)
		}
	}
}

// moved checks what changed against the tables.
func (w *world) moved(before, after poolState) {
	old := map[gen]string{}
	for _, p := range before.places {
		old[p.gen] = p.status
	}
	for _, p := range after.places {
		if from := old[p.gen]; p.serving() && (from == ready || from == busy) && from != p.status {
			w.workers[[3]string{from, "work", p.status}]++
		}
	}
	_, effects := w.decide(before, w.event, w.now)
	for _, f := range effects {
		if m, ok := f.(effMoved); ok {
			w.workers[[3]string{m.from, m.why, m.to}]++
			if !workerMoves(m.from, m.why, m.to) {
				w.broken("a worker goes from %q by %q to %q, which is not in the table", m.from, m.why, m.to)
			}
		}
	}
	if before.phase != after.phase {
		w.pools[[2]string{before.phase, after.phase}]++
		if !poolMoves(before.phase, after.phase) {
			w.broken("a pool goes from %s to %s, which is not in the table", before.phase, after.phase)
		}
	}
}

func (w *world) check() {
	if len(w.undecided) > 0 {
		w.broken("PCO-3: an operation was neither accepted nor refused at once")
	}
	seen := map[gen]bool{}
	pairs := map[string]bool{}
	for _, p := range w.s.places {
		seen[p.gen] = true
		w.checkPlace(p)
		if pair := fmt.Sprintf("%d/%p", p.at, p.edition); !p.gone {
			if pairs[pair] {
				w.broken("two workers in place %d", p.at)
			}
			pairs[pair] = true
		}
	}
	for gen := range w.live {
		if !seen[gen] {
			w.broken("G2: process %d is forgotten", gen)
		}
	}
	if w.s.phase == stopped && len(w.live)+len(w.spawns) > 0 {
		w.broken("G2: stopped with processes")
	}
	if w.s.closed && w.s.keep && !w.s.engaged() && w.s.phase != stopped && !w.s.drain.on {
		w.broken("PCO-44: a pool of a closed node is not drained")
	}
	if w.s.breaker.state == breakerHalfOpen && !slices.ContainsFunc(w.s.places, func(p place) bool { return p.alive || p.pending }) {
		w.broken("PCO-35: half open, and nobody tries")
	}
	if w.s.drain.on && w.s.serving() > 0 {
		w.broken("PCO-44: a draining pool serves")
	}
	if w.s.sick && w.s.serving() > 0 && w.s.keep {
		w.broken("PCO-39: a pool serves on a device that is unhealthy")
	}
	if due := w.s.due(); due != never && !w.s.drain.on && !w.s.reload.on && !w.s.work.heard &&
		!slices.ContainsFunc(w.s.places, func(p place) bool { return p.alive || p.dueAt != never }) {
		w.broken("a timer without an owner")
	}
}

func (w *world) checkPlace(p place) {
	switch {
	case w.live[p.gen] != p.alive:
		w.broken("place %d: alive = %v, process exists = %v", p.at, p.alive, w.live[p.gen])
	case w.spawns[p.gen] != p.pending:
		w.broken("place %d: pending = %v, attempt under way = %v", p.at, p.pending, w.spawns[p.gen])
	case p.serving() && !w.proved[p.gen]:
		w.broken("G4: place %d is ready without having shown its identity", p.at)
	case p.serving() && !p.alive:
		w.broken("place %d serves without a process", p.at)
	case p.held < 0 || p.held > p.slots:
		w.broken("G5: %d of %d slots are taken", p.held, p.slots)
	case (p.serving() || p.status == draining) && p.held != w.slots[p.gen]:
		w.broken("PCO-41: %d slots are taken by the count, %d by the callers", p.held, w.slots[p.gen])
	case !p.serving() && p.status != draining && p.status != stopping && p.status != stuck && p.status != stopped && p.held != 0:
		w.broken("PCO-41: a worker that is %s holds slots", p.status)
	}
}

// ask makes a request.
func (w *world) ask(make func(op op) event, accepts bool) {
	w.nextOp++
	op := w.nextOp
	w.waiting[op] = true
	if accepts {
		w.undecided[op] = true
	}
	e := make(op)
	w.ours[op] = e
	w.feed(e)
}

func pick[K cmp.Ordered](w *world, what string, m map[K]bool) (K, bool) {
	if len(m) == 0 {
		var none K
		return none, false
	}
	keys := slices.Sorted(maps.Keys(m))
	return keys[w.choose(what, len(keys))], true
}

func (w *world) yes(what string, oneIn int) bool { return w.choose(what, oneIn) == 0 }

func (w *world) jitter() float64 { return float64(w.choose("jitter", 21)-10) / 10 }

func (w *world) failure() failure {
	classes := []string{
		engine.ClassUnknown, engine.ClassKilled, engine.ClassConfig, engine.ClassPortConflict, engine.ClassOOMVRAM, engine.ClassMaskViolation,
	}
	return failure{class: classes[w.choose("class", len(classes))]}
}
