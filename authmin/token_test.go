package authmin_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/llorch/llorch/authmin"
)

func parsed(t testing.TB, s string) authmin.Token {
	t.Helper()
	tok, err := authmin.ParseToken(s)
	if err != nil {
		t.Fatalf("ParseToken = %v", err)
	}
	return tok
}

// AUTH-6
func TestGenerate(t *testing.T) {
	form := regexp.MustCompile(`^llorch_[A-Z2-7]{52}$`)
	seen := map[string]bool{}
	for range 100 {
		tok := authmin.Generate("llorch")
		if !form.MatchString(tok.Reveal()) || seen[tok.Reveal()] {
			t.Fatal("Generate gives a wrong form or repeats itself")
		}
		seen[tok.Reveal()] = true
		if _, err := authmin.NewKeySet(authmin.Key{Name: "a", Token: tok}); err != nil {
			t.Fatalf("a generated token is refused: %v", err)
		}
	}
	for _, prefix := range []string{"", "A", "1a", "a_b", strings.Repeat("a", 17), "\u00e9"} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("Generate(%q) does not panic", prefix)
				}
			}()
			authmin.Generate(prefix)
		}()
	}
}

// AUTH-7: a label of six digits for any bytes.
func TestFP6(t *testing.T) {
	for s, want := range map[string]string{"test": "9f86d0", "": "e3b0c4"} {
		if got := authmin.FP6(s); got != want {
			t.Errorf("FP6(%q) = %s, want %s", s, got, want)
		}
	}
	if got := authmin.FP6("\xff\x00" + strings.Repeat("x", 1<<20)); len(got) != 6 {
		t.Errorf("FP6(any bytes) = %q", got)
	}
}

// AUTH-7: the package comment tells how probable it is that two tokens share a
// label.
func TestFP6Collisions(t *testing.T) {
	doc, err := os.ReadFile("doc.go")
	if err != nil {
		t.Fatal(err)
	}
	text := strings.Join(strings.Fields(strings.ReplaceAll(string(doc), "//", " ")), " ")
	for n, want := range map[float64]string{100: "of 100 tokens share one with a probability of %s", 1000: "of 1,000 with %s", 10_000: "of 10,000 with %s"} {
		shown := fmt.Sprintf("%.2g %%", 100*-math.Expm1(-n*(n-1)/2/(1<<24)))
		if want = fmt.Sprintf(want, strings.Replace(shown, "0.029", "0.03", 1)); !strings.Contains(text, want) {
			t.Errorf("the package comment does not say %q", want)
		}
	}
}

func TestTokenEqual(t *testing.T) {
	a, b := parsed(t, "aaa"), parsed(t, "aaa")
	var zero authmin.Token
	if !a.Equal(b) || a.Equal(parsed(t, "aab")) || a.Equal(parsed(t, "aaaa")) || a.Equal(zero) || zero.Equal(a) || zero.Equal(zero) {
		t.Error("Equal is wrong")
	}
	if !zero.IsZero() || a.IsZero() || zero.Reveal() != "" || a.Reveal() != "aaa" {
		t.Error("IsZero or Reveal is wrong")
	}
}

// AUTH-4, AUTH-5, G4: every way of printing and encoding, of a token alone and
// within other values, gives the redacted form or fails; that form is no token.
func TestTokenRedacted(t *testing.T) {
	tok := parsed(t, canary)
	shown := "[token " + authmin.FP6(canary) + "]"
	type nested struct {
		T      authmin.Token
		hidden authmin.Token
		p      *authmin.Token
	}
	values := []any{tok, &tok, nested{tok, tok, &tok}, &nested{tok, tok, &tok}, []authmin.Token{tok}, map[string]authmin.Token{"k": tok}, authmin.Key{Name: "n", Token: tok}}
	for _, v := range values {
		if out := renderings(v); leaks(out) {
			t.Errorf("a rendering of %T shows the token", v)
		} else if len(out) < 300 {
			t.Errorf("%T is not rendered: %s", v, out)
		}
	}
	if got := fmt.Sprint(tok); got != shown {
		t.Errorf("Sprint = %q, want %q", got, shown)
	}
	enc, err := json.Marshal(tok)
	if string(enc) != `"`+shown+`"` || err != nil {
		t.Errorf("Marshal = %s, %v", enc, err)
	}
	if got := (authmin.Token{}).String(); got != "[token none]" {
		t.Errorf("zero String = %q", got)
	}
	for _, s := range []string{shown, "[token none]"} {
		if _, err := authmin.ParseToken(s); !errors.Is(err, authmin.ErrMalformed) {
			t.Errorf("ParseToken(%q) = %v, want ErrMalformed", s, err)
		}
	}
}
