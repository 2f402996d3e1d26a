package foreign

import (
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	iv "github.com/llorch/llorch/inputvalidation"
)

// VAL-14, VAL-16: every naughty string can be shown on one line and comes back.
func TestEscape(t *testing.T) {
	changed := 0
	for _, s := range naughty(t) {
		got := iv.Escape(s)
		if n := raw(got, ""); n > 0 || len(got) > 4*len(s) || !utf8.ValidString(got) {
			t.Errorf("Escape(%+q) = %+q: %d raw code points", short(s), short(got), n)
		}
		if back, err := iv.Unescape(got); back != s || err != nil {
			t.Errorf("Unescape(%+q) = %+q, %v", short(got), short(back), err)
		}
		if got != s {
			changed++
		} else if raw(s, "") > 0 {
			t.Errorf("Escape(%+q) changed nothing", short(s))
		}
	}
	if changed < 2000 {
		t.Errorf("only %d strings were escaped", changed)
	}
	t.Logf("%d of %d strings were escaped, 0 dangerous code points left", changed, len(naughty(t)))
}

// VAL-14: a block keeps LF and TAB and nothing else.
func TestEscapeBlock(t *testing.T) {
	for _, s := range naughty(t) {
		got := iv.EscapeBlock(s)
		if raw(got, "\n\t") > 0 || strings.Count(got, "\n") != strings.Count(s, "\n") || strings.Count(got, "\t") != strings.Count(s, "\t") {
			t.Errorf("EscapeBlock(%+q) = %+q", short(s), short(got))
		}
		if back, err := iv.Unescape(got); back != s || err != nil {
			t.Errorf("Unescape(%+q) = %+q, %v", short(got), short(back), err)
		}
	}
}

// VAL-17: a cut text is short, harmless, a prefix, and says how much is missing.
func TestEscapeMax(t *testing.T) {
	cut := 0
	for _, s := range naughty(t) {
		for _, limit := range []int{24, 25, 31, 64, 200} {
			got := iv.EscapeMax(s, limit)
			if len(got) > limit || raw(got, "") > 0 || !utf8.ValidString(got) {
				t.Fatalf("EscapeMax(%+q, %d) = %+q", short(s), limit, short(got))
			}
			if whole := iv.Escape(s); len(whole) <= limit {
				if got != whole {
					t.Errorf("EscapeMax(%+q, %d) = %+q", short(s), limit, short(got))
				}
				continue
			}
			at := strings.LastIndex(got, `\+`)
			if at < 0 {
				t.Fatalf("EscapeMax(%+q, %d) = %+q, without a mark", short(s), limit, got)
			}
			head, err1 := iv.Unescape(got[:at])
			missing, err2 := strconv.Atoi(got[at+2:])
			if err1 != nil || err2 != nil || !strings.HasPrefix(s, head) || len(head)+missing != len(s) {
				t.Errorf("EscapeMax(%+q, %d) = %+q", short(s), limit, got)
			}
			cut++
		}
	}
	if cut < 1000 {
		t.Errorf("only %d texts were cut", cut)
	}
}

// VAL-16: what strangers claim to have escaped: read or refused, never echoed, and
// never from damaged text.
func TestUnescape(t *testing.T) {
	refused := 0
	for _, s := range naughty(t) {
		got, err := iv.Unescape(s)
		if err != nil {
			silent(t, "Unescape", "text", s, err)
			refused++
		} else if !utf8.ValidString(s) || !strings.Contains(s, `\`) && got != s {
			t.Errorf("Unescape(%+q) = %+q", short(s), short(got))
		}
	}
	if refused < 100 {
		t.Errorf("only %d texts were refused", refused)
	}
}
