package inputvalidation_test

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/llorch/llorch/inputvalidation"
	"pgregory.net/rapid"
)

// VAL-26
func TestParseRelPath(t *testing.T) {
	n := strings.Repeat
	for _, c := range []struct {
		s      string
		rule   inputvalidation.Rule
		offset int
	}{
		{s: "a"},
		{s: "a/b/c.gguf"},
		{s: ".hidden/x"},
		{s: "a..b/...c"},
		{s: "with space/(1) \u65e5\u672c"},
		{s: n("a", 255)},
		{s: n("a", 254) + "/" + n("b", 255)},
		{s: "x/" + n("a", 256), rule: inputvalidation.RuleTooLong, offset: 2},
		{s: n("a/", 2047) + "a"},
		{s: n("a/", 2047) + "ab"},
		{s: n("a/", 2048) + "a", rule: inputvalidation.RuleTooLong, offset: -1},
		{s: "/a", rule: inputvalidation.RuleTraversal, offset: 0},
		{s: "//a", rule: inputvalidation.RuleTraversal, offset: 0},
		{s: "a/", rule: inputvalidation.RuleSyntax, offset: 2},
		{s: "a//b", rule: inputvalidation.RuleSyntax, offset: 2},
		{s: ".", rule: inputvalidation.RuleTraversal, offset: 0},
		{s: "a/./b", rule: inputvalidation.RuleTraversal, offset: 2},
		{s: "a/../b", rule: inputvalidation.RuleTraversal, offset: 2},
		{s: "a/-rf", rule: inputvalidation.RuleSyntax, offset: 2},
		{s: "a./b", rule: inputvalidation.RuleSyntax, offset: 1},
		{s: "a/b ", rule: inputvalidation.RuleSyntax, offset: 3},
		{s: "a/Nul.txt", rule: inputvalidation.RuleSyntax, offset: 2},
		{s: "lpt1", rule: inputvalidation.RuleSyntax, offset: 0},
		{s: `a\b`, rule: inputvalidation.RuleCharset, offset: 1},
		{s: "c:x", rule: inputvalidation.RuleCharset, offset: 1},
		{s: "a\nb", rule: inputvalidation.RuleCharset, offset: 1},
		{s: "a\u202eb", rule: inputvalidation.RuleCharset, offset: 1},
		{s: "../\x1b", rule: inputvalidation.RuleCharset, offset: 3}, // VAL-3: position before structure
		{s: "a\xff", rule: inputvalidation.RuleUTF8, offset: 1},
	} {
		p, err := inputvalidation.ParseRelPath("path", c.s)
		what := fmt.Sprintf("ParseRelPath(%.40q)", c.s)
		if c.rule != "" {
			if e := wantRule(t, what, err, c.rule); e.Offset != c.offset || !p.IsZero() {
				t.Errorf("%s offset = %d (value %v), want %d", what, e.Offset, p, c.offset)
			}
		} else if err != nil || p.String() != c.s || p.IsZero() {
			t.Errorf("%s = %v, %v", what, p, err)
		}
	}
}

func TestRelPathJoin(t *testing.T) {
	a, b := relPath(t, "a/b"), relPath(t, "c.d")
	joined, err := a.Join(b)
	if err != nil || joined != relPath(t, "a/b/c.d") || joined.Base() != "c.d" || b.Base() != "c.d" {
		t.Errorf("Join = %v (base %q), %v", joined, joined.Base(), err)
	}
	var zero inputvalidation.RelPath
	_, err = zero.Join(a)
	wantRule(t, "zero.Join", err, inputvalidation.RuleEmpty)
	_, err = a.Join(zero)
	wantRule(t, "Join(zero)", err, inputvalidation.RuleEmpty)
	half := relPath(t, strings.Repeat("a/", 1023)+"a") // 2047 bytes
	if joined, err = half.Join(half); err != nil || len(joined.String()) != 4095 {
		t.Errorf("Join of 4095 bytes = %v", err)
	}
	_, err = joined.Join(relPath(t, "a"))
	wantRule(t, "Join(4097 bytes)", err, inputvalidation.RuleTooLong)
	if zero.Base() != "" {
		t.Errorf("zero Base = %q", zero.Base())
	}
}

// VAL-5
func TestRelPathText(t *testing.T) {
	var v struct{ P inputvalidation.RelPath }
	if err := json.Unmarshal([]byte(`{"P":"a/b"}`), &v); err != nil || v.P != relPath(t, "a/b") {
		t.Errorf("Unmarshal = %v, %v", v.P, err)
	}
	if out, err := json.Marshal(v); string(out) != `{"P":"a/b"}` || err != nil {
		t.Errorf("Marshal = %s, %v", out, err)
	}
	if err := json.Unmarshal([]byte(`{"P":"a/../b"}`), &v); err == nil || v.P != relPath(t, "a/b") {
		t.Errorf("Unmarshal(bad) = %v, value %v", err, v.P)
	}
}

// relPathLaws: accepted means below any root, one line, and parses to itself.
func relPathLaws(t failer, s string) {
	p, err := inputvalidation.ParseRelPath("f", s)
	if err != nil {
		return
	}
	if again, err := inputvalidation.ParseRelPath("f", p.String()); again != p || err != nil {
		t.Fatalf("ParseRelPath(%q) again = %v, %v", p, again, err)
	}
	rel, err := filepath.Rel("/srv/models", filepath.Join("/srv/models", p.String()))
	if err != nil || rel != p.String() || !filepath.IsLocal(p.String()) {
		t.Fatalf("ParseRelPath(%q): relative to its root it is %q, %v", s, rel, err)
	}
	if inputvalidation.Escape(s) != s {
		t.Fatalf("ParseRelPath accepts %q", s)
	}
}

func TestRelPathLaws(t *testing.T) {
	part := rapid.SampledFrom([]string{"a", "..", ".", "", "-", "b.c", "con", " x", "x ", "\u65e5", "a:b", `\`, "...", "\x00"})
	rapid.Check(t, func(t *rapid.T) {
		relPathLaws(t, strings.Join(rapid.SliceOfN(part, 1, 6).Draw(t, "parts"), "/"))
	})
}

func FuzzRelPath(f *testing.F) {
	for _, s := range []string{"a/b", "../a", "a/..", "/a", "a//b", "c:x", "\xff", "a\u202e", "NUL"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) { relPathLaws(t, s) })
}
