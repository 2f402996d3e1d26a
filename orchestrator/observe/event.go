package observe

import "time"

// Owner says who asked, without naming a person: tenant and token fingerprint.
type Owner struct {
	Tenant      string
	Subject     string // tenant/user; for the audit log only, never for logs and metrics
	Fingerprint string // first 6 hex digits of the token's digest; "" without a token
	Addr        string // client address; for the audit log only
}

// Worker names the worker of an attempt. Zero members are unknown.
type Worker struct {
	Node, Pool, Worker, Engine, Version string
}

// The events. Durations are since the request came in, unless said otherwise.
type (
	// Admitted: a task was accepted and, with a durable store, is stored.
	Admitted struct {
		Task, Correlation string
		Owner             Owner
		Class, Model      string
		PromptLen         int // bytes
		PromptSHA256      [32]byte
		MaxTokens         int
		Ephemeral         bool
		Took              time.Duration
	}
	// Rejected: a request was refused.
	Rejected struct {
		Correlation  string
		Owner        Owner
		Class, Model string
		Code         string
		Took         time.Duration
	}
	// Victim: a waiting task made room for another one.
	Victim struct{ Task, Class, Policy string }
	// Started: an attempt was sent to its worker.
	Started struct {
		Task    string
		Worker  Worker
		Class   string
		Attempt int
	}
	// WorkerChanged: a worker was quarantined, restored, or came, or went.
	WorkerChanged struct {
		Worker Worker
		State  string // quarantined, restored
		Why    string
		For    time.Duration // how long it is out
	}
	// ModelLoad: a load began, went on, or ended.
	ModelLoad struct {
		Worker Worker
		Model  string
		State  string // loading, loaded, failed
		Took   time.Duration
	}
	// Workers: what the workers report now; given when the list changed.
	Workers struct{ List []WorkerFacts }
	// Queue: how long the oldest waiting task of each class has waited; every few seconds.
	Queue struct{ OldestInteractive, OldestBatch time.Duration }
	// Leader: this process began or ended to lead.
	Leader struct {
		Leads bool
		Epoch uint64
	}
	// Fenced: a write was refused because another term leads.
	Fenced struct{ Op string }
	// Erased: a person's data was erased.
	Erased struct {
		Correlation      string
		Tasks, Documents int
		Took             time.Duration
	}
	// PolicyChanged: another placement policy or other regions hold from now on.
	PolicyChanged struct{ SHA256 string }
	// Verified: a node has hashed a model.
	Verified struct{ Node, Result, Reason string }
	// AuditFailed: the audit log refused an event.
	AuditFailed struct{}
	// MetricsDropped: a metrics event was left out because a reader lagged.
	MetricsDropped struct{}
	// DecisionGap: the decision log left out steps.
	DecisionGap struct{ Steps int }
	// Limited: requests of one caller were refused by a limit; at most one event a
	// second per caller, with the count since the last.
	Limited struct {
		Owner Owner
		Limit string
		Count int
	}
	// Violation: a rule of residency would have been broken; the task was refused.
	Violation struct {
		Task, Correlation string
		Owner             Owner
		Rule              string
	}
	// Placed: an attempt got a worker.
	Placed struct {
		Task       string
		Worker     Worker
		Class      string
		Attempt    int
		Considered int           // workers looked at
		Pinned     bool          // the request named its place
		Fallback   bool          // it got another one than it wished
		QueueWait  time.Duration // since acceptance
	}
	// FirstToken: the first token of a task was published.
	FirstToken struct {
		Task   string
		Worker Worker
		Class  string
		After  time.Duration // since acceptance
	}
	// Retried: an attempt failed and another follows.
	Retried struct {
		Task    string
		Worker  Worker
		Class   string // of the failure
		Attempt int
	}
	// Finished: a task ended. Code "" is success.
	Finished struct {
		Task, Correlation   string
		Owner               Owner
		Class, Model        string
		Session, Trace      string // Trace: the W3C id
		Decision            string // id of the last one
		Worker              Worker // of the last attempt
		Code, Reason        string // Reason: of a stop
		Failure             string // class of the last attempt's failure
		Attempts            int
		TokensIn, TokensOut int
		Estimated           bool
		Deadline            bool          // the client had set one
		Queued              time.Duration // from acceptance to the last start
		FirstToken          time.Duration // from acceptance; 0 if none came
		Decode              time.Duration // from the first token to the end
		Stop                time.Duration // from the stop of a running attempt to its end; 0 without one
		Total               time.Duration
	}
	// StoreOp: a call of the store returned.
	StoreOp struct {
		Op   string
		Err  bool
		Took time.Duration
	}
	// Streams: a reader came (+1) or left (−1).
	Streams struct{ Delta int }
	// Loop: how the scheduling loop stands; given when it changed, not at every step.
	Loop struct {
		Interactive, Batch    int // waiting tasks
		SlotsTotal, SlotsFree int
		Running               int
		DuplicateReleases     int
		Lag                   time.Duration // age of the oldest event of the last turn
	}
)

func (Admitted) event()       {}
func (Rejected) event()       {}
func (Placed) event()         {}
func (FirstToken) event()     {}
func (Retried) event()        {}
func (Finished) event()       {}
func (StoreOp) event()        {}
func (Streams) event()        {}
func (Loop) event()           {}
func (Victim) event()         {}
func (Started) event()        {}
func (WorkerChanged) event()  {}
func (ModelLoad) event()      {}
func (Workers) event()        {}
func (Queue) event()          {}
func (Leader) event()         {}
func (Fenced) event()         {}
func (Erased) event()         {}
func (PolicyChanged) event()  {}
func (Verified) event()       {}
func (AuditFailed) event()    {}
func (MetricsDropped) event() {}
func (DecisionGap) event()    {}
func (Limited) event()        {}
func (Violation) event()      {}

// WorkerFacts are what one worker reports of itself, and what is reserved there.
type WorkerFacts struct {
	Worker  Worker
	Model   string
	Ready   bool
	Slots   int
	InUse   int     // reserved by this scheduler
	KVUsed  float64 // 0…1; negative = unknown
	Devices []Device
}

// Device is a GPU of a worker.
type Device struct {
	ID          string
	Utilization float64 // 0…1; negative = unknown
	VRAMUsed    uint64  // bytes
}
