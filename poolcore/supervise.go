package poolcore

import (
	"time"

	"github.com/llorch/llorch/poolcore/engine"
)

// ended: the process of the place is gone, or never came to be.
func (d *decision) ended(at int, f failure, jitter float64) {
	p := &d.s.places[at]
	switch p.status {
	case stopping:
		d.move(at, stopped)
	case stuck:
		d.move(at, stopped)
		if d.s.keep {
			d.move(at, failed)
			p.dueAt = d.now
		}
	case failed, stopped:
		// Decided earlier; now its place is free again.
	default:
		d.fail(at, f, jitter)
	}
}

// fail gives a worker up, and ends its process if there is one.
func (d *decision) fail(at int, f failure, jitter float64) {
	p := &d.s.places[at]
	uptime := d.now - p.startedAt
	if p.alive {
		d.emit(effKill{at: at, gen: p.gen, grace: 0})
	}
	p.probeAt, p.dueAt = never, never
	d.s.lastErr = &f
	delay := never
	if d.s.keep && d.s.phase != stopping {
		p.dueAt = d.retryAt(p, f, jitter)
		if p.dueAt != never {
			delay = p.dueAt - d.now
		}
	} else if d.s.op != 0 && f.class == engine.ClassPortConflict && p.portTries < portRetries {
		p.portTries++
		p.dueAt, delay = d.now, 0
	}
	d.emit(effFailed{at: at, gen: p.gen, fail: f, uptime: uptime, delay: delay})
	d.move(at, failed)
	switch {
	case delay == 0 && !p.alive:
		d.launch(at)
	case d.s.op != 0 && !d.s.keep:
		d.abandon(f)
	}
}

// retryAt returns when a failed worker is started again.
func (d *decision) retryAt(p *place, f failure, jitter float64) time.Duration {
	if f.class == engine.ClassPortConflict && p.portTries < portRetries {
		p.portTries++
		return d.now // another program won the race for the port: nobody's failure
	}
	p.failures++
	p.portTries = 0
	t := d.s.rules.timing
	d.s.breaker = d.s.breaker.fail(d.now, t)
	if f.class != engine.ClassConfig {
		p.configErrors = 0
	} else if p.configErrors++; p.configErrors > configTolerant {
		return never // the same arguments fail the same way
	}
	return d.now + backoff(p.failures, t.RestartFirst, t.RestartMax, jitter)
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

func (d *decision) restartDue(at int) {
	p := &d.s.places[at]
	if p.alive || !d.s.keep || p.dueAt == never || d.now < p.dueAt {
		return
	}
	next, ok := d.s.breaker.admit(d.now)
	d.s.breaker = next
	if !ok {
		return
	}
	d.s.restarts++
	d.launch(at)
}
