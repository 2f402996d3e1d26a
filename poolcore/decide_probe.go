package poolcore

import (
	"github.com/llorch/llorch/poolcore/engine"
)

// probed takes one answer. Who answers under another name is not our engine, even
// when it says that it is ready.
func (d *decision) probed(e evProbed) {
	p := d.place(e.gen)
	if p == nil || !p.asking {
		return
	}
	p.asking = false
	if p.status != starting && !p.serving() && p.status != draining {
		return
	}
	switch {
	case e.probe.foreign:
		d.fail(p, failure{class: engine.ClassIdentity, exitCode: -1, message: "the port answers under another name"}, e.jitter, "wrong identity")
	case e.probe.fault != nil:
		d.fail(p, *e.probe.fault, e.jitter, "wrong identity")
	case p.status == starting:
		d.probedStarting(e, p)
	default:
		d.probedReady(e, p)
	}
}

func (d *decision) probedStarting(e evProbed, p *place) {
	t := d.s.edition.timing
	p.probeAt = d.now + t.ProbeSlow
	if d.now-p.startedAt < fastProbes {
		p.probeAt = d.now + t.ProbeFast
	}
	if e.probe.grew || !e.probe.failed && e.probe.detail != p.detail {
		p.progressAt, p.detail = d.now, e.probe.detail
	}
	if !e.probe.ready || p.announcing {
		return
	}
	p.heard(e.probe)
	if !p.edition.announce {
		d.isReady(p)
		return
	}
	p.announcing, p.probeAt = true, never
	d.emit(effAnnounce{gen: p.gen, edition: p.edition, on: true})
}

// isReady: the worker proved itself, and whoever reads handoff files can know.
func (d *decision) isReady(p *place) {
	p.readyAt, p.portTries = d.now, 0
	p.probeAt = d.now + d.s.edition.timing.Health
	d.move(p, "ready", ready)
	p.announcing, p.adopted = false, false
}

// heard takes the engine's own numbers. Slots that are taken stay, G5.
func (p *place) heard(a probe) {
	if a.slots > 0 {
		p.slots = max(min(a.slots, maxSlots), p.held)
	}
	p.reported = -1
	if a.busy != nil {
		p.reported = min(max(*a.busy, 0), p.slots)
	}
}

func (d *decision) probedReady(e evProbed, p *place) {
	t := d.s.edition.timing
	p.probeAt = d.now + t.Health
	old := p.status == draining && p.askedAt < p.drainAt // what it says of its work is from before
	switch {
	case old:
		p.probeAt = d.now
	case p.status == draining && !d.s.drain.over:
		p.probeAt = d.now + t.ProbeSlow
	}
	if e.probe.crowded { // overload is a sign of life
		p.misses, p.quiet = 0, false
		return
	}
	if !e.probe.failed && e.probe.ready {
		p.misses = 0
		p.heard(e.probe)
		p.quiet = p.status == draining && p.reported <= 0 && !old
		return
	}
	p.quiet = false
	if p.misses++; p.misses == 1 {
		p.missedSince = d.now
	}
	atWork := d.s.work.known() > 0 || p.used() > 0
	working := atWork && e.probe.grew && d.now-p.missedSince < busyIsNotDead
	if p.misses >= missesToFail && !working {
		d.fail(p, failure{class: engine.ClassHealth, exitCode: -1, message: "health probes failed"}, e.jitter, "no answer")
	}
}

// device takes news about the pool's devices.
func (d *decision) device(e evDevice) {
	if e.restart && !d.s.drain.on {
		f := failure{class: engine.ClassDriverReset, exitCode: -1, message: "a device asks for a restart of its programs"}
		for i := range d.s.places {
			if p := &d.s.places[i]; p.alive && (p.status == starting || p.serving()) {
				d.fail(p, f, e.jitter, "device")
			}
		}
	}
	was := d.s.sick
	d.s.sick = e.sick
	switch {
	case e.sick == was:
	case e.sick:
		d.fallSick(e.detail)
	case d.s.drain.on:
		d.s.drain.sick = false
		d.liftDrain("healthy")
	}
}

func unhealthy(detail string) *failure {
	f := &failure{code: GPUUnhealthy, message: "a device of the pool is unhealthy"}
	if detail != "" {
		f.message += ": " + detail
	}
	return f
}

// fallSick takes the pool out of service: what runs has sickDrain, and nothing is
// started until the device is healthy.
func (d *decision) fallSick(detail string) {
	if d.s.phase == stopping || d.s.phase == stopped {
		return
	}
	f := unhealthy(detail)
	d.s.lastErr = f
	if d.s.op != 0 {
		d.abandon(*f)
		return
	}
	d.restarted(f)
	d.reloadSick(f)
	if !d.s.keep || d.s.purge.on && d.s.purge.work.engine {
		return
	}
	d.beginDrain(sickDrain)
	d.s.drain.sick = true
	if d.s.drain.ending { // it was drained already: a device is reset when nothing holds it
		d.endAll("drained", d.s.edition.stopGrace)
	}
}
