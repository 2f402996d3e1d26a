package secretstest

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"html"
	"net/url"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/llorch/llorch/secrets"
)

// pieceLen is the length of the shortest piece that counts as a leak.
const pieceLen = 8

// AssertNoLeak fails the test if a blob holds the secret or any piece of 8 bytes
// of it: raw, quoted, as JSON, HTML or URL text, in hexadecimal, binary, octal or
// decimal digits as package fmt writes them, or in either base64 alphabet at any
// offset; upper and lower case of ASCII letters are the same. A secret of fewer than 8 bytes is
// looked for as a whole. The failure names blob, offset and form, never content.
func AssertNoLeak(t testing.TB, secret secrets.Secret, blobs ...string) {
	t.Helper()
	if secret.IsZero() {
		t.Errorf("there is no secret to look for")
		return
	}
	folded := make([]string, len(blobs))
	for i, b := range blobs {
		folded[i] = fold(b)
	}
	err := secret.Use(func(b []byte) error {
		n := min(pieceLen, len(b))
		for at := range len(b) - n + 1 {
			for form, text := range forms(b[at : at+n]) {
				for i, blob := range folded {
					if strings.Contains(blob, fold(text)) {
						t.Errorf("blob %d holds bytes %d to %d of the secret as %s", i, at, at+n-1, form)
						folded[i] = "" // once is enough
					}
				}
			}
		}
		return nil
	})
	if err != nil {
		t.Errorf("use the secret: %v", err)
	}
}

// fold returns s with its ASCII letters in lower case; other bytes need not be text.
func fold(s string) string {
	for c := 'A'; c <= 'Z'; c++ {
		s = strings.ReplaceAll(s, string(c), string(c-'A'+'a'))
	}
	return s
}

// forms returns the usual ways to write b.
func forms(b []byte) map[string]string {
	text := string(b)
	out := map[string]string{
		"raw bytes":    text,
		"a quotation":  strings.Trim(fmt.Sprintf("%q", text), `"`),
		"HTML":         html.EscapeString(text),
		"a URL's path": url.PathEscape(text),
		"a URL query":  url.QueryEscape(text),
	}
	if quoted, err := json.Marshal(text); err == nil && utf8.ValidString(text) { // else it holds less than text
		out["JSON"] = strings.Trim(string(quoted), `"`)
	}
	for _, verb := range []string{"%x", "% x", "%#x", "%# x", "%v", "%#v", "%b", "%#b", "%o", "%#o", "%U"} {
		out["fmt's "+verb] = strings.Trim(strings.TrimPrefix(fmt.Sprintf(verb, b), "[]byte"), "[]{}")
	}
	for name, enc := range map[string]*base64.Encoding{"base64": base64.RawStdEncoding, "URL base64": base64.RawURLEncoding} {
		for before := range 3 {
			// The digits that depend on b alone, with so many bytes before it.
			digits := enc.EncodeToString(append(make([]byte, before), b...))
			out[fmt.Sprintf("%s at offset %d", name, before)] = digits[(before*8+5)/6 : (before+len(b))*8/6]
		}
	}
	return out
}
