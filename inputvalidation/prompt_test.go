package inputvalidation_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/gob"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/llorch/llorch/inputvalidation"
)

// VAL-4, VAL-11
func TestParsePrompt(t *testing.T) {
	for _, c := range []struct {
		s            string
		runes, bytes int
		rule         inputvalidation.Rule
	}{
		{s: "\x1b[31mpasted log\r\n\u202e\ufeff"},
		{s: strings.Repeat("a", 100_000)},
		{s: strings.Repeat("a", 100_001), rule: inputvalidation.RuleTooLong},
		{s: strings.Repeat("\U0001f600", 100_000)},
		{s: "\u65e5\u672c", runes: 2, bytes: 6},
		{s: "\u65e5\u672c", runes: 1, bytes: 6, rule: inputvalidation.RuleTooLong},
		{s: "\u65e5\u672c", runes: 2, bytes: 5, rule: inputvalidation.RuleTooLong},
		{s: "a\x00b", rule: inputvalidation.RuleCharset},
		{s: "\xed\xa0\x80", rule: inputvalidation.RuleUTF8},
		{s: "a", runes: -1, rule: inputvalidation.RuleBounds},
		{s: "a", bytes: -1, rule: inputvalidation.RuleBounds},
	} {
		p, err := inputvalidation.ParsePrompt("prompt", c.s, c.runes, c.bytes)
		if c.rule != "" {
			wantRule(t, fmt.Sprintf("ParsePrompt(%d bytes, %d, %d)", len(c.s), c.runes, c.bytes), err, c.rule)
			if !p.IsZero() {
				t.Error("a refused prompt is not zero")
			}
			continue
		}
		if err != nil || p.Reveal() != c.s || p.Bytes() != len(c.s) || p.Runes() != utf8.RuneCountInString(c.s) || p.SHA256() != sha256.Sum256([]byte(c.s)) {
			t.Errorf("ParsePrompt(%d bytes) = %v, %v", len(c.s), p, err)
		}
	}
}

// VAL-5: no way of printing shows the text.
func TestPromptRedacted(t *testing.T) {
	const secret = "my private diary"
	const shown = "[prompt 16 bytes sha256:1f32acd9662f]"
	p, err := inputvalidation.ParsePrompt("prompt", secret, 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	holder := struct{ hidden inputvalidation.Prompt }{p}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%b", "%60s", "%t"} {
		if got := fmt.Sprintf(verb, p); got != shown {
			t.Errorf("Sprintf(%q) = %q, want %q", verb, got, shown)
		}
		if got := fmt.Sprintf(verb, &holder) + fmt.Sprintf(verb, []inputvalidation.Prompt{p}); strings.Contains(got, "diary") || strings.Contains(got, "6469617279") {
			t.Errorf("Sprintf(%q) of a holder shows the text: %q", verb, got)
		}
	}
	if text, err := p.MarshalText(); p.String() != shown || p.GoString() != shown || p.LogValue().String() != shown || string(text) != shown || err != nil {
		t.Errorf("String, GoString, LogValue, MarshalText = %q, %q, %q, %q, %v", p.String(), p.GoString(), p.LogValue(), text, err)
	}
	var out bytes.Buffer
	slog.New(slog.NewTextHandler(&out, nil)).Info("m", "p", p, "h", holder)
	slog.New(slog.NewJSONHandler(&out, nil)).Info("m", "p", p, "h", holder)
	enc, err := json.Marshal(map[string]any{"p": p})
	if err != nil || !strings.Contains(string(enc), shown) {
		t.Errorf("json.Marshal = %s, %v", enc, err)
	}
	out.Write(enc)
	if enc, err := xml.Marshal(p); err == nil {
		out.Write(enc)
	}
	_ = gob.NewEncoder(&out).Encode(struct{ P inputvalidation.Prompt }{p}) // refusing is right, too
	if strings.Contains(out.String(), "diary") || strings.Count(out.String(), shown) < 3 {
		t.Errorf("encoders show %q", out.String())
	}
}

func TestPromptZero(t *testing.T) {
	var p inputvalidation.Prompt
	if !p.IsZero() || p.Reveal() != "" || p.Bytes() != 0 || p.String() != "[prompt 0 bytes sha256:e3b0c44298fc]" {
		t.Errorf("zero Prompt = %v", p)
	}
}

func FuzzPrompt(f *testing.F) {
	f.Add("hello", 0, 0)
	f.Add("\x1b\x00", 10, 10)
	f.Add("\xc3\x28", 1, 100)
	f.Fuzz(func(t *testing.T, s string, runes, bytes int) {
		p, err := inputvalidation.ParsePrompt("f", s, runes, bytes)
		if err == nil && (p.Reveal() != s || !utf8.ValidString(s) || s == "" || strings.Contains(s, "\x00")) {
			t.Errorf("ParsePrompt accepts %q", s)
		}
	})
}
