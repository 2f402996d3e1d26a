package examples_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"html"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// canary is a value that must not turn up anywhere.
type canary struct {
	name, value string
	digest      bool // its SHA-256 must not turn up either, beyond the six digits of its label
}

// piece is how many bytes of a canary are one too many; the others are what
// encodings make of it.
const (
	piece       = 8
	base64Piece = 11
	hexPiece    = 2 * piece
	numberPiece = 3 * piece // decimal numbers and blanks
)

// trap finds pieces of canaries in anything.
type trap struct {
	pieces map[int]map[string]string // by length: what a piece belongs to
	first  [1 << 16]bool             // first two bytes of any piece
}

func newTrap(canaries ...canary) *trap {
	t := &trap{pieces: map[int]map[string]string{piece: {}, base64Piece: {}, hexPiece: {}, numberPiece: {}}}
	for _, c := range canaries {
		t.plant(c)
	}
	return t
}

// plant adds every piece of every form of a canary.
func (t *trap) plant(c canary) {
	raw := []byte(c.value)
	quoted, _ := json.Marshal(c.value)
	var inXML bytes.Buffer
	_ = xml.EscapeText(&inXML, raw)
	for _, form := range [][2]string{
		{"as it is", c.value},
		{"in JSON", inside(string(quoted))},
		{"in HTML", html.EscapeString(c.value)},
		{"in XML", inXML.String()},
		{"in Go", inside(strconv.Quote(c.value))},
		{"in ASCII Go", inside(strconv.QuoteToASCII(c.value))},
		{"in a query", url.QueryEscape(c.value)},
		{"in a path", url.PathEscape(c.value)},
	} {
		t.windows(piece, form[1], c.name+" "+form[0])
	}
	t.windows(numberPiece, inside(fmt.Sprint(raw)), c.name+" as numbers")
	t.windows(hexPiece, hex.EncodeToString(raw), c.name+" in hexadecimal")
	t.windows(hexPiece, strings.ToUpper(hex.EncodeToString(raw)), c.name+" in hexadecimal")
	if c.digest {
		sum := sha256.Sum256(raw)
		t.windows(hexPiece, hex.EncodeToString(sum[:]), c.name+" as a digest")
	}
	for shift := range 3 { // where it stands in something larger moves its letters
		padded := append(make([]byte, shift), raw...)
		for _, enc := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
			text := enc.EncodeToString(padded)
			t.windows(base64Piece, text[(shift*8+5)/6:len(text)-len(padded)%3], c.name+" in base64")
		}
	}
}

// inside is a text without its first and last character.
func inside(s string) string { return s[1 : len(s)-1] }

func (t *trap) windows(n int, text, what string) {
	for i := range max(len(text)-n+1, 0) {
		if t.pieces[n][text[i:i+n]] == "" {
			t.pieces[n][text[i:i+n]] = what
		}
		t.first[int(text[i])<<8|int(text[i+1])] = true
	}
}

// find lists what of the canaries is in b, each only once.
func (t *trap) find(b []byte) (found []string) {
	for i := range max(len(b)-piece+1, 0) {
		if !t.first[int(b[i])<<8|int(b[i+1])] {
			continue
		}
		for n, pieces := range t.pieces {
			if i+n > len(b) {
				continue
			}
			if what := pieces[string(b[i:i+n])]; what != "" && !slices.Contains(found, what) {
				found = append(found, what)
			}
		}
	}
	return found
}

// none fails the test for everything that is found in a place.
func (t *trap) none(tb testing.TB, place string, b []byte) {
	tb.Helper()
	for _, what := range t.find(b) {
		tb.Errorf("%s holds %s", place, what)
	}
}

// TestCanarySearchCanFail: each form and each piece is found, and nothing else is.
func TestCanarySearchCanFail(t *testing.T) {
	const value = "Zq8\"<vT3+kL0/mN6 pR9é\nwX2=yB5-cD7_eF1"
	search := newTrap(canary{"it", value, true})
	sum := sha256.Sum256([]byte(value))
	quoted, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	for _, hit := range []string{
		value, "before " + value + " after", value[:piece], value[3 : 3+piece], value[len(value)-piece:], string(quoted), strconv.Quote(value), strconv.QuoteToASCII(value),
		url.QueryEscape(value), url.PathEscape(value), html.EscapeString(value), hex.EncodeToString([]byte(value)), strings.ToUpper(hex.EncodeToString([]byte(value))),
		fmt.Sprint([]byte(value)), fmt.Sprintf("%x", sum), "x" + hex.EncodeToString([]byte(value[10:10+piece])),
		base64.StdEncoding.EncodeToString([]byte(value)), base64.URLEncoding.EncodeToString([]byte("a" + value)), base64.StdEncoding.EncodeToString([]byte("ab" + value)),
		base64.StdEncoding.EncodeToString([]byte("user:" + value)), base64.StdEncoding.EncodeToString([]byte("abc" + value[5:5+2*piece] + "xyz")),
	} {
		if got := search.find([]byte(hit)); len(got) == 0 {
			t.Errorf("not found in %q", hit)
		}
	}
	for _, miss := range []string{"", value[:piece-1], value[len(value)-piece+1:], fmt.Sprintf("%x", sum[:3]), strings.ToLower(value[:piece]), strings.Repeat("Zq8\"<vT", 9)} {
		if got := search.find([]byte(miss)); len(got) != 0 {
			t.Errorf("found %q in %q", got, miss)
		}
	}
}
