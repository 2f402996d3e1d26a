package inputvalidation

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"log/slog"
	"strconv"
	"strings"
	"unicode/utf8"
)

const (
	defaultPromptRunes = 100_000
	// defaultPromptBytes is 400 KB: defaultPromptRunes of the longest UTF-8 form.
	defaultPromptBytes = 400_000
)

// Prompt is text for a model, valid UTF-8 without NUL. It prints as
// "[prompt <n> bytes sha256:<first 12 hex>]" with every verb and encoder, also
// inside other values: the text is held behind a function, so that printing by
// reflection shows an address. It leaves through [Prompt.Reveal] only. The zero
// Prompt is empty. Prompts do not compare with ==; compare their SHA256.
type Prompt struct {
	reveal       func() string // nil in the zero Prompt
	bytes, runes int
}

// ParsePrompt accepts any valid UTF-8 except NUL, other control characters
// included: a pasted terminal log is a legal prompt. maxRunes 0 means 100,000
// and maxBytes 0 means 400,000; below 0 is RuleBounds. Empty text is RuleEmpty.
func ParsePrompt(field, s string, maxRunes, maxBytes int) (Prompt, error) {
	if maxRunes < 0 || maxBytes < 0 {
		return Prompt{}, refuse(field, RuleBounds)
	}
	if maxRunes == 0 {
		maxRunes = defaultPromptRunes
	}
	if maxBytes == 0 {
		maxBytes = defaultPromptBytes
	}
	if err := checkText(field, s, maxBytes); err != nil {
		return Prompt{}, err
	}
	if i := strings.IndexByte(s, 0); i >= 0 {
		return Prompt{}, refuseAt(field, RuleCharset, i)
	}
	runes := utf8.RuneCountInString(s)
	if runes > maxRunes {
		return Prompt{}, refuseLong(field, -1, maxRunes, runes)
	}
	return Prompt{reveal: func() string { return s }, bytes: len(s), runes: runes}, nil
}

// Reveal returns the text. It is the only way to it.
func (p Prompt) Reveal() string {
	if p.reveal == nil {
		return ""
	}
	return p.reveal()
}

// SHA256 returns the digest of the text, computed at each call.
func (p Prompt) SHA256() [sha256.Size]byte { return sha256.Sum256([]byte(p.Reveal())) }

// Bytes returns the length of the text in bytes.
func (p Prompt) Bytes() int { return p.bytes }

// Runes returns the length of the text in runes.
func (p Prompt) Runes() int { return p.runes }

// IsZero reports whether p is the zero Prompt.
func (p Prompt) IsZero() bool { return p.reveal == nil }

// String returns the form that may be logged.
func (p Prompt) String() string {
	sum := p.SHA256()
	return "[prompt " + strconv.Itoa(p.bytes) + " bytes sha256:" + hex.EncodeToString(sum[:6]) + "]"
}

// GoString returns the same as String.
func (p Prompt) GoString() string { return p.String() }

// Format writes the same as String for every verb and flag.
func (p Prompt) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, p.String()) }

// LogValue returns the same as String.
func (p Prompt) LogValue() slog.Value { return slog.StringValue(p.String()) }

// MarshalText returns the same as String; there is no way back.
func (p Prompt) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

var (
	_ fmt.Formatter  = Prompt{}
	_ slog.LogValuer = Prompt{}
)
