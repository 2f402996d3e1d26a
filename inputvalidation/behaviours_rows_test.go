package inputvalidation_test

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/llorch/llorch/inputvalidation"
)

// verdict is what a part of a reference gives: a rule and the offset in the
// part, or "" if it is accepted.
type verdict struct {
	rule   inputvalidation.Rule
	offset int
}

// grammarPart is one variable part of a row of the grammar.
type grammarPart struct {
	name          string
	before, after string
	limit         int // bytes of the part
	differs       map[string]verdict
}

// VAL-23, VAL-24: every part of every row of the grammar, accepted at its
// limits and broken once per rule.
func TestBehaviourGrammar(t *testing.T) {
	const (
		charset   = inputvalidation.RuleCharset
		syntax    = inputvalidation.RuleSyntax
		scheme    = inputvalidation.RuleScheme
		traversal = inputvalidation.RuleTraversal
	)
	common := map[string]verdict{
		"m": {}, "M9": {}, "a.b": {}, "a-b": {}, "a_b": {},
		"": {syntax, 0}, ".": {traversal, 0}, "..": {traversal, 0}, "-x": {syntax, 0}, "con": {syntax, 0}, "LPT9": {syntax, 0}, "nul.gguf": {syntax, 0},
		"a b": {charset, 1}, "a%": {charset, 1}, `a\b`: {charset, 1}, "a\x01": {charset, 1}, "a\x7f": {charset, 1}, "\u00e9": {charset, 0}, "a*": {charset, 1},
		"a#": {syntax, 1}, // a fragment begins, and it is no digest
	}
	with := func(more map[string]verdict) map[string]verdict {
		all := maps.Clone(common)
		maps.Copy(all, more)
		return all
	}
	// The word before a colon must be a name or a scheme; which of the two was
	// meant, nobody knows.
	tag := maps.Clone(common)
	for s, v := range tag {
		if v.rule == syntax && s != "a#" || v.rule == traversal || s == "a*" {
			tag[s] = verdict{scheme, -len("llama3:")}
		}
	}
	repo := map[string]verdict{"_": {}, "a_": {}, "a--b": {syntax, 1}, "a..b": {traversal, 1}, "a-": {syntax, 1}, "a.": {syntax, 1}, ".a": {syntax, 0}}
	repoOnly := map[string]verdict{"a.git": {syntax, 0}, "a.GIT": {syntax, 0}, "a.ipynb": {syntax, 0}, "a.gitx": {}}
	maps.Copy(repoOnly, repo)
	free := map[string]verdict{"a--b": {}, "a..b": {}, "a-": {}, ".a": {}}
	file := map[string]verdict{"a--b": {}, "a..b": {}, ".a": {}, "a.": {syntax, 1}, "a:b": {charset, 1}, "a*": {}, "a@b": {}, "~a": {}, "(1)": {}}
	web := map[string]verdict{"a--b": {}, "a..b": {}, ".a": {}, "a.": {}, "~a+=@b": {}, "a:b": {charset, 1}, "a?b": {charset, 1}}
	host := map[string]verdict{
		"a.b": {}, "a_b": {charset, 1}, ".": {syntax, 0}, "..": {syntax, 0}, "-x": {charset, 0}, "x-": {charset, 1}, "con": {}, "LPT9": {}, "nul.gguf": {},
		"u@h": {charset, 1}, "[": {charset, 0}, "a--b": {},
	}
	for _, p := range []grammarPart{
		{"name", "", "", 96, with(map[string]verdict{"": {inputvalidation.RuleEmpty, -1}, ".a": {syntax, 0}, "_a": {syntax, 0}, "hf": {scheme, 0}, "Https": {scheme, 0}, "oci": {scheme, 0}})},
		{"tag", "llama3:", "", 96, tag},
		{"owner", "hf:", "/b", 96, with(repo)},
		{"bare owner", "", "/b", 96, with(repo)},
		{"repository", "hf://a/", "@r", 96, with(repoOnly)},
		{"revision", "a/b@", ":v", 128, with(free)},
		{"variant", "a/b@r:", "/p", 32, with(free)},
		{"path of a repository", "a/b/c/", "/d", 255, with(file)},
		{"file of a repository", "a/b::file=c/", "/d", 255, with(file)},
		{"file", "file:c/", "/d", 255, with(file)},
		{"host", "https://", ".example/p", 63, with(host)},
		{"path of a server", "https://a.b/c/", "/d", 255, with(web)},
	} {
		for s, want := range p.differs {
			m, err := inputvalidation.ParseModelRef("f", p.before+s+p.after)
			what := fmt.Sprintf("%s: ParseModelRef(%+q)", p.name, p.before+s+p.after)
			if want.rule == "" {
				if err != nil || m.IsZero() {
					t.Errorf("%s = %v, %v, want it accepted", what, m, err)
				}
				continue
			}
			offset := want.offset
			if want.rule != inputvalidation.RuleEmpty {
				offset += len(p.before)
			}
			if e := wantRule(t, what, err, want.rule); e.Offset != offset {
				t.Errorf("%s: offset %d, want %d", what, e.Offset, offset)
			}
		}
		p.checkLength(t)
	}
}

func (p grammarPart) checkLength(t *testing.T) {
	t.Helper()
	for n, ok := range map[int]bool{p.limit - 1: true, p.limit: true, p.limit + 1: false} {
		_, err := inputvalidation.ParseModelRef("f", p.before+strings.Repeat("m", n)+p.after)
		switch {
		case ok && err != nil:
			t.Errorf("%s of %d bytes = %v", p.name, n, err)
		case !ok && p.name == "tag":
			wantRule(t, "a long tag", err, inputvalidation.RuleScheme)
		case !ok:
			if e := wantRule(t, p.name+" over its limit", err, inputvalidation.RuleTooLong); e.Limit != p.limit || e.Actual != n || e.Offset != len(p.before) {
				t.Errorf("%s of %d bytes: %+v", p.name, n, *e)
			}
		}
	}
}

// VAL-23: the digest after any row: exactly one length, lower case, nothing
// before or behind it.
func TestBehaviourDigest(t *testing.T) {
	for _, ref := range []string{"llama3", "llama3:8b", "a/b", "hf:a/b@r:v::file=c", "file:c", "https://a.b/c"} {
		for suffix, ok := range map[string]bool{
			"#sha256=" + sha: true, "#sha256=" + sha[1:]: false, "#sha256=" + sha + "0": false, "#sha256=" + strings.ToUpper(sha): false,
			"#sha256=" + sha[1:] + "g": false, "#sha256=": false, "#": false, "#sha512=" + sha: false, "#SHA256=" + sha: false, "##sha256=" + sha: false,
		} {
			m, err := inputvalidation.ParseModelRef("f", ref+suffix)
			if ok && (err != nil || m.Digest() != sha || !m.Pinned() || !strings.HasSuffix(m.String(), suffix)) {
				t.Errorf("ParseModelRef(%s%s) = %v, %v", ref, suffix, m, err)
			}
			if !ok {
				wantRule(t, "ParseModelRef("+ref+suffix+")", err, inputvalidation.RuleSyntax)
			}
		}
	}
}

// VAL-9, VAL-24, VAL-26: every name that Windows takes for a device, in any
// case and before a dot, and the names beside them that it does not.
func TestBehaviourDeviceNames(t *testing.T) {
	devices := []string{"CON", "PRN", "AUX", "NUL"}
	others := []string{"COM0", "COM10", "LPT0", "LPT10", "CONX", "XCON", "COM", "LPT", "COMA", "AU"}
	for i := 1; i <= 9; i++ {
		devices = append(devices, fmt.Sprint("COM", i), fmt.Sprint("LPT", i))
	}
	check := map[string]func(s string) error{
		"CheckIdentifier": func(s string) error {
			return inputvalidation.CheckIdentifier("f", s, inputvalidation.IdentRules{Extra: "."})
		},
		"ParseRelPath":      func(s string) error { _, err := inputvalidation.ParseRelPath("f", "a/"+s); return err },
		"ParseModelRef hf":  func(s string) error { _, err := inputvalidation.ParseModelRef("f", "a/"+s); return err },
		"ParseModelRef web": func(s string) error { _, err := inputvalidation.ParseModelRef("f", "https://a.b/"+s); return err },
	}
	for name, check := range check {
		for _, d := range devices {
			for _, s := range []string{d, strings.ToLower(d), d[:1] + strings.ToLower(d[1:]), d + ".txt", strings.ToLower(d) + ".tar.gz"} {
				wantRule(t, name+"("+s+")", check(s), inputvalidation.RuleSyntax)
			}
		}
		for _, s := range others {
			if err := check(s); err != nil {
				t.Errorf("%s(%s) = %v", name, s, err)
			}
		}
	}
}

// G2: only the parsers make these values, since no field can be set from outside.
func TestBehaviourSealed(t *testing.T) {
	for _, typ := range []reflect.Type{reflect.TypeFor[inputvalidation.ModelRef](), reflect.TypeFor[inputvalidation.RelPath](), reflect.TypeFor[inputvalidation.Prompt]()} {
		for field := range typ.Fields() {
			if field.IsExported() {
				t.Errorf("%v has the exported field %s", typ, field.Name)
			}
		}
	}
	for _, v := range []any{inputvalidation.ModelRef{}, inputvalidation.RelPath{}} { // VAL-5
		if !reflect.TypeOf(v).Comparable() {
			t.Errorf("%T is not comparable", v)
		}
	}
}

// VAL-12: nothing is normalised, and look-alikes are no identifiers.
func TestBehaviourNoNormalisation(t *testing.T) {
	composed, decomposed := "caf\u00e9", "cafe\u0301"
	a, b := relPath(t, composed), relPath(t, decomposed)
	if a == b || a.String() != composed || b.String() != decomposed {
		t.Errorf("ParseRelPath changes %+q, %+q to %+q, %+q", composed, decomposed, a, b)
	}
	p, err := inputvalidation.ParsePrompt("p", decomposed, 0, 0)
	if err != nil || p.Reveal() != decomposed {
		t.Errorf("ParsePrompt changes %+q to %+q, %v", decomposed, p.Reveal(), err)
	}
	if inputvalidation.Escape(decomposed) != decomposed {
		t.Errorf("Escape changes %+q", decomposed)
	}
	for _, s := range []string{composed, "\u0430dmin", "\uff41dmin", "a\u200bdmin"} {
		wantRule(t, fmt.Sprintf("CheckIdentifier(%+q)", s), inputvalidation.CheckIdentifier("id", s, inputvalidation.IdentRules{Extra: "._-:@+"}), inputvalidation.RuleCharset)
	}
}

// VAL-27, VAL-28: a link inside the root, one that leads out of it, and a root
// that is missing.
func TestBehaviourTree(t *testing.T) {
	base := t.TempDir()
	root := filepath.Join(base, "root")
	for name, content := range map[string]string{"root/f": "inside", "canary": "outside"} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(base, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(base, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for name, target := range map[string]string{"in": "f", "out": "../canary", "dir-out": ".."} {
		if err := os.Symlink(target, filepath.Join(root, name)); err != nil {
			t.Skip("no symbolic links here:", err)
		}
	}
	for path, want := range map[string][2]inputvalidation.Rule{ // strict, FollowWithin
		"f": {}, "in": {inputvalidation.RuleSymlink, ""}, "out": {inputvalidation.RuleSymlink, inputvalidation.RuleOutside},
		"dir-out/canary": {inputvalidation.RuleSymlink, inputvalidation.RuleOutside}, "none": {"not_exist", "not_exist"},
	} {
		for i, rule := range want {
			got, err := openTree(t, root, inputvalidation.TreeConfig{FollowWithin: i == 1}).ReadFile(relPath(t, path), 100)
			if rule != "" {
				wantRule(t, "ReadFile("+path+")", err, rule)
			} else if string(got) != "inside" || err != nil {
				t.Errorf("ReadFile(%s) = %q, %v", path, got, err)
			}
		}
	}
	_, err := inputvalidation.OpenTree(filepath.Join(base, "missing"), inputvalidation.TreeConfig{})
	wantRule(t, "OpenTree(missing)", err, "not_exist")
}
