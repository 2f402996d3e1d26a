package foreign

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"slices"
	"testing"

	"github.com/llorch/llorch/secrets"
)

const (
	gcmFile  = "aes_gcm_test.json"
	gcmAll   = 316
	gcmWrong = 87
	ringID   = 0x01020304
)

// SCR-20: the reference passes Wycheproof's AES-GCM: every size of key and nonce,
// in both directions.
func TestReferenceGCM(t *testing.T) {
	for _, v := range vectors(t, gcmFile, gcmAll, gcmWrong) {
		gcm, ok := refGCM(t, v.Key, v.nonceBits/8)
		if !ok {
			if v.valid(t) {
				t.Errorf("vector %d: a nonce of %d bits is refused", v.ID, v.nonceBits)
			}
			continue
		}
		box := slices.Concat(v.Ct, v.Tag)
		msg, err := gcm.Open(nil, v.IV, box, v.AAD)
		if (err == nil) != v.valid(t) || err == nil && !bytes.Equal(msg, v.Msg) {
			t.Errorf("vector %d: Open = %x, %v, want %s", v.ID, msg, err, v.Result)
		}
		if got := gcm.Seal(nil, v.IV, v.Msg, v.AAD); bytes.Equal(got, box) != v.valid(t) {
			t.Errorf("vector %d: Seal = %x, want %s", v.ID, got, v.Result)
		}
	}
}

// boxMaterial returns key and nonce of a vector in the sizes that a box has. What
// has another size is hashed, so that its bytes still count.
func boxMaterial(v *vector) (key, nonce []byte) {
	key, nonce = v.Key, v.IV
	if len(key) != 32 {
		sum := sha256.Sum256(key)
		key = sum[:]
	}
	if len(nonce) != 12 {
		sum := sha256.Sum256(nonce)
		nonce = sum[:12]
	}
	return key, nonce
}

// SCR-20, SCR-22: Open reads what the reference sealed from the material of every
// vector, the reference reads what Seal makes, and every wrong tag is refused.
func TestKeyringAgrees(t *testing.T) {
	used, exact, refused := 0, 0, 0
	header := refHeader(ringID)
	for _, v := range vectors(t, gcmFile, gcmAll, gcmWrong) {
		rawKey, nonce := boxMaterial(&v)
		if len(v.Key) == 32 && len(v.IV) == 12 {
			exact++
		}
		key, err := secrets.NewKey(slices.Clone(rawKey))
		if err != nil {
			t.Fatal(err)
		}
		ring, err := secrets.NewKeyring(ringID, map[uint32]secrets.Key{ringID: key})
		if err != nil {
			t.Fatal(err)
		}
		gcm, _ := refGCM(t, rawKey, 12)
		sealed := gcm.Seal(nil, nonce, v.Msg, slices.Concat(header, v.AAD))
		box := slices.Concat(header, nonce, sealed)
		if got, err := ring.Open(nil, box, v.AAD); err != nil || !bytes.Equal(got, v.Msg) {
			t.Errorf("vector %d: Open = %x, %v", v.ID, got, err)
		}
		own, err := ring.Seal(nil, v.Msg, v.AAD)
		if err != nil || len(own) != len(box) || !bytes.HasPrefix(own, header) {
			t.Errorf("vector %d: Seal = %x, %v", v.ID, own, err)
			continue
		}
		if got, err := gcm.Open(nil, own[9:21], own[21:], slices.Concat(header, v.AAD)); err != nil || !bytes.Equal(got, v.Msg) {
			t.Errorf("vector %d: the reference reads %x, %v", v.ID, got, err)
		}
		for name, bad := range wrongBoxes(t, &v, box) {
			if got, err := ring.Open(nil, bad, v.AAD); got != nil || !errors.Is(err, secrets.ErrUnsealable) {
				t.Errorf("vector %d: a box %s: %x, %v", v.ID, name, got, err)
			}
			refused++
		}
		used++
	}
	if used != gcmAll || exact != 66 || refused < 17*gcmAll {
		t.Errorf("%d vectors used, %d in their own sizes, %d boxes refused", used, exact, refused)
	}
	t.Logf("AES-GCM: %d vectors, %d of them in the sizes of a box, %d wrong boxes refused", used, exact, refused)
}

// wrongBoxes returns what Open must refuse: tags cut to every length, the fault of
// an invalid vector, and the vector itself, whose tag does not cover our header.
func wrongBoxes(t *testing.T, v *vector, box []byte) map[string][]byte {
	t.Helper()
	wrong := map[string][]byte{}
	for cut := 1; cut <= 16; cut++ {
		wrong["cut by "+string(rune('a'+cut))] = box[:len(box)-cut]
	}
	key, nonce := boxMaterial(v)
	bare, _ := refGCM(t, key, 12)
	wrong["without its header in the tag"] = slices.Concat(box[:9], nonce, bare.Seal(nil, nonce, v.Msg, v.AAD))
	if len(v.Key) == 32 && len(v.IV) == 12 {
		wrong["of the vector's own bytes"] = slices.Concat(box[:9], v.IV, v.Ct, v.Tag)
	}
	if !v.valid(t) && len(v.IV) == 12 {
		own, _ := refGCM(t, v.Key, 12)
		right := own.Seal(nil, v.IV, v.Msg, v.AAD)
		fault := xor(slices.Concat(v.Ct, v.Tag), right)
		wrong["with the vector's fault"] = xor(box, append(make([]byte, 21), fault...))
	}
	return wrong
}
