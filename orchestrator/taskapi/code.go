package taskapi

import (
	"net/http"
	"time"
)

// Code is a wire error code. It is an error itself, so that
// errors.Is(err, taskapi.QueueFull) holds for every *[Error] with that code.
type Code string

// The codes (ORC-800). A code that is not listed here never leaves the server.
const (
	InvalidParams           Code = "INVALID_PARAMS"
	ContextTooLarge         Code = "CONTEXT_TOO_LARGE"
	ModelIncompatible       Code = "MODEL_INCOMPATIBLE"
	DeadlineUnmet           Code = "DEADLINE_UNMET"
	Unauthenticated         Code = "UNAUTHENTICATED"
	Forbidden               Code = "FORBIDDEN"
	TenantMismatch          Code = "TENANT_MISMATCH"
	NotFound                Code = "NOT_FOUND"
	ModelNotFound           Code = "MODEL_NOT_FOUND"
	MethodNotAllowed        Code = "METHOD_NOT_ALLOWED"
	Conflict                Code = "CONFLICT"
	ResumeWindowLost        Code = "RESUME_WINDOW_LOST"
	SubjectErased           Code = "SUBJECT_ERASED"
	BodyTooLarge            Code = "BODY_TOO_LARGE"
	UnsupportedMedia        Code = "UNSUPPORTED_MEDIA"
	HostNotListed           Code = "HOST_NOT_LISTED"
	QueueFull               Code = "QUEUE_FULL"
	QueueFullDropLRU        Code = "QUEUE_FULL_DROP_LRU"
	AdmissionReject         Code = "ADMISSION_REJECT"
	Cancelled               Code = "CANCELLED"
	Internal                Code = "INTERNAL"
	EngineError             Code = "ENGINE_ERROR"
	PoolUnavailable         Code = "POOL_UNAVAILABLE"
	ModelNotAvailable       Code = "MODEL_NOT_AVAILABLE"
	ShuttingDown            Code = "SHUTTING_DOWN"
	StoreUnavailable        Code = "STORE_UNAVAILABLE"
	AuthUnavailable         Code = "AUTH_UNAVAILABLE"
	TooManyStreams          Code = "TOO_MANY_STREAMS"
	WorkerReset             Code = "WORKER_RESET"
	WorkerUnreachable       Code = "WORKER_UNREACHABLE"
	QueueTimeout            Code = "QUEUE_TIMEOUT"
	DecodeTimeout           Code = "DECODE_TIMEOUT"
	Timeout                 Code = "TIMEOUT"
	UntrustedArtifact       Code = "UNTRUSTED_ARTIFACT"
	ConsentRequired         Code = "CONSENT_REQUIRED"
	SessionNotFound         Code = "SESSION_NOT_FOUND"
	PoolNotFound            Code = "POOL_NOT_FOUND"
	OperationRunning        Code = "OPERATION_RUNNING"
	SessionLimit            Code = "SESSION_LIMIT"
	ModelDeprecated         Code = "MODEL_DEPRECATED"
	RateLimited             Code = "RATE_LIMITED"
	QuotaExceeded           Code = "QUOTA_EXCEEDED"
	BudgetExceeded          Code = "BUDGET_EXCEEDED"
	PoolUnready             Code = "POOL_UNREADY"
	ReplicaExhausted        Code = "REPLICA_EXHAUSTED"
	NodeUnavailable         Code = "NODE_UNAVAILABLE"
	NoEUWorkerAvailable     Code = "NO_EU_WORKER_AVAILABLE"
	NoRegionWorkerAvailable Code = "NO_REGION_WORKER_AVAILABLE"
	InsufficientVRAM        Code = "INSUFFICIENT_VRAM"
	ModelLoadFailed         Code = "MODEL_LOAD_FAILED"
	NoLeader                Code = "NO_LEADER"
	StartupTimeout          Code = "STARTUP_TIMEOUT"
)

// Error makes a Code usable as a sentinel.
func (c Code) Error() string { return string(c) }

// row is what the wire says for a code.
type row struct {
	code      Code
	status    int
	retriable bool
	after     time.Duration // hint when the place of failure knows no better one
	message   string        // one fixed sentence; never input, addresses or upstream text
}

// table is the one place that maps codes to the wire (style: one table per module).
var table = [...]row{
	{InvalidParams, http.StatusBadRequest, false, 0, "The request is not valid; details name the field."},
	{ContextTooLarge, http.StatusBadRequest, false, 0, "Prompt and max_tokens do not fit the context of any worker."},
	{ModelIncompatible, http.StatusBadRequest, false, 0, "No worker can do this kind of work with that model."},
	{DeadlineUnmet, http.StatusGatewayTimeout, false, 0, "The deadline can not be met."},
	{Unauthenticated, http.StatusUnauthorized, false, 0, "A valid bearer token is required."},
	{Forbidden, http.StatusForbidden, false, 0, "This caller may not do that."},
	{TenantMismatch, http.StatusForbidden, false, 0, "X-Tenant-Id is not the tenant of this caller."},
	{NotFound, http.StatusNotFound, false, 0, "There is no such object."},
	{ModelNotFound, http.StatusNotFound, false, 0, "No worker knows that model; GET /v1/models lists what can be placed."},
	{MethodNotAllowed, http.StatusMethodNotAllowed, false, 0, "The method is not allowed here; see the Allow header."},
	{Conflict, http.StatusConflict, false, 0, "That id is taken by a request with other content."},
	{ResumeWindowLost, http.StatusGone, false, 0, "The events after that id are no longer kept."},
	{SubjectErased, http.StatusGone, false, 0, "The data of this person was erased."},
	{BodyTooLarge, http.StatusRequestEntityTooLarge, false, 0, "The request body is too large; details hold the limit."},
	{UnsupportedMedia, http.StatusUnsupportedMediaType, false, 0, "The body must be application/json."},
	{HostNotListed, http.StatusMisdirectedRequest, false, 0, "The Host header is not one that this server answers to."},
	{QueueFull, http.StatusTooManyRequests, true, time.Second, "The queue is full."},
	{QueueFullDropLRU, http.StatusTooManyRequests, true, time.Second, "The task made room for a newer one."},
	{AdmissionReject, http.StatusTooManyRequests, true, time.Second, "The task made room for one of a higher class."},
	{Cancelled, 499, false, 0, "The task was cancelled."},
	{Internal, http.StatusInternalServerError, false, 0, "Something went wrong here; the correlation id finds it in the log."},
	{EngineError, http.StatusInternalServerError, false, 0, "The engine failed on this task."},
	{PoolUnavailable, http.StatusServiceUnavailable, true, time.Second, "No worker is available."},
	{ModelNotAvailable, http.StatusServiceUnavailable, true, time.Second, "No worker that is available now serves that model."},
	{ShuttingDown, http.StatusServiceUnavailable, true, 2 * time.Second, "The server is shutting down."},
	{StoreUnavailable, http.StatusServiceUnavailable, true, time.Second, "The store can not be reached."},
	{AuthUnavailable, http.StatusServiceUnavailable, true, time.Second, "Credentials can not be checked now."},
	{TooManyStreams, http.StatusServiceUnavailable, true, time.Second, "Too many open streams."},
	{WorkerReset, http.StatusServiceUnavailable, true, 0, "The worker was lost after tokens had been sent."},
	{WorkerUnreachable, http.StatusServiceUnavailable, true, 0, "No worker could be reached."},
	{QueueTimeout, http.StatusGatewayTimeout, true, time.Second, "The task waited too long in the queue."},
	{DecodeTimeout, http.StatusGatewayTimeout, true, time.Second, "The engine stopped producing tokens."},
	{Timeout, http.StatusGatewayTimeout, false, 0, "The task took longer than its total time."},
	{UntrustedArtifact, http.StatusBadRequest, false, 0, "The model is not one that this installation trusts."},
	{ConsentRequired, http.StatusForbidden, false, 0, "The person has not consented to this purpose."},
	{SessionNotFound, http.StatusNotFound, false, 0, "There is no such session."},
	{PoolNotFound, http.StatusNotFound, false, 0, "There is no such pool."},
	{OperationRunning, http.StatusConflict, true, 2 * time.Second, "An operation on that object is under way."},
	{SessionLimit, http.StatusConflict, false, 0, "The session has all the turns that it may have."},
	{ModelDeprecated, http.StatusGone, false, 0, "The model is retired."},
	{RateLimited, http.StatusTooManyRequests, true, time.Second, "Too many requests; Retry-After says when the next one may come."},
	{QuotaExceeded, http.StatusTooManyRequests, true, time.Second, "The quota of this tenant is used up."},
	{BudgetExceeded, http.StatusTooManyRequests, false, 0, "The token budget of this session is used up."},
	{PoolUnready, http.StatusServiceUnavailable, true, 2 * time.Second, "The pool is not ready."},
	{ReplicaExhausted, http.StatusServiceUnavailable, true, time.Second, "Every worker of the pool failed this task."},
	{NodeUnavailable, http.StatusServiceUnavailable, true, time.Second, "The node is not available."},
	{NoEUWorkerAvailable, http.StatusServiceUnavailable, true, 30 * time.Second, "No worker inside the EU is available."},
	{NoRegionWorkerAvailable, http.StatusServiceUnavailable, true, 30 * time.Second, "No worker inside the allowed regions is available."},
	{InsufficientVRAM, http.StatusServiceUnavailable, true, 30 * time.Second, "The model does not fit the memory of any worker."},
	{ModelLoadFailed, http.StatusServiceUnavailable, true, 30 * time.Second, "The model could not be loaded."},
	{NoLeader, http.StatusServiceUnavailable, true, 2 * time.Second, "No replica leads now."},
	{StartupTimeout, http.StatusGatewayTimeout, true, time.Second, "The model took too long to load."},
}

func (c Code) row() row {
	for _, r := range table {
		if r.code == c {
			return r
		}
	}
	return Internal.row()
}

// Status returns the HTTP status of the code; an unknown code is 500.
func (c Code) Status() int { return c.row().status }

// Codes lists every code, in the order of the documents.
func Codes() []Code {
	out := make([]Code, len(table))
	for i, r := range table {
		out[i] = r.code
	}
	return out
}

// Error is the one error type of engine, handlers and client.
type Error struct {
	Code       Code
	Message    string         // one fixed sentence of the code
	Retriable  bool           // the same request may succeed later
	RetryAfter time.Duration  // 0 = no hint
	Details    map[string]any // numbers, field names, states; never input
	Err        error          // the cause, for the log; never sent
}

// NewError returns an Error with the code's own message, retriability and hint.
func NewError(c Code) *Error {
	r := c.row()
	return &Error{Code: r.code, Message: r.message, Retriable: r.retriable, RetryAfter: r.after}
}

// InvalidField returns INVALID_PARAMS with details.field and details.reason.
// The reason is a fixed word, never the value.
func InvalidField(field, reason string) *Error {
	e := NewError(InvalidParams)
	e.Details = map[string]any{"field": field, "reason": reason}
	return e
}

// With sets one detail and returns e, for use while building.
func (e *Error) With(key string, value any) *Error {
	if e.Details == nil {
		e.Details = make(map[string]any)
	}
	e.Details[key] = value
	return e
}

func (e *Error) Error() string {
	if e.Err != nil {
		return string(e.Code) + ": " + e.Err.Error()
	}
	return string(e.Code)
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Is reports whether target is the code of e.
func (e *Error) Is(target error) bool {
	c, ok := target.(Code)
	return ok && c == e.Code
}

// HTTPStatus returns the status of the code, except that a deadline which no
// clock could meet, deadline_ms ≤ 0, is the client's fault: 400 (ORC-251).
func (e *Error) HTTPStatus() int {
	if e.Code == DeadlineUnmet && e.Details["field"] == "deadline_ms" {
		return http.StatusBadRequest
	}
	return e.Code.Status()
}
