package inputvalidation_test

import (
	"encoding/json"
	"errors"
	"io/fs"
	"strings"
	"testing"

	"github.com/llorch/llorch/inputvalidation"
)

// wantRule fails unless err is an *Error about rule; it returns the error.
func wantRule(t *testing.T, what string, err error, rule inputvalidation.Rule) *inputvalidation.Error {
	t.Helper()
	e, ok := errors.AsType[*inputvalidation.Error](err)
	if !ok || !errors.Is(err, rule) {
		t.Errorf("%s = %v, want rule %q", what, err, string(rule))
		return &inputvalidation.Error{Offset: -2}
	}
	return e
}

// VAL-1: the text is field, fixed words, position, limit; an untrusted field is not shown.
func TestErrorText(t *testing.T) {
	for _, c := range []struct {
		err        inputvalidation.Error
		text, json string
	}{
		{
			inputvalidation.Error{Field: "a.b[0]_-", Rule: inputvalidation.RuleCharset, Offset: 3, Limit: -1, Actual: -1},
			"a.b[0]_-: has a character that is not allowed at byte 3",
			`{"field":"a.b[0]_-","rule":"charset","offset":3}`,
		},
		{
			inputvalidation.Error{Field: "evil\nfield", Rule: inputvalidation.RuleTooLong, Offset: -1, Limit: 0, Actual: 9},
			"input: is too long limit 0",
			`{"field":"input","rule":"too_long","limit":0}`,
		},
		{
			inputvalidation.Error{Field: strings.Repeat("f", 65), Rule: inputvalidation.RuleDepth, Offset: 0, Limit: 64, Actual: -1},
			"input: is nested too deep at byte 0 limit 64",
			`{"field":"input","rule":"depth","offset":0,"limit":64}`,
		},
	} {
		if got := c.err.Error(); got != c.text {
			t.Errorf("Error() = %q, want %q", got, c.text)
		}
		if got, err := json.Marshal(&c.err); err != nil || string(got) != c.json {
			t.Errorf("Marshal = %s, %v, want %s", got, err, c.json)
		}
	}
	unknown := inputvalidation.Rule("from elsewhere")
	if got := unknown.Error(); got != "is refused" {
		t.Errorf("Error() of an unknown rule = %q", got)
	}
	seen := map[string]inputvalidation.Rule{}
	for _, r := range inputvalidation.AllRules {
		if other, dup := seen[r.Error()]; dup || r.Error() == unknown.Error() {
			t.Errorf("rule %q has the words of %q", string(r), string(other))
		}
		seen[r.Error()] = r
	}
}

// VAL-2: path errors match the sentinels of package io/fs and hide PathError.
func TestErrorMatchesFS(t *testing.T) {
	tree := openTree(t, t.TempDir(), inputvalidation.TreeConfig{})
	_, _, err := tree.Open(relPath(t, "none"))
	if !errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrExist) || errors.Is(err, fs.ErrPermission) {
		t.Errorf("Open(none) = %v, want exactly fs.ErrNotExist", err)
	}
	if _, ok := errors.AsType[*fs.PathError](err); ok {
		t.Errorf("Open(none) = %v exposes a PathError", err)
	}
	if err := tree.WriteFile(relPath(t, "here"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := tree.Create(relPath(t, "here"), 0o600); !errors.Is(err, fs.ErrExist) || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Create(here) = %v, want exactly fs.ErrExist", err)
	}
}

// parsers lists every function that judges a text; all must obey VAL-3 and G3.
var parsers = map[string]func(field, s string) error{
	"CheckIdentifier": func(f, s string) error {
		return inputvalidation.CheckIdentifier(f, s, inputvalidation.IdentRules{})
	},
	"ParseUUID":     func(f, s string) error { _, err := inputvalidation.ParseUUID(f, s); return err },
	"ParseHex":      func(f, s string) error { _, err := inputvalidation.ParseHex(f, s, 16); return err },
	"ParsePrompt":   func(f, s string) error { _, err := inputvalidation.ParsePrompt(f, s, 0, 64); return err },
	"ParseModelRef": func(f, s string) error { _, err := inputvalidation.ParseModelRef(f, s); return err },
	"ParseRelPath":  func(f, s string) error { _, err := inputvalidation.ParseRelPath(f, s); return err },
	"CheckJSON":     func(f, s string) error { return inputvalidation.CheckJSON(f, []byte(s), 5000) },
}

// VAL-3: empty, then length, then UTF-8 win over everything else.
func TestCheckOrder(t *testing.T) {
	long := strings.Repeat("\xff\n", 4000)
	for name, parse := range parsers {
		wantRule(t, name+"(empty)", parse("f", ""), inputvalidation.RuleEmpty)
		wantRule(t, name+"(long and damaged)", parse("f", long), inputvalidation.RuleTooLong)
		if e := wantRule(t, name+"(damaged)", parse("f", "\n\x00 \xc3("), inputvalidation.RuleUTF8); name != "ParseHex" && e.Offset != 3 {
			t.Errorf("%s(damaged) offset = %d, want 3", name, e.Offset)
		}
	}
}

// NUL is refused at the start, in the middle and at the end, everywhere.
func TestNULRefused(t *testing.T) {
	for name, parse := range parsers {
		for _, s := range []string{"\x00ab", "a\x00b", "ab\x00"} {
			if parse("f", s) == nil {
				t.Errorf("%s accepts NUL in %q", name, s)
			}
		}
	}
}

// TestErrorsNeverEcho feeds a canary in every position of every grammar (G3).
func TestErrorsNeverEcho(t *testing.T) {
	const canary = "zZqCanary7"
	frames := []string{
		"%", "%:", ":%", "%/", "/%", "a/%", "a/b@%", "a/b:%", "a/b/%", "a/b::file=%", "hf:%", "file:%", "https:%", "https://%",
		"https://%/x", "https://a.b:%/x", "https://a.b/%", "s3://%", "a#%", "a#sha256=%", "../%", "%/..", "\x1b%", "% ", " %", "%\xff", "%\x00", "-%",
		`{"%":1,"%":2}`, `["%",]`, `{%}`, `"%`, `"\ud800%"`, `{"a":"%"}x`, "com1.%", "%.", "%--/x", "a/%.git",
	}
	for name, parse := range parsers {
		for _, frame := range frames {
			for _, s := range []string{frame, frame + strings.Repeat("y", 5000)} {
				input := strings.ReplaceAll(s, "%", canary)
				err := parse("f", input)
				if err == nil {
					continue
				}
				wire, _ := json.Marshal(err)
				if strings.Contains(err.Error()+string(wire), canary) {
					t.Errorf("%s(%q) echoes its input: %v %s", name, input, err, wire)
				}
			}
		}
	}
}
