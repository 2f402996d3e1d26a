package secrets_test

import (
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/llorch/llorch/secrets"
)

var (
	ringHexA = hex.EncodeToString(count32())
	ringB64A = base64.StdEncoding.EncodeToString(count32())
	ringHexB = strings.Repeat("0f1e2d3c", 8)
)

// SCR-25: what a keyring file may look like. Keys in either encoding are the same.
func TestParseKeyring(t *testing.T) {
	key, err := secrets.NewKey(count32())
	if err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string][]uint32{ // the first is the primary
		"7 " + ringHexA: {7},
		"7 " + ringHexA + "\n# old\n3 " + ringHexB + "\n":       {7, 3},
		"# c\n#\n9 " + ringB64A + "\r\n1 " + ringHexB + "\r\n":  {9, 1},
		"4294967295 " + strings.TrimRight(ringB64A, "=") + "\n": {4294967295},
		"5 " + strings.ToUpper(ringHexA) + "\n#":                {5},
	} {
		ring, err := secrets.ParseKeyring(secretOf(text))
		if err != nil {
			t.Errorf("%q: %v", text, err)
			continue
		}
		sorted := slices.Sorted(slices.Values(want))
		if got := slices.Collect(ring.IDs()); !slices.Equal(got, sorted) {
			t.Errorf("%q: IDs = %d, want %d", text, got, sorted)
		}
		box, err := ring.Seal(nil, []byte("x"), nil)
		if err != nil {
			t.Fatal(err)
		}
		if id, _ := ring.KeyOf(box); id != want[0] {
			t.Errorf("%q: the primary is %d, want %d", text, id, want[0])
		}
		same, err := secrets.NewKeyring(want[0], map[uint32]secrets.Key{want[0]: key})
		if err != nil {
			t.Fatal(err)
		}
		if got, err := same.Open(nil, box, nil); string(got) != "x" || err != nil {
			t.Errorf("%q holds another key: %v", text, err)
		}
	}
}

// SCR-25: each broken rule, and that errors carry the number of the line only.
func TestParseKeyringRefuses(t *testing.T) {
	good := "1 " + ringHexA + "\n"
	id, form, key := "line 2: the id is not a number", "line 2: it does not read like", "line 2: a key is 64 hex digits"
	for text, want := range map[string]string{
		"": "no key", "# only a comment\n": "no key", "\n": "line 1: it does not read like",
		good + "\n" + good: form, good + "   ": id, good + " 2 " + ringHexB: id, good + "2": form, good + "2\t" + ringHexB: form,
		good + "2  " + ringHexB: key, good + "2 " + ringHexB + " ": key, good + "2 " + ringHexB + " # x": key, good + "2 ": key,
		good + "0 " + ringHexB: id, good + "02 " + ringHexB: id, good + "+2 " + ringHexB: id, good + "-2 " + ringHexB: id,
		good + "0x2 " + ringHexB: id, good + "2_0 " + ringHexB: id, good + "4294967296 " + ringHexB: id,
		good + "99999999999 " + ringHexB: id, good + "x " + ringHexB: id, good + "\uff12 " + ringHexB: id,
		good + "1 " + ringHexB: "line 2: the id occurs twice", good + " # indented": id,
		good + "2 " + strings.Repeat("raw.", 8):                 "line 2: the key is neither hex nor base64",
		good + "2 " + strings.Repeat("a", 32):                   "line 2: the key is neither hex nor base64",
		good + "2 " + ringHexB[1:]:                              key,
		good + "2 " + ringHexB + "\r\r\n":                       key,
		good + "2 " + ringHexB + "\r\n\r\n":                     "line 3: it does not read like",
		good + "2 " + strings.Repeat("ab", 32):                  "line 2: all bytes of the key are the same",
		"\ufeff" + good:                                         "line 1: the id is not a number",
		strings.Repeat("#\n", 256) + good:                       "at most 256 lines",
		good + strings.Repeat("# comment\n", 255) + "#":         "at most 256 lines",
		good + strings.Repeat("#\n", 200) + "2 " + "short":      "line 202: a key is 64 hex digits",
		good + "2 " + strings.ReplaceAll(ringB64A, "A", "\xff"): key,
	} {
		ring, err := secrets.ParseKeyring(secretOf(text))
		kind := secrets.ErrFormat
		if strings.Contains(want, "the same") {
			kind = secrets.ErrWeakKey
		}
		if ring != nil || !errors.Is(err, kind) || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %s", text, err, want)
			continue
		}
		for piece := range strings.FieldsSeq(text) { // no word of the input, but single digits and signs
			if len(piece) > 4 && strings.Contains(err.Error(), piece) && piece != "4294967295" {
				t.Errorf("%q: %v repeats it", text, err)
			}
		}
	}
	if ring, err := secrets.ParseKeyring(secretOf(good + strings.Repeat("#\n", 255))); err != nil {
		t.Errorf("256 lines: %v, %v", ring, err)
	}
	gone := secretOf(good)
	gone.Destroy()
	if _, err := secrets.ParseKeyring(gone); !errors.Is(err, secrets.ErrDestroyed) {
		t.Errorf("a destroyed secret: %v", err)
	}
}

// SCR-25: a keyring may have 256 keys.
func TestParseKeyringFull(t *testing.T) {
	var text strings.Builder
	for id := range 256 {
		fmt.Fprintf(&text, "%d %064x\n", id+1, id+1)
	}
	ring, err := secrets.ParseKeyring(secretOf(text.String()))
	if err != nil || len(slices.Collect(ring.IDs())) != 256 {
		t.Errorf("256 keys: %v", err)
	}
}
