package store

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"time"
)

// TaskID is the 16 bytes of a task's UUID. The zero value is no task.
type TaskID [16]byte

// String returns the canonical form, 8-4-4-4-12 lower-case hex digits.
func (id TaskID) String() string {
	b := make([]byte, 0, 36)
	for i, part := range [][]byte{id[:4], id[4:6], id[6:8], id[8:10], id[10:]} {
		if i > 0 {
			b = append(b, '-')
		}
		b = hex.AppendEncode(b, part)
	}
	return string(b)
}

// errTaskID never echoes its input.
var errTaskID = errors.New("store: task id is not a UUID")

// ParseTaskID reads the form that [TaskID.String] writes; upper-case digits are accepted.
func ParseTaskID(s string) (TaskID, error) {
	var id TaskID
	if len(s) != 36 || s[8] != '-' || s[13] != '-' || s[18] != '-' || s[23] != '-' {
		return TaskID{}, errTaskID
	}
	digits := s[:8] + s[9:13] + s[14:18] + s[19:23] + s[24:]
	if _, err := hex.Decode(id[:], []byte(digits)); err != nil {
		return TaskID{}, errTaskID
	}
	return id, nil
}

// MarshalText writes the canonical form.
func (id TaskID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// UnmarshalText reads what [ParseTaskID] reads.
func (id *TaskID) UnmarshalText(b []byte) error {
	v, err := ParseTaskID(string(b))
	if err == nil {
		*id = v
	}
	return err
}

// SubjectRef names the person behind a task without spelling the name: the
// first 16 bytes of an HMAC that only the owner of the store can compute.
type SubjectRef [16]byte

// Epoch numbers the terms of a leader; a write of an older term is [ErrFenced].
type Epoch uint64

// Limits of what one task may store, in bytes.
const (
	MaxBody   = 16 << 20      // sealed request; above the 8 MiB body limit plus sealing
	MaxOutput = 16 << 20      // sealed output; above the 8 MiB stream bound
	MaxDoc    = 4<<20 + 4<<10 // an artifact of 4 MiB and its seal
	MaxMeta   = 256 << 10     // each of Meta.Params, Meta.Place and Outcome.Details
)

// MaxPage bounds [Filter.Limit] and the limit of a Purge, in records.
const MaxPage = 10_000

// MetaVersion is that of every [Meta] written here. A store that finds a higher
// one answers [ErrSchemaTooNew].
const MetaVersion = 1

// Meta is what is stored of a task beside the columns that are filtered by. It
// holds no prompt and no output text. It is stored as one versioned JSON
// document; Params and Place come back compacted.
type Meta struct {
	V            int             `json:"v"` // MetaVersion; also written for 0
	Kind         string          `json:"kind"`
	Engine       string          `json:"engine,omitempty"`
	Correlation  string          `json:"correlation_id,omitempty"`
	Params       json.RawMessage `json:"params,omitempty"` // numbers and enumerations only
	Place        json.RawMessage `json:"place,omitempty"`  // placement constraints
	MaxTokens    int             `json:"max_tokens,omitempty"`
	Expected     int             `json:"expected_tokens,omitempty"`
	PromptTokens int             `json:"prompt_tokens,omitempty"` // estimate at admission
	PromptLen    int             `json:"prompt_len"`              // bytes
	PromptSHA256 string          `json:"prompt_sha256,omitempty"` // 64 hex digits
	Keep         bool            `json:"keep_on_disconnect,omitempty"`
	Digest       string          `json:"digest,omitempty"`   // of the model, pinned
	Regions      []string        `json:"regions,omitempty"`  // allowed by the request
	Purposes     []string        `json:"purposes,omitempty"` // that need a consent
}

// Record is a task as the store knows it. Sealed body and output are apart.
type Record struct {
	ID           TaskID
	Seq          uint64 // rises in the order of Submit, unique in a store
	Tenant       string
	Subject      SubjectRef
	Class        string
	Model        string // as resolved at admission
	Session      string
	IdemKey      string // the client's idempotency key, "" if none; unique within a tenant
	BodyHash     [32]byte
	State        State
	Epoch        Epoch // of the last write
	Attempt      int   // of the last Start; 0 before it
	Emitted      bool  // a token of this attempt may have been published
	CancelReason string
	Created      time.Time
	Started      time.Time // of the last attempt; zero before it
	Finished     time.Time // zero until terminal
	Deadline     time.Time // wall time, display and recovery; zero if none
	Worker       string    // node/pool/worker of the last attempt
	Meta         Meta
	Outcome      Outcome
}

// Outcome is how a task ended. The zero value belongs to a live task.
type Outcome struct {
	Code         string          `json:"code,omitempty"`    // error code of taskapi; "" is success
	Details      json.RawMessage `json:"details,omitempty"` // comes back compacted
	FinishReason string          `json:"finish_reason,omitempty"`
	TokensIn     int             `json:"tokens_in,omitempty"`
	TokensOut    int             `json:"tokens_out,omitempty"`
	DecodeMS     int64           `json:"decode_ms,omitempty"`
	QueueMS      int64           `json:"queue_ms,omitempty"`
	Events       uint64          `json:"events,omitempty"`    // id of the last event in the stream log
	Estimated    bool            `json:"estimated,omitempty"` // tokens counted here, not reported by the engine
}

// NewTask is a task to store.
type NewTask struct {
	// Record: ID, Tenant, Subject, Class, Model, Session, IdemKey, BodyHash,
	// Created (zero: now), Deadline and Meta are read; the rest is the store's.
	// With Final also Started, Worker, Emitted and CancelReason are read.
	Record Record
	Body   []byte // sealed
	// Final, when not nil, stores the task as already ended: it was never
	// promised (no 202), so it is written once, for history. Body is not kept,
	// Final.ID is not read.
	Final *Completion
}

// Submitted answers one NewTask.
type Submitted struct {
	Seq       uint64
	Duplicate *Record // equal content is stored already under that id or key; nothing was written, Seq is that record's
	Err       error   // ErrConflict, ErrTooLarge, ErrInvalid; ErrTransition for a Final that is no end; ErrUnavailable when a bounded store is full
}

// StartReq asks to begin an attempt.
type StartReq struct {
	ID      TaskID
	Attempt int    // ≥ 1, above every earlier one; repeating the present one returns the body again until it is marked
	Worker  string // node/pool/worker
}

// Started answers one StartReq.
type Started struct {
	Body []byte // sealed
	Err  error  // ErrNotFound, ErrTransition
}

// MarkReq says that a token of an attempt is about to be published.
type MarkReq struct {
	ID      TaskID
	Attempt int
}

// Completion ends a task. Attempt must be the present one; 0 ends a task that
// was never started. Repeating an equal completion is nil.
type Completion struct {
	ID      TaskID
	Attempt int
	State   State // Completed, Failed or Cancelled
	Outcome Outcome
	Output  []byte // sealed; nil if none
}

// CancelReq asks that a task ends without a result.
type CancelReq struct {
	ID     TaskID
	Reason string // closed set: client, disconnect, deadline, watchdog, drain, shutdown, operator
}

// CancelState answers one CancelReq: where the task stands now. Queued tasks
// are Cancelled, running ones Cancelling, ended ones unchanged.
type CancelState struct {
	State State
	Err   error // ErrNotFound
}

// Filter selects tasks for a page. Zero members select everything.
type Filter struct {
	Tenant  string
	Subject SubjectRef // the zero value selects all subjects
	States  []State
	Model   string
	Session string
	IdemKey string // with Tenant: at most one task
	Since   time.Time
	Before  uint64 // only Seq below it; 0 = no bound
	After   uint64 // only Seq above it
	Oldest  bool   // oldest first; default newest first
	Limit   int    // 1…10,000; 0 = 100
}

// Kind groups documents.
type Kind string

// The kinds in use. A key is unique within its kind.
const (
	KindKey      Kind = "key"      // wrapped subject keys
	KindInstall  Kind = "install"  // facts about this installation, such as the id key
	KindSession  Kind = "session"  // sessions; key = reference of the subject / session id
	KindConsent  Kind = "consent"  // key = reference of the subject / purpose
	KindLedger   Kind = "ledger"   // tokens of a tenant and day; key = reference of the tenant / yyyy-mm-dd
	KindModel    Kind = "model"    // the catalogue; key = model id
	KindArtifact Kind = "artifact" // sealed; key = reference of the subject / SHA-256
	KindDue      Kind = "due"      // when artifacts were made; key = reference of the subject / unix ms / SHA-256, no data
	KindEstimate Kind = "estimate" // what the scheduler learned
	KindErasure  Kind = "erasure"  // erasures under way and their receipts; key = reference of the subject
)

// PersonalKinds are the kinds whose documents belong to one person each.
func PersonalKinds() []Kind { return []Kind{KindSession, KindConsent, KindArtifact, KindDue} }

// Erased says what an erasure removed.
type Erased struct {
	Tasks     int // records whose personal members were cleared
	Outputs   int
	Bodies    int // 0: the end of a task deleted its body already
	Documents int // of kinds whose keys begin with the subject's reference
}

// Version numbers the states of a document; 0 means it does not exist.
type Version uint64

// Doc is a small versioned document.
type Doc struct {
	Kind    Kind
	Key     string
	Version Version
	Data    []byte
}

// LeaseRequest asks for the right to write.
type LeaseRequest struct {
	Holder string // replica id
	URL    string // where the others reach it; "" alone
	Seen   Epoch  // the highest epoch that a node or replica has seen; 0 = unknown
	Force  bool   // lead although the store is behind Seen: the operator knows that it was restored
}

// Lease is a term. Every write names its Epoch.
type Lease struct {
	Epoch   Epoch
	Holder  string
	URL     string
	Expires time.Time // the zero time: never
}
