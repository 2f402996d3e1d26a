package inputvalidation_test

import (
	"bufio"
	"math"
	"math/rand/v2"
	"os"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/llorch/llorch/inputvalidation"
	"pgregory.net/rapid"
)

// vectors reads testdata/escape.tsv: input and output as Go literals.
func vectors(t testing.TB) [][2]string {
	t.Helper()
	f, err := os.Open("testdata/escape.tsv")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var out [][2]string
	for sc := bufio.NewScanner(f); sc.Scan(); {
		in, want, ok := strings.Cut(sc.Text(), "\t")
		raw, err1 := strconv.Unquote(in)
		escaped, err2 := strconv.Unquote(want)
		if !ok || err1 != nil || err2 != nil {
			t.Fatalf("line %d is not two Go literals: %s", len(out)+1, sc.Text())
		}
		out = append(out, [2]string{raw, escaped})
	}
	return out
}

// VAL-14, VAL-15
func TestEscapeVectors(t *testing.T) {
	all := vectors(t)
	if len(all) < 36+60 {
		t.Fatalf("%d vectors, want at least 96", len(all))
	}
	for _, v := range all {
		if got := inputvalidation.Escape(v[0]); got != v[1] {
			t.Errorf("Escape(%+q) = %+q, want %+q", v[0], got, v[1])
		}
		if got, err := inputvalidation.Unescape(v[1]); got != v[0] || err != nil {
			t.Errorf("Unescape(%+q) = %+q, %v, want %+q", v[1], got, err, v[0])
		}
	}
}

// VAL-14 over all 1,112,064 runes: lossless, without a collision, hidden where
// needed, a Go literal.
func TestEscapeEveryRune(t *testing.T) {
	t.Parallel()
	seen := make(map[string]rune, unicode.MaxRune)
	for r := rune(0); r <= unicode.MaxRune; r++ {
		if !utf8.ValidRune(r) {
			continue
		}
		s := string(r)
		got := inputvalidation.Escape(s)
		if back, err := inputvalidation.Unescape(got); back != s || err != nil {
			t.Fatalf("Unescape(Escape(%U)) = %+q, %v", r, back, err)
		}
		if other, dup := seen[got]; dup {
			t.Fatalf("%U and %U both escape to %s", r, other, got)
		}
		seen[got] = r
		if got == s {
			if mustHide(r) || !strconv.IsPrint(r) || r == '\\' {
				t.Errorf("%U stays raw", r)
			}
			continue
		}
		if lit, err := strconv.Unquote(`"` + got + `"`); lit != s || err != nil || dangerousAt(got) >= 0 {
			t.Fatalf("%s is not a harmless Go literal of %U: %v", got, r, err)
		}
	}
	if len(seen) != 1_112_064 {
		t.Errorf("%d runes were tried, want 1,112,064", len(seen))
	}
}

// G4 on 500,000 random byte strings: every law, and no two that look the same.
func TestEscapeRandomBytes(t *testing.T) {
	t.Parallel()
	const spice = "\\\"n\n\t\xe2\x80\xae\xc3\xed"
	rng := rand.New(rand.NewPCG(14, 15))
	seen, seenBlock := make(map[string]string, 500_000), make(map[string]string, 500_000)
	buf := make([]byte, 24)
	for range 500_000 {
		b := buf[:rng.IntN(len(buf))]
		for i := range b {
			b[i] = byte(rng.Uint32())
			if rng.IntN(3) == 0 {
				b[i] = spice[rng.IntN(len(spice))]
			}
		}
		s := string(b)
		escapeLaws(t, s)
		got, block := inputvalidation.Escape(s), inputvalidation.EscapeBlock(s)
		if other, found := seen[got]; found && other != s {
			t.Fatalf("%+q and %+q both escape to %+q", s, other, got)
		}
		if other, found := seenBlock[block]; found && other != s {
			t.Fatalf("%+q and %+q both escape to the block %+q", s, other, block)
		}
		seen[got], seenBlock[block] = s, s
	}
}

// VAL-16: RuleSyntax with the offset of the offence; other Go escapes are read.
func TestUnescape(t *testing.T) {
	for s, offset := range map[string]int{
		`\q`: 0, `ab\`: 2, `\x4`: 0, `\u12`: 0, `\ud800`: 0, `\U00110000`: 0, `\400`: 0, `\'`: 0, `a\"`: 1, `\u{1b}`: 0, `text\+12`: 4, "ab\xff": 2, `\n` + "\xc3": 2,
	} {
		got, err := inputvalidation.Unescape(s)
		if e := wantRule(t, "Unescape("+s+")", err, inputvalidation.RuleSyntax); e.Offset != offset || got != "" {
			t.Errorf("Unescape(%q) = %q at %d, want \"\" at %d", s, got, e.Offset, offset)
		}
	}
	for s, want := range map[string]string{`\x41\u0041\101\U00000041`: "AAAA", `\377`: "\xff", `"'`: `"'`, "a\nb": "a\nb"} {
		if got, err := inputvalidation.Unescape(s); got != want || err != nil {
			t.Errorf("Unescape(%q) = %q, %v, want %q", s, got, err, want)
		}
	}
}

// VAL-17: the law of EscapeMax. The prefix is a prefix of Escape that ends
// between units, as long as possible, and the count is that of the rest.
func TestEscapeMaxLaw(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := string(rapid.SliceOfN(rapid.Byte(), 0, 120).Draw(t, "s"))
		if rapid.Bool().Draw(t, "text") {
			s = rapid.StringN(0, 60, -1).Draw(t, "s2")
		}
		limit := rapid.IntRange(-5, 150).Draw(t, "max")
		escapeMaxLaw(t, s, limit)
	})
}

// VAL-17: a limit below 24 counts as 24, where "\+" and every count have room.
func TestEscapeMaxSmallLimits(t *testing.T) {
	for limit := -1; limit < 32; limit++ {
		for n := range 40 {
			for _, unit := range []string{"a", "\\", "\xff", "\u65e5", "\U000e0041"} {
				escapeMaxLaw(t, strings.Repeat(unit, n), limit)
			}
		}
	}
}

// VAL-17: what is held is bounded by the text, whatever the limit.
func TestEscapeMaxHugeLimits(t *testing.T) {
	for _, limit := range []int{math.MaxInt, math.MaxInt - 1, math.MaxInt - 10, math.MaxInt / 2, 1 << 30} {
		for _, s := range []string{"\n", "\xff", strings.Repeat("\U000e0041", 1000)} {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			got := inputvalidation.EscapeMax(s, limit)
			runtime.ReadMemStats(&after)
			if want := inputvalidation.Escape(s); got != want {
				t.Errorf("EscapeMax(%+.20q, %d) = %+.20q, want %+.20q", s, limit, got, want)
			}
			if n := after.TotalAlloc - before.TotalAlloc; n > 1<<20 {
				t.Errorf("EscapeMax(%+.20q, %d) allocates %d bytes", s, limit, n)
			}
		}
	}
}

// VAL-17: clean text is the same string, without allocation.
func TestEscapeCleanAllocatesNothing(t *testing.T) {
	s := strings.Repeat("clean \u65e5\u672c ", 20)
	var out string
	if n := testing.AllocsPerRun(100, func() { out = inputvalidation.Escape(s); out = inputvalidation.EscapeMax(out, 1000) }); n != 0 || out != s {
		t.Errorf("Escape of clean text allocates %v times", n)
	}
}

func FuzzUnescape(f *testing.F) {
	for _, v := range vectors(f) {
		f.Add(v[0])
		f.Add(v[1])
	}
	f.Fuzz(func(t *testing.T, s string) {
		if back, err := inputvalidation.Unescape(inputvalidation.Escape(s)); back != s || err != nil {
			t.Errorf("Unescape(Escape(%+q)) = %+q, %v", s, back, err)
		}
		raw, err := inputvalidation.Unescape(s)
		if err == nil && len(raw) > len(s) {
			t.Errorf("Unescape(%+q) grows to %+q", s, raw)
		}
	})
}
