package orchestrator

import (
	"crypto/rand"
	"encoding/binary"
	"encoding/json"
	"time"

	"github.com/llorch/llorch/orchestrator/placement"
	"github.com/llorch/llorch/orchestrator/queue"
	"github.com/llorch/llorch/orchestrator/store"
	"github.com/llorch/llorch/orchestrator/worker"
	"github.com/llorch/llorch/poolregistry"
)

// TaskID is the 16 bytes of a task's UUID.
type TaskID = store.TaskID

// newTaskID makes a UUIDv7 (RFC 9562).
func newTaskID(now time.Time) (id TaskID) {
	rand.Read(id[6:])
	var ms [8]byte
	binary.BigEndian.PutUint64(ms[:], uint64(now.UnixMilli()))
	copy(id[:6], ms[2:])
	id[6] = id[6]&0x0f | 0x70
	id[8] = id[8]&0x3f | 0x80
	return id
}

// Role is what a caller may do; roles are bits.
type Role uint8

// The roles. A zero Role may do nothing.
const (
	RoleUser     Role = 1 << iota // own tasks
	RoleOperator                  // metadata of every task, pools, models, the queue
	RolePrivacy                   // export and erasure of every person
)

// Principal is the caller. Only the program's Authorize makes one.
type Principal struct {
	Tenant      string // "" = default
	User        string // within the tenant
	Roles       Role
	Fingerprint string // first 6 hex digits of the token's digest, for logs; "" without a token
	Addr        string // client address, for audit
}

// Subject names the person whose data a task carries: tenant/user, or the user
// alone in the default tenant.
func (p Principal) Subject() string {
	if p.Tenant == "" || p.Tenant == "default" {
		return p.User
	}
	return p.Tenant + "/" + p.User
}

func (p Principal) tenant() string {
	if p.Tenant == "" {
		return "default"
	}
	return p.Tenant
}

// Has reports whether p holds every role of r.
func (p Principal) Has(r Role) bool { return p.Roles&r == r }

// Spec is a request for inference. Submit checks it and never changes it.
type Spec struct {
	ID          TaskID      // zero: made here (UUIDv7)
	Key         string      // idempotency key of the client, ≤ 128 printable ASCII bytes; "" none
	Kind        worker.Kind // "" = worker.Completion, or worker.Chat when Messages are set
	Model       string      // required
	Engine      string      // only workers of this engine; "" any
	Prompt      string      // valid UTF-8 without NUL, ≤ 1 MiB
	Messages    json.RawMessage
	Raw         []byte // body of a /v1 call as it came; then Prompt, Messages and Params are unused
	Stream      bool   // of Raw
	WantUsage   bool   // the client of Raw asked for the usage frame
	Params      worker.Params
	Inputs      []string // of an embedding or a reranking
	Class       queue.Class
	Session     string                // groups tasks for affinity and budget; "" = none
	Budget      int                   // tokens that a session opened by this task may spend; 0 = no budget
	Regions     []poolregistry.Region // allowed for this task; they only narrow
	Purposes    []string              // that the person must have consented to, beside the tenant's
	MaxTokens   int                   // of the answer; 0 = 2,048, of Raw without bound; ≤ 50,000
	Choices     int                   // answers that Raw asks for; 0 = 1, ≤ 128; MaxTokens holds for each
	Expected    int                   // expected output tokens; 0 unknown
	Ctx         int                   // context that the task needs, in tokens; 0 = an estimate of its prompt
	PromptBytes int                   // of Raw: length of the prompt text, for estimates
	Deadline    time.Time
	Place       placement.Constraints
	Keep        bool   // keep running when every reader is gone
	Tenant      string // X-Tenant-Id as the client sent it; must be the principal's
	Ephemeral   bool   // no 202 is given: nothing is promised, written once at the end (ORC-104)
	Correlation string
	Traceparent string
}

// Accepted is the answer to a Submit. With a durable store the task survives
// from here on.
type Accepted struct {
	ID         TaskID
	Status     string // queued or dispatched
	Position   int    // tasks ahead; 0 = it runs at once
	StartIn    time.Duration
	Band       time.Duration // ± of StartIn
	Backoff    time.Duration // advice for the client's next submit
	BudgetLeft int           // tokens of the session; -1 = it has no budget
	DecisionID string
	Steps      []string // what has to happen before it can run, such as model_load; nil = nothing
	Duplicate  bool     // an equal request was accepted before; this is its answer
}

// Task is what a caller may see of a task.
type Task struct {
	store.Record
	Status    string // queued, dispatched, running, cancelling, completed, failed, cancelled
	Position  int    // while queued
	LastEvent uint64 // newest event id of the stream, while kept in memory
	NodeID    string // of the worker of the last attempt
	PoolID    string
	WorkerID  string
}

// Event is one event of a task's stream. Ids are gapless from 1.
type Event struct {
	ID   uint64
	Type string // queued, started, token, metrics, result, frame, end, error
	Data []byte // JSON, one line; for frame and result the engine's own bytes
}

// The event types (ORC-500). Frame carries an engine's frame for a /v1 reader
// and is never shown on /v2.
const (
	EventQueued  = "queued"
	EventStarted = "started"
	EventToken   = "token"
	EventMetrics = "metrics"
	EventResult  = "result"
	EventFrame   = "frame"
	EventEnd     = "end"
	EventError   = "error"
)

// Filter selects tasks for a list. Zero members select everything the caller may see.
type Filter struct {
	Status  []string // as in Task.Status
	Model   string
	Session string
	Since   time.Time
	Before  TaskID // only tasks accepted before this one
	Limit   int    // 1…1,000; 0 = 100
}
