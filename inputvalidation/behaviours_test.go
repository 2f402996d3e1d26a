package inputvalidation_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/llorch/llorch/inputvalidation"
)

// behaviour is one validator in the one table that all of them have to obey.
type behaviour struct {
	name   string
	limit  int                         // bytes
	check  func(field, s string) error // what is tested
	accept func(n int) string          // an accepted text of n bytes
	exact  bool                        // limit is also the only length
	nul    inputvalidation.Rule        // the rule that NUL breaks
	order  string                      // bad position late, bad structure early
}

func behaviours() []behaviour {
	letters := func(n int) string { return strings.Repeat("a", n) }
	path := func(n int) string { return strings.Repeat("a/", (n-1)/2) + strings.Repeat("b", n-(n-1)/2*2) }
	ident := func(limit int) func(string, string) error {
		return func(f, s string) error {
			return inputvalidation.CheckIdentifier(f, s, inputvalidation.IdentRules{Max: limit})
		}
	}
	hex := func(bytes int) func(string, string) error {
		return func(f, s string) error { _, err := inputvalidation.ParseHex(f, s, bytes); return err }
	}
	const charset = inputvalidation.RuleCharset
	list := []behaviour{
		{name: "CheckIdentifier", limit: 256, check: ident(0), accept: letters, nul: charset, order: "-a "},
		{name: "CheckIdentifier 1", limit: 1, check: ident(1), accept: letters, nul: charset},
		{name: "CheckIdentifier 4096", limit: 4096, check: ident(4096), accept: letters, nul: charset, order: "-a "},
		{name: "ParsePrompt", limit: 64, accept: letters, nul: charset, check: func(f, s string) error {
			_, err := inputvalidation.ParsePrompt(f, s, 0, 64)
			return err
		}},
		{name: "ParsePrompt by default", limit: 400_000, accept: letters, nul: charset, check: func(f, s string) error {
			_, err := inputvalidation.ParsePrompt(f, s, 1<<30, 0)
			return err
		}},
		{
			name: "ParseModelRef", limit: 512, nul: charset, order: "../a%",
			accept: func(n int) string { return "file:" + path(n-len("file:")) },
			check:  func(f, s string) error { _, err := inputvalidation.ParseModelRef(f, s); return err },
		},
		{
			name: "ParseRelPath", limit: 4096, accept: path, nul: charset, order: "../a\u202e",
			check: func(f, s string) error { _, err := inputvalidation.ParseRelPath(f, s); return err },
		},
		{
			name: "CheckJSON", limit: 64, nul: inputvalidation.RuleSyntax,
			accept: func(n int) string { return `"` + letters(n-2) + `"` },
			check:  func(f, s string) error { return inputvalidation.CheckJSON(f, []byte(s), 64) },
		},
		{
			name: "CheckJSON by default", limit: 8 << 20, nul: inputvalidation.RuleSyntax,
			accept: func(n int) string { return `"` + letters(n-2) + `"` },
			check:  func(f, s string) error { return inputvalidation.CheckJSON(f, []byte(s), 0) },
		},
		{
			name: "ParseUUID", limit: 36, exact: true, nul: charset,
			accept: func(int) string { return "0198f3a2-7b1c-7def-8abc-0123456789ab" },
			check:  func(f, s string) error { _, err := inputvalidation.ParseUUID(f, s); return err },
		},
	}
	for _, bytes := range []int{1, 16, 20, 28, 32, 48, 64} { // MD5, SHA-1, SHA-224 to SHA-512
		list = append(list, behaviour{name: fmt.Sprint("ParseHex ", bytes), limit: 2 * bytes, exact: true, check: hex(bytes), accept: letters, nul: charset})
	}
	return list
}

// VAL-3, VAL-4: one byte below the limit, at it and above it.
func TestBehaviourLength(t *testing.T) {
	for _, b := range behaviours() {
		full := b.accept(b.limit)
		if err := b.check("f", full); err != nil {
			t.Errorf("%s at the limit = %v", b.name, err)
		}
		if e := wantRule(t, b.name+" above the limit", b.check("f", full+"a"), inputvalidation.RuleTooLong); e.Limit != b.limit || e.Actual != b.limit+1 || e.Offset != -1 {
			t.Errorf("%s above the limit: %+v, want limit %d, actual %d", b.name, *e, b.limit, b.limit+1)
		}
		switch {
		case b.limit == 1:
		case b.exact:
			wantRule(t, b.name+" below the limit", b.check("f", full[:b.limit-1]), inputvalidation.RuleSyntax)
		default:
			if err := b.check("f", b.accept(b.limit-1)); err != nil {
				t.Errorf("%s below the limit = %v", b.name, err)
			}
		}
	}
}

// NUL is refused at the start, in the middle and at the end, where it stands.
func TestBehaviourNUL(t *testing.T) {
	for _, b := range behaviours() {
		full := b.accept(b.limit)
		for _, at := range []int{0, (len(full) - 1) / 2, len(full) - 1} {
			s := full[:at] + "\x00" + full[at+1:]
			if e := wantRule(t, fmt.Sprintf("%s with NUL at %d", b.name, at), b.check("f", s), b.nul); e.Offset != at {
				t.Errorf("%s with NUL at %d: offset %d", b.name, at, e.Offset)
			}
		}
	}
}

// VAL-3, VAL-34: empty, then length, then UTF-8 with the offset of the damage,
// then the first bad position, then structure.
func TestBehaviourOrder(t *testing.T) {
	for _, b := range behaviours() {
		wantRule(t, b.name+"(empty)", b.check("f", ""), inputvalidation.RuleEmpty)
		wantRule(t, b.name+"(long and damaged)", b.check("f", strings.Repeat("\xff\n", b.limit)), inputvalidation.RuleTooLong)
		full := b.accept(b.limit)
		for _, damage := range []string{"\xff", "\xc3", "\x80"} { // stray, cut, continuation
			for at := range min(len(full), 40) {
				s := full[:at] + damage + full[at+1:]
				if at > 0 {
					s = "\x00" + s[1:] // a bad position before it
				}
				if e := wantRule(t, fmt.Sprintf("%s(%+.50q)", b.name, s), b.check("f", s), inputvalidation.RuleUTF8); e.Offset != at {
					t.Errorf("%s(damaged at %d): offset %d", b.name, at, e.Offset)
				}
			}
		}
		if b.limit >= 4 { // a replacement character is no damage, what follows it is
			if e := wantRule(t, b.name+"(damage after U+FFFD)", b.check("f", "\ufffd\xff"), inputvalidation.RuleUTF8); e.Offset != 3 {
				t.Errorf("%s(damage after U+FFFD): offset %d, want 3", b.name, e.Offset)
			}
		}
		if len(full) > 3 { // of two bad positions the first counts
			s := full[:1] + "\x00" + full[2:len(full)-1] + "\x00"
			if e := wantRule(t, b.name+"(twice bad)", b.check("f", s), b.nul); e.Offset != 1 {
				t.Errorf("%s(bad at 1 and at the end): offset %d", b.name, e.Offset)
			}
		}
		if b.order != "" {
			at := strings.IndexAny(b.order, " %\u202e")
			if e := wantRule(t, b.name+"("+b.order+")", b.check("f", b.order), inputvalidation.RuleCharset); e.Offset != at {
				t.Errorf("%s(%+q): offset %d, want %d", b.name, b.order, e.Offset, at)
			}
		}
	}
}

// VAL-4, VAL-11: the limit in runes, counted after the bytes.
func TestBehaviourRunes(t *testing.T) {
	for runes, limit := range map[int]int{3: 3, 100_000: 0} {
		for n, ok := range map[int]bool{runes - 1: true, runes: true, runes + 1: false} {
			_, err := inputvalidation.ParsePrompt("f", strings.Repeat("\u00e9", n), limit, 0)
			if ok && err != nil {
				t.Errorf("%d runes of %d = %v", n, runes, err)
			}
			if !ok {
				if e := wantRule(t, fmt.Sprint(n, " runes"), err, inputvalidation.RuleTooLong); e.Limit != runes || e.Actual != runes+1 {
					t.Errorf("%d runes: %+v", n, *e)
				}
			}
		}
	}
}

// G1: what is accepted costs no memory beside what is returned.
func TestBehaviourAllocations(t *testing.T) {
	for _, b := range behaviours() {
		full, most := b.accept(b.limit), 0.0
		switch {
		case strings.HasPrefix(b.name, "ParsePrompt"), strings.HasPrefix(b.name, "CheckJSON"):
			most = 1 // the Prompt itself; the bytes of the text
		case b.name == "ParseModelRef":
			most = 8 // the canonical form
		}
		if n := testing.AllocsPerRun(3, func() {
			if err := b.check("f", full); err != nil {
				t.Fatal(err)
			}
		}); n > most {
			t.Errorf("%s allocates %v times, want at most %v", b.name, n, most)
		}
	}
}
