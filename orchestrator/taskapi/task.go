package taskapi

import (
	"encoding/json"
	"time"
)

// Limits of a request (ORC-241).
const (
	MaxPrompt    = 1 << 20   // bytes of prompt, or of the text of all messages
	MaxTokens    = 50_000    // output tokens that may be asked for
	MaxContext   = 1_048_576 // tokens
	MaxStops     = 16        // stop strings
	MaxStopBytes = 256       // each
	MaxAvoid     = 64        // pools to avoid
	MaxKey       = 128       // bytes of an idempotency key, printable ASCII
	MaxSession   = 256       // bytes of a session id
	MaxList      = 1000      // tasks on one page
	MaxInputs    = 2048      // texts of an embedding or a reranking, together at most MaxPrompt
	MaxRegions   = 64
	MaxPurposes  = 16      // of consent
	MaxArtifact  = 4 << 20 // bytes
)

// maxDeadlineMS is about 115 days, the reach of the timeout header too.
const maxDeadlineMS = 10_000_000_000

// Submit is the body of POST /v2/tasks. It has two shapes: the simple one names
// Model, the full one names ModelRef and requires all its members. Members that
// carry omitempty may be absent; their zero value means so.
type Submit struct {
	// Of the full shape; TaskID may stand in the simple one too.
	TaskID         string `json:"task_id,omitempty"` // UUID chosen by the client; makes the request idempotent
	ModelRef       string `json:"model_ref,omitempty"`
	Workload       string `json:"workload,omitempty"` // completion, chat, embedding or rerank
	Engine         string `json:"engine,omitempty"`   // only workers of this engine
	Ctx            int    `json:"ctx,omitempty"`      // tokens of context needed, 1…1,048,576
	ExpectedTokens int    `json:"expected_tokens,omitempty"`
	// Hints that are checked and bind nobody.
	KVHint         string `json:"kv_hint,omitempty"`                 // reuse or cold
	OutputMode     string `json:"output_mode,omitempty"`             // text or json
	Determinism    string `json:"determinism,omitempty"`             // strict or best_effort
	SamplerProfile string `json:"sampler_profile_version,omitempty"` // an identifier

	// Of the simple shape.
	Model string `json:"model,omitempty"`

	// Of both. One of Prompt and Messages is required, except that an embedding has
	// Inputs alone, and a reranking a Prompt, its query, beside them.
	Prompt            string          `json:"prompt,omitempty"`
	Messages          json.RawMessage `json:"messages,omitempty"` // array as of /v1/chat/completions
	Inputs            []string        `json:"inputs,omitempty"`
	SessionID         string          `json:"session_id,omitempty"`
	Priority          string          `json:"priority,omitempty"`    // interactive (default) or batch
	MaxTokens         int             `json:"max_tokens,omitempty"`  // 1…50,000
	DeadlineMS        int64           `json:"deadline_ms,omitempty"` // from arrival, > 0
	Temperature       *float64        `json:"temperature,omitempty"` // 0…2; 0.7 in the simple shape
	TopP              *float64        `json:"top_p,omitempty"`       // 0…1
	TopK              *int            `json:"top_k,omitempty"`       // −1 and 0 switch it off
	RepetitionPenalty *float64        `json:"repetition_penalty,omitempty"`
	Seed              *int64          `json:"seed,omitempty"`
	Stop              []string        `json:"stop,omitempty"` // one string is read as a list of one
	OnDisconnect      string          `json:"on_disconnect,omitempty"`
	Regions           []string        `json:"regions,omitempty"`  // allowed for this task: DE, EU, EU-DE; they only narrow
	Purposes          []string        `json:"purposes,omitempty"` // that the person must have consented to
	Budget            *Budget         `json:"budget,omitempty"`   // of a session that this task opens
	Placement         *Placement      `json:"placement,omitempty"`
}

// Budget bounds what a session may spend. Only tokens are counted; time and cost
// are reserved.
type Budget struct {
	Tokens int     `json:"tokens,omitempty"`  // 0 = no bound
	TimeMS int64   `json:"time_ms,omitempty"` // not counted
	Cost   float64 `json:"cost,omitempty"`    // not counted
}

// Values of members that are enumerations.
const (
	WorkloadCompletion  = "completion"
	WorkloadChat        = "chat"
	WorkloadEmbedding   = "embedding"
	WorkloadRerank      = "rerank"
	PriorityInteractive = "interactive"
	PriorityBatch       = "batch"
	DisconnectCancel    = "cancel"   // default: end the task when every reader is gone
	DisconnectContinue  = "continue" // keep it running
	ModeAuto            = "auto"
	ModePin             = "pin"
	ModePrefer          = "prefer" // Prefer first, others if AllowFallback
)

// Placement narrows where a task may run. Pool, Node and Worker bind when Mode
// is pin or absent and are not looked at otherwise; all others but Prefer and
// AllowFallback always bind.
type Placement struct {
	Mode          string   `json:"mode,omitempty"` // auto, pin or prefer
	Pool          string   `json:"pool,omitempty"`
	Node          string   `json:"node,omitempty"`
	Worker        string   `json:"worker,omitempty"`
	Prefer        []string `json:"prefer,omitempty"`         // pools, at most 64; absent: Pool alone
	AllowFallback *bool    `json:"allow_fallback,omitempty"` // of prefer; default true
	Avoid         []string `json:"avoid,omitempty"`          // pools, at most 64
	Version       string   `json:"engine_version,omitempty"`
	Features      []string `json:"features,omitempty"` // at most 64
	Quant         string   `json:"quant,omitempty"`
	MinCompute    int      `json:"min_compute,omitempty"` // 10 × major + minor
	Mask          []string `json:"device_mask,omitempty"` // at most 64
	MinVRAM       int64    `json:"min_vram_bytes,omitempty"`
	Spread        int      `json:"spread,omitempty"` // tasks of this session on one node; 0 = any
}

// ModelName returns the model of either shape.
func (s *Submit) ModelName() string {
	if s.ModelRef != "" {
		return s.ModelRef
	}
	return s.Model
}

// Accepted is the body of 202. With a durable store the task survives from here on.
type Accepted struct {
	TaskID           string      `json:"task_id"`
	JobID            string      `json:"job_id"` // the same value
	Status           string      `json:"status"` // queued or dispatched
	QueuePosition    int         `json:"queue_position"`
	PredictedStartMS int64       `json:"predicted_start_ms"`
	PredictedBandMS  int64       `json:"predicted_band_ms"` // ± of predicted_start_ms
	BackoffMS        int64       `json:"backoff_ms"`        // advice for the next submit
	DecisionID       string      `json:"decision_id,omitempty"`
	Duplicate        bool        `json:"duplicate"` // an equal request was accepted before
	Streams          Streams     `json:"streams"`
	EventsURL        string      `json:"events_url"`
	Preparation      Preparation `json:"preparation"`
}

// Streams tells where the events of a task are read.
type Streams struct {
	SSE        string `json:"sse"`
	SSEVerbose string `json:"sse_verbose"` // its metrics also carry prep, phase and human
}

// Preparation lists what has to happen before the task can run, such as
// model_load.
type Preparation struct {
	Steps []string `json:"steps"`
}

// Stopped is the body of DELETE /v2/tasks/{id}.
type Stopped struct {
	JobID  string `json:"job_id"`
	Status string `json:"status"`
}

// Preview is the body of POST /v2/tasks/preview: what would happen.
type Preview struct {
	Checks           []Check `json:"checks"` // in the order of admission
	QueuePosition    int     `json:"queue_position"`
	PredictedStartMS int64   `json:"predicted_start_ms"`
	PredictedBandMS  int64   `json:"predicted_band_ms"`
	Explanation      any     `json:"explanation"` // as of GET /v2/tasks/{id}/explain
}

// Check is one check of admission.
type Check struct {
	Name string `json:"name"`
	Pass bool   `json:"pass"`
	Code Code   `json:"code,omitempty"` // of one that would refuse
}

// Task is the metadata of one task: GET /v2/tasks/{id} and the items of a list.
// It holds neither prompt nor output.
type Task struct {
	TaskID        string       `json:"task_id"`
	JobID         string       `json:"job_id"` // the same value
	Status        string       `json:"status"` // one of Statuses
	Model         string       `json:"model"`
	Engine        string       `json:"engine,omitempty"`
	Priority      string       `json:"priority"`
	SessionID     string       `json:"session_id,omitempty"`
	QueuePosition int          `json:"queue_position"` // while queued
	Attempt       int          `json:"attempt"`        // 0 before the first
	NodeID        string       `json:"node_id,omitempty"`
	PoolID        string       `json:"pool_id,omitempty"`
	ReplicaID     string       `json:"replica_id,omitempty"` // the worker's place in the pool
	WorkerID      string       `json:"worker_id,omitempty"`  // the engine process in that place
	MaxTokens     int          `json:"max_tokens,omitempty"`
	TokensIn      int          `json:"tokens_in"`
	TokensOut     int          `json:"tokens_out"`
	QueueWaitMS   int64        `json:"queue_wait_ms"`
	DecodeTimeMS  int64        `json:"decode_time_ms"`
	FinishReason  string       `json:"finish_reason,omitempty"`
	CancelReason  string       `json:"cancel_reason,omitempty"`
	LastEventID   uint64       `json:"last_event_id"`
	CorrelationID string       `json:"correlation_id,omitempty"`
	CreatedAt     time.Time    `json:"created_at,omitzero"`
	StartedAt     time.Time    `json:"started_at,omitzero"`
	FinishedAt    time.Time    `json:"finished_at,omitzero"`
	DeadlineAt    time.Time    `json:"deadline_at,omitzero"`
	EventsURL     string       `json:"events_url"`
	Error         *ErrorDetail `json:"error,omitempty"` // of a task that failed or was cancelled
}

// Statuses lists what Task.Status may be.
func Statuses() []string {
	return []string{"queued", "dispatched", "running", "cancelling", "completed", "failed", "cancelled"}
}

// TaskList is the body of GET /v2/tasks, newest first.
type TaskList struct {
	Tasks      []Task `json:"tasks"`
	NextBefore string `json:"next_before,omitempty"` // value of before for the next page; absent on a short page
}
