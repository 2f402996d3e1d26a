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

// TestErrorsNeverEcho feeds a canary in every position of every grammar, to
// every validator and as a path to every method of a Tree (G3, VAL-1, VAL-2).
func TestErrorsNeverEcho(t *testing.T) {
	const canary = "zZqCanary7"
	quiet := func(what string, err error) {
		if err == nil {
			return
		}
		wire, _ := json.Marshal(err)
		if strings.Contains(err.Error()+string(wire), canary) {
			t.Errorf("%s echoes its input: %v %s", what, err, wire)
		}
		if inner := errors.Unwrap(err); inner != nil {
			t.Errorf("%s has %v inside", what, inner)
		}
	}
	frames := []string{
		"%", "%:", ":%", "%/", "/%", "a/%", "a/b@%", "a/b:%", "a/b/%", "a/b::file=%", "hf:%", "file:%", "https:%", "https://%",
		"https://%/x", "https://a.b:%/x", "https://a.b/%", "s3://%", "a#%", "a#sha256=%", "../%", "%/..", "\x1b%", "% ", " %", "%\xff", "%\x00", "-%",
		`{"%":1,"%":2}`, `["%",]`, `{%}`, `"%`, `"\ud800%"`, `{"a":"%"}x`, "com1.%", "%.", "%--/x", "a/%.git",
	}
	for _, b := range behaviours() {
		for _, frame := range frames {
			for _, s := range []string{frame, frame + strings.Repeat("y", 5000)} {
				quiet(b.name, b.check("f", strings.ReplaceAll(s, "%", canary)))
			}
		}
		full := b.accept(min(b.limit, 100))
		for i := range full {
			for _, bad := range []string{"", "\x00", "\xff", "..", "%", "/", ":"} {
				quiet(b.name, b.check("f", full[:i]+canary+bad+full[i:]))
			}
		}
		quiet(b.name+" with a hostile field", b.check(canary+"\n", ""))
	}
	_, err := inputvalidation.Unescape(canary + `\q` + canary)
	quiet("Unescape", err)
	quiet("DialControl", inputvalidation.DialControl()("tcp4", canary+":1", nil))
	_, err = inputvalidation.OpenTree("/"+canary, inputvalidation.TreeConfig{})
	quiet("OpenTree", err)
	tree := openTree(t, t.TempDir(), inputvalidation.TreeConfig{})
	for _, path := range []string{canary, canary + "/" + canary} {
		p := relPath(t, path)
		_, _, err1 := tree.Open(p)
		_, err2 := tree.ReadFile(p, 10)
		_, err3 := tree.Create(relPath(t, "none/"+path), 0o600)
		_, err4 := tree.Sub(p, false)
		_, err5 := p.Join(inputvalidation.RelPath{})
		for _, err := range []error{err1, err2, err3, err4, err5, tree.WriteFile(relPath(t, "none/"+path), nil, 0o600), tree.Remove(p)} {
			if err == nil {
				t.Fatalf("a method accepts %s", path)
			}
			quiet("Tree", err)
		}
	}
}
