package inputvalidation_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/llorch/llorch/inputvalidation"
)

// VAL-32
func TestCheckJSON(t *testing.T) {
	nest := func(n int) string { return strings.Repeat("[", n) + strings.Repeat("]", n) }
	members := func(n int) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, `,"k%d":0`, i)
		}
		return "{" + strings.TrimPrefix(b.String(), ",") + "}"
	}
	for _, c := range []struct {
		raw    string
		rule   inputvalidation.Rule
		offset int
	}{
		{raw: ` {"a":[1,-2.5e+3,true,false,null,"x\n\u00e9\ud83d\ude00"],"b":{"a":{}}} ` + "\r\n\t"},
		{raw: `0`},
		{raw: `1e999`}, // a number is passed on as text; its size is the decoder's affair
		{raw: nest(64)},
		{raw: nest(65), rule: inputvalidation.RuleDepth, offset: 64},
		{raw: strings.Repeat(`{"a":`, 65), rule: inputvalidation.RuleDepth, offset: 320},
		{raw: `{"a":1,"b":2,"a":3}`, rule: inputvalidation.RuleDuplicate, offset: 13},
		{raw: `{"a":1,"\u0061":3}`, rule: inputvalidation.RuleDuplicate, offset: 7},
		{raw: `{"a":1,"A":3}`},
		{raw: `{"a":{"a":1},"b":[{"a":1},{"a":1}]}`},
		{raw: `{"x":{"a":1},"a":2}`},
		{raw: members(10_000)},
		{raw: members(10_001), rule: inputvalidation.RuleTooLong, offset: 98891},
		{raw: members(40)[:len(members(40))-1] + `,"k7":1}`, rule: inputvalidation.RuleDuplicate, offset: 311},
		{raw: members(40)[:len(members(40))-1] + `,"k30":1}`, rule: inputvalidation.RuleDuplicate, offset: 311},
		{raw: `{} {}`, rule: inputvalidation.RuleSyntax, offset: 3},
		{raw: `{}x`, rule: inputvalidation.RuleSyntax, offset: 2},
		{raw: "\ufeff{}", rule: inputvalidation.RuleSyntax, offset: 0},
		{raw: "{\"a\":\"\xff\"}", rule: inputvalidation.RuleUTF8, offset: 6},
		{raw: `"\ud83d"`, rule: inputvalidation.RuleUTF8, offset: 1},
		{raw: `"x\ude00"`, rule: inputvalidation.RuleUTF8, offset: 2},
		{raw: `"\ud83d\n"`, rule: inputvalidation.RuleUTF8, offset: 1},
		{raw: `"\ud83d\ud83d"`, rule: inputvalidation.RuleUTF8, offset: 1},
		{raw: `"\ude00\ude00"`, rule: inputvalidation.RuleUTF8, offset: 1},
		{raw: `{"\ud83d":1}`, rule: inputvalidation.RuleUTF8, offset: 2},
		{raw: "\"a\nb\"", rule: inputvalidation.RuleSyntax, offset: 2},
		{raw: `"a\x41"`, rule: inputvalidation.RuleSyntax, offset: 3},
		{raw: `"\u12g4"`, rule: inputvalidation.RuleSyntax, offset: 5},
		{raw: `"abc`, rule: inputvalidation.RuleSyntax, offset: 4},
		{raw: `[1,]`, rule: inputvalidation.RuleSyntax, offset: 3},
		{raw: `[1 2]`, rule: inputvalidation.RuleSyntax, offset: 3},
		{raw: `{"a":1,}`, rule: inputvalidation.RuleSyntax, offset: 7},
		{raw: `{"a" 1}`, rule: inputvalidation.RuleSyntax, offset: 5},
		{raw: `{a:1}`, rule: inputvalidation.RuleSyntax, offset: 1},
		{raw: `01`, rule: inputvalidation.RuleSyntax, offset: 1},
		{raw: `-`, rule: inputvalidation.RuleSyntax, offset: 1},
		{raw: `1.`, rule: inputvalidation.RuleSyntax, offset: 2},
		{raw: `1e`, rule: inputvalidation.RuleSyntax, offset: 2},
		{raw: `.5`, rule: inputvalidation.RuleSyntax, offset: 0},
		{raw: `nul`, rule: inputvalidation.RuleSyntax, offset: 0},
		{raw: `NaN`, rule: inputvalidation.RuleSyntax, offset: 0},
		{raw: ` `, rule: inputvalidation.RuleSyntax, offset: 1},
		{raw: ``, rule: inputvalidation.RuleEmpty, offset: -1},
	} {
		err := inputvalidation.CheckJSON("body", []byte(c.raw), 0)
		what := fmt.Sprintf("CheckJSON(%.60q)", c.raw)
		if c.rule == "" {
			if err != nil {
				t.Errorf("%s = %v, want nil", what, err)
			}
		} else if e := wantRule(t, what, err, c.rule); e.Offset != c.offset {
			t.Errorf("%s offset = %d, want %d", what, e.Offset, c.offset)
		}
	}
}

func TestCheckJSONSize(t *testing.T) {
	raw := []byte(`"12345678"`)
	for limit, rule := range map[int]inputvalidation.Rule{9: inputvalidation.RuleTooLong, -1: inputvalidation.RuleBounds} {
		wantRule(t, fmt.Sprintf("CheckJSON(limit %d)", limit), inputvalidation.CheckJSON("body", raw, limit), rule)
	}
	for _, limit := range []int{10, 11} {
		if err := inputvalidation.CheckJSON("body", raw, limit); err != nil {
			t.Errorf("CheckJSON(limit %d) = %v", limit, err)
		}
	}
	big := []byte(`"` + strings.Repeat("a", 8<<20-2) + `"`)
	if err := inputvalidation.CheckJSON("body", big, 0); err != nil {
		t.Errorf("CheckJSON(8 MiB) = %v", err)
	}
	wantRule(t, "CheckJSON(8 MiB + 1)", inputvalidation.CheckJSON("body", append(big, ' '), 0), inputvalidation.RuleTooLong)
}

// VAL-32: memory does not grow with values, only with the names of open objects.
func TestCheckJSONMemory(t *testing.T) {
	raw := []byte(`[` + strings.TrimSuffix(strings.Repeat(`{"model":"m","prompt":"`+strings.Repeat("x", 1000)+`","stream":true},`, 1000), ",") + `]`)
	if n := testing.AllocsPerRun(10, func() {
		if err := inputvalidation.CheckJSON("body", raw, 0); err != nil {
			t.Fatal(err)
		}
	}); n > 10 {
		t.Errorf("CheckJSON of 1 MB allocates %v times, want at most 10", n)
	}
}

// naiveJSON decides by encoding/json alone: valid, one value, no duplicates,
// depth, no damaged text.
func naiveJSON(raw []byte) bool {
	if !utf8.Valid(raw) || !json.Valid(raw) {
		return false
	}
	// A lone surrogate decodes to U+FFFD; one that stands in the text itself
	// is replaced first, so that it is not mistaken for one.
	clean := bytes.ReplaceAll(raw, []byte("\ufffd"), []byte("?"))
	for _, esc := range []string{`\ufffd`, `\uFFFD`, `\uFffd`, `\ufFfd`, `\uffFd`, `\ufffD`} {
		if bytes.Contains(clean, []byte(esc)) {
			return true // the caller skips what this finder cannot judge
		}
	}
	dec := json.NewDecoder(bytes.NewReader(clean))
	dec.UseNumber()
	type object struct {
		names map[string]bool
		key   bool // the next token is a name or the end
	}
	var open []*object
	for {
		tok, err := dec.Token()
		if err != nil {
			return errors.Is(err, io.EOF)
		}
		var top *object
		if len(open) > 0 {
			top = open[len(open)-1]
		}
		if s, ok := tok.(string); ok {
			if strings.Contains(s, "\ufffd") {
				return false
			}
			if top != nil && top.names != nil && top.key {
				if top.names[s] {
					return false
				}
				top.names[s], top.key = true, false
				continue
			}
		}
		switch tok {
		case json.Delim('{'):
			open = append(open, &object{names: map[string]bool{}, key: true})
		case json.Delim('['):
			open = append(open, &object{})
		case json.Delim('}'), json.Delim(']'):
			open = open[:len(open)-1]
		}
		if len(open) > 64 {
			return false
		}
		if len(open) > 0 && (tok != json.Delim('{') && tok != json.Delim('[')) {
			open[len(open)-1].key = true
		}
	}
}

func FuzzCheckJSON(f *testing.F) {
	for _, s := range []string{
		`{"a":1,"a":2}`, `{"a":{"b":[1,2,{"c":null}]},"d":"\ud83d\ude00"}`, `"\ud800"`, `[1,]`, `{"a":1,"\u0061":2}`, "\xff", `{} `, `-0.1E-2`, `{"":{},"x":{"":1}}`,
		`{"a":1,"b":2,"c":3,"d":4,"e":5,"f":6,"g":7,"h":8,"i":9,"j":10,"k":11,"l":12,"m":13,"n":14,"o":15,"p":16,"q":17,"a":18}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		if bytes.Contains(bytes.ToLower(raw), []byte(`\ufffd`)) {
			return
		}
		err := inputvalidation.CheckJSON("f", raw, 1<<20)
		if want := naiveJSON(raw); (err == nil) != want {
			t.Errorf("CheckJSON(%q) = %v, the oracle says accepted %v", raw, err, want)
		}
	})
}
