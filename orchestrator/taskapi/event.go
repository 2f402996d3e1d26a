package taskapi

import "time"

// The structs of this file are the payloads of a task's event stream: the
// data line of each event on GET /v2/tasks/{id}/events (ORC-500). Times named
// orchestrator_ts are Unix milliseconds of the server's clock.

// Queued is the payload of the event queued: the task was accepted and waits.
type Queued struct {
	JobID            string `json:"job_id"` // the task id
	QueuePosition    int    `json:"queue_position"`
	PredictedStartMS int64  `json:"predicted_start_ms"` // from now; an estimate
}

// Started is the payload of the event started: a worker has the task.
type Started struct {
	JobID            string `json:"job_id"` // the task id
	QueuePosition    int    `json:"queue_position"`
	PredictedStartMS int64  `json:"predicted_start_ms"`
	QueueWaitMS      int64  `json:"queue_wait_ms"`
	Attempt          int    `json:"attempt"` // from 1
	Model            string `json:"model"`
	Engine           string `json:"engine"`
	NodeID           string `json:"node_id"`
	NodeRegion       string `json:"node_region,omitempty"` // country, else group; absent: not known
	Seed             *int64 `json:"seed,omitempty"`        // as the client asked
	CorrelationID    string `json:"correlation_id"`
	OrchestratorTS   int64  `json:"orchestrator_ts"`
}

// Token is the payload of the event token: a piece of the answer.
type Token struct {
	T string `json:"t"` // the text, unchanged
	I int    `json:"i"` // index, from 0
}

// Metrics is the payload of the event metrics: how the task stands, at most once a
// second. All members are optional; prep, phase and human are sent to readers that
// asked for verbose ones only.
type Metrics struct {
	QueueDepth       *int   `json:"queue_depth,omitempty"`        // tasks ahead
	PredictedStartMS *int64 `json:"predicted_start_ms,omitempty"` // from now; an estimate
	KVWarmth         *bool  `json:"kv_warmth,omitempty"`          // whether the worker may still hold the session's context
	BudgetRemaining  *int   `json:"tokens_budget_remaining,omitempty"`
	Prep             *Prep  `json:"prep,omitempty"`  // of the load that the task waits for
	Phase            string `json:"phase,omitempty"` // queued, loading, running, deadline_warning
	Human            string `json:"human,omitempty"` // one sentence
}

// Prep is how far a model is loaded.
type Prep struct {
	Model      string `json:"model"`
	BytesDone  int64  `json:"bytes_done"`
	BytesTotal int64  `json:"bytes_total"` // −1 unknown
}

// End is the payload of the event end: the task completed.
type End struct {
	TokensOut      int      `json:"tokens_out"`
	TokensIn       int      `json:"tokens_in"`
	DecodeTimeMS   int64    `json:"decode_time_ms"`
	FinishReason   string   `json:"finish_reason,omitempty"`
	Usage          string   `json:"usage"`              // reported, or estimated when the engine told no numbers
	Warnings       []string `json:"warnings,omitempty"` // see the Warning constants
	CorrelationID  string   `json:"correlation_id"`
	OrchestratorTS int64    `json:"orchestrator_ts"`
}

// How the token counts of an [End] came about.
const (
	UsageReported  = "reported"
	UsageEstimated = "estimated"
)

// Warnings of an [End]. They are not errors.
const (
	WarningTruncatedByEngine = "TRUNCATED_BY_ENGINE"
	WarningUsageEstimated    = "USAGE_ESTIMATED"
)

// ErrorEvent is the payload of the event error: the task ended without a result.
type ErrorEvent struct {
	Code           Code           `json:"code"`
	Message        string         `json:"message"`
	Retriable      bool           `json:"retriable"`
	RetryAfterMS   int64          `json:"retry_after_ms,omitempty"`
	Engine         string         `json:"engine,omitempty"`
	CorrelationID  string         `json:"correlation_id"`
	Details        map[string]any `json:"details,omitempty"`
	OrchestratorTS int64          `json:"orchestrator_ts"`
}

// Event returns e as the payload of an error event.
func (e *Error) Event(correlation string, now time.Time) ErrorEvent {
	return ErrorEvent{
		Code: e.Code, Message: e.Message, Retriable: e.Retriable, RetryAfterMS: e.RetryAfter.Milliseconds(),
		CorrelationID: correlation, Details: e.Details, OrchestratorTS: now.UnixMilli(),
	}
}

// Err returns the error that the event tells of.
func (e ErrorEvent) Err() *Error {
	return &Error{
		Code: e.Code, Message: e.Message, Retriable: e.Retriable,
		RetryAfter: time.Duration(e.RetryAfterMS) * time.Millisecond, Details: e.Details,
	}
}
