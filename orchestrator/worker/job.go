package worker

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/llorch/llorch/deadline"
)

// Defaults of a job's limits.
const (
	defaultMaxTokens  = 50_000
	defaultFirstToken = 60 * time.Second
	defaultIdle       = 30 * time.Second
)

func (j *Job) maxTokens() int {
	if j.MaxTokens > 0 {
		return j.MaxTokens
	}
	return defaultMaxTokens
}

// streams reports whether the answer comes as events.
func (j *Job) streams() bool {
	return (j.Kind == Completion || j.Kind == Chat) && (j.Raw == nil || j.Stream)
}

// path is where the job goes at t.
func (j *Job) path(t Target) string {
	switch {
	case j.Kind == Embedding:
		return "/v1/embeddings"
	case j.Kind == Rerank:
		return "/v1/rerank"
	case j.Kind == Chat, j.asMessage(t):
		return "/v1/chat/completions"
	}
	return "/v1/completions"
}

// asMessage reports whether the prompt goes as a user's message.
func (j *Job) asMessage(t Target) bool { return j.Kind == Completion && j.Raw == nil && t.ChatOnly }

// request is the body of a job without Raw.
type request struct {
	Model         string          `json:"model"`
	Prompt        *string         `json:"prompt,omitempty"`
	Messages      json.RawMessage `json:"messages,omitempty"`
	Input         []string        `json:"input,omitempty"`
	Query         *string         `json:"query,omitempty"`
	Documents     []string        `json:"documents,omitempty"`
	Stream        bool            `json:"stream,omitempty"`
	StreamOptions *streamOptions  `json:"stream_options,omitempty"`
	MaxTokens     int             `json:"max_tokens,omitempty"`
	Priority      int             `json:"priority,omitempty"`
	Params
	RepeatPenalty *float64 `json:"repeat_penalty,omitempty"`
}

type streamOptions struct {
	IncludeUsage bool `json:"include_usage"`
}

// body encodes the job for t.
func (j *Job) body(t Target) ([]byte, error) {
	if !slices.Contains(t.Flavour.row().kinds, j.Kind) {
		return nil, &Failure{Class: Rejected, Reason: "the engine does not do this kind of work", Err: ErrUnsupported}
	}
	if j.Raw != nil {
		b, err := Own(j.Raw, cmp.Or(t.Model, j.Model)) // the client may have used another name of the model
		if err != nil {
			return nil, &Failure{Class: Rejected, Reason: "the body can not be forwarded", Err: err}
		}
		return b, nil
	}
	r := request{Model: cmp.Or(t.Model, j.Model)}
	switch {
	case j.Kind == Embedding:
		r.Input = j.Inputs
	case j.Kind == Rerank:
		r.Query, r.Documents = &j.Prompt, j.Inputs
	default:
		j.generation(t, &r)
	}
	b, err := json.Marshal(r)
	if err != nil {
		return nil, &Failure{Class: Rejected, Reason: "the messages are not JSON", Err: err}
	}
	return b, nil
}

// generation fills in what only jobs have that produce tokens.
func (j *Job) generation(t Target, r *request) {
	row := t.Flavour.row()
	r.Stream, r.StreamOptions, r.MaxTokens, r.Params = true, &streamOptions{IncludeUsage: true}, max(j.MaxTokens, 0), j.Params
	switch {
	case j.Kind == Chat:
		r.Messages = j.Messages
	case j.asMessage(t):
		r.Messages = slices.Concat([]byte(`[{"role":"user","content":`), quote(j.Prompt), []byte(`}]`))
	default:
		r.Prompt = &j.Prompt
	}
	if row.priority && t.Priority {
		r.Priority = j.Priority
	}
	switch row.repetition {
	case "repeat_penalty":
		r.RepeatPenalty, r.RepetitionPenalty = r.RepetitionPenalty, nil
	case "":
		r.RepetitionPenalty = nil
	}
}

// cutBy returns what notices that the engine of t cut the prompt: it counts less
// than half of the estimate, where it is known to cut without a word.
func (j *Job) cutBy(t Target) func(Usage) bool {
	cuts := t.Flavour.row().cuts && j.PromptLen > 0
	return func(u Usage) bool { return cuts && !u.Estimated && 2*u.In < j.PromptLen }
}

// newRequest builds the HTTP request of a job (ORC-401).
func newRequest(ctx context.Context, base string, t Target, j *Job, body []byte) (*http.Request, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, base+j.path(t), bytes.NewReader(body))
	if err != nil {
		return nil, &Failure{Class: Connect, Reason: "the worker's URL is not a plain http or https base", Err: err}
	}
	// net/http repeats a request that has an Idempotency-Key on a fresh
	// connection by itself; without GetBody it can not.
	req.GetBody = nil
	h := req.Header
	h.Set("Content-Type", "application/json")
	if j.streams() {
		h.Set("Accept", "text/event-stream")
	} else {
		h.Set("Accept", "application/json")
	}
	common(h, t)
	for name, value := range map[string]string{"Idempotency-Key": j.ID, "X-Correlation-Id": j.Correlation, "Traceparent": j.Traceparent} {
		if !printable(value) {
			return nil, &Failure{Class: Rejected, Reason: "an id or trace header is not printable ASCII"}
		}
		if value != "" {
			h.Set(name, value)
		}
	}
	if !j.Deadline.IsZero() {
		with, cancel := deadline.With(ctx, deadline.At(j.Deadline))
		defer cancel()
		if err := deadline.Inject(with, h, 0); err != nil {
			return nil, &Failure{Class: Timeout, Reason: "the deadline has passed", Err: err}
		}
	}
	return req, nil
}

// common sets the headers of every call to an engine.
func common(h http.Header, t Target) {
	h.Set("User-Agent", "llorch")
	h.Set("Accept-Encoding", "identity")
	if t.Token != "" {
		h.Set("Authorization", "Bearer "+t.Token)
	}
}

func printable(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r > '~' })
}

func orDefault(d, def time.Duration) time.Duration {
	if d > 0 {
		return d
	}
	return def
}
