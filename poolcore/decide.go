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
	configTolerant = 1               // failures of class config_error that are retried
	fastProbes     = 5 * time.Second // how long a start is probed at the fast rate
)

// decide is the single-writer step: pure, without clock, randomness or I/O.
func decide(s poolState, e event, now time.Duration) (poolState, []effect) {
	d := decision{s: s, now: now}
	d.s.places = slices.Clone(s.places)
	d.s.stops = slices.Clone(s.stops)
	switch e := e.(type) {
	case evStart:
		d.start(e)
	case evSpawned:
		d.spawned(e)
	case evSpawnFailed:
		if p, ok := d.place(e.at, e.gen); ok && p.pending {
			p.pending = false
			d.ended(e.at, e.fail, e.jitter)
		}
	case evProbed:
		d.probed(e)
	case evExited:
		if p, ok := d.place(e.at, e.gen); ok && p.alive {
			p.alive = false
			d.ended(e.at, e.fail, e.jitter)
		}
	case evStuck:
		if p, ok := d.place(e.at, e.gen); ok && p.alive {
			d.move(e.at, stuck)
			d.s.lastErr = &failure{code: WorkerStuck, message: "a process survives SIGKILL"}
		}
	case evActive:
		d.s.active = e.n
	case evTick:
		d.tick(e.jitter)
	case evStop:
		d.stop(e)
	}
	d.setBusy()
	d.settle()
	return d.s, d.effects
}

// decision is one step under way.
type decision struct {
	s       poolState
	now     time.Duration
	effects []effect
}

func (d *decision) emit(e effect) { d.effects = append(d.effects, e) }

// place returns the place if gen is its newest attempt: answers about older ones
// change nothing.
func (d *decision) place(at int, gen uint64) (*place, bool) {
	if at < 0 || at >= len(d.s.places) || d.s.places[at].gen != gen {
		return nil, false
	}
	return &d.s.places[at], true
}

// move changes a worker's state and tells the world.
func (d *decision) move(at int, to string) {
	p := &d.s.places[at]
	if p.status == to {
		return
	}
	from := p.status
	p.status = to
	d.emit(effMoved{at: at, gen: p.gen, from: from, to: to, took: d.now - p.startedAt})
	wasServing := from == ready || from == busy
	if p.serving() != wasServing {
		d.emit(effNudge{})
	}
}

func (d *decision) start(e evStart) {
	switch {
	case d.s.op != 0 || d.s.phase == stopping:
		d.emit(effAccept{op: e.op, code: PoolBusy})
	case d.s.phase == stopped || d.s.phase == failed && d.s.halted():
		if slices.ContainsFunc(d.s.places, func(p place) bool { return p.alive }) {
			d.emit(effAccept{op: e.op, code: WorkerStuck}) // its port and memory are not free
			return
		}
		d.emit(effAccept{op: e.op, done: e.keep}) // who retries for ever waits for nothing
		op := e.op
		if e.keep {
			op = 0
		}
		d.s = poolState{
			rules: e.rules, phase: starting, keep: e.keep, op: op, places: make([]place, e.rules.replicas),
			breaker: breaker{state: breakerClosed}, active: d.s.active, nextGen: d.s.nextGen, restarts: d.s.restarts,
		}
		for i := range d.s.places {
			d.launch(i)
		}
	case e.same:
		d.emit(effAccept{op: e.op, done: true})
	default:
		d.emit(effAccept{op: e.op, code: PoolExists})
	}
}

func (d *decision) launch(at int) {
	d.s.nextGen++
	p := &d.s.places[at]
	p.gen, p.dueAt, p.probeAt, p.misses, p.detail = d.s.nextGen, never, never, 0, ""
	p.startedAt, p.progressAt = d.now, d.now
	p.slots, p.pending = d.s.rules.slots, true
	d.move(at, spawning)
	d.emit(effSpawn{at: at, gen: p.gen})
}

func (d *decision) spawned(e evSpawned) {
	p, ok := d.place(e.at, e.gen)
	if !ok || !p.pending {
		return
	}
	p.pending, p.alive = false, true
	if p.status == stopping {
		d.emit(effKill{at: e.at, gen: e.gen, grace: 0}) // never ready: nothing to finish
		return
	}
	p.startedAt, p.progressAt, p.probeAt = d.now, d.now, d.now
	d.move(e.at, starting)
}

// probed takes one answer. Who answers under another name is not our engine, even
// when it says that it is ready.
func (d *decision) probed(e evProbed) {
	p, ok := d.place(e.at, e.gen)
	if !ok || p.probeAt != never {
		return
	}
	switch p.status {
	case starting:
		d.probedStarting(e, p)
	case ready, busy:
		d.probedReady(e, p)
	}
}

func (d *decision) probedStarting(e evProbed, p *place) {
	t := d.s.rules.timing
	p.probeAt = d.now + t.ProbeSlow
	if d.now-p.startedAt < fastProbes {
		p.probeAt = d.now + t.ProbeFast
	}
	if e.probe.grew || !e.probe.failed && e.probe.detail != p.detail {
		p.progressAt, p.detail = d.now, e.probe.detail
	}
	switch {
	case e.probe.foreign:
		d.fail(e.at, failure{class: engine.ClassIdentity, exitCode: -1, message: "the port answers under another name"}, e.jitter)
	case e.probe.ready:
		if e.probe.slots > 0 {
			p.slots = e.probe.slots
		}
		p.readyAt, p.portTries = d.now, 0
		p.probeAt = d.now + t.Health
		d.move(e.at, ready)
	}
}

func (d *decision) probedReady(e evProbed, p *place) {
	p.probeAt = d.now + d.s.rules.timing.Health
	if e.probe.foreign {
		d.fail(e.at, failure{class: engine.ClassIdentity, exitCode: -1, message: "the port answers under another name"}, e.jitter)
		return
	}
	if !e.probe.failed && e.probe.ready {
		p.misses = 0
		if e.probe.slots > 0 {
			p.slots = e.probe.slots
		}
		return
	}
	if p.misses++; p.misses == 1 {
		p.missedSince = d.now
	}
	working := d.s.active > 0 && e.probe.grew && d.now-p.missedSince < busyIsNotDead
	if p.misses >= missesToFail && !working {
		d.fail(e.at, failure{class: engine.ClassHealth, exitCode: -1, message: "health probes failed"}, e.jitter)
	}
}

// abandon undoes a preload of which one worker failed.
func (d *decision) abandon(f failure) {
	if d.s.opFail == nil {
		d.s.opFail = &f
	}
	d.endAll(d.s.rules.stopGrace)
}

// endAll asks every process to go.
func (d *decision) endAll(grace time.Duration) {
	for i := range d.s.places {
		p := &d.s.places[i]
		p.dueAt, p.probeAt = never, never
		switch p.status {
		case spawning:
			d.move(i, stopping)
		case starting, ready, busy:
			d.move(i, stopping)
			d.emit(effKill{at: i, gen: p.gen, grace: grace})
		case failed:
			if !p.alive {
				d.move(i, stopped)
			}
		}
	}
}

func (d *decision) stop(e evStop) {
	d.s.stops = append(d.s.stops, e.op)
	if d.s.phase == stopped {
		return
	}
	d.s.phase, d.s.keep = stopping, false
	if d.s.op != 0 && d.s.opFail == nil {
		d.s.opFail = &failure{code: HostStopped, message: "stopped while starting"}
	}
	grace := d.s.rules.stopGrace
	if e.grace > 0 {
		grace = e.grace
	}
	if e.most > 0 {
		grace = min(grace, e.most)
	}
	d.endAll(grace)
}

func (d *decision) tick(jitter float64) {
	t := d.s.rules.timing
	for i := range d.s.places {
		p := &d.s.places[i]
		switch p.status {
		case starting:
			if d.now >= p.progressAt+t.Stall || d.now >= p.startedAt+d.s.rules.startAtMost {
				d.fail(i, failure{class: engine.ClassStartTimeout, exitCode: -1, message: "not ready in time"}, jitter)
				continue
			}
			d.probeDue(i, t.HealthTimeout)
		case ready, busy:
			d.forgive(p, t)
			d.probeDue(i, t.HealthTimeout)
		case failed:
			d.restartDue(i)
		}
	}
}

func (d *decision) probeDue(at int, timeout time.Duration) {
	p := &d.s.places[at]
	if p.probeAt == never || d.now < p.probeAt {
		return
	}
	p.probeAt = never
	if p.status == starting {
		timeout = min(timeout, 2*time.Second)
	}
	d.emit(effProbe{at: at, gen: p.gen, timeout: timeout})
}
