package workertest

import (
	"encoding/json"
	"errors"
	"strings"

	"github.com/llorch/llorch/orchestrator/worker"
)

// params is a request for work as this engine reads it.
type params struct {
	Model         string          `json:"model"`
	Prompt        json.RawMessage `json:"prompt"`
	Messages      []message       `json:"messages"`
	Input         json.RawMessage `json:"input"`
	Query         string          `json:"query"`
	Documents     []string        `json:"documents"`
	Stream        bool            `json:"stream"`
	StreamOptions *struct {
		IncludeUsage bool `json:"include_usage"`
	} `json:"stream_options"`
	MaxTokens           *int            `json:"max_tokens"`
	MaxCompletionTokens *int            `json:"max_completion_tokens"`
	N                   *int            `json:"n"`
	Seed                *int64          `json:"seed"`
	Temperature         *float64        `json:"temperature"`
	TopP                *float64        `json:"top_p"`
	TopK                *int            `json:"top_k"`
	RepetitionPenalty   *float64        `json:"repetition_penalty"`
	RepeatPenalty       *float64        `json:"repeat_penalty"`
	Stop                json.RawMessage `json:"stop"`
	IgnoreEOS           bool            `json:"ignore_eos"`

	prompt string
	inputs []string
	stop   []string
	kind   worker.Kind
}

func (p *params) chat() bool { return p.kind == worker.Chat }

// single reports whether the answer is one document whatever the client says.
func (p *params) single() bool { return p.kind == worker.Embedding || p.kind == worker.Rerank }

type message struct {
	Role    string          `json:"role"`
	Content json.RawMessage `json:"content"`
}

var (
	errBody    = errors.New("the body is not a request")
	errN       = errors.New("only n = 1 is supported")
	errContext = errors.New("the prompt does not fit the context")
)

// parseParams reads and checks a body.
func parseParams(body []byte, kind worker.Kind, cfg *Config) (*params, error) {
	p := &params{kind: kind}
	if json.Unmarshal(body, p) != nil {
		return nil, errBody
	}
	if p.N != nil && *p.N != 1 {
		return nil, errN
	}
	for _, n := range []*int{p.MaxTokens, p.MaxCompletionTokens} {
		if n != nil && *n < 0 {
			return nil, errBody
		}
	}
	ok := p.read()
	var fine bool
	p.stop, fine = stopList(p.Stop)
	if !ok || !fine {
		return nil, errBody
	}
	if countTokens(p.prompt) >= cfg.Ctx {
		if cfg.Flavour != worker.Ollama {
			return nil, errContext
		}
		p.prompt = p.prompt[len(p.prompt)-4*(cfg.Ctx/2):] // Ollama cuts, and says nothing
	}
	return p, nil
}

// read takes the prompt from where the route has it; false if it is not there.
func (p *params) read() (ok bool) {
	switch p.kind {
	case worker.Chat:
		p.prompt, ok = transcript(p.Messages)
	case worker.Embedding:
		p.Stream = false
		p.inputs, ok = stopList(p.Input)
		ok = ok && len(p.inputs) > 0
		p.prompt = strings.Join(p.inputs, "")
	case worker.Rerank:
		p.Stream = false
		p.inputs, ok = p.Documents, len(p.Documents) > 0
		p.prompt = p.Query + strings.Join(p.inputs, "")
	default:
		p.prompt, ok = oneString(p.Prompt)
	}
	return ok
}

func (p *params) seed(own int64) int64 {
	if p.Seed != nil {
		return *p.Seed
	}
	return own
}

// limit is how many tokens the answer may have.
func (p *params) limit(ctx int) int {
	n := ctx - countTokens(p.prompt)
	for _, asked := range []*int{p.MaxTokens, p.MaxCompletionTokens} {
		if asked != nil {
			n = min(n, *asked)
		}
	}
	return n
}

func (p *params) wantsUsage() bool { return p.StreamOptions != nil && p.StreamOptions.IncludeUsage }

// oneString takes "text" or ["text"].
func oneString(raw json.RawMessage) (string, bool) {
	var s string
	if len(raw) == 0 || string(raw) == "null" {
		return "", false
	}
	if json.Unmarshal(raw, &s) == nil {
		return s, true
	}
	var list []string
	if json.Unmarshal(raw, &list) != nil || len(list) != 1 {
		return "", false
	}
	return list[0], true
}

// maxStrings bounds the lists of strings in a body.
const maxStrings = 1024

// stopList takes "text", a list of texts, or nothing.
func stopList(raw json.RawMessage) ([]string, bool) {
	if len(raw) == 0 || string(raw) == "null" {
		return nil, true
	}
	var s string
	if json.Unmarshal(raw, &s) == nil {
		return []string{s}, true
	}
	var list []string
	ok := json.Unmarshal(raw, &list) == nil && len(list) <= maxStrings
	return list, ok
}

// transcript is the prompt that messages make.
func transcript(list []message) (string, bool) {
	var b strings.Builder
	for _, m := range list {
		b.WriteString(m.Role)
		b.WriteString(": ")
		var text string
		if string(m.Content) == "null" || len(m.Content) == 0 {
			text = ""
		} else if json.Unmarshal(m.Content, &text) != nil {
			var parts []struct {
				Text string `json:"text"`
			}
			if json.Unmarshal(m.Content, &parts) != nil {
				return "", false
			}
			for _, part := range parts {
				text += part.Text
			}
		}
		b.WriteString(text)
		b.WriteByte('\n')
	}
	return b.String(), len(list) > 0
}
