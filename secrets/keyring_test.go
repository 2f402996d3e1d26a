package secrets_test

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/fips140"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/llorch/llorch/secrets"
)

// ringKey returns the key of 32 bytes seed.
func ringKey(tb testing.TB, seed byte) secrets.Key {
	tb.Helper()
	k, err := secrets.NewKey(bytes.Repeat([]byte{seed}, 32))
	if err != nil {
		tb.Fatal(err)
	}
	return k
}

// ringOf returns a keyring in which the key of id i is ringKey(i).
func ringOf(tb testing.TB, primary uint32, others ...uint32) *secrets.Keyring {
	tb.Helper()
	keys := map[uint32]secrets.Key{primary: ringKey(tb, byte(primary))}
	for _, id := range others {
		keys[id] = ringKey(tb, byte(id))
	}
	ring, err := secrets.NewKeyring(primary, keys)
	if err != nil {
		tb.Fatal(err)
	}
	return ring
}

// referenceGCM is AES-256-GCM with a nonce of the caller's, under 32 bytes seed.
func referenceGCM(tb testing.TB, seed byte) cipher.AEAD {
	tb.Helper()
	block, err := aes.NewCipher(bytes.Repeat([]byte{seed}, 32))
	if err != nil {
		tb.Fatal(err)
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		tb.Fatal(err)
	}
	return gcm
}

// referenceSeal writes a box from SCR-20's words alone.
func referenceSeal(tb testing.TB, seed byte, id uint32, nonce string, plaintext, aad []byte) []byte {
	tb.Helper()
	header := binary.BigEndian.AppendUint32([]byte("LLS1\x01"), id)
	return referenceGCM(tb, seed).Seal(slices.Concat(header, []byte(nonce)), []byte(nonce), plaintext, slices.Concat(header, aad))
}

// referenceOpen reads a box from SCR-20 and SCR-22's words alone; known are the
// ids of keys that are 32 times their id.
func referenceOpen(tb testing.TB, known []uint32, box, aad []byte) ([]byte, error) {
	tb.Helper()
	if !bytes.HasPrefix(box, []byte("LLS1\x01")) || len(box) < 9 {
		return nil, secrets.ErrFormat
	}
	id := binary.BigEndian.Uint32(box[5:9])
	if id == 0 {
		return nil, secrets.ErrFormat
	}
	if !slices.Contains(known, id) {
		return nil, secrets.ErrUnknownKey
	}
	if len(box) < 37 {
		return nil, secrets.ErrUnsealable
	}
	plain, err := referenceGCM(tb, byte(id)).Open(nil, box[9:21], box[21:], slices.Concat(box[:9], aad))
	if err != nil {
		return nil, secrets.ErrUnsealable
	}
	return plain, nil
}

const ringVector = "4c4c533101000000074142434445464748494a4b4cc21b42454828efdd2f381d8dd8334e98db03f1310e"

// SCR-20, SCR-21: the vector opens; the same test runs under fips140=only.
func TestKeyringVector(t *testing.T) {
	keys := map[uint32]secrets.Key{7: ringKey(t, 1)}
	ring, err := secrets.NewKeyring(7, keys)
	if err != nil {
		t.Fatal(err)
	}
	box, _ := hex.DecodeString(ringVector)
	if got, err := ring.Open(nil, box, []byte("ctx")); string(got) != "hello" || err != nil {
		t.Errorf("Open = %q, %v", got, err)
	}
	own, err := ring.Seal(nil, []byte("hello"), []byte("ctx"))
	if err != nil || len(own) != len(box) || !bytes.Equal(own[:9], box[:9]) {
		t.Errorf("Seal = %x, %v", own, err)
	}
	if got, err := ring.Open(nil, own, []byte("ctx")); string(got) != "hello" || err != nil {
		t.Errorf("Open = %q, %v", got, err)
	}
}

// SCR-21: the child process refuses all cryptography that FIPS 140 does not allow.
func TestKeyringFIPS(t *testing.T) {
	if os.Getenv("LLORCH_TEST_FIPS") != "" {
		block, err := aes.NewCipher(make([]byte, 32))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := cipher.NewGCM(block); err == nil || !fips140.Enabled() {
			t.Fatal("this process does not enforce FIPS 140")
		}
		TestKeyringVector(t)
		fmt.Println("opened under fips140=only")
		return
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), exe, "-test.run=^TestKeyringFIPS$", "-test.v")
	cmd.Env = append(os.Environ(), "GODEBUG=fips140=only", "LLORCH_TEST_FIPS=1")
	if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "opened under fips140=only") {
		t.Errorf("%v\n%s", err, out)
	}
}

// SCR-20: a box is what the words of the format say, in both directions, and no
// nonce occurs twice.
func TestKeyringFormat(t *testing.T) {
	ring, nonces := ringOf(t, 0x01020304, 3), map[string]bool{}
	for _, size := range []int{0, 1, 16, 1000} {
		plain, aad := bytes.Repeat([]byte{'p'}, size), bytes.Repeat([]byte{'a'}, size/2)
		box, err := ring.Seal(nil, plain, aad)
		if err != nil || len(box) != size+37 || !bytes.HasPrefix(box, []byte("LLS1\x01\x01\x02\x03\x04")) {
			t.Fatalf("Seal(%d bytes) = %x, %v", size, box, err)
		}
		nonces[string(box[9:21])] = true
		got, err := referenceGCM(t, 4).Open(nil, box[9:21], box[21:], slices.Concat(box[:9], aad))
		if err != nil || !bytes.Equal(got, plain) {
			t.Errorf("the reference reads %q, %v", got, err)
		}
		got, err = ring.Open(nil, referenceSeal(t, 3, 3, "twelve bytes", plain, aad), aad)
		if err != nil || !bytes.Equal(got, plain) {
			t.Errorf("Open = %q, %v", got, err)
		}
	}
	if len(nonces) != 4 {
		t.Errorf("4 boxes have %d nonces", len(nonces))
	}
}

// SCR-20: bounds of plaintext and aad, when sealed and when opened: also a box
// with a right tag is refused beyond them.
func TestKeyringBounds(t *testing.T) {
	ring, plain, aad := ringOf(t, 1), make([]byte, 64<<20+1), make([]byte, 64<<10+1)
	box, err := ring.Seal(nil, plain[1:], nil)
	if err != nil {
		t.Fatalf("64 MiB: %v", err)
	}
	if got, err := ring.Open(nil, box, nil); len(got) != 64<<20 || err != nil {
		t.Errorf("64 MiB: %d bytes, %v", len(got), err)
	}
	if _, err := ring.Seal(nil, plain, nil); !errors.Is(err, secrets.ErrFormat) {
		t.Errorf("64 MiB and a byte: %v", err)
	}
	box = referenceSeal(t, 1, 1, "twelve bytes", plain, nil)
	if _, err := ring.Open(nil, box, nil); !errors.Is(err, secrets.ErrUnsealable) {
		t.Errorf("a box of 64 MiB and a byte: %v", err)
	}
	if box, err = ring.Seal(nil, []byte("x"), aad[1:]); err != nil {
		t.Fatalf("aad of 64 KiB: %v", err)
	}
	if got, err := ring.Open(nil, box, aad[1:]); string(got) != "x" || err != nil {
		t.Errorf("aad of 64 KiB: %q, %v", got, err)
	}
	if _, err := ring.Seal(nil, []byte("x"), aad); !errors.Is(err, secrets.ErrFormat) {
		t.Errorf("aad of 64 KiB and a byte: %v", err)
	}
	box = referenceSeal(t, 1, 1, "twelve bytes", []byte("x"), aad)
	if _, err := ring.Open(nil, box, aad); !errors.Is(err, secrets.ErrUnsealable) {
		t.Errorf("a box with an aad of 64 KiB and a byte: %v", err)
	}
}

// SCR-20: 1 to 256 keys, ids from 1 on, a primary among them, usable keys.
func TestNewKeyringRefuses(t *testing.T) {
	many := map[uint32]secrets.Key{}
	for id := range uint32(256) {
		many[id+1] = ringKey(t, byte(id))
	}
	if ring, err := secrets.NewKeyring(256, many); err != nil || len(slices.Collect(ring.IDs())) != 256 {
		t.Errorf("256 keys: %v", err)
	}
	more := maps.Clone(many)
	more[257] = ringKey(t, 1)
	gone := ringKey(t, 2)
	gone.Destroy()
	one := ringKey(t, 1)
	for name, c := range map[string]struct {
		primary uint32
		keys    map[uint32]secrets.Key
		want    error
	}{
		"none":                      {1, nil, secrets.ErrFormat},
		"257 keys":                  {1, more, secrets.ErrFormat},
		"primary is not there":      {2, map[uint32]secrets.Key{1: one}, secrets.ErrFormat},
		"id 0 beside another":       {1, map[uint32]secrets.Key{0: one, 1: one}, secrets.ErrFormat},
		"id 0 as the primary":       {0, map[uint32]secrets.Key{0: one}, secrets.ErrFormat},
		"the zero Key":              {1, map[uint32]secrets.Key{1: {}}, secrets.ErrFormat},
		"a destroyed key":           {1, map[uint32]secrets.Key{1: gone}, secrets.ErrDestroyed},
		"a destroyed key, no prime": {1, map[uint32]secrets.Key{1: one, 9: gone}, secrets.ErrDestroyed},
	} {
		if ring, err := secrets.NewKeyring(c.primary, c.keys); ring != nil || !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
}

// A keyring outlives the keys that it was made from.
func TestKeyringKeepsItsKeys(t *testing.T) {
	k := ringKey(t, 5)
	ring, err := secrets.NewKeyring(5, map[uint32]secrets.Key{5: k})
	if err != nil {
		t.Fatal(err)
	}
	k.Destroy()
	box, err := ring.Seal(nil, []byte("x"), nil)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := ringOf(t, 5).Open(nil, box, nil); string(got) != "x" || err != nil {
		t.Errorf("Open = %q, %v", got, err)
	}
}

// Neither the zero Keyring nor a nil one seals, opens or panics.
func TestZeroKeyring(t *testing.T) {
	box, _ := hex.DecodeString(ringVector)
	for _, ring := range []*secrets.Keyring{nil, new(secrets.Keyring)} {
		if _, err := ring.Seal(nil, nil, nil); !errors.Is(err, secrets.ErrFormat) {
			t.Errorf("Seal: %v", err)
		}
		if _, err := ring.Open(nil, box, nil); !errors.Is(err, secrets.ErrUnknownKey) {
			t.Errorf("Open: %v", err)
		}
		if _, _, err := ring.Reseal(box, nil); !errors.Is(err, secrets.ErrUnknownKey) {
			t.Errorf("Reseal: %v", err)
		}
		if id, err := ring.KeyOf(box); id != 7 || err != nil {
			t.Errorf("KeyOf = %d, %v", id, err)
		}
		if ids := slices.Collect(ring.IDs()); len(ids) != 0 {
			t.Errorf("IDs = %d", ids)
		}
	}
}

// SCR-1: a keyring shows nothing, and what follows its pointers finds no keys.
func TestKeyringRedacted(t *testing.T) {
	k, err := secrets.NewKey([]byte((canary + canary)[:32]))
	if err != nil {
		t.Fatal(err)
	}
	ring, err := secrets.NewKeyring(1, map[uint32]secrets.Key{1: k})
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range []any{ring, *ring, struct{ R *secrets.Keyring }{ring}, struct{ r secrets.Keyring }{*ring}} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%d"} {
			if out := fmt.Sprintf(verb, v); leaks(out) {
				t.Errorf("%s: %s", verb, out)
			}
		}
		for encoder, out := range encode(v) {
			if leaks(out) {
				t.Errorf("%s: %s", encoder, out)
			}
		}
	}
	if got := fmt.Sprintf("%v %+v %#v", ring, *ring, ring); got != "[REDACTED] [REDACTED] [REDACTED]" {
		t.Error(got)
	}
	for _, field := range reflect.ValueOf(*ring).Fields() {
		if field.Kind() != reflect.Func && (field.Kind() != reflect.Struct || field.NumField() > 0) {
			t.Errorf("reflection reaches a %v", field.Kind())
		}
	}
	if err := ring.UnmarshalJSON([]byte(`"[REDACTED]"`)); err == nil {
		t.Error("a redacted keyring was loaded")
	}
}
