package poolcore

import "slices"

// rollBack ends the new workers and brings the old ones back; why is the answer
// when that works.
func (d *decision) rollBack(why *failure) {
	r := &d.s.reload
	switch r.phase {
	case phaseRollback, phaseClosing, phaseAborting:
		return
	}
	if r.waiting && r.next == phaseRollback {
		return
	}
	r.fail = why
	d.enter(phaseRollback)
	d.dropNew()
}

// dropNew ends the workers of the new configuration, and their places with them.
func (d *decision) dropNew() {
	for i := range d.s.places {
		if p := &d.s.places[i]; p.edition == d.s.reload.to {
			p.gone, p.again = true, false
			d.end(p, "rollback", d.s.reload.to.stopGrace)
		}
	}
}

// beginRollback gives the old workers that still run their requests back.
func (d *decision) beginRollback() {
	d.dropNew()
	for i := range d.s.places {
		switch p := &d.s.places[i]; {
		case p.edition == d.s.reload.to || p.serving() || p.coming() || p.status == failed:
		default:
			d.restore(p, "rollback")
		}
	}
}

// stepRollback starts the old workers that are missing once the new ones are gone,
// and waits until they serve. One that fails on the way ends it: supervision then
// goes on trying.
func (d *decision) stepRollback() {
	r := &d.s.reload
	if slices.ContainsFunc(d.s.places, func(p place) bool { return p.gone && !p.over() }) {
		return
	}
	d.launchMissing(d.s.edition, "rollback")
	for i := range d.s.places {
		if p := &d.s.places[i]; !p.gone && !p.serving() && p.status != failed && p.status != stuck {
			return
		}
	}
	fail := r.fail
	if d.s.serving() == 0 {
		fail = because(RollbackFailed, fail)
	}
	d.closeReload(fail)
}

// reloadFailed is asked for every worker that failed while a reload runs; true:
// the place ends with its worker and is not restarted.
func (d *decision) reloadFailed(p *place, f failure) bool {
	r := &d.s.reload
	if !r.on || r.phase == phaseClosing || r.phase == phaseAborting || r.phase == phaseStaging {
		return false
	}
	if p.edition == r.to {
		p.gone = true
		if r.phase != phaseProving { // there another engine may still prove itself
			d.rollBack(because(ReloadRolledBack, &f))
		}
		return true
	}
	if r.phase == phaseRollback && r.fail != nil && r.fail.code != RollbackFailed && !p.serving() {
		d.closeReload(because(RollbackFailed, &f))
	}
	return p.gone
}

// reloadCancelled takes back what can be taken back.
func (d *decision) reloadCancelled(f failure) {
	r := &d.s.reload
	switch {
	case r.phase == phaseStaging:
		d.closeReload(&f)
	case r.phase == phaseDraining:
		d.backOut(&f)
	default:
		d.rollBack(&f)
	}
}

// reloadSick ends a reload on a device that failed: nothing can be started there,
// neither the new nor the old engine.
func (d *decision) reloadSick(f *failure) {
	r := &d.s.reload
	if !r.on || r.phase == phaseClosing || r.phase == phaseAborting {
		return
	}
	d.dropNew()
	d.closeReload(because(RollbackFailed, f))
}

// backOut ends a reload that has only drained the old workers.
func (d *decision) backOut(fail *failure) {
	d.closeReload(fail)
	for i := range d.s.places {
		switch p := &d.s.places[i]; {
		case p.edition == d.s.reload.to:
		case p.status == failed:
			p.dueAt = d.now
			d.restartDue(p)
		case !p.serving():
			d.restore(p, "rollback")
		}
	}
}

// succeed makes the new configuration the pool's own.
func (d *decision) succeed() {
	r := &d.s.reload
	d.s.edition = r.to
	d.s.lastErr = nil
	d.forget()
	d.closeReload(nil)
}

// closeReload removes the journal; then the reload is over.
func (d *decision) closeReload(fail *failure) {
	r := &d.s.reload
	if fail != nil {
		d.s.lastErr = fail
	}
	r.fail, r.phase = fail, phaseClosing
	d.dropJournal()
}

func (d *decision) dropJournal() {
	r := &d.s.reload
	d.s.serial++
	r.waiting = true
	d.emit(effJournal{serial: d.s.serial, from: d.s.edition, to: r.to})
}

func (d *decision) finishReload() {
	r := d.s.reload
	d.s.reload = reload{}
	d.done(r.op, r.fail)
	d.emit(effReloaded{fail: r.fail, took: d.now - r.began})
}
