//go:build unix

package secrets_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/llorch/llorch/secrets"
)

// FuzzParseKey: whatever is accepted has 32 bytes that are not all the same, and
// no error repeats the input.
func FuzzParseKey(f *testing.F) {
	for _, s := range []string{strings.Repeat("0a", 32) + "\n", strings.Repeat("Ab+/", 11)[:43], strings.Repeat("Ab-_", 10) + "AbA=", strings.Repeat("\n", 31) + "x\n", ""} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		text := string(b)
		k, err := secrets.ParseKey(secrets.New(bytes.Clone(b)))
		if err != nil {
			if !errors.Is(err, secrets.ErrFormat) && !errors.Is(err, secrets.ErrWeakKey) || len(text) > 12 && strings.Contains(err.Error(), text) {
				t.Fatalf("%q: %v", text, err)
			}
			return
		}
		_ = k.Use(func(key *[32]byte) error {
			if bytes.Count(key[:], key[:1]) == 32 {
				t.Fatalf("%q gives a weak key", text)
			}
			return nil
		})
	})
}

// FuzzLine: whatever is accepted is the text less one newline, printable at both
// ends and without control characters.
func FuzzLine(f *testing.F) {
	for _, s := range []string{"token", "token\n", "a\r\n", "\ufeffa", " a", "a\xff", "a\u0085", "a\x00"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		src, err := secrets.NewSource(secrets.Config{
			LookupEnv: func(name string) (string, bool) { return text, name == "A" },
			Unsetenv:  func(string) error { return nil },
		})
		if err != nil {
			t.Fatal(err)
		}
		s, _, err := src.Load(t.Context(), "A")
		if err != nil {
			if !errors.Is(err, secrets.ErrFormat) {
				t.Fatalf("%q: %v", text, err)
			}
			return
		}
		got, _ := content(s)
		line := string(got)
		if text != line && text != line+"\n" && text != line+"\r\n" || line == "" || strings.TrimSpace(line) != line ||
			strings.ContainsFunc(line, unicode.IsControl) || !utf8.ValidString(line) {
			t.Fatalf("%q = %q", text, line)
		}
	})
}
