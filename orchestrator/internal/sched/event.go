package sched

import (
	"time"

	"github.com/llorch/llorch/orchestrator/internal/exec"
	"github.com/llorch/llorch/orchestrator/placement"
	"github.com/llorch/llorch/orchestrator/queue"
)

// Instant is nanoseconds on the loop's monotonic clock.
type Instant = queue.Instant

// Task is what the core knows of a task: no text, only numbers and names of
// workers and models.
type Task struct {
	ID        queue.ID          `json:",omitzero"`
	Tenant    queue.Tenant      `json:",omitzero"`
	Subject   Ref               `json:",omitzero"` // for Cancel by person
	Session   Ref               `json:",omitzero"` // affinity; zero = none
	Class     queue.Class       `json:",omitzero"`
	Need      placement.Request `json:",omitzero"`
	MaxTokens int               `json:",omitzero"`
	Cost      int64             `json:",omitzero"` // milli-tokens (ORC-210)
	Bytes     int64             `json:",omitzero"` // of the sealed body
	Text      int               `json:",omitzero"` // bytes of the prompt; 0 = unknown
	Due       Instant           `json:",omitzero"` // the client's deadline; 0 = none
	QueueFor  time.Duration     `json:",omitzero"`
	Total     time.Duration     `json:",omitzero"` // from acceptance
	Ephemeral bool              `json:",omitzero"` // nothing is stored before the end
	Attempt   int               `json:",omitzero"` // attempts before a restart of the program
}

// Event is an input of the core. The set is closed (ORC-121).
type Event interface{ event() }

// The events.
type (
	// Submit asks for a place; answered by Admit or Reject.
	Submit struct{ Task Task }
	// Persisted says that the task is durable; it may run from now on.
	Persisted struct{ ID queue.ID }
	// Withdrawn says that the task could not be stored, or was stored before.
	Withdrawn struct{ ID queue.ID }
	// Recovered brings back a task that was accepted before a restart.
	Recovered struct{ Task Task }
	// Workers replaces the picture of the workers.
	Workers struct{ List []*placement.Worker }
	// Finished ends an attempt; sent exactly once per Assign.
	Finished struct {
		ID      queue.ID
		Attempt int
		Result  Result
	}
	// Cancel asks that a task ends.
	Cancel struct {
		ID     queue.ID
		Reason Reason
		Code   string `json:",omitempty"` // ends it only while it waits, with this code; "" = CANCELLED, always
	}
	// CancelAll asks that every task of a person ends.
	CancelAll struct {
		Subject Ref
		Reason  Reason
	}
	// Tenant replaces the rules of a tenant; unknown tenants have the zero rules.
	Tenant struct {
		ID    queue.Tenant
		Rules Rules
	}
	// Policy replaces the placement policy and the regions of the installation.
	Policy struct {
		Policy  placement.Policy
		Regions []string
	}
	// Probed answers Probe.
	Probed struct {
		Worker placement.Key
		OK     bool
	}
	// Loading tells how a Load goes on; Done ends it, with Fail if it failed.
	Loading struct {
		Worker placement.Key
		Model  string
		Bytes  int64  // so far
		Total  int64  // −1 unknown
		Phase  string // of the node's operation
		Done   bool
		Fail   string // code; "" = loaded
	}
	// Progress says that a running task has produced so many tokens.
	Progress struct {
		ID     queue.ID
		Tokens int
	}
	// Tick says that the instant of the last SetTimer came.
	Tick struct{}
	// Refuse begins the shutdown: nothing new is admitted or assigned.
	Refuse struct{ Durable bool }
	// Cut ends the drain: running attempts are stopped.
	Cut struct{}
)

func (CancelAll) event() {}
func (Tenant) event()    {}
func (Policy) event()    {}
func (Probed) event()    {}
func (Loading) event()   {}
func (Progress) event()  {}
func (Submit) event()    {}
func (Persisted) event() {}
func (Withdrawn) event() {}
func (Recovered) event() {}
func (Workers) event()   {}
func (Finished) event()  {}
func (Cancel) event()    {}
func (Tick) event()      {}
func (Refuse) event()    {}
func (Cut) event()       {}

// Rules are what the core enforces for one tenant. Zero members do not limit.
type Rules struct {
	Weight     int // 1…1,000; 0 = 1
	MaxRunning int
	MaxQueued  int
	Wait       bool // above MaxRunning: wait instead of being refused
}

// Result is how an attempt ended. The zero value is success.
type Result struct {
	Class      exec.Class    `json:",omitzero"`
	RetryAfter time.Duration `json:",omitzero"`
	Emitted    bool          `json:",omitzero"` // a token may have reached a reader
	TokensIn   int           `json:",omitzero"` // as the engine reported, else estimated; 0 unknown
	TokensOut  int           `json:",omitzero"`
	First      time.Duration `json:",omitzero"` // from the start of the attempt to its first token; 0 none came
	Decode     time.Duration `json:",omitzero"` // from the first token to the last
}

// Reason says why a task was stopped (ORC-561). The set is closed.
type Reason string

// The reasons.
const (
	Client     Reason = "client"
	Disconnect Reason = "disconnect"
	Deadline   Reason = "deadline"
	Watchdog   Reason = "watchdog"
	Shutdown   Reason = "shutdown"
	Operator   Reason = "operator"
	Erasure    Reason = "erasure"
	Consent    Reason = "consent"
	Drain      Reason = "drain"
	Lost       Reason = "lost" // the worker or its node is gone: the attempt failed, the task may run again
)

// Effect is an output of the core. The set is closed (ORC-121).
type Effect interface{ effect() }

// The effects.
type (
	// Admit answers Submit: a place is taken.
	Admit struct {
		ID      queue.ID
		Ahead   int
		StartIn time.Duration // predicted
		Band    time.Duration // ± of StartIn
	}
	// Reject answers Submit.
	Reject struct {
		ID      queue.ID
		Code    string
		After   time.Duration // hint; 0 = the code's own
		Details Details
	}
	// Queued says that an accepted task waits.
	Queued struct {
		ID      queue.ID
		Ahead   int
		StartIn time.Duration
	}
	// Evict ends a waiting task that made room.
	Evict struct {
		ID   queue.ID
		Code string
	}
	// Assign starts an attempt; the slot is reserved already.
	Assign struct {
		ID      queue.ID
		Attempt int
		Worker  *placement.Worker
		Warmup  time.Duration // added to the first-token time: the engine may have to load the model first
		Why     placement.Explanation
	}
	// Retry says that an attempt failed and another follows.
	Retry struct {
		ID      queue.ID
		Attempt int // the failed one
		Class   exec.Class
		After   time.Duration
	}
	// StopRun ends the running attempt; readers see no further token, except
	// when the reason is Lost.
	StopRun struct {
		ID      queue.ID
		Attempt int
		Reason  Reason
	}
	// Terminal ends a task for good. Code "" is success.
	Terminal struct {
		ID      queue.ID
		Attempt int
		Code    string
		Reason  Reason
		Class   exec.Class
	}
	// Leave gives a task up without an end: the store keeps it for the next start.
	Leave struct{ ID queue.ID }
	// Probe asks whether a quarantined worker answers again; Probed follows.
	Probe struct{ Worker *placement.Worker }
	// Load asks a worker's pool to load a model; Loading follows.
	Load struct {
		Worker *placement.Worker
		Model  string
		Evict  []string
	}
	// Note tells of a change that only observers want to know of.
	Note struct {
		Kind   string // quarantined, restored, scorer_removed, policy_changed, residency_refused, promoted, deadline_warning
		Worker placement.Key
		ID     queue.ID
		For    time.Duration
		Why    string
	}
	// SetTimer asks for a Tick at an instant; it replaces the one before. 0 = none.
	SetTimer struct{ At Instant }
)

func (Admit) effect()    {}
func (Reject) effect()   {}
func (Queued) effect()   {}
func (Evict) effect()    {}
func (Assign) effect()   {}
func (Retry) effect()    {}
func (StopRun) effect()  {}
func (Terminal) effect() {}
func (Leave) effect()    {}
func (SetTimer) effect() {}
func (Probe) effect()    {}
func (Load) effect()     {}
func (Note) effect()     {}

// Details are the numbers behind a refusal. Zero members are not shown.
type Details struct {
	Filter         string        // the binding one
	Field          string        // of the request
	EarliestFinish time.Duration // from now
	Shortfall      time.Duration
	Terms          Terms
	Label          string // of the policy that refused: reject, drop-lru, shed-low-priority, fair-share
}

// Terms are the parts of a predicted finish.
type Terms struct {
	Queue   time.Duration `json:"queue"`
	Load    time.Duration `json:"load"`
	Prefill time.Duration `json:"prefill"`
	Decode  time.Duration `json:"decode"`
	Band    time.Duration `json:"band"`
}
