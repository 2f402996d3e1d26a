package poolcore

import (
	"maps"
	"reflect"
	"slices"
	"strconv"
	"time"

	"github.com/llorch/llorch/poolcore/engine"
)

// steps are what can happen to a pool, in any order.
func (w *world) steps() []func() {
	calls := []func(){
		w.start, w.start, w.stop, w.drainSome, w.drainSome, w.undrain, w.restart, w.reset, w.acquire, w.acquire, w.release, w.reload, w.reload,
		w.purge, w.cancel, w.device, w.stale, w.active,
	}
	if w.harsh { // nothing ever starts
		return []func(){w.start, w.spawned, w.spawned, w.time, w.time}
	}
	if w.calm && !w.bound {
		return []func(){
			w.start, w.settleAll, w.settleAll, w.settleAll, w.acquire, w.acquire, w.release, w.drainSome, w.undrain, w.time, w.time, w.exit,
			w.spawned, w.reload, w.restart, w.active,
		}
	}
	if w.bound {
		calls = []func(){w.bind, w.bind, w.unbind, w.stop, w.drainSome, w.undrain, w.restart, w.acquire, w.release, w.device, w.active, w.reload, w.purge}
	}
	news := []func(){
		w.staged, w.spawned, w.spawned, w.spawned, w.probed, w.probed, w.probed, w.announced, w.announced, w.journaled, w.journaled, w.purged,
		w.exit, w.stuck, w.time, w.time, w.time, w.poke,
	}
	return append(append(calls, news...), news...)
}

// edition makes a configuration that is like no other.
func (w *world) edition(replicas int) *edition {
	w.editions++
	e := testEdition(replicas)
	e.cfg.ID = strconv.Itoa(w.editions)
	e.announce, e.stopAfterDrain = w.yes("announce", 2), w.yes("stop after drain", 4)
	return e
}

func (w *world) start() {
	e := evStart{keep: w.yes("keep", 2), edition: w.edition(1 + w.choose("replicas", 2)), sick: w.yes("sick", 12)}
	if w.yes("same", 2) && w.s.edition.replicas > 0 {
		e.edition = w.s.edition
	}
	if e.keep && w.s.fresh() && len(w.live) == 0 && w.yes("found", 2) {
		if w.yes("resume", 2) {
			e.resume = w.edition(e.edition.replicas)
		}
		for at := range e.edition.replicas {
			for _, n := range []*edition{e.edition, e.resume} {
				if n != nil && w.yes("alive", 2) {
					e.found = append(e.found, found{at: at, edition: n})
				}
			}
		}
	}
	w.ask(func(op op) event { e.op = op; return e }, true)
}

func (w *world) bind() {
	e := evBind{at: w.choose("at", 2), edition: w.edition(1)}
	w.ask(func(op op) event { e.op = op; return e }, false)
}

func (w *world) unbind() {
	at := w.choose("at", 2)
	w.ask(func(op op) event { return evUnbind{op: op, at: at} }, false)
}

func (w *world) stop() {
	if !w.yes("really", 3) {
		return
	}
	w.ask(func(op op) event { return evStop{op: op} }, false)
}

func (w *world) drainSome() {
	within := time.Duration(w.choose("within", 3)) * 20 * time.Second
	w.ask(func(op op) event { return evDrain{op: op, within: within} }, false)
}

func (w *world) undrain() { w.ask(func(op op) event { return evUndrain{op: op} }, false) }

func (w *world) restart() { w.ask(func(op op) event { return evRestart{op: op} }, false) }

func (w *world) reset() { w.ask(func(op op) event { return evReset{op: op} }, false) }

func (w *world) acquire() {
	w.acquires[w.nextOp+1] = true
	w.ask(func(op op) event { return evAcquire{op: op} }, false)
}

func (w *world) release() {
	given := map[gen]bool{}
	for gen, n := range w.slots {
		if n > 0 {
			given[gen] = true
		}
	}
	if gen, ok := pick(w, "slot", given); ok {
		w.slots[gen]--
		w.feed(evRelease{gen: gen})
	}
}

func (w *world) reload() {
	strategies := []string{strategyAuto, strategyAlongside, strategyInPlace}
	to := w.edition(max(w.s.edition.replicas, 1))
	if w.yes("same", 8) {
		to = w.s.edition
	}
	e := evReload{
		edition: to, strategy: strategies[w.choose("strategy", 3)],
		force: w.yes("force", 2), within: time.Duration(w.choose("within", 3)) * 20 * time.Second,
	}
	w.ask(func(op op) event { e.op = op; return e }, true)
}

func (w *world) purge() {
	if !w.yes("really", 4) {
		return
	}
	e := evPurge{work: purgeWork{engine: w.yes("engine", 2)}, within: time.Duration(w.choose("within", 2)) * 30 * time.Second}
	w.ask(func(op op) event { e.op = op; return e }, true)
}

func (w *world) cancel() {
	if op, ok := pick(w, "op", w.waiting); ok {
		w.feed(evCancel{op})
	}
}

func (w *world) device() {
	w.feed(evDevice{sick: w.yes("sick", 2), restart: w.yes("restart", 3), jitter: w.jitter()})
}

func (w *world) active() {
	e := evReply{active: max(0, w.choose("n", 5)-2), until: never, asOf: w.now, closed: w.yes("closed", 6), closeBy: w.now + time.Minute}
	if w.yes("until", 2) {
		e.until = w.now + 30*time.Second
	}
	if w.yes("old", 2) {
		e.asOf -= time.Minute
	}
	w.feed(e)
}

func (w *world) poke() {
	if gen, ok := pick(w, "gen", w.live); ok {
		w.feed(evPoke{gen: gen})
	}
}

func (w *world) staged() {
	if op, ok := pick(w, "op", w.stages); ok {
		delete(w.stages, op)
		e := evStaged{op: op}
		if w.yes("fails", 4) {
			e.fail = &failure{class: engine.ClassPreflight, faults: []Fault{{Code: ModelMissing}}}
		}
		w.feed(e)
	}
}

func (w *world) spawned() {
	gen, ok := pick(w, "gen", w.spawns)
	if !ok {
		return
	}
	delete(w.spawns, gen)
	w.born++
	if w.harsh || w.yes("fails", 4) {
		w.reaped++
		w.feed(evSpawnFailed{gen: gen, fail: w.failure(), jitter: w.jitter()})
		return
	}
	w.live[gen] = true
	w.feed(evSpawned{gen: gen})
}

func (w *world) probed() {
	if gen, ok := pick(w, "gen", w.probes); ok {
		delete(w.probes, gen)
		p := w.probe()
		if at := slices.IndexFunc(w.s.places, func(p place) bool { return p.gen == gen }); w.deaf && at >= 0 && w.s.places[at].status != starting {
			p = probe{failed: true}
		}
		w.answer(gen, p)
	}
}

func (w *world) probe() probe {
	p := probe{failed: w.yes("failed", 4), grew: w.yes("grew", 2)}
	switch {
	case p.failed:
	case w.yes("foreign", 12):
		p.ready, p.foreign = true, true
	case w.yes("fault", 16):
		p.ready, p.fault = true, &failure{class: engine.ClassMaskViolation}
	case w.yes("crowded", 12):
		p.crowded = true
	default:
		p.ready = !w.yes("loading", 3)
		p.slots = []int{0, 1, 3}[w.choose("slots", 3)]
		if w.yes("tells", 2) {
			p.busy = new(w.choose("busy", 3))
		}
	}
	return p
}

func (w *world) answer(gen gen, p probe) {
	w.proved[gen] = w.proved[gen] || p.ready && !p.foreign && p.fault == nil
	w.feed(evProbed{gen: gen, probe: p, jitter: w.jitter()})
}

func (w *world) announced() {
	if gen, ok := pick(w, "gen", w.writes); ok {
		delete(w.writes, gen)
		w.feed(evAnnounced{gen: gen})
	}
}

func (w *world) journaled() {
	if len(w.journals) == 0 {
		return
	}
	e := evJournaled{serial: w.journals[0]}
	w.journals = w.journals[1:]
	if w.yes("fails", 8) {
		e.fail = &failure{code: DirNotWritable}
	}
	w.feed(e)
}

func (w *world) purged() {
	if op, ok := pick(w, "op", w.purges); ok {
		delete(w.purges, op)
		w.feed(evPurged{op: op})
	}
}

func (w *world) exit() {
	if !w.yes("really", 2) {
		return
	}
	if gen, ok := pick(w, "gen", w.live); ok {
		w.gone(gen, w.failure())
	}
}

func (w *world) gone(gen gen, f failure) {
	delete(w.live, gen)
	delete(w.probes, gen)
	w.reaped++
	w.feed(evExited{gen: gen, fail: f, jitter: w.jitter()})
}

func (w *world) stuck() {
	if gen, ok := pick(w, "gen", w.dying); ok && w.live[gen] && w.yes("really", 3) {
		w.feed(evStuck{gen: gen})
	}
}

// stale feeds events of attempts that do not exist.
func (w *world) stale() {
	before := w.s
	w.feed(evExited{gen: w.s.nextGen + 1, fail: w.failure()})
	w.feed(evSpawned{gen: w.s.nextGen + 1})
	w.feed(evRelease{gen: w.s.nextGen + 1})
	w.feed(evJournaled{serial: w.s.serial + 1})
	if !reflect.DeepEqual(before, w.s) {
		w.broken("an event of a foreign attempt changed the state")
	}
}

func (w *world) time() {
	if due := w.s.due(); due != never && !w.yes("wait", 3) {
		w.now = max(w.now, due)
	} else {
		w.now += time.Duration(1+w.choose("ms", 30_000)) * time.Millisecond
	}
	w.tick()
}

func (w *world) tick() {
	before, spawns := w.s.breaker.state, len(w.spawns)
	w.feed(evTick{jitter: w.jitter()})
	started := len(w.spawns) - spawns
	if before == breakerHalfOpen && w.s.breaker.state == breakerHalfOpen && started > 0 || before == breakerOpen && w.s.breaker.state != breakerClosed && started > 1 {
		if !w.s.reload.on { // a reload starts what it must
			w.broken("PCO-35: a breaker that was %s admits %d starts", before, started)
		}
	}
	if due := w.s.due(); due != never && due <= w.now {
		w.broken("after a tick at %v the next one is due at %v: the loop would spin", w.now, due)
	}
}

// cooperate: from now on the machine does what it should, and time passes. Then
// every request comes to its end (TestWaitersAlwaysReleased).
func (w *world) cooperate() {
	if w.s.sick {
		w.feed(evDevice{})
	}
	w.feed(evReply{until: never})
	for _, gen := range slices.Sorted(maps.Keys(w.slots)) {
		for w.slots[gen] > 0 {
			w.slots[gen]--
			w.feed(evRelease{gen: gen})
		}
	}
	for range 600 {
		if len(w.waiting) == 0 {
			return
		}
		w.settleAll()
		if due := w.s.due(); due != never {
			w.now = max(w.now, due)
			w.tick()
		}
	}
	for op := range w.waiting {
		w.broken("PCO-3: %T is never answered in phase %s, reload %q", w.ours[op], w.s.phase, w.s.reload.phase)
	}
}

// settleAll answers everything that is under way, as it should be answered.
func (w *world) settleAll() {
	for _, op := range slices.Sorted(maps.Keys(w.stages)) {
		delete(w.stages, op)
		w.feed(evStaged{op: op})
	}
	for _, gen := range slices.Sorted(maps.Keys(w.spawns)) {
		delete(w.spawns, gen)
		w.born++
		w.live[gen] = true
		w.feed(evSpawned{gen: gen})
	}
	for _, gen := range slices.Sorted(maps.Keys(w.dying)) {
		delete(w.dying, gen)
		if w.live[gen] {
			w.gone(gen, failure{class: engine.ClassGraceful})
		}
	}
	for _, gen := range slices.Sorted(maps.Keys(w.probes)) {
		delete(w.probes, gen)
		w.answer(gen, probe{ready: true, slots: 2, busy: new(0)})
	}
	for _, gen := range slices.Sorted(maps.Keys(w.writes)) {
		delete(w.writes, gen)
		w.feed(evAnnounced{gen: gen})
	}
	for len(w.journals) > 0 {
		serial := w.journals[0]
		w.journals = w.journals[1:]
		w.feed(evJournaled{serial: serial})
	}
	for _, op := range slices.Sorted(maps.Keys(w.purges)) {
		delete(w.purges, op)
		w.feed(evPurged{op: op})
	}
}

// end: whatever happened, a stop ends everything and answers everybody.
func (w *world) end() {
	w.ask(func(op op) event { return evStop{op: op, last: true} }, false)
	for range 100 {
		w.settleAll()
	}
	if len(w.waiting) > 0 {
		w.broken("PCO-3: %d requests are not answered by a stop", len(w.waiting))
	}
	if len(w.live)+len(w.spawns) > 0 || w.born != w.reaped {
		w.broken("G2: %d processes, %d reaped, %d left after a stop", w.born, w.reaped, len(w.live))
	}
	if w.journal != "" {
		w.broken("PCO-47: a journal stands after a stop")
	}
	clear(w.stages)
	w.start()
	w.bind()
	if len(w.live)+len(w.spawns)+len(w.stages) > 0 {
		w.broken("G2: something is started after the end")
	}
}
