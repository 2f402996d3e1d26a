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
	// Placed: an attempt got a worker.
	Placed struct {
		Task       string
		Worker     Worker
		Class      string
		Attempt    int
		Considered int           // workers looked at
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
		Worker              Worker // of the last attempt
		Code, Reason        string // Reason: of a stop
		Failure             string // class of the last attempt's failure
		Attempts            int
		TokensIn, TokensOut int
		Estimated           bool
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

func (Admitted) event()   {}
func (Rejected) event()   {}
func (Placed) event()     {}
func (FirstToken) event() {}
func (Retried) event()    {}
func (Finished) event()   {}
func (StoreOp) event()    {}
func (Streams) event()    {}
func (Loop) event()       {}
