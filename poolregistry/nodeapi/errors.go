package nodeapi

// An ErrorReply is the body of every refusal on the node and pool routes.
type ErrorReply struct {
	Success bool        `json:"success"` // always false
	Message string      `json:"message"` // Error.Message once more, for clients that read only the envelope
	Error   ErrorDetail `json:"error"`
}

// An ErrorDetail says what was refused. It never repeats what the client sent.
type ErrorDetail struct {
	Code          string   `json:"code"`
	Message       string   `json:"message"`
	Retriable     bool     `json:"retriable"`
	RetryAfterMS  int64    `json:"retry_after_ms,omitzero"`
	CorrelationID string   `json:"correlation_id"`
	Details       *Details `json:"details,omitzero"`
}

// Details name what is wrong.
type Details struct {
	Fields []string `json:"fields,omitzero"` // "path: fault code"
	Faults []Fault  `json:"faults,omitzero"` // every reason of a preflight's refusal
	Class  string   `json:"class,omitzero"`  // how an engine ended that never became ready
	Tail   []string `json:"tail,omitzero"`   // its last lines, escaped
}

// A Fault is one reason why an engine cannot be started, or a model not be had.
type Fault struct {
	Code   string `json:"code"`
	Detail string `json:"detail"` // sizes and counts, never paths or values
}
