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
	stopping = "stopping"
	stopped  = "stopped"
	failed   = "failed"
	stuck    = "stuck"
)

// Phases of a pool, beside starting, ready, stopping, stopped and failed.
const degraded = "degraded"

// never is a due time that does not come.
const never = time.Duration(-1)

// rules are what a pool's configuration means for decisions.
type rules struct {
	replicas    int
	slots       int // per worker
	startAtMost time.Duration
	stopGrace   time.Duration
	timing      Timing
}

// poolState is all that decide knows. Instants are durations on the loop's
// monotonic clock.
type poolState struct {
	rules    rules
	phase    string
	keep     bool   // failures are retried
	op       uint64 // preload that waits for its end; 0: none
	opFail   *failure
	stops    []uint64 // stop requests that wait for the last process
	places   []place
	breaker  breaker
	active   int
	restarts int
	lastErr  *failure
	nextGen  uint64
}

// place is one of the pool's places r0, r1, …
type place struct {
	gen    uint64 // of the newest attempt
	status string
	// pending: effSpawn of gen has no answer yet. alive: a process of gen exists
	// (or, external, is bound). Never both.
	pending, alive bool

	startedAt  time.Duration
	readyAt    time.Duration
	progressAt time.Duration
	detail     string // the engine's last word for its state
	slots      int

	probeAt     time.Duration // never while one is under way
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

// halted reports whether no worker will be started again by itself.
func (s poolState) halted() bool {
	return !s.keep || !slices.ContainsFunc(s.places, func(p place) bool { return p.alive || p.pending || p.dueAt != never })
}

// startCode is the code of a start that ended with class.
func startCode(class string) Code {
	if class == engine.ClassStartTimeout {
		return WorkerStartTimeout
	}
	return WorkerStartFailed
}

// due returns the next instant at which decide must see an evTick, or never.
func (s poolState) due() time.Duration {
	next := never
	add := func(t time.Duration) {
		if t != never && (next == never || t < next) {
			next = t
		}
	}
	t := s.rules.timing
	for i := range s.places {
		p := &s.places[i]
		switch p.status {
		case starting:
			add(p.probeAt)
			add(p.progressAt + t.Stall)
			add(p.startedAt + s.rules.startAtMost)
		case ready, busy:
			add(p.probeAt)
			if p.failures > 0 || p.configErrors > 0 {
				add(p.readyAt + t.RestartReset)
			}
			if s.breaker.strikes > 0 && p.readyAt >= s.breaker.struckAt {
				add(p.readyAt + t.BreakerClose)
			}
		case failed:
			if !p.alive && p.dueAt != never && s.keep {
				add(s.breaker.gate(p.dueAt))
			}
		}
	}
	return next
}
