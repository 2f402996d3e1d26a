package authmin_test

import (
	"bytes"
	"encoding/gob"
	"encoding/hex"
	"encoding/json"
	"encoding/xml"
	"errors"
	"expvar"
	"fmt"
	"log/slog"
	"regexp"
	"strings"
	"testing"
	"text/template"

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

// AUTH-7
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

const canary = "canary-7fQzZ3kLw9XbT2mVnR5cY8pJdH6gS4aE"

// leaks reports whether out holds the canary, a piece of eight bytes of it, or
// a common encoding.
func leaks(out string) bool {
	low := strings.ToLower(out)
	for i := range len(canary) - 7 {
		piece := canary[i : i+8]
		if strings.Contains(out, piece) || strings.Contains(low, hex.EncodeToString([]byte(piece))) {
			return true
		}
	}
	// the base64 of the canary at any of the three alignments
	for _, piece := range []string{"Y2FuYXJ5LTdmUXpaM2tM", "d2MWelozS0", "FuYXJ5LTdmUXpaM2tMdz", "hbmFyeS03ZlF6WjNrTH", "uYXJ5LTdmUXpa"} {
		if strings.Contains(out, piece) {
			return true
		}
	}
	return false
}

// AUTH-4, AUTH-5, G4
func TestTokenRedacted(t *testing.T) {
	tok := parsed(t, canary)
	shown := "[token " + authmin.FP6(canary) + "]"
	type nested struct {
		T      authmin.Token
		hidden authmin.Token
		p      *authmin.Token
	}
	values := []any{tok, &tok, nested{tok, tok, &tok}, &nested{tok, tok, &tok}, []authmin.Token{tok}, map[string]authmin.Token{"k": tok}, authmin.Key{Name: "n", Token: tok}}
	var out bytes.Buffer
	for _, v := range values {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%b", "%t", "%p", "%100s", "%U"} {
			fmt.Fprintf(&out, verb+"\n", v)
		}
		slog.New(slog.NewTextHandler(&out, nil)).Info("m", "v", v)
		slog.New(slog.NewJSONHandler(&out, nil)).Info("m", "v", v)
		if enc, err := json.Marshal(v); err == nil {
			out.Write(enc)
		}
		if enc, err := xml.Marshal(v); err == nil {
			out.Write(enc)
		}
		_ = gob.NewEncoder(&out).Encode(v) // refusing is right, too
		if err := template.Must(template.New("").Parse("{{.}} {{printf \"%x\" .}}")).Execute(&out, v); err != nil {
			t.Errorf("template: %v", err)
		}
		out.WriteString(expvar.Func(func() any { return v }).String())
	}
	if leaks(out.String()) {
		t.Error("a rendering shows the token")
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
