package worker

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
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
func (j *Job) streams() bool { return j.Raw == nil || j.Stream }

func (j *Job) path() string {
	if j.Kind == Chat {
		return "/v1/chat/completions"
	}
	return "/v1/completions"
}

// request is the body of a job without Raw.
type request struct {
	Model         string          `json:"model"`
	Prompt        *string         `json:"prompt,omitempty"`
	Messages      json.RawMessage `json:"messages,omitempty"`
	Stream        bool            `json:"stream"`
	StreamOptions struct {
		IncludeUsage bool `json:"include_usage"`
	} `json:"stream_options"`
	MaxTokens int `json:"max_tokens,omitempty"`
	Params
	RepeatPenalty *float64 `json:"repeat_penalty,omitempty"`
}

// body encodes the job for t.
func (j *Job) body(t Target) ([]byte, error) {
	if j.Kind != Completion && j.Kind != Chat {
		return nil, &Failure{Class: Rejected, Reason: "unknown kind of job"}
	}
	if j.Raw != nil {
		b, err := Own(j.Raw, t.Model)
		if err != nil {
			return nil, &Failure{Class: Rejected, Reason: "the body can not be forwarded", Err: err}
		}
		return b, nil
	}
	r := request{Model: t.Model, Stream: true, MaxTokens: max(j.MaxTokens, 0), Params: j.Params}
	if r.Model == "" {
		r.Model = j.Model
	}
	r.StreamOptions.IncludeUsage = true
	if j.Kind == Chat {
		r.Messages = j.Messages
	} else {
		r.Prompt = &j.Prompt
	}
	switch t.Flavour.row().repetition {
	case "repeat_penalty":
		r.RepeatPenalty, r.RepetitionPenalty = r.RepetitionPenalty, nil
	case "":
		r.RepetitionPenalty = nil
	}
	b, err := json.Marshal(r)
	if err != nil {
		return nil, &Failure{Class: Rejected, Reason: "the messages are not JSON", Err: err}
	}
	return b, nil
}

// newRequest builds the HTTP request of a job (ORC-401).
func newRequest(ctx context.Context, base string, t Target, j *Job, body []byte) (*http.Request, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, base+j.path(), bytes.NewReader(body))
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
