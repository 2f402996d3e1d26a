package worker

import (
	"encoding/json"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/llorch/llorch/orchestrator/worker/sse"
)

// chunk is what matters of one frame.
type chunk struct {
	choices int
	deltas  int    // choices that say something: text, reasoning, a refusal, a tool call
	text    []byte // of the first choice, as it came, maybe cut inside a rune
	finish  string
	usage   *Usage
	timings Timings
}

type wireUsage struct {
	PromptTokens     int `json:"prompt_tokens"`
	CompletionTokens int `json:"completion_tokens"`
	TotalTokens      int `json:"total_tokens"` // all that some engines tell of a reranking
}

// maxUsage bounds what is believed of each number: budgets and ledgers add them up.
const maxUsage = 1 << 30

// usage returns nil for numbers that nobody believes.
func (u *wireUsage) usage() *Usage {
	if u == nil || min(u.PromptTokens, u.CompletionTokens) < 0 || max(u.PromptTokens, u.CompletionTokens, u.TotalTokens) > maxUsage {
		return nil
	}
	if u.PromptTokens == 0 && u.CompletionTokens == 0 {
		return &Usage{In: max(u.TotalTokens, 0)}
	}
	return &Usage{In: u.PromptTokens, Out: u.CompletionTokens}
}

// maxWord bounds a word that an engine says of itself, in bytes: it is stored,
// logged and shown beside the answer.
const maxWord = 64

// plainWord returns s if it is a word and not a text, else instead.
func plainWord(s, instead string) string {
	if len(s) > maxWord || strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return instead
	}
	return s
}

// wireTimings is llama.cpp's own account of an answer.
type wireTimings struct {
	PromptN     int     `json:"prompt_n"`
	PromptMS    float64 `json:"prompt_ms"`
	PredictedMS float64 `json:"predicted_ms"`
}

// maxTiming bounds what is believed.
const maxTiming = 24 * time.Hour

// readTimings never fails: no answer depends on it.
func readTimings(raw json.RawMessage) Timings {
	var t wireTimings
	if !present(raw) || json.Unmarshal(raw, &t) != nil || t.PromptN < 0 {
		return Timings{}
	}
	ms := func(f float64) time.Duration {
		return time.Duration(min(max(f, 0), float64(maxTiming/time.Millisecond)) * float64(time.Millisecond))
	}
	return Timings{Prefilled: t.PromptN, Prefill: ms(t.PromptMS), Decode: ms(t.PredictedMS)}
}

type wireChunk struct {
	Choices []wireChoice    `json:"choices"`
	Usage   *wireUsage      `json:"usage"`
	Timings json.RawMessage `json:"timings"`
	Error   json.RawMessage `json:"error"`
}

type wireChoice struct {
	Index int             `json:"index"`
	Text  json.RawMessage `json:"text"`
	Delta struct {
		Content          json.RawMessage `json:"content"`
		Refusal          json.RawMessage `json:"refusal"`
		Reasoning        json.RawMessage `json:"reasoning"`
		ReasoningContent json.RawMessage `json:"reasoning_content"`
		FunctionCall     json.RawMessage `json:"function_call"`
		ToolCalls        json.RawMessage `json:"tool_calls"`
	} `json:"delta"`
	FinishReason string `json:"finish_reason"`
}

// parseChunk reads one frame of /v1/completions or /v1/chat/completions.
func parseChunk(f sse.Frame) (chunk, error) {
	var w wireChunk
	if json.Unmarshal(f.Data, &w) != nil {
		return chunk{}, &Failure{Class: Protocol, Reason: "a frame is not the JSON we expect"}
	}
	if f.Event == "error" || present(w.Error) {
		return chunk{}, &Failure{Class: Server, Reason: "the engine reported an error inside its stream"}
	}
	c := chunk{choices: len(w.Choices), usage: w.Usage.usage(), timings: readTimings(w.Timings)}
	for _, ch := range w.Choices {
		if ch.FinishReason != "" {
			c.finish = plainWord(ch.FinishReason, "other")
		}
		says := false
		for _, part := range []json.RawMessage{ch.Text, ch.Delta.Content, ch.Delta.Refusal} {
			text := rawText(part)
			if len(text) == 0 {
				continue
			}
			says = true
			if ch.Index == 0 {
				c.text = append(c.text, text...)
			}
		}
		for _, part := range []json.RawMessage{ch.Delta.Reasoning, ch.Delta.ReasoningContent, ch.Delta.FunctionCall, ch.Delta.ToolCalls} {
			says = says || present(part)
		}
		if says { // one token, also where it stands under an old and a new name
			c.deltas++
		}
	}
	return c, nil
}

// present reports whether a member is there and says something.
func present(raw json.RawMessage) bool {
	switch string(raw) {
	case "", "null", `""`, "[]", "{}", "false":
		return false
	}
	return true
}

// rawText decodes a JSON string but leaves bytes that are not UTF-8 as they
// are, because their rune may go on in the next frame; nil if raw is no string.
func rawText(raw json.RawMessage) []byte {
	if len(raw) < 2 || raw[0] != '"' {
		return nil
	}
	var out []byte
	for rest := raw[1 : len(raw)-1]; len(rest) > 0; {
		n := validPrefix(rest)
		var s string
		if json.Unmarshal(append(append([]byte{'"'}, rest[:n]...), '"'), &s) == nil {
			out = append(out, s...)
		}
		bad := min(len(rest)-n, 1)
		out = append(out, rest[n:n+bad]...)
		rest = rest[n+bad:]
	}
	return out
}

// validPrefix returns how many bytes of b are valid UTF-8 from its start.
func validPrefix(b []byte) int {
	if utf8.Valid(b) {
		return len(b)
	}
	n := 0
	for n < len(b) {
		r, size := utf8.DecodeRune(b[n:])
		if r == utf8.RuneError && size == 1 {
			break
		}
		n += size
	}
	return n
}
