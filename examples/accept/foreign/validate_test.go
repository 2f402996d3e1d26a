package foreign

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	iv "github.com/llorch/llorch/inputvalidation"
)

var rules = []iv.Rule{
	iv.RuleEmpty, iv.RuleTooLong, iv.RuleCharset, iv.RuleUTF8, iv.RuleSyntax, iv.RuleScheme, iv.RuleRange, iv.RuleNaN, iv.RuleBounds,
	iv.RuleTraversal, iv.RuleSymlink, iv.RuleOutside, iv.RuleNotRegular, iv.RuleDuplicate, iv.RuleDepth, iv.RuleAddress,
}

// silent fails unless err is made of the field's name, fixed words and numbers
// within the input alone, so that no input can show through (VAL-1, VAL-3).
func silent(t *testing.T, what, field, input string, err error) {
	t.Helper()
	e, ok := errors.AsType[*iv.Error](err)
	if !ok || !slices.Contains(rules, e.Rule) || e.Offset > len(input) {
		t.Fatalf("%s(%+q): %#v", what, short(input), err)
	}
	want := field + ": " + e.Rule.Error()
	wire := map[string]any{"field": field, "rule": string(e.Rule)}
	if e.Offset >= 0 {
		want += fmt.Sprintf(" at byte %d", e.Offset)
		wire["offset"] = e.Offset
	}
	if e.Limit >= 0 {
		want += fmt.Sprintf(" limit %d", e.Limit)
		wire["limit"] = e.Limit
	}
	got, err1 := json.Marshal(err)
	wantJSON, err2 := json.Marshal(wire)
	var a, b any
	err3, err4 := json.Unmarshal(got, &a), json.Unmarshal(wantJSON, &b)
	if err.Error() != want || errors.Join(err1, err2, err3, err4) != nil || fmt.Sprint(a) != fmt.Sprint(b) {
		t.Fatalf("%s(%+q): %v, JSON %s", what, short(input), err, got)
	}
}

func short(s string) string { return s[:min(len(s), 80)] }

// tally counts what validators accept, for the log and for a floor.
type tally map[string]int

// validator checks one input; it reports acceptance, and fails t if what was
// accepted breaks the rules that the specification gives in words.
type validator struct {
	name  string
	check func(t *testing.T, s string) error
}

var (
	identifier = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9_-]{0,254}[A-Za-z0-9])?$`)
	wideName   = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9._:@+-]*[A-Za-z0-9])?$`)
	device     = regexp.MustCompile(`(?i)^(con|prn|aux|nul|com[1-9]|lpt[1-9])(\..*)?$`)
	uuid       = regexp.MustCompile(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)
	hexDigits  = regexp.MustCompile(`^([0-9a-f]{2})+$`)
	refText    = regexp.MustCompile(`^[!-$&-\[\]-~]{1,512}$`) // ASCII but blank, percent and backslash
)

var validators = []validator{
	{"CheckIdentifier", func(t *testing.T, s string) error {
		err := iv.CheckIdentifier("x", s, iv.IdentRules{})
		if want := identifier.MatchString(s) && !device.MatchString(s); (err == nil) != want {
			t.Errorf("CheckIdentifier(%+q): %v", short(s), err)
		}
		return err
	}},
	{"CheckIdentifier, all extras", func(t *testing.T, s string) error {
		err := iv.CheckIdentifier("x", s, iv.IdentRules{Max: 4096, Extra: "._-:@+", Reserved: []string{"root"}})
		want := wideName.MatchString(s) && len(s) <= 4096 && !device.MatchString(s) && !strings.Contains(s, "..") && !strings.EqualFold(s, "root")
		if (err == nil) != want {
			t.Errorf("CheckIdentifier(%+q): %v", short(s), err)
		}
		return err
	}},
	{"ParseUUID", func(t *testing.T, s string) error {
		got, err := iv.ParseUUID("x", s)
		if want := uuid.MatchString(asciiLower(s)); (err == nil) != want || err == nil && got != asciiLower(s) || err != nil && got != "" {
			t.Errorf("ParseUUID(%+q) = %+q, %v", short(s), got, err)
		}
		return err
	}},
	{"ParseHex", func(t *testing.T, s string) error {
		n := min(max(len(s)/2, 1), 4096)
		got, err := iv.ParseHex("x", s, n)
		if want := len(s) == 2*n && hexDigits.MatchString(asciiLower(s)); (err == nil) != want || err == nil && got != asciiLower(s) || err != nil && got != "" {
			t.Errorf("ParseHex(%+q) = %+q, %v", short(s), got, err)
		}
		return err
	}},
	{"ParsePrompt", func(t *testing.T, s string) error {
		p, err := iv.ParsePrompt("x", s, 0, 0)
		want := utf8.ValidString(s) && !strings.ContainsRune(s, 0) && s != "" && len(s) <= 400_000 && utf8.RuneCountInString(s) <= 100_000
		shown := fmt.Sprintf("%v %+v %#v %q", p, p, p, p)
		if (err == nil) != want || err == nil && p.Reveal() != s || err != nil && !p.IsZero() || raw(shown, "") > 0 || len(s) > 20 && strings.Contains(shown, s) {
			t.Errorf("ParsePrompt(%+q): %v, %v", short(s), p, err)
		}
		return err
	}},
	{"ParseModelRef", func(t *testing.T, s string) error {
		m, err := iv.ParseModelRef("x", s)
		if err != nil {
			if !m.IsZero() {
				t.Errorf("ParseModelRef(%+q) = %v, %v", short(s), m, err)
			}
			return err
		}
		again, err := iv.ParseModelRef("x", m.String())
		if err != nil || again != m || !refText.MatchString(s) || !refText.MatchString(m.String()) {
			t.Errorf("ParseModelRef(%+q) = %v, then %v, %v", short(s), m, again, err)
		}
		for part := range strings.SplitSeq(m.Path(), "/") {
			if m.Path() != "" && (part == "" || part == "." || part == ".." || part[0] == '-' || device.MatchString(part)) {
				t.Errorf("ParseModelRef(%+q) has a path of %+q", short(s), m.Path())
			}
		}
		return nil
	}},
	{"ParseRelPath", func(t *testing.T, s string) error {
		p, err := iv.ParseRelPath("x", s)
		want := len(s) <= 4096 && iv.Escape(s) == s && !strings.ContainsAny(s, `\:`)
		for part := range strings.SplitSeq(s, "/") {
			want = want && part != "" && len(part) <= 255 && part[0] != '-' && !device.MatchString(part) && strings.TrimRight(part, ". ") == part
		}
		if (err == nil) != want || err == nil && (p.String() != s || !fs.ValidPath(s) || !filepath.IsLocal(s) || raw(s, "") > 0) || err != nil && !p.IsZero() {
			t.Errorf("ParseRelPath(%+q) = %v, %v", short(s), p, err)
		}
		return err
	}},
	{"CheckJSON", func(t *testing.T, s string) error {
		err := iv.CheckJSON("x", []byte(s), 0)
		if err == nil && (!json.Valid([]byte(s)) || !utf8.ValidString(s) || strings.HasPrefix(s, "\ufeff")) {
			t.Errorf("CheckJSON(%+q) was accepted", short(s))
		}
		return err
	}},
}

// asciiLower is strings.ToLower without its ideas about other letters.
func asciiLower(s string) string {
	return strings.Map(func(r rune) rune {
		if r >= 'A' && r <= 'Z' {
			return r + 'a' - 'A'
		}
		return r
	}, s)
}

// VAL-1, VAL-9, VAL-10, VAL-11, VAL-23, VAL-24, VAL-26, VAL-32: no naughty string
// breaks a validator's word, and none shows in an error.
func TestValidators(t *testing.T) {
	list, accepted := naughty(t), tally{}
	for _, v := range validators {
		for _, s := range list {
			if err := v.check(t, s); err != nil {
				silent(t, v.name, "x", s, err)
				continue
			}
			accepted[v.name]++
		}
		t.Logf("%-28s accepts %4d of %d", v.name, accepted[v.name], len(list))
		if accepted[v.name] < 1 || accepted[v.name] == len(list) {
			t.Errorf("%s accepts %d of %d: nothing was tested", v.name, accepted[v.name], len(list))
		}
	}
}

// VAL-1: a field's name may come from a stranger too.
func TestFieldNames(t *testing.T) {
	simple := regexp.MustCompile(`^[A-Za-z0-9_.\[\]-]{1,64}$`)
	for _, s := range naughty(t) {
		field := "input"
		if simple.MatchString(s) {
			field = s
		}
		silent(t, "CheckIdentifier", field, "", iv.CheckIdentifier(s, "", iv.IdentRules{}))
	}
}

// VAL-32: each string as a JSON text: what encoding/json would repair is refused,
// what it keeps is accepted, and no name may stand twice.
func TestJSONTexts(t *testing.T) {
	kept, repaired := 0, 0
	for _, s := range naughty(t) {
		quoted, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		if err := iv.CheckJSON("x", quoted, 0); err != nil {
			t.Errorf("CheckJSON(%+q): %v", short(s), err)
		}
		object := fmt.Appendf(nil, `{%s:1,"other name":2,%s:3}`, quoted, quoted)
		if err := iv.CheckJSON("x", object, 0); !errors.Is(err, iv.RuleDuplicate) {
			t.Errorf("CheckJSON of %+q twice: %v", short(s), err)
		}
		if strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == '"' || r == '\\' }) {
			continue
		}
		plain, back := []byte(`"`+s+`"`), ""
		if err := json.Unmarshal(plain, &back); err != nil {
			t.Fatalf("%+q: %v", short(s), err)
		}
		err = iv.CheckJSON("x", plain, 0)
		if (err == nil) != (back == s) {
			t.Errorf("CheckJSON(%+q): %v, though decoding gives %+q", short(s), err, short(back))
		}
		if err == nil {
			kept++
		} else {
			silent(t, "CheckJSON", "x", string(plain), err)
			repaired++
		}
	}
	if kept < 1000 || repaired < 50 {
		t.Errorf("%d kept, %d repaired", kept, repaired)
	}
	t.Logf("raw JSON texts: %d kept, %d that encoding/json would repair were refused", kept, repaired)
}
