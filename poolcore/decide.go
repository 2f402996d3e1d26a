package poolcore

import (
	"slices"
	"time"

	"github.com/llorch/llorch/poolcore/engine"
)

// Limits of decide that nobody needs to change.
const (
	missesToFail   = 3               // failed health probes in a row
	busyIsNotDead  = 5 * time.Minute // how long a busy worker that makes progress may miss probes
	portRetries    = 3
	configTolerant = 1                    // failures of class config_error that are retried
	fastProbes     = 5 * time.Second      // how long a start is probed at the fast rate
	adoptionProof  = 30 * time.Second     // for an engine that was found alive
	sickDrain      = 30 * time.Second     // for what runs on a device that fails
	longest        = 365 * 24 * time.Hour // that anything may take
)

// decide is the single-writer step: pure, without clock, randomness or I/O.
func decide(s poolState, e event, now time.Duration) (poolState, []effect) {
	d := decision{s: s.clone(), now: now}
	if !d.request(e) {
		d.news(e)
	}
	d.settle()
	return d.s, d.effects
}

// decision is one step under way.
type decision struct {
	s       poolState
	now     time.Duration
	effects []effect
}

// request takes an event that somebody asked for; false: it is news.
func (d *decision) request(e event) bool {
	switch e := e.(type) {
	case evStart:
		d.start(e)
	case evReload:
		d.reloadAsked(e)
	case evPurge:
		d.purgeAsked(e)
	case evCancel:
		d.cancel(e.op)
	case evStop:
		d.stop(e)
	case evDrain:
		d.drainAsked(e)
	case evUndrain:
		d.undrain(e.op)
	case evRestart:
		d.restartAsked(e.op)
	case evReset:
		d.reset()
		d.done(e.op, nil)
	case evAcquire:
		d.acquire(e.op)
	case evRelease:
		d.release(e.gen)
	case evBind:
		d.bind(e)
	case evUnbind:
		d.unbind(e)
	default:
		return false
	}
	return true
}

func (d *decision) news(e event) {
	switch e := e.(type) {
	case evStaged:
		d.staged(e)
	case evSpawned:
		d.spawned(e.gen)
	case evSpawnFailed:
		if p := d.place(e.gen); p != nil && p.pending {
			p.pending = false
			d.ended(p, e.fail, e.jitter, "not started")
		}
	case evProbed:
		d.probed(e)
	case evAnnounced:
		if p := d.place(e.gen); p != nil && p.announcing && p.status == starting {
			d.isReady(p)
		}
	case evExited:
		if p := d.place(e.gen); p != nil && p.alive {
			p.alive = false
			d.ended(p, e.fail, e.jitter, "exit")
		}
	case evStuck:
		d.isStuck(e.gen)
	case evPoke:
		if p := d.place(e.gen); p != nil && p.status == starting && p.probeAt != never {
			p.probeAt = d.now
		}
	case evReply:
		d.s.work = workload{active: e.active, until: e.until, asOf: e.asOf, heard: e.until != never}
		d.s.closed, d.s.closeBy = e.closed, e.closeBy
	case evDevice:
		d.device(e)
	case evTrouble:
		d.s.lastErr = &e.fail
	case evJournaled:
		d.journaled(e)
	case evPurged:
		d.purged(e)
	case evTick:
		d.tick(e.jitter)
	}
}

func (d *decision) emit(e effect) { d.effects = append(d.effects, e) }

// done answers a request; 0 is one that nobody made.
func (d *decision) done(op op, fail *failure) {
	if op != 0 {
		d.emit(effDone{op: op, fail: fail})
	}
}

func (d *decision) refuse(op op, c Code) { d.emit(effDone{op: op, fail: &failure{code: c}}) }

// place returns the place whose newest attempt is gen, or nil: answers about older
// ones change nothing.
func (d *decision) place(gen gen) *place {
	for i := range d.s.places {
		if p := &d.s.places[i]; p.gen == gen && gen != 0 {
			return p
		}
	}
	return nil
}

// move changes a worker's state and tells the world.
func (d *decision) move(p *place, why, to string) {
	if p.status == to {
		return
	}
	from, served := p.status, p.serving()
	if from == busy {
		from = ready // the table's rows are about both
	}
	p.status = to
	d.emit(effMoved{gen: p.gen, from: from, why: why, to: to, took: d.now - p.startedAt})
	if p.announcing && to != ready {
		p.announcing = false
		d.emit(effAnnounce{gen: p.gen, edition: p.edition})
	}
	if p.serving() == served {
		return
	}
	if p.edition.announce && (served || !p.announcing) {
		d.emit(effAnnounce{gen: p.gen, edition: p.edition, on: !served})
	}
	d.emit(effNudge{})
}

// launch starts a new worker in p, which has none.
func (d *decision) launch(p *place, why string) {
	d.s.nextGen++
	p.gen, p.dueAt, p.probeAt, p.misses, p.detail = d.s.nextGen, never, never, 0, ""
	p.startedAt, p.progressAt = d.now, d.now
	p.slots, p.held, p.reported, p.pending = p.edition.slots, 0, -1, true
	p.adopted, p.announcing, p.again, p.asking, p.quiet = false, false, false, false, false
	d.move(p, why, spawning)
	d.emit(effSpawn{at: p.at, gen: p.gen, edition: p.edition})
}

// end asks the place's worker to go.
func (d *decision) end(p *place, why string, grace time.Duration) {
	p.dueAt, p.probeAt = never, never
	switch p.status {
	case spawning:
		d.move(p, why, stopping)
	case starting, ready, busy, draining:
		d.move(p, why, stopping)
		d.emit(effKill{gen: p.gen, grace: grace})
	case failed:
		if p.alive {
			break // its end is under way
		}
		d.move(p, why, stopped)
	}
}

func (d *decision) spawned(gen gen) {
	p := d.place(gen)
	if p == nil || !p.pending {
		return
	}
	p.pending, p.alive = false, true
	if p.status == stopping {
		d.emit(effKill{gen: gen, grace: 0}) // never ready: nothing to finish
		return
	}
	p.startedAt, p.progressAt, p.probeAt = d.now, d.now, d.now
	d.move(p, "spawned", starting)
}

// isStuck: SIGKILL was not enough. Its memory and port stay reserved.
func (d *decision) isStuck(gen gen) {
	p := d.place(gen)
	if p == nil || !p.alive {
		return
	}
	p.probeAt = never
	d.move(p, "survives", stuck)
	d.s.lastErr = &failure{code: WorkerStuck, message: "a process survives SIGKILL"}
	if d.s.restart != 0 {
		d.restarted(d.s.lastErr)
	}
}

func (d *decision) tick(jitter float64) {
	t := d.s.edition.timing
	if w := &d.s.work; w.heard && d.now >= w.until {
		w.stale = true
	}
	for i := range d.s.places { // first: it can close the breaker for others
		if p := &d.s.places[i]; p.serving() {
			d.forgive(p, t)
		}
	}
	for i := range d.s.places {
		p := &d.s.places[i]
		switch p.status {
		case starting:
			late := d.now >= p.progressAt+t.Stall || d.now >= p.startedAt+p.startLimit()
			if late && !p.announcing {
				d.fail(p, failure{class: engine.ClassStartTimeout, exitCode: -1, message: "not ready in time"}, jitter, "too late")
				continue
			}
			d.probeDue(p, t)
		case ready, busy, draining:
			d.probeDue(p, t)
		case failed:
			d.restartDue(p)
		}
	}
}

func (d *decision) probeDue(p *place, t Timing) {
	if p.probeAt == never || d.now < p.probeAt {
		return
	}
	p.probeAt, p.asking, p.askedAt = never, true, d.now
	timeout := t.HealthTimeout
	if p.status == starting {
		timeout = min(timeout, 2*time.Second)
	}
	d.emit(effProbe{gen: p.gen, timeout: timeout})
}

// sweep drops the places that ended with their workers.
func (d *decision) sweep() {
	d.s.places = slices.DeleteFunc(d.s.places, func(p place) bool { return p.gone && !p.alive && !p.pending })
}
