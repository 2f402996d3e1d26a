package poolcore

import (
	"slices"
	"time"

	"github.com/llorch/llorch/poolcore/engine"
)

// States of a worker. A place without one is idle.
const (
	idle     = ""
	spawning = "spawning" // the attempt is under way; a process may or may not exist
	starting = "starting"
	ready    = "ready"
	busy     = "busy"
	draining = "draining"
	stopping = "stopping"
	stopped  = "stopped"
	failed   = "failed"
	stuck    = "stuck"
)

// Phases of a pool, beside starting, ready, draining, stopping, stopped and failed.
const (
	staging   = "staging"
	degraded  = "degraded"
	drained   = "drained"
	reloading = "reloading"
)

// never is a due time that does not come.
const never = time.Duration(-1)

// edition is one configuration and what it means for decisions. It never changes, and
// is the same as another only if it is the same value.
type edition struct {
	cfg  PoolConfig
	kind engine.Kind
	rules
}

// rules are what a configuration means for decisions.
type rules struct {
	replicas       int
	slots          int // per worker
	startAtMost    time.Duration
	stopGrace      time.Duration
	announce       bool // a worker is ready when its handoff file is written
	stopAfterDrain bool
	timing         Timing
}

// poolState is all that decide knows. Instants are durations on the loop's
// monotonic clock.
type poolState struct {
	edition  *edition // what places are started with, outside a reload; never nil
	phase    string
	keep     bool // failures are retried
	bound    bool // places come and go by handoff files
	op       op   // preload that waits for its end; 0: none
	opFail   *failure
	staging  bool // the preload's configuration is being proved
	stops    []op // stop requests that wait for the last process
	last     bool // the host ends: nothing is started any more
	places   []place
	breaker  breaker
	drain    drain
	reload   reload
	restart  op // restart that waits for its end; 0: none
	purge    purge
	restarts int
	lastErr  *failure
	around
}

// around is what holds for the pool whatever it runs.
type around struct {
	work    workload
	closed  bool          // the node takes no work
	closeBy time.Duration // when what runs on a closed node is ended
	sick    bool          // a device of the pool is unhealthy
	nextGen gen
	serial  int // of the newest effJournal
}

// emptyPool is the state of a pool that runs nothing.
func emptyPool() poolState {
	return poolState{edition: &edition{}, phase: stopped, breaker: breaker{state: breakerClosed}}
}

// workload is the scheduler's count of requests that run in the pool. The zero value
// is that of a pool without a scheduler.
type workload struct {
	active int
	until  time.Duration // of a count that was heard: it is unknown from then on
	asOf   time.Duration // the scheduler knew the pool as it was then
	heard  bool          // by a scheduler whose counts have an end
	stale  bool          // it is unknown
}

// known is the count as far as it is known.
func (w workload) known() int {
	if w.stale {
		return 0
	}
	return w.active
}

// knew reports whether the scheduler has counted since it could know what happened
// at t. One that has fallen silent will not.
func (w workload) knew(t time.Duration) bool { return !w.heard || w.stale || w.asOf >= t }

// place is one of the pool's places r0, r1, … While a reload starts a new worker
// beside an old one, both are places with the same number.
type place struct {
	at      int      // the number in r0, r1, …
	edition *edition // that it runs or is to run
	gen     gen      // of the newest attempt
	status  string
	// pending: effSpawn of gen has no answer yet. alive: a process of gen exists
	// (or, external, is bound). Never both.
	pending, alive bool
	adopted        bool // found alive, still to prove itself
	announcing     bool // it proved itself, its handoff file is being written
	again          bool // is started again once it is gone
	gone           bool // the place ends with its worker

	startedAt  time.Duration
	readyAt    time.Duration
	drainAt    time.Duration // when it became draining
	progressAt time.Duration
	detail     string // the engine's last word for its state
	slots      int
	held       int  // slots taken with Acquire
	reported   int  // slots in use by the engine's own report; −1: it does not tell
	quiet      bool // it said that it is idle, or cannot say, since its drain began

	probeAt     time.Duration // never while one is under way
	asking      bool          // a probe is under way
	askedAt     time.Duration // since when
	misses      int           // failed probes in a row, when ready
	missedSince time.Duration

	failures     int           // in a row, for the back-off
	configErrors int           // in a row
	portTries    int           // of this start
	dueAt        time.Duration // restart; never: not by itself
}

func (p place) serving() bool { return p.status == ready || p.status == busy }

// over reports whether nothing of the place runs any more or can be ended.
func (p place) over() bool {
	return !p.alive && !p.pending || p.status == stuck
}

// coming reports whether a worker is on its way to be ready.
func (p place) coming() bool { return p.status == spawning || p.status == starting }

// used is how many slots of the place are known to be in use.
func (p place) used() int { return max(p.held, p.reported, 0) }

// halted reports whether no worker will be started again by itself.
func (s poolState) halted() bool {
	return !s.keep || !slices.ContainsFunc(s.places, func(p place) bool { return p.alive || p.pending || p.dueAt != never })
}

// fresh reports whether another configuration may take the pool's place.
func (s poolState) fresh() bool {
	return s.phase == stopped || s.phase == failed && s.halted() && !s.drain.on && !s.bound
}

// engaged reports whether an operation is under way that excludes others.
func (s poolState) engaged() bool {
	return s.op != 0 || s.reload.on || s.restart != 0 || s.purge.on || s.phase == stopping
}

// serving counts the places that take requests.
func (s poolState) serving() (n int) {
	for i := range s.places {
		if s.places[i].serving() {
			n++
		}
	}
	return n
}

// held counts the slots taken with Acquire.
func (s poolState) held() (n int) {
	for i := range s.places {
		n += s.places[i].held
	}
	return n
}

// clone returns a state whose slices are not shared with s.
func (s poolState) clone() poolState {
	s.places = slices.Clone(s.places)
	s.stops = slices.Clone(s.stops)
	s.drain.ops = slices.Clone(s.drain.ops)
	return s
}

// due returns the next instant at which decide must see an evTick, or never.
func (s poolState) due() time.Duration {
	next := never
	add := func(t time.Duration) {
		if t != never && (next == never || t < next) {
			next = t
		}
	}
	for i := range s.places {
		s.placeDue(&s.places[i], add)
	}
	if s.work.heard && !s.work.stale {
		add(s.work.until)
	}
	if s.drain.on && !s.drain.over && !s.drain.ending {
		add(s.drain.by)
	}
	if s.reload.on && !s.reload.waiting && s.phase != stopping && (s.reload.phase == phaseHandover || s.reload.phase == phaseDraining) {
		add(s.reload.by)
	}
	return next
}

func (s poolState) placeDue(p *place, add func(time.Duration)) {
	t := s.edition.timing
	switch p.status {
	case starting:
		add(p.probeAt)
		if !p.announcing {
			add(p.progressAt + t.Stall)
			add(p.startedAt + p.startLimit())
		}
	case ready, busy:
		add(p.probeAt)
		if p.failures > 0 || p.configErrors > 0 {
			add(p.readyAt + t.RestartReset)
		}
		if s.breaker.strikes > 0 && p.readyAt >= s.breaker.struckAt {
			add(p.readyAt + t.BreakerClose)
		}
	case draining:
		add(p.probeAt)
	case failed:
		if !p.alive && p.dueAt != never && s.restartable() {
			add(s.breaker.gate(p.dueAt))
		}
	}
}

// startLimit is how long a start may take in all.
func (p place) startLimit() time.Duration {
	if p.adopted {
		return adoptionProof
	}
	return p.edition.startAtMost
}

// restartable reports whether supervision may start workers now.
func (s poolState) restartable() bool {
	return s.keep && !s.drain.on && s.phase != stopping && s.phase != stopped &&
		!(s.reload.on && (s.reload.phase == phaseDraining || s.reload.phase == phaseSwitching || s.reload.phase == phaseProving))
}
