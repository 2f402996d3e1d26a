package poolcore

import "time"

// An event is what happened; the closed set of events drives decide.
type event interface{ isEvent() }

type (
	// evStart asks for the pool to run. op is answered exactly once by effAccept,
	// and, when accepted and not finished yet, once more by effDone.
	evStart struct {
		op    uint64
		keep  bool // retry failures, also the first; op is over when accepted
		same  bool // the configuration is the one the pool has
		rules rules
	}
	// evSpawned: the process of attempt gen runs.
	evSpawned struct {
		at  int // place
		gen uint64
	}
	// evSpawnFailed: attempt gen left nothing behind.
	evSpawnFailed struct {
		at     int
		gen    uint64
		fail   failure
		jitter float64 // −1…1
	}
	// evProbed is the answer to effProbe.
	evProbed struct {
		at     int
		gen    uint64
		probe  probe
		jitter float64
	}
	// evExited: the process ended, its group is gone and reaped.
	evExited struct {
		at     int
		gen    uint64
		fail   failure
		jitter float64
	}
	// evStuck: the process is still there 10 s after SIGKILL.
	evStuck struct {
		at  int
		gen uint64
	}
	// evActive brings the scheduler's count of active requests.
	evActive struct{ n int }
	// evTick: an instant of due has come.
	evTick struct{ jitter float64 }
	// evStop asks for the end of all workers; op is answered once by effDone.
	evStop struct {
		op    uint64
		grace time.Duration // 0: the pool's own
		most  time.Duration // bounds the grace; 0: no bound
	}
)

func (evStart) isEvent()       {}
func (evSpawned) isEvent()     {}
func (evSpawnFailed) isEvent() {}
func (evProbed) isEvent()      {}
func (evExited) isEvent()      {}
func (evStuck) isEvent()       {}
func (evActive) isEvent()      {}
func (evTick) isEvent()        {}
func (evStop) isEvent()        {}

// An effect is what is to be done; the loop carries effects out in order.
type effect interface{ isEffect() }

type (
	effSpawn struct {
		at  int
		gen uint64
	}
	effProbe struct {
		at      int
		gen     uint64
		timeout time.Duration
	}
	// effKill ends a process: SIGTERM, SIGKILL after grace (0: at once).
	effKill struct {
		at    int
		gen   uint64
		grace time.Duration
	}
	effAccept struct {
		op   uint64
		code Code // "": accepted
		done bool // nothing is left to be done
	}
	effDone struct {
		op   uint64
		fail *failure // nil: success
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
		at       int
		gen      uint64
		from, to string
		took     time.Duration
	}
	effNudge struct{}
)

func (effSpawn) isEffect()  {}
func (effProbe) isEffect()  {}
func (effKill) isEffect()   {}
func (effAccept) isEffect() {}
func (effDone) isEffect()   {}
func (effFailed) isEffect() {}
func (effMoved) isEffect()  {}
func (effNudge) isEffect()  {}

// failure says why a worker is not running.
type failure struct {
	class    string
	code     Code // set where there is no process to speak of: preflight, stop
	message  string
	exitCode int
	signal   string
	tail     []string
	faults   []Fault
}

// asError is what the caller of an operation gets.
func (f failure) asError() error {
	switch {
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
	case len(f.faults) > 0:
		return f.faults[0].Code
	case f.code != "":
		return f.code
	}
	return startCode(f.class)
}

// probe is one answer of a worker.
type probe struct {
	failed  bool // no answer, or not one of this kind of engine
	ready   bool
	foreign bool // it answers under another name
	detail  string
	slots   int  // 0: not told
	grew    bool // the log grew since the last probe
}
