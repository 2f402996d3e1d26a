package taskapi

// ErrorBody is the body of every refusal outside of /v1.
type ErrorBody struct {
	Error ErrorDetail `json:"error"`
}

// ErrorDetail is the one error shape of the suite.
type ErrorDetail struct {
	Code          Code           `json:"code"`
	Message       string         `json:"message"`
	Retriable     bool           `json:"retriable"`
	RetryAfterMS  int64          `json:"retry_after_ms,omitempty"`
	CorrelationID string         `json:"correlation_id"`
	Details       map[string]any `json:"details,omitempty"`
}

// Body returns e as the body of a refusal.
func (e *Error) Body(correlation string) ErrorBody {
	return ErrorBody{Error: ErrorDetail{
		Code: e.Code, Message: e.Message, Retriable: e.Retriable, RetryAfterMS: e.RetryAfter.Milliseconds(),
		CorrelationID: correlation, Details: e.Details,
	}}
}
