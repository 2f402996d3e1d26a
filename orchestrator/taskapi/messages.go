package taskapi

import (
	"encoding/json"
	"strings"
)

// maxMessages bounds one conversation; its text is bounded by MaxPrompt.
const maxMessages = 2048

// checkMessages checks what is ours to check: an array of objects with a role,
// whose text is bounded and without NUL. What a role or a part means is the
// engine's business, and the bytes go on as they came. The raw JSON was checked.
func checkMessages(raw json.RawMessage) error {
	var list []map[string]json.RawMessage
	if err := json.Unmarshal(raw, &list); err != nil {
		return InvalidField("messages", "type")
	}
	if len(list) == 0 || len(list) > maxMessages {
		return InvalidField("messages", "count").With("min", 1).With("max", maxMessages)
	}
	total := 0
	for i, message := range list {
		var role string
		if json.Unmarshal(message["role"], &role) != nil || role == "" {
			return InvalidField("messages", "role").With("index", i)
		}
		text, ok := contentText(message["content"])
		if !ok {
			return InvalidField("messages", "content").With("index", i)
		}
		for _, t := range text {
			if strings.IndexByte(t, 0) >= 0 {
				return InvalidField("messages", "charset").With("index", i)
			}
			total += len(t)
		}
	}
	if total > MaxPrompt {
		return InvalidField("messages", "too_long").With("limit", MaxPrompt)
	}
	return nil
}

// contentText returns the texts of a content member: a string, a list of parts,
// or nothing, which an assistant's tool call has.
func contentText(raw json.RawMessage) ([]string, bool) {
	if len(raw) == 0 || string(raw) == "null" {
		return nil, true
	}
	var one string
	if json.Unmarshal(raw, &one) == nil {
		return []string{one}, true
	}
	var parts []map[string]json.RawMessage
	if json.Unmarshal(raw, &parts) != nil {
		return nil, false
	}
	texts := make([]string, 0, len(parts))
	for _, part := range parts {
		if len(part["text"]) == 0 {
			continue // an image or another part without text
		}
		var text string
		if json.Unmarshal(part["text"], &text) != nil {
			return nil, false
		}
		texts = append(texts, text)
	}
	return texts, true
}
