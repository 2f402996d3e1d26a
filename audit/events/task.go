package events

// TaskSubmitted: a task was accepted. The prompt itself is never recorded.
type TaskSubmitted struct {
	CustomerID   string `json:"customer_id,omitzero"` // the subject whose data the task carries
	MaxTokens    uint32 `json:"max_tokens"`
	ModelRef     string `json:"model_ref"`
	PromptLength uint64 `json:"prompt_length"` // bytes
	PromptSHA256 Digest `json:"prompt_sha256"`
	TaskID       string `json:"task_id"`
}

// TaskCompleted: a task ran to its end. One that failed has the event's
// Outcome Failure and a Reason.
type TaskCompleted struct {
	DurationMS      uint64 `json:"duration_ms"`
	TaskID          string `json:"task_id"`
	TokensGenerated uint32 `json:"tokens_generated"`
	WorkerID        string `json:"worker_id,omitzero"` // none if the task never reached one
}

// TaskCanceled: somebody, or a rule, ended a task before its end.
type TaskCanceled struct {
	TaskID string `json:"task_id"`
}
