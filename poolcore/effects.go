package poolcore

import (
	"errors"
	"fmt"
	"time"

	"github.com/llorch/llorch/poolcore/engine"
)

// An op numbers a request, a gen an attempt to start a worker; 0 is none. Most events
// and effects belong to one of them.
type (
	op  uint64
	gen uint64
)

// An event is what happened; the closed set of events drives decide. An effect is
// what is to be done; the loop carries effects out in order.
type (
	event  interface{ isEvent() }
	effect interface{ isEffect() }
)

func (op) isEvent()           {}
func (op) isEffect()          {}
func (gen) isEvent()          {}
func (gen) isEffect()         {}
func (evReply) isEvent()      {}
func (evDevice) isEvent()     {}
func (evTrouble) isEvent()    {}
func (evJournaled) isEvent()  {}
func (evTick) isEvent()       {}
func (effJournal) isEffect()  {}
func (effDrained) isEffect()  {}
func (effReloaded) isEffect() {}
func (effNudge) isEffect()    {}

// number and attempt are how the loop finds out what an event or effect is about.
func (n op) number() op    { return n }
func (g gen) attempt() gen { return g }

// Requests. The answer bears the request's number: evStart, evReload and evPurge are
// answered by effAccept, and once more by effDone when accepted and not finished
// yet; the others by one effDone.
type (
	// evStart asks for the pool to run.
	evStart struct {
		op
		edition *edition
		keep    bool // retry failures, also the first; it is over when accepted
		sick    bool // one of its devices is unhealthy
		// found are engines that an earlier run left alive, resume what the reload
		// that it left leads to; nil: none.
		found  []found
		resume *edition
	}
	// evReload asks for another configuration in the same places.
	evReload struct {
		op
		edition  *edition
		strategy string // auto, alongside or in_place
		force    bool   // what still runs at the drain's deadline is ended
		within   time.Duration
	}
	// evPurge asks for the work, once the engines are gone if it is about them.
	evPurge struct {
		op
		work   purgeWork
		within time.Duration // of the drain; 0: none
	}
	// evCancel asks for the end of an accepted request.
	evCancel struct{ op }
	// evStop asks for the end of all workers.
	evStop struct {
		op
		grace time.Duration // 0: the pool's own
		most  time.Duration // bounds the grace; 0: no bound
		last  bool          // and nothing may be started any more
	}
	evDrain struct {
		op
		within time.Duration
	}
	evUndrain struct{ op }
	// evRestart asks for new workers in all places.
	evRestart struct{ op }
	// evReset closes the breaker and forgets failures.
	evReset struct{ op }
	// evAcquire asks for a slot; the answer names the worker.
	evAcquire struct{ op }
	evRelease struct{ gen }
	// evBind puts an external server into a place; evUnbind takes it out.
	evBind struct {
		op
		at      int
		edition *edition
	}
	evUnbind struct {
		op
		at int
	}
)

// found is one engine that an earlier run left alive.
type found struct {
	at      int
	edition *edition
	worker  *worker
}

// News.
type (
	// evStaged is the answer to effStage.
	evStaged struct {
		op
		fail *failure
	}
	// evSpawned: the process of the attempt runs.
	evSpawned struct {
		gen
		worker *worker
	}
	// evSpawnFailed: the attempt left nothing behind.
	evSpawnFailed struct {
		gen
		fail   failure
		jitter float64 // −1…1
	}
	// evProbed is the answer to effProbe.
	evProbed struct {
		gen
		probe  probe
		jitter float64
	}
	// evAnnounced: the handoff file of effAnnounce is written.
	evAnnounced struct{ gen }
	// evExited: the process ended, its group is gone and reaped.
	evExited struct {
		gen
		fail   failure
		jitter float64
	}
	// evStuck: the process is still there 10 s after SIGKILL.
	evStuck struct{ gen }
	// evPoke: an engine says that it is ready; it is asked at once.
	evPoke struct{ gen }
	// evReply is the scheduler's word on the pool.
	evReply struct {
		active  int           // requests that it has running there
		until   time.Duration // of the count; never: for good
		asOf    time.Duration // how the pool was when it was asked
		closed  bool          // the node is to be drained, by closeBy
		closeBy time.Duration
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
		op
		fail *failure
	}
	// evTick: an instant of due has come.
	evTick struct{ jitter float64 }
)

type (
	// effStage proves a configuration without disturbing anything.
	effStage struct {
		op
		edition *edition
		inPlace bool
	}
	effSpawn struct {
		gen
		at      int
		edition *edition
	}
	// effAdopt takes over an engine that was found.
	effAdopt struct {
		gen
		worker *worker
	}
	effProbe struct {
		gen
		timeout time.Duration
	}
	effAnnounce struct {
		gen
		edition *edition
		on      bool
	}
	// effKill ends a process: SIGTERM, SIGKILL after grace (0: at once).
	effKill struct {
		gen
		grace time.Duration
	}
	// effJournal makes the phase of a reload durable; "" removes the journal.
	effJournal struct {
		serial   int
		from, to *edition
		phase    string
	}
	effPurge struct {
		op
		work purgeWork
	}
	effAccept struct {
		op
		code Code // "": accepted
		done bool // nothing is left to be done
	}
	effDone struct {
		op
		fail    *failure // nil: success
		worker  gen      // after evAcquire
		drained DrainOutcome
	}
	// effFailed tells the world about a worker that failed.
	effFailed struct {
		gen
		fail   failure
		uptime time.Duration
		delay  time.Duration // until the restart; negative: none
	}
	// effMoved tells the world about a transition of a worker.
	effMoved struct {
		gen
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
