package worker

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"io"
)

// BodyError says which member of a /v1 body is at fault, never its content.
type BodyError struct {
	Field string // "body" for the whole
	Rule  string // a fixed phrase
}

func (e *BodyError) Error() string { return "worker: " + e.Field + ": " + e.Rule }

// Body is what the orchestrator has to know of a /v1 body (ORC-444).
type Body struct {
	Model          string
	Stream         bool
	IncludeUsage   bool // the client asked for the usage frame itself
	MaxTokens      int  // the larger of max_tokens and max_completion_tokens; 0 = neither
	N              int  // answers asked for, 1 if not said
	Seed           *int64
	Stop           int // number of stop strings
	Tools          bool
	ResponseFormat bool
	Logprobs       bool
	Prompt         [sha256.Size]byte // SHA-256 of PromptBytes; zero if there is no prompt
	PromptBytes    int               // length of the prompt's text, or of the JSON of messages and other shapes
}

// maxDepth is the suite's limit for nested JSON.
const maxDepth = 64

// Inspect reads a /v1 body. A body that is no single JSON object, is nested
// deeper than 64, names model, stream or stream_options twice, or has a member
// of the wrong type is a [*BodyError].
func Inspect(raw []byte) (Body, error) {
	b := Body{N: 1}
	_, err := walk(raw, func(name string, value json.RawMessage, _ int) error {
		return b.note(name, value)
	})
	return b, err
}

// Own makes the two changes that are ours in a /v1 body (ORC-443): model becomes
// model unless that is "", and a stream is asked for its usage. Nothing else
// changes a byte or its place; a body that needs no change is returned itself.
func Own(raw []byte, model string) ([]byte, error) {
	var edits []edit
	var stream, hasModel, hasOptions bool
	var options json.RawMessage
	var optionsAt int
	end, err := walk(raw, func(name string, value json.RawMessage, at int) error {
		switch name {
		case "model":
			hasModel = true
			var now string
			if model != "" && (json.Unmarshal(value, &now) != nil || now != model) {
				edits = appendEdit(edits, at, value, quote(model))
			}
		case "stream":
			return field(name, value, &stream, "must be true or false")
		case "stream_options":
			hasOptions, options, optionsAt = true, bytes.Clone(value), at
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	var added []member
	if model != "" && !hasModel {
		added = append(added, member{"model", quote(model)})
	}
	if stream && hasOptions {
		with, err := withUsage(options)
		if err != nil {
			return nil, err
		}
		edits = appendEdit(edits, optionsAt, options, with)
	} else if stream {
		added = append(added, member{"stream_options", []byte(`{"include_usage":true}`)})
	}
	return apply(raw, edits, end, added), nil
}

// withUsage returns stream_options with include_usage set.
func withUsage(options []byte) ([]byte, error) {
	if string(options) == "null" {
		return []byte(`{"include_usage":true}`), nil
	}
	var edits []edit
	found := false
	end, err := walk(options, func(name string, value json.RawMessage, at int) error {
		if name == "include_usage" {
			if found {
				return &BodyError{"stream_options", "names include_usage twice"}
			}
			found = true
			edits = appendEdit(edits, at, value, []byte("true"))
		}
		return nil
	})
	if err != nil {
		return nil, &BodyError{"stream_options", "must be an object that names include_usage once"}
	}
	if found {
		return apply(options, edits, end, nil), nil
	}
	return apply(options, nil, end, []member{{"include_usage", []byte("true")}}), nil
}

// note records one member.
func (b *Body) note(name string, value json.RawMessage) error {
	null := string(value) == "null"
	switch name {
	case "model":
		return field(name, value, &b.Model, "must be a string")
	case "stream":
		return field(name, value, &b.Stream, "must be true or false")
	case "stream_options":
		var o struct {
			IncludeUsage bool `json:"include_usage"`
		}
		err := field(name, value, &o, "must be an object with include_usage true or false")
		b.IncludeUsage = o.IncludeUsage
		return err
	case "max_tokens", "max_completion_tokens":
		n := 0
		if err := field(name, value, &n, "must be a whole number"); err != nil || n < 0 {
			return &BodyError{name, "must be a whole number, 0 or more"}
		}
		b.MaxTokens = max(b.MaxTokens, n)
	case "n":
		if !null && (json.Unmarshal(value, &b.N) != nil || b.N < 1) {
			return &BodyError{name, "must be a whole number, 1 or more"}
		}
	case "seed":
		return field(name, value, &b.Seed, "must be a whole number")
	case "stop":
		return b.noteStop(value)
	case "tools", "functions":
		b.Tools = b.Tools || !null
	case "response_format":
		b.ResponseFormat = !null
	case "logprobs":
		b.Logprobs = !null && string(value) != "false"
	case "prompt", "messages", "input":
		b.notePrompt(value)
	}
	return nil
}

func (b *Body) noteStop(value json.RawMessage) error {
	switch value[0] {
	case '"':
		b.Stop = 1
	case '[':
		var list []string
		if json.Unmarshal(value, &list) != nil {
			return &BodyError{"stop", "must be a string or a list of strings"}
		}
		b.Stop = len(list)
	case 'n':
		b.Stop = 0
	default:
		return &BodyError{"stop", "must be a string or a list of strings"}
	}
	return nil
}

// notePrompt hashes the text of a string, and any other shape as it came.
func (b *Body) notePrompt(value json.RawMessage) {
	text := []byte(value)
	if value[0] == '"' {
		var s string
		if json.Unmarshal(value, &s) == nil {
			text = []byte(s)
		}
	}
	b.Prompt, b.PromptBytes = sha256.Sum256(text), len(text)
}

// field decodes a member; null leaves v alone.
func field(name string, value json.RawMessage, v any, rule string) error {
	if json.Unmarshal(value, v) != nil {
		return &BodyError{name, rule}
	}
	return nil
}

func quote(s string) []byte {
	b, err := json.Marshal(s)
	if err != nil {
		panic("worker: a string that does not marshal")
	}
	return b
}

// walk calls visit for every member of the one object in raw, with the offset
// of its value, and returns the offset of the closing brace.
func walk(raw []byte, visit func(name string, value json.RawMessage, at int) error) (int, error) {
	if depth(raw) > maxDepth {
		return 0, &BodyError{"body", "is nested deeper than 64"}
	}
	syntax := &BodyError{"body", "must be one JSON object"}
	dec := json.NewDecoder(bytes.NewReader(raw))
	if t, err := dec.Token(); err != nil || t != json.Delim('{') {
		return 0, syntax
	}
	owned := map[string]bool{}
	for dec.More() {
		key, err := dec.Token()
		name, ok := key.(string)
		if err != nil || !ok {
			return 0, syntax
		}
		var value json.RawMessage
		if dec.Decode(&value) != nil || len(value) == 0 {
			return 0, syntax
		}
		if name == "model" || name == "stream" || name == "stream_options" {
			if owned[name] {
				return 0, &BodyError{name, "is named twice"}
			}
			owned[name] = true
		}
		if err := visit(name, value, int(dec.InputOffset())-len(value)); err != nil {
			return 0, err
		}
	}
	if _, err := dec.Token(); err != nil {
		return 0, syntax
	}
	end := int(dec.InputOffset()) - 1
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return 0, &BodyError{"body", "has more than one value"}
	}
	return end, nil
}

// depth returns how deep the brackets of raw are nested outside of strings.
func depth(raw []byte) int {
	deepest, now := 0, 0
	for i := 0; i < len(raw); i++ {
		switch raw[i] {
		case '{', '[':
			now++
			deepest = max(deepest, now)
		case '}', ']':
			now--
		case '"':
			i = stringEnd(raw, i)
		}
	}
	return deepest
}

// stringEnd returns the offset of the quote that ends the string at i, or the
// end of raw.
func stringEnd(raw []byte, i int) int {
	for i++; i < len(raw); i++ {
		n := bytes.IndexByte(raw[i:], '"')
		if n < 0 {
			return len(raw)
		}
		slashes := 0
		for k := i + n - 1; k >= i && raw[k] == '\\'; k-- {
			slashes++
		}
		i += n
		if slashes%2 == 0 {
			return i
		}
	}
	return len(raw)
}
