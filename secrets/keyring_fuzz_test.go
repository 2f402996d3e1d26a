package secrets_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/llorch/llorch/secrets"
)

// FuzzOpen: a hostile box is judged as the words of the format say, without a
// panic and without memory beyond its size and 1 KiB.
func FuzzOpen(f *testing.F) {
	known := []uint32{1, 7}
	ring := ringOf(f, 1, 7)
	box := referenceSeal(f, 1, 1, "twelve bytes", []byte("hello"), []byte("ctx"))
	vector, _ := hex.DecodeString(ringVector)
	for _, b := range [][]byte{box, vector, nil, box[:8], box[:9], box[:36], append(slices.Clone(box), 0), []byte("LLS1\x01\x00\x00\x00\x07"), []byte("LLS1\x02\x00\x00\x00\x07")} {
		f.Add(b, []byte("ctx"))
		f.Add(b, []byte{})
	}
	f.Fuzz(func(t *testing.T, box, aad []byte) {
		want, kind := referenceOpen(t, known, box, aad)
		got, err := ring.Open(nil, box, aad)
		if !errors.Is(err, kind) || (err == nil) != (kind == nil) || !bytes.Equal(got, want) {
			t.Fatalf("Open(%x) = %x, %v, want %x, %v", box, got, err, want, kind)
		}
		if id, err := ring.KeyOf(box); (err != nil) != (kind == secrets.ErrFormat) || err == nil && id == 0 {
			t.Fatalf("KeyOf(%x) = %d, %v", box, id, err)
		}
		if len(aad) > 64<<10 {
			return // refused unread, which the reference does not know
		}
		if used := openMemory(ring, box, aad); used > rounded(len(box))+rounded(len(aad))+1<<10 {
			t.Fatalf("%d + %d bytes cost %d", len(box), len(aad), used)
		}
	})
}

// ringLine is a line of a keyring, from the words of SCR-25; base64 is canonical.
var ringLine = regexp.MustCompile(`^([1-9][0-9]{0,9}) (?:([0-9A-Fa-f]{64})|[0-9A-Za-z+/]{42}[AEIMQUYcgkosw048]=?|[0-9A-Za-z_-]{42}[AEIMQUYcgkosw048]=?)$`)

// referenceKeyring returns the ids of a keyring, the first in front, or nil.
// Keys whose bytes are all the same are not looked for.
func referenceKeyring(text string) (ids []uint32) {
	lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	if len(lines) > 256 {
		return nil
	}
	for i, line := range lines {
		if strings.HasPrefix(line, "#") {
			continue
		}
		if i < len(lines)-1 || strings.HasSuffix(text, "\n") {
			line = strings.TrimSuffix(line, "\r")
		}
		m := ringLine.FindStringSubmatch(line)
		if m == nil {
			return nil
		}
		id, err := strconv.ParseUint(m[1], 10, 32)
		if err != nil || slices.Contains(ids, uint32(id)) {
			return nil
		}
		ids = append(ids, uint32(id))
	}
	return ids
}

var ringFault = regexp.MustCompile(`^parse secret: (line [0-9]{1,3}: )?[a-z0-9A-Z, -]+$`)

// FuzzParseKeyring: what is accepted is what the words of the format accept.
func FuzzParseKeyring(f *testing.F) {
	for _, s := range []string{
		"", "#\n", "1 " + ringHexA, "7 " + ringHexA + "\n# old\r\n3 " + ringB64A + "\r\n", "1 " + ringHexA + "\n1 " + ringHexB + "\n",
		"4294967295 " + strings.ReplaceAll(ringB64A, "+", "-"), "4294967296 " + ringHexB, "1 " + strings.Repeat("a", 32), "01 " + ringHexA, "1  " + ringHexA,
		strings.Repeat("#\n", 256), "1 " + strings.Repeat("00", 32),
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		want := referenceKeyring(text)
		ring, err := secrets.ParseKeyring(secretOf(text))
		if err != nil {
			weak := errors.Is(err, secrets.ErrWeakKey)
			if want != nil && !weak || !weak && !errors.Is(err, secrets.ErrFormat) || !ringFault.MatchString(err.Error()) {
				t.Fatalf("%q: %v", text, err)
			}
			return
		}
		box, err := ring.Seal(nil, nil, nil)
		if err != nil || want == nil {
			t.Fatalf("%q: %v", text, err)
		}
		if id, _ := ring.KeyOf(box); id != want[0] || !slices.Equal(slices.Collect(ring.IDs()), slices.Sorted(slices.Values(want))) {
			t.Fatalf("%q: primary %d", text, id)
		}
	})
}
