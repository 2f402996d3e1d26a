// Package worker speaks to inference engines. There is one protocol, the
// OpenAI-compatible one, in the flavours of flavour.go; [Adapter] stays open
// for engines that speak another.
package worker

import (
	"context"
	"encoding/json"
	"time"
)

// Adapter runs jobs on one kind of engine. All methods are safe for concurrent
// use; nothing is retried here.
type Adapter interface {
	// Start sends the job and returns once the engine accepted it (its
	// response headers are in). A refusal is a *Failure. Ending ctx ends the
	// job at the engine, also after Start returned.
	Start(ctx context.Context, t Target, j *Job) (Stream, error)
	// Probe asks what the engine is and whether it can serve.
	Probe(ctx context.Context, t Target) (Status, error)
}

// Stream is the answer to one job. It has one reader.
type Stream interface {
	// Next returns the next event; io.EOF after the last one. Any other error
	// is a *Failure, or the cause of the context that ended the job.
	Next() (Event, error)
	// Close releases the connection and stops the engine's work. Idempotent.
	Close() error
}

// Flavour names the engine behind the protocol.
type Flavour string

// The flavours (ORC-440). Generic is assumed when a probe does not tell.
const (
	Generic  Flavour = "generic"
	LlamaCPP Flavour = "llamacpp"
	VLLM     Flavour = "vllm"
	Ollama   Flavour = "ollama"
)

// Target is where a job goes.
type Target struct {
	URL     string  // base, without path; http or https
	Token   string  // bearer token of this worker, "" if it has none; never logged
	Model   string  // the name under which the engine serves the model; "" sends the job's own
	Flavour Flavour // "" = Generic; a probe then detects it
	Slots   int     // bounds connections to slots + 4; 0 = 1
	// ChatOnly: the engine has no /v1/completions; a Prompt then goes as one message of a user.
	ChatOnly bool
	// Priority: a vLLM that schedules by priority (--scheduling-policy priority) is told Job.Priority.
	Priority bool
}

// Kind is what a job asks for.
type Kind string

// The kinds of jobs.
const (
	Completion Kind = "completion" // Prompt goes raw to /v1/completions
	Chat       Kind = "chat"       // Messages go to /v1/chat/completions
	Embedding  Kind = "embedding"  // Inputs go to /v1/embeddings; one Result
	Rerank     Kind = "rerank"     // Prompt and the documents in Inputs go to /v1/rerank; one Result
)

// Job is one attempt of one task, ready to send.
type Job struct {
	ID          string // "<task>-<attempt>", sent as Idempotency-Key
	Kind        Kind
	Model       string          // as the client named it; Target.Model wins
	Prompt      string          // Completion, or the query of a Rerank, without Raw
	Inputs      []string        // Embedding and Rerank without Raw
	Messages    json.RawMessage // Chat without Raw
	Raw         []byte          // body of a /v1 call as it came; only model and stream_options may change (ORC-443)
	Stream      bool            // of Raw; a Completion or Chat without Raw always streams, an Embedding or Rerank never
	WantUsage   bool            // the client of Raw asked for the usage frame itself
	Params      Params          // jobs without Raw
	Priority    int             // lower goes first, see Target.Priority
	PromptLen   int             // estimate of the prompt in tokens, to notice a prompt that was cut; 0 = unknown
	MaxTokens   int             // bound on the answer, see ORC-447; 0 = 50,000
	Correlation string
	Traceparent string
	Deadline    time.Time     // zero = none; sent absolute and relative
	FirstToken  time.Duration // longest wait for the first token, 0 = 60 s
	Idle        time.Duration // longest silence after it, 0 = 30 s
}

// Params are the sampling members of a job. Nil and zero members are not sent.
type Params struct {
	Temperature       *float64 `json:"temperature,omitempty"`
	TopP              *float64 `json:"top_p,omitempty"`
	TopK              *int     `json:"top_k,omitempty"`
	RepetitionPenalty *float64 `json:"repetition_penalty,omitempty"`
	Seed              *int64   `json:"seed,omitempty"`
	Stop              []string `json:"stop,omitempty"`
}

// EventKind tells the events of a stream apart.
type EventKind uint8

// The kinds of events. A stream is Tokens and Frames, then one Done.
const (
	Token  EventKind = iota + 1 // Text was produced; Raw is the frame it came in
	Frame                       // a frame without text (role, tool call part, usage); only Raw is set
	Result                      // the whole answer of a job that does not stream; Raw is the body
	Done                        // the engine finished; FinishReason and Usage are set
)

// Event is one step of an answer.
type Event struct {
	Kind         EventKind
	Text         string
	Raw          []byte // the data of the frame as the engine sent it; nil unless Job.Raw was set
	ContentType  string // of a Result
	FinishReason string
	Usage        Usage
	Timings      Timings // of a Done
	Truncated    bool    // of a Done: the engine cut the prompt without a word
}

// Timings is what an engine measured itself; zero if it does not tell (only
// llama.cpp does).
type Timings struct {
	Prefilled int // prompt tokens that were computed, without those from a cache
	Prefill   time.Duration
	Decode    time.Duration // of Usage.Out tokens
}

// Usage is what an answer cost, in tokens.
type Usage struct {
	In, Out   int
	Estimated bool // counted here because the engine did not report it
}

// Status is the answer to a probe. Absent numbers are zero and say so by Known flags.
type Status struct {
	Ready      bool
	Loading    bool
	Flavour    Flavour
	Version    string
	Models     []string // as served
	SlotsTotal int      // 0 = unknown
	CtxMax     int      // 0 = unknown
}
