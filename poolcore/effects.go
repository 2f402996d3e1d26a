package poolcore

import (
	"errors"
	"fmt"
	"time"

	"github.com/llorch/llorch/poolcore/engine"
)

// An event is what happened; the closed set of events drives decide.
type event interface{ isEvent() }

// Requests. Each has a number, and the answer bears it: evStart, evReload and
// evPurge are answered by effAccept, and once more by effDone when accepted and
// not finished yet; the others by one effDone.
type (
	// evStart asks for the pool to run.
	evStart struct {
		op      uint64
		keep    bool // retry failures, also the first; op is over when accepted
		same    bool // the configuration is the one the pool has
		edition int
		rules   rules
		// found are engines that an earlier run left alive; resume is the phase of
		// the reload that it left, "" for none, and to what it reloads to.
		found   []found
		resume  string
		to      int
		toRules rules
	}
	// evReload asks for another configuration in the same places.
	evReload struct {
		op       uint64
		same     bool
		edition  int
		rules    rules
		strategy string // auto, alongside or in_place
		force    bool   // what still runs at the drain's deadline is ended
		within   time.Duration
	}
	// evPurge asks for what crew.purge does, once the engines are gone if engine.
	evPurge struct {
		op     uint64
		engine bool
		within time.Duration // of the drain; 0: none
	}
	// evCancel asks for the end of an accepted request.
	evCancel struct{ op uint64 }
	// evStop asks for the end of all workers.
	evStop struct {
		op    uint64
		grace time.Duration // 0: the pool's own
		most  time.Duration // bounds the grace; 0: no bound
	}
	evDrain struct {
		op     uint64
		within time.Duration
	}
	evUndrain struct{ op uint64 }
	// evRestart asks for new workers in all places.
	evRestart struct{ op uint64 }
	// evReset closes the breaker and forgets failures.
	evReset struct{ op uint64 }
	// evAcquire asks for a slot; the answer names the worker's gen.
	evAcquire struct{ op uint64 }
	evRelease struct{ gen uint64 }
	// evBind puts an external server into a place; evUnbind takes it out.
	evBind struct {
		op      uint64
		at      int
		edition int
		rules   rules
	}
	evUnbind struct {
		op uint64
		at int
	}
)

// found is one engine that an earlier run left alive.
type found struct {
	at      int
	edition int
}

// News.
type (
	// evStaged is the answer to effStage.
	evStaged struct {
		op   uint64
		fail *failure
	}
	// evSpawned: the process of attempt gen runs.
	evSpawned struct{ gen uint64 }
	// evSpawnFailed: attempt gen left nothing behind.
	evSpawnFailed struct {
		gen    uint64
		fail   failure
		jitter float64 // −1…1
	}
	// evProbed is the answer to effProbe.
	evProbed struct {
		gen    uint64
		probe  probe
		jitter float64
	}
	// evAnnounced: the handoff file of effAnnounce is written.
	evAnnounced struct{ gen uint64 }
	// evExited: the process ended, its group is gone and reaped.
	evExited struct {
		gen    uint64
		fail   failure
		jitter float64
	}
	// evStuck: the process is still there 10 s after SIGKILL.
	evStuck struct{ gen uint64 }
	// evPoke: an engine says that it is ready; it is asked at once.
	evPoke struct{ gen uint64 }
	// evActive brings the scheduler's count of active requests, valid until an
	// instant (never: for good).
	evActive struct {
		n     int
		until time.Duration
	}
	// evDevice says how the pool's devices are.
	evDevice struct {
		sick    bool // until the next evDevice
		restart bool // what runs on them must be started again
		detail  string
		jitter  float64
	}
	// evTrouble is trouble that ends nothing.
	evTrouble struct{ fail failure }
	// evJournaled is the answer to effJournal.
	evJournaled struct {
		serial int
		fail   *failure
	}
	// evPurged is the answer to effPurge.
	evPurged struct {
		op   uint64
		fail *failure
	}
	// evTick: an instant of due has come.
	evTick struct{ jitter float64 }
)

func (evStart) isEvent()       {}
func (evReload) isEvent()      {}
func (evPurge) isEvent()       {}
func (evCancel) isEvent()      {}
func (evStop) isEvent()        {}
func (evDrain) isEvent()       {}
func (evUndrain) isEvent()     {}
func (evRestart) isEvent()     {}
func (evReset) isEvent()       {}
func (evAcquire) isEvent()     {}
func (evRelease) isEvent()     {}
func (evBind) isEvent()        {}
func (evUnbind) isEvent()      {}
func (evStaged) isEvent()      {}
func (evSpawned) isEvent()     {}
func (evSpawnFailed) isEvent() {}
func (evProbed) isEvent()      {}
func (evAnnounced) isEvent()   {}
func (evExited) isEvent()      {}
func (evStuck) isEvent()       {}
func (evPoke) isEvent()        {}
func (evActive) isEvent()      {}
func (evDevice) isEvent()      {}
func (evTrouble) isEvent()     {}
func (evJournaled) isEvent()   {}
func (evPurged) isEvent()      {}
func (evTick) isEvent()        {}

// An effect is what is to be done; the loop carries effects out in order.
type effect interface{ isEffect() }

type (
	// effStage proves a configuration without disturbing anything.
	effStage struct {
		op      uint64
		edition int
		inPlace bool
	}
	effSpawn struct {
		at      int
		gen     uint64
		edition int
	}
	// effAdopt takes over engine n of evStart.found as attempt gen.
	effAdopt struct {
		n       int
		gen     uint64
		edition int
	}
	effProbe struct {
		gen     uint64
		timeout time.Duration
	}
	effAnnounce struct {
		gen     uint64
		edition int
		on      bool
	}
	// effKill ends a process: SIGTERM, SIGKILL after grace (0: at once).
	effKill struct {
		gen   uint64
		grace time.Duration
	}
	// effJournal makes the phase of a reload durable; "" removes the journal.
	effJournal struct {
		serial   int
		from, to int // editions
		phase    string
	}
	effPurge  struct{ op uint64 }
	effAccept struct {
		op   uint64
		code Code // "": accepted
		done bool // nothing is left to be done
	}
	effDone struct {
		op      uint64
		fail    *failure // nil: success
		gen     uint64   // of the worker, after evAcquire
		drained DrainOutcome
	}
	// effFailed tells the world about a worker that failed.
	effFailed struct {
		at     int
		gen    uint64
		fail   failure
		uptime time.Duration
		delay  time.Duration // until the restart; negative: none
	}
	// effMoved tells the world about a transition of a worker.
	effMoved struct {
		at            int
		gen           uint64
		from, why, to string
		took          time.Duration
	}
	// effDrained and effReloaded tell the world about the end of a drain and of a
	// reload.
	effDrained  struct{ outcome DrainOutcome }
	effReloaded struct {
		fail *failure
		took time.Duration
	}
	effNudge struct{}
)

func (effStage) isEffect()    {}
func (effSpawn) isEffect()    {}
func (effAdopt) isEffect()    {}
func (effProbe) isEffect()    {}
func (effAnnounce) isEffect() {}
func (effKill) isEffect()     {}
func (effJournal) isEffect()  {}
func (effPurge) isEffect()    {}
func (effAccept) isEffect()   {}
func (effDone) isEffect()     {}
func (effFailed) isEffect()   {}
func (effMoved) isEffect()    {}
func (effDrained) isEffect()  {}
func (effReloaded) isEffect() {}
func (effNudge) isEffect()    {}

// failure says why a worker is not running, or why a request was not fulfilled.
type failure struct {
	class    string
	code     Code // set where there is no process to speak of: preflight, stop
	message  string
	exitCode int
	signal   string
	tail     []string
	faults   []Fault
	cause    *failure // of a failed reload
	err      error    // what the caller gets instead; nil: made from the rest
}

// asError is what the caller of an operation gets.
func (f failure) asError() error {
	switch {
	case f.err != nil:
		if _, ok := errors.AsType[Code](f.err); ok || f.code == "" {
			return f.err
		}
		return fmt.Errorf("%w: %w", f.code, f.err)
	case f.cause != nil:
		return fmt.Errorf("%w: %w", f.code, f.cause.asError())
	case len(f.faults) > 0:
		return &PreflightError{Faults: f.faults}
	case f.code != "":
		return f.code
	}
	return &CrashError{Class: f.class, ExitCode: f.exitCode, Signal: f.signal, Tail: f.tail}
}

// errorCode is the code for status and metrics.
func (f failure) errorCode() Code {
	switch {
	case f.cause != nil:
		return f.code
	case len(f.faults) > 0:
		return f.faults[0].Code
	case f.code != "":
		return f.code
	}
	return startCode(f.class)
}

// startCode is the code of a start that ended with class.
func startCode(class string) Code {
	if class == engine.ClassStartTimeout {
		return WorkerStartTimeout
	}
	return WorkerStartFailed
}
