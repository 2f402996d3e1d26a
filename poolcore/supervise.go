package poolcore

import (
	"slices"
	"time"

	"github.com/llorch/llorch/poolcore/engine"
)

// ended: the process of the place is gone, or never came to be.
func (d *decision) ended(p *place, f failure, jitter float64, why string) {
	switch p.status {
	case stopping:
		d.move(p, "gone", stopped)
	case stuck:
		d.move(p, "gone", stopped)
		if d.s.keep && !p.gone {
			d.move(p, "kept", failed)
			p.dueAt = d.now
		}
	case failed, stopped:
		// Decided earlier; now its place is free again.
	default:
		d.fail(p, f, jitter, why)
		return
	}
	p.held = 0
	if p.again && !p.gone {
		d.launch(p, "again")
	}
}

// fail gives a worker up, and ends its process if there is one.
func (d *decision) fail(p *place, f failure, jitter float64, why string) {
	uptime := d.now - p.startedAt
	if p.alive {
		d.emit(effKill{gen: p.gen, grace: 0})
	}
	p.probeAt, p.dueAt, p.held = never, never, 0
	d.s.lastErr = &f
	coming := p.coming()
	d.move(p, why, failed)
	delay := never
	switch {
	case coming && d.lostRace(p, f):
		p.portTries++
		p.dueAt, delay = d.now, 0
	case d.reloadFailed(p, f):
	case d.s.keep && d.s.phase != stopping && !d.s.drain.on:
		p.dueAt = d.retryAt(p, f, jitter)
		if p.dueAt != never {
			delay = p.dueAt - d.now
		}
	}
	d.emit(effFailed{gen: p.gen, fail: f, uptime: uptime, delay: delay})
	if delay == 0 {
		d.launch(p, "port taken")
		return
	}
	if d.s.restart != 0 {
		d.restarted(&f)
	}
	if d.s.op != 0 && !d.s.keep {
		d.abandon(f)
	}
}

// lostRace: another program took the port first. That is nobody's failure, and
// another port is tried at once.
func (d *decision) lostRace(p *place, f failure) bool {
	if f.class != engine.ClassPortConflict || p.portTries >= portRetries || p.alive || p.gone || d.s.drain.on || d.s.phase == stopping {
		return false
	}
	return d.s.restartable() || d.s.op != 0 && d.s.opFail == nil || d.s.reload.on && p.edition == d.s.reload.to && d.s.reload.phase != phaseProving
}

// retryAt returns when a failed worker is started again.
func (d *decision) retryAt(p *place, f failure, jitter float64) time.Duration {
	p.failures++
	p.portTries = 0
	t := d.s.edition.timing
	if d.s.breaker.state != breakerClosed || !short(f) {
		d.s.breaker = d.s.breaker.fail(d.now, t)
	}
	if f.class != engine.ClassConfig {
		p.configErrors = 0
	} else {
		p.configErrors++
	}
	if p.configErrors > configTolerant || hopeless(f) {
		return never // it would fail the same way
	}
	return d.now + backoff(p.failures, t.RestartFirst, t.RestartMax, jitter)
}

// hopeless reports whether only somebody's intervention can change the outcome.
func hopeless(f failure) bool {
	return f.class == engine.ClassMaskViolation ||
		slices.ContainsFunc(f.faults, func(x Fault) bool { return x.Code == modelUnverified })
}

// short reports whether nothing was started because memory was missing. That wears
// nothing out, and the pool is to start soon after the memory is free.
func short(f failure) bool {
	return len(f.faults) > 0 && !slices.ContainsFunc(f.faults, func(x Fault) bool { return x.Code != InsufficientVRAM })
}

// forgive forgets failures of a worker that has been ready for long enough.
func (d *decision) forgive(p *place, t Timing) {
	if d.now >= p.readyAt+t.RestartReset {
		p.failures, p.configErrors = 0, 0
	}
	if p.readyAt >= d.s.breaker.struckAt && d.now >= p.readyAt+t.BreakerClose {
		d.s.breaker = d.s.breaker.healthy()
	}
}

func (d *decision) restartDue(p *place) {
	if p.alive || p.pending || !d.s.restartable() || p.dueAt == never || d.now < p.dueAt {
		return
	}
	next, ok := d.s.breaker.admit(d.now)
	d.s.breaker = next
	if !ok {
		return
	}
	d.s.restarts++
	d.launch(p, "due")
}
