package poolcore

import (
	"slices"
	"time"
)

// Phases of a reload. Those that a journal can hold are written before they begin,
// so that a restart of the program knows what to complete.
const (
	phaseStaging   = "staging"   // the new configuration is being proved, nothing is disturbed
	phaseAlongside = "alongside" // one place after the other: the new worker starts beside the old one
	phaseHandover  = "handover"  // the new worker serves, the old one is drained and ended
	phaseDraining  = "draining"  // in place: the old workers are drained
	phaseSwitching = "switching" // in place: the old workers go, then the new ones start
	phaseRollback  = "rollback"  // new workers go, missing old ones start
	phaseProving   = "proving"   // after a restart: which engines are left, and do they answer?
	phaseClosing   = "closing"   // the journal is being removed
	phaseAborting  = "aborting"  // the pool is being stopped
)

// reload replaces the configuration of a pool. It ends with the new engines ready,
// or with the old ones ready, or says that both failed. Until it has succeeded the
// pool's edition is the old one, so that supervision restarts what ran before.
type reload struct {
	on      bool
	op      op // 0: the program was restarted meanwhile, nobody waits
	to      *edition
	auto    bool
	inPlace bool
	force   bool
	within  time.Duration // for the drain of one worker, or of all
	began   time.Duration
	by      time.Duration // end of the present drain; never: it has passed
	phase   string
	next    string // the phase that begins once its journal is written
	waiting bool   // for the journal, or for the answer to effStage
	at      int    // alongside: the place that is being replaced
	fail    *failure
}

func (d *decision) reloadAsked(e evReload) {
	refuse := func(c Code) { d.emit(effAccept{op: e.op, code: c}) }
	switch {
	case d.s.engaged():
		refuse(PoolBusy)
	case d.s.drain.on:
		refuse(Draining)
	case !d.s.keep || d.s.bound || d.s.phase == stopped:
		refuse(PoolUnready)
	case slices.ContainsFunc(d.s.places, func(p place) bool { return p.status == stuck }):
		refuse(WorkerStuck)
	case e.edition.cfg.same(d.s.edition.cfg):
		d.emit(effAccept{op: e.op, done: true})
	default:
		d.emit(effAccept{op: e.op})
		d.s.reload = reload{
			on: true, op: e.op, to: e.edition, auto: e.strategy == strategyAuto, inPlace: e.strategy == strategyInPlace,
			force: e.force, within: min(e.within, longest), began: d.now, phase: phaseStaging, waiting: true,
		}
		d.emit(effStage{op: e.op, edition: e.edition, inPlace: d.s.reload.inPlace})
	}
}

// Strategies of a reload.
const (
	strategyAuto      = "auto"
	strategyAlongside = "alongside"
	strategyInPlace   = "in_place"
)

// reloadStaged: auto means alongside where both fit, else in place.
func (d *decision) reloadStaged(fail *failure) {
	r := &d.s.reload
	switch {
	case fail != nil && r.auto && !r.inPlace:
		r.inPlace = true
		d.emit(effStage{op: r.op, edition: r.to, inPlace: true})
	case fail != nil:
		d.closeReload(because(ReloadStageFailed, fail))
	case r.inPlace:
		d.enter(phaseDraining)
	default:
		d.enter(phaseAlongside)
	}
}

// because is a failure with its cause, when there is one.
func because(c Code, cause *failure) *failure {
	f := &failure{code: c, cause: cause, exitCode: -1, message: reloadText(c)}
	if cause != nil {
		f.class, f.signal, f.exitCode, f.tail = cause.class, cause.signal, cause.exitCode, cause.tail
	}
	return f
}

func reloadText(c Code) string {
	return map[Code]string{
		ReloadStageFailed:  "the new configuration can not run; nothing was changed",
		ReloadDrainTimeout: "requests were still running; the old engines serve again",
		ReloadRolledBack:   "the new engines did not start; the old ones serve again",
		RollbackFailed:     "neither the new nor the old engines started",
	}[c]
}

// enter begins a phase once its journal is durable.
func (d *decision) enter(phase string) {
	r := &d.s.reload
	d.s.serial++
	r.next, r.waiting = phase, true
	d.emit(effJournal{serial: d.s.serial, from: d.s.edition, to: r.to, phase: phase})
}

// journaled: the phase may begin. One whose journal can not be written is not
// begun; a rollback is, since the journal that stands leads to it as well.
func (d *decision) journaled(e evJournaled) {
	r := &d.s.reload
	if !r.on || !r.waiting || e.serial != d.s.serial {
		return
	}
	r.waiting = false
	if r.phase == phaseClosing || r.phase == phaseAborting {
		d.finishReload()
		return
	}
	if d.s.phase == stopping {
		return
	}
	if e.fail != nil && r.next != phaseRollback {
		d.backOut(because(ReloadStageFailed, e.fail))
		return
	}
	r.phase = r.next
	switch r.phase {
	case phaseDraining:
		r.by = d.now + r.within
		for i := range d.s.places {
			d.drainPlace(&d.s.places[i])
		}
	case phaseSwitching:
		for i := range d.s.places {
			if p := &d.s.places[i]; p.edition != r.to {
				p.gone, p.again = true, false
				d.end(p, "reload", d.s.edition.stopGrace)
			}
		}
	case phaseRollback:
		d.beginRollback()
	}
}

// stepReload brings a reload forward; it is part of every step, so that it does
// not matter which event made a condition true.
func (d *decision) stepReload() {
	for range 2*len(d.s.places)*2 + 8 { // each turn changes the phase or ends the loop
		r := &d.s.reload
		if !r.on || r.waiting || d.s.phase == stopping {
			return
		}
		phase, at := r.phase, r.at
		switch r.phase {
		case phaseAlongside:
			d.stepAlongside()
		case phaseHandover:
			d.stepHandover()
		case phaseDraining:
			d.stepDraining()
		case phaseSwitching:
			d.stepSwitching()
		case phaseRollback:
			d.stepRollback()
		case phaseProving:
			d.stepProving()
		}
		if d.s.reload.phase == phase && d.s.reload.at == at {
			return
		}
	}
}

// stepAlongside starts the new worker of the next place and waits until it serves.
func (d *decision) stepAlongside() {
	r := &d.s.reload
	if r.at >= r.to.replicas {
		d.succeed()
		return
	}
	p := d.find(r.at, true)
	if p == nil {
		d.add(r.at, r.to, "reload")
		return
	}
	if !p.serving() {
		return
	}
	r.phase, r.by = phaseHandover, d.now+r.within
	if old := d.find(r.at, false); old != nil {
		d.drainPlace(old)
	}
}

// late reports whether the drain's deadline has passed.
func (d *decision) late() bool {
	r := &d.s.reload
	if r.by != never && d.now >= r.by {
		r.by = never
	}
	return r.by == never
}

// stepHandover drains and ends the old worker of the place.
func (d *decision) stepHandover() {
	r := &d.s.reload
	old := d.find(r.at, false)
	if old == nil || old.over() {
		if old != nil {
			old.gone = true
		}
		r.phase, r.at = phaseAlongside, r.at+1
		return
	}
	late := d.late()
	if old.status != draining {
		return
	}
	// The scheduler's count is for the whole pool: which worker has what is only
	// known to the engines, and to the scheduler when it counts none at all.
	only := func(p place) bool { return p.gen == old.gen }
	idle := d.isIdle(only) && (d.s.work.known() == 0 || old.reported == 0)
	switch {
	case idle || late && r.force:
		old.gone = true
		d.end(old, "reload", d.s.edition.stopGrace)
	case late:
		d.rollBack(because(ReloadDrainTimeout, nil))
	}
}

// stepDraining waits until all old workers are idle.
func (d *decision) stepDraining() {
	r := &d.s.reload
	left := slices.ContainsFunc(d.s.places, func(p place) bool { return p.status != draining && !p.over() })
	idle, late := d.s.work.known() == 0 && d.isIdle(anyPlace), d.late()
	switch {
	case !left && (idle || late && r.force):
		d.enter(phaseSwitching)
	case late && !r.force:
		d.backOut(because(ReloadDrainTimeout, nil))
	}
}

// stepSwitching starts the new workers when the last old one is gone, and waits
// until all serve.
func (d *decision) stepSwitching() {
	r := &d.s.reload
	if slices.ContainsFunc(d.s.places, func(p place) bool { return p.edition != r.to && !p.over() }) {
		return
	}
	for i := range d.s.places {
		if p := &d.s.places[i]; p.edition != r.to {
			p.gone = true
		}
	}
	d.launchMissing(r.to, "reload")
	if d.allServe(r.to) {
		d.succeed()
	}
}

// stepProving decides after a restart of the program where the reload leads: a new
// worker that proves itself finishes it, else it is rolled back.
func (d *decision) stepProving() {
	r := &d.s.reload
	isNew := func(p place) bool { return p.edition == r.to && !p.gone }
	switch {
	case slices.ContainsFunc(d.s.places, func(p place) bool { return isNew(p) && p.serving() }):
		r.phase = phaseAlongside
		if !slices.ContainsFunc(d.s.places, func(p place) bool { return p.edition != r.to && p.alive }) {
			r.phase = phaseSwitching
		}
	case !slices.ContainsFunc(d.s.places, isNew):
		d.rollBack(because(ReloadRolledBack, &failure{code: HostStopped}))
	}
}

// resume takes up the reload that an earlier run of the program left.
func (d *decision) resume(to *edition) {
	d.s.reload = reload{on: true, to: to, force: true, within: sickDrain, began: d.now, phase: phaseProving}
}

// find returns the place with that number and the new, or an old, edition.
func (d *decision) find(at int, isNew bool) *place {
	for i := range d.s.places {
		if p := &d.s.places[i]; p.at == at && !p.gone && (p.edition == d.s.reload.to) == isNew {
			return p
		}
	}
	return nil
}

func (d *decision) allServe(edition *edition) bool {
	n := 0
	for i := range d.s.places {
		if p := &d.s.places[i]; p.edition == edition && p.serving() {
			n++
		}
	}
	return n >= edition.replicas
}
