package secrets_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/llorch/llorch/secrets"
	"pgregory.net/rapid"
)

// SCR-22: the id selects one key, and no other is tried.
func TestKeyringNoTrial(t *testing.T) {
	a, b := ringKey(t, 1), ringKey(t, 2)
	ring, err := secrets.NewKeyring(1, map[uint32]secrets.Key{1: a, 2: b, 3: a})
	if err != nil {
		t.Fatal(err)
	}
	box, err := ring.Seal(nil, []byte("x"), nil)
	if err != nil {
		t.Fatal(err)
	}
	swapped, err := secrets.NewKeyring(1, map[uint32]secrets.Key{1: b, 2: a})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := swapped.Open(nil, box, nil); !errors.Is(err, secrets.ErrUnsealable) {
		t.Errorf("the right key under another id: %v", err)
	}
	box[8] = 3 // the same key: only the header in the additional data refuses it
	if _, err := ring.Open(nil, box, nil); !errors.Is(err, secrets.ErrUnsealable) {
		t.Errorf("another id for the same key: %v", err)
	}
	box[8] = 9
	_, err = ring.Open(nil, box, nil)
	if !errors.Is(err, secrets.ErrUnknownKey) || errors.Is(err, secrets.ErrUnsealable) || !strings.Contains(err.Error(), "key 9 ") {
		t.Errorf("an unknown id: %v", err)
	}
}

// SCR-22: whatever is wrong after the header gives the same error, and dst stays
// as it was, its spare capacity included.
func TestKeyringOneError(t *testing.T) {
	ring := ringOf(t, 1, 2)
	box, err := ring.Seal(nil, []byte("a text to hide"), []byte("ctx"))
	if err != nil {
		t.Fatal(err)
	}
	wrong := map[string][2][]byte{
		"aad":       {box, []byte("ctX")},
		"no aad":    {box, nil},
		"other key": {slices.Concat(box[:8], []byte{2}, box[9:]), []byte("ctx")},
		"longer":    {append(slices.Clone(box), 0), []byte("ctx")},
		"big aad":   {box, make([]byte, 64<<10+1)},
	}
	for i := 9; i < len(box); i++ {
		flipped := slices.Clone(box)
		flipped[i] ^= 0x80
		wrong["bit of byte "+hex.EncodeToString([]byte{byte(i)})] = [2][]byte{flipped, []byte("ctx")}
		wrong["cut at "+hex.EncodeToString([]byte{byte(i)})] = [2][]byte{box[:i], []byte("ctx")}
	}
	texts := map[string]bool{}
	for name, w := range wrong {
		dst := bytes.Repeat([]byte{0xaa}, 100)
		got, err := ring.Open(dst[:3], w[0], w[1])
		if got != nil || !errors.Is(err, secrets.ErrUnsealable) {
			t.Errorf("%s: %q, %v", name, got, err)
			continue
		}
		texts[err.Error()] = true
		if bytes.Count(dst, []byte{0xaa}) != len(dst) {
			t.Errorf("%s: dst was written to", name)
		}
	}
	if len(texts) != 1 {
		t.Errorf("%d different texts: %v", len(texts), texts)
	}
}

// SCR-22: what does not begin like a box.
func TestKeyringHeader(t *testing.T) {
	ring := ringOf(t, 1)
	box, err := ring.Seal(nil, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	if id, err := ring.KeyOf(box[:9]); id != 1 || err != nil {
		t.Errorf("KeyOf(header) = %d, %v", id, err)
	}
	bad := map[string][]byte{"nothing": nil, "magic": slices.Concat([]byte("LLS2"), box[4:]), "id 0": slices.Concat(box[:8], []byte{0}, box[9:])}
	for n := range 9 {
		bad["cut at "+string(rune('0'+n))] = box[:n]
	}
	for _, alg := range []byte{0, 2, 0x81} {
		bad["alg "+hex.EncodeToString([]byte{alg})] = slices.Concat(box[:4], []byte{alg}, box[5:])
	}
	for name, b := range bad {
		if _, err := ring.Open(nil, b, nil); !errors.Is(err, secrets.ErrFormat) {
			t.Errorf("Open(%s): %v", name, err)
		}
		if _, err := ring.KeyOf(b); !errors.Is(err, secrets.ErrFormat) {
			t.Errorf("KeyOf(%s): %v", name, err)
		}
		if _, _, err := ring.Reseal(b, nil); !errors.Is(err, secrets.ErrFormat) {
			t.Errorf("Reseal(%s): %v", name, err)
		}
	}
}

// SCR-23: a rotation from first to last, with the job that counts what is left.
func TestKeyringRotation(t *testing.T) {
	before, during, after := ringOf(t, 1), ringOf(t, 2, 1), ringOf(t, 2)
	var boxes [][]byte
	for _, text := range []string{"a", "b", ""} {
		box, err := before.Seal(nil, []byte(text), []byte("ctx"))
		if err != nil {
			t.Fatal(err)
		}
		boxes = append(boxes, box)
	}
	if _, err := after.Open(nil, boxes[0], []byte("ctx")); !errors.Is(err, secrets.ErrUnknownKey) {
		t.Errorf("without its key: %v", err)
	}
	if _, _, err := after.Reseal(boxes[0], []byte("ctx")); !errors.Is(err, secrets.ErrUnknownKey) {
		t.Errorf("without its key: %v", err)
	}
	if out, changed, err := during.Reseal(boxes[0], []byte("other")); out != nil || changed || !errors.Is(err, secrets.ErrUnsealable) {
		t.Errorf("Reseal with another aad = %x, %t, %v", out, changed, err)
	}
	for i, text := range []string{"a", "b", ""} {
		old := slices.Clone(boxes[i])
		out, changed, err := during.Reseal(boxes[i], []byte("ctx"))
		if err != nil || !changed || !bytes.Equal(old, boxes[i]) {
			t.Fatalf("Reseal = %t, %v", changed, err)
		}
		if id, err := during.KeyOf(out); id != 2 || err != nil {
			t.Errorf("under key %d, %v", id, err)
		}
		again, changed, err := during.Reseal(out, []byte("ctx"))
		if changed || err != nil || !bytes.Equal(again, out) {
			t.Errorf("once more: %t, %v", changed, err)
		}
		if got, err := after.Open(nil, out, []byte("ctx")); string(got) != text || err != nil {
			t.Errorf("Open = %q, %v", got, err)
		}
	}
	if ids := slices.Collect(ringOf(t, 9, 3, 200, 1).IDs()); !slices.Equal(ids, []uint32{1, 3, 9, 200}) {
		t.Errorf("IDs = %d", ids)
	}
}

// SCR-20, SCR-22, SCR-23: Open undoes Seal; any changed bit, any truncation,
// another aad and another key fail; Reseal keeps the text and changes the id.
func TestKeyringLaws(t *testing.T) {
	one, both, other := ringOf(t, 1), ringOf(t, 2, 1), ringOf(t, 3)
	rapid.Check(t, func(rt *rapid.T) {
		bytesOf := func(name string, n int) []byte { return rapid.SliceOfN(rapid.Byte(), 0, n).Draw(rt, name) }
		plain, aad, dst := bytesOf("plain", 200), bytesOf("aad", 50), bytesOf("dst", 20)
		all, err := one.Seal(slices.Clone(dst), plain, aad)
		if err != nil || !bytes.HasPrefix(all, dst) {
			rt.Fatalf("Seal = %x, %v", all, err)
		}
		box := all[len(dst):]
		if got, err := both.Open(slices.Clone(dst), box, aad); err != nil || !bytes.Equal(got, slices.Concat(dst, plain)) {
			rt.Fatalf("Open = %x, %v", got, err)
		}
		out, changed, err := both.Reseal(box, aad)
		if err != nil || !changed {
			rt.Fatalf("Reseal = %t, %v", changed, err)
		}
		if id, err := both.KeyOf(out); id != 2 || err != nil {
			rt.Fatalf("KeyOf = %d, %v", id, err)
		}
		if got, err := both.Open(nil, out, aad); err != nil || !bytes.Equal(got, plain) {
			rt.Fatalf("after Reseal: %x, %v", got, err)
		}

		fails := func(what string, ring *secrets.Keyring, box, aad []byte) {
			if got, err := ring.Open(nil, box, aad); err == nil || got != nil {
				rt.Fatalf("%s: %x, %v", what, got, err)
			}
		}
		bit := rapid.IntRange(0, 8*len(box)-1).Draw(rt, "bit")
		flipped := slices.Clone(box)
		flipped[bit/8] ^= 1 << (bit % 8)
		fails("a changed bit", both, flipped, aad)
		fails("a truncation", both, box[:rapid.IntRange(0, len(box)-1).Draw(rt, "cut")], aad)
		fails("another aad", both, box, append(slices.Clone(aad), 0))
		fails("another keyring", other, box, aad)
	})
}

// SCR-20: dst, plaintext, box and aad may be any parts of one buffer.
func TestKeyringOverlap(t *testing.T) {
	ring := ringOf(t, 1)
	rapid.Check(t, func(rt *rapid.T) {
		part := func(name string, buf []byte) []byte {
			from := rapid.IntRange(0, len(buf)).Draw(rt, name+" from")
			return buf[from:rapid.IntRange(from, len(buf)).Draw(rt, name+" to")]
		}
		buf := rapid.SliceOfN(rapid.Byte(), 120, 120).Draw(rt, "buffer")
		dst, plain, aad := part("dst", buf), part("plain", buf), part("aad", buf)
		head, text, place := slices.Clone(dst), slices.Clone(plain), slices.Clone(aad)
		all, err := ring.Seal(dst, plain, aad)
		if err != nil || !bytes.HasPrefix(all, head) {
			rt.Fatalf("Seal = %x, %v", all, err)
		}
		box := all[len(head):]
		if got, err := ring.Open(nil, box, place); err != nil || !bytes.Equal(got, text) {
			rt.Fatalf("Seal made a box of %x, %v", got, err)
		}

		arena := append(slices.Clone(box), buf...)
		dst, aad = part("second dst", arena), place
		head = slices.Clone(dst)
		if got, err := ring.Open(dst, arena[:len(box)], aad); err != nil || !bytes.Equal(got, slices.Concat(head, text)) {
			rt.Fatalf("Open = %x, %v, want %x", got, err, slices.Concat(head, text))
		}
	})
}

// SCR-20: with room in dst, Seal writes there, as cipher.AEAD does; without, it
// grows like append.
func TestKeyringAppends(t *testing.T) {
	ring, buf := ringOf(t, 1), make([]byte, 3, 100)
	box, err := ring.Seal(buf, []byte("text"), nil)
	if err != nil || &box[0] != &buf[0] || len(box) != 3+37+4 {
		t.Errorf("Seal moved, or %v", err)
	}
	into := make([]byte, 2, 100)
	if got, err := ring.Open(into, box[3:], nil); err != nil || &got[0] != &into[0] || string(got[2:]) != "text" {
		t.Errorf("Open moved, or %v", err)
	}
}

// §6: a hostile box costs no more memory than its own size, its aad's and 1 KiB.
// The bytes that the allocator adds to a size are its own.
func TestKeyringOpenMemory(t *testing.T) {
	ring := ringOf(t, 1)
	for _, size := range []int{9, 36, 37, 1000, 100_000, 1 << 20} {
		box := append([]byte("LLS1\x01\x00\x00\x00\x01"), make([]byte, size-9)...)
		for _, aad := range [][]byte{nil, make([]byte, 1000)} {
			if used := openMemory(ring, box, aad); used > rounded(len(box))+rounded(len(aad))+1<<10 {
				t.Errorf("%d + %d bytes cost %d", len(box), len(aad), used)
			}
		}
	}
}

// openMemory returns what Open allocates; the least of some runs, since other
// goroutines allocate too.
func openMemory(ring *secrets.Keyring, box, aad []byte) int {
	least := uint64(1 << 62)
	for range 3 {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, _ = ring.Open(nil, box, aad)
		runtime.ReadMemStats(&after)
		least = min(least, after.TotalAlloc-before.TotalAlloc)
	}
	return int(least)
}

// rounded returns what the allocator takes for n bytes.
func rounded(n int) int { return cap(append([]byte(nil), make([]byte, n)...)) }

func TestKeyringConcurrentSafe(t *testing.T) {
	ring := ringOf(t, 2, 1)
	old, err := ringOf(t, 1).Seal(nil, []byte("old"), nil)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 100 {
				box, err := ring.Seal(nil, []byte("new"), nil)
				if got, err2 := ring.Open(nil, box, nil); err != nil || err2 != nil || string(got) != "new" {
					t.Errorf("%q, %v, %v", got, err, err2)
				}
				if _, changed, err := ring.Reseal(old, nil); !changed || err != nil {
					t.Errorf("Reseal = %t, %v", changed, err)
				}
				if n := len(slices.Collect(ring.IDs())); n != 2 {
					t.Errorf("%d keys", n)
				}
			}
		})
	}
	wg.Wait()
}
