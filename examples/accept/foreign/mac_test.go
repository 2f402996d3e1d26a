package foreign

import (
	"bytes"
	"errors"
	"slices"
	"testing"

	"github.com/llorch/llorch/secrets"
)

const (
	macFile   = "hmac_sha256_test.json"
	macAll    = 174
	macWrong  = 108
	hkdfFile  = "hkdf_sha256_test.json"
	hkdfAll   = 86
	hkdfWrong = 3
)

// SCR-19: the reference passes Wycheproof's HMAC-SHA256.
func TestReferenceHMAC(t *testing.T) {
	for _, v := range vectors(t, macFile, macAll, macWrong) {
		tag := refHMAC(v.Key, v.Msg)[:v.tagBits/8]
		if got := bytes.Equal(tag, v.Tag); got != v.valid(t) {
			t.Errorf("vector %d: the tag fits: %t, want %s", v.ID, got, v.Result)
		}
	}
}

// SCR-17: the reference passes Wycheproof's HKDF-SHA256.
func TestReferenceHKDF(t *testing.T) {
	for _, v := range vectors(t, hkdfFile, hkdfAll, hkdfWrong) {
		okm := refHKDF(v.IKM, v.Salt, v.Info, v.Size)
		if got := okm != nil && bytes.Equal(okm, v.OKM); got != v.valid(t) {
			t.Errorf("vector %d: the output fits: %t, want %s", v.ID, got, v.Result)
		}
	}
}

// keyFor returns the Key of a vector; what has not 32 bytes is no Key and becomes
// one by derivation, as a program would do it.
func keyFor(t *testing.T, v *vector) (key secrets.Key, raw []byte) {
	t.Helper()
	key, err := secrets.NewKey(slices.Clone([]byte(v.Key)))
	if len(v.Key) == 32 {
		if err != nil {
			t.Fatalf("vector %d: %v", v.ID, err)
		}
		return key, v.Key
	}
	if !errors.Is(err, secrets.ErrFormat) {
		t.Fatalf("vector %d: a key of %d bits: %v", v.ID, v.keyBits, err)
	}
	const domain = "wycheproof/key-v1"
	key, err = secrets.DeriveKey(secrets.New(slices.Clone([]byte(v.Key))), nil, domain)
	if err != nil {
		t.Fatalf("vector %d: %v", v.ID, err)
	}
	return key, refHKDF(v.Key, nil, []byte(domain), 32)
}

// SCR-19: MAC and VerifyMAC agree with the reference on the material of every
// vector, and refuse each of its wrong tags.
func TestMACAgrees(t *testing.T) {
	const label = "wycheproof/mac-v1"
	used, refused := 0, 0
	for _, v := range vectors(t, macFile, macAll, macWrong) {
		key, raw := keyFor(t, &v)
		half := len(v.Msg) / 2
		want := refHMAC(raw, refFrame([]byte(label), v.Msg[:half], v.Msg[half:]))
		got, err := key.MAC(label, v.Msg[:half], v.Msg[half:])
		if err != nil || !bytes.Equal(got[:], want) {
			t.Errorf("vector %d: MAC = %x, %v, want %x", v.ID, got, err, want)
		}
		if err := key.VerifyMAC(want, label, v.Msg[:half], v.Msg[half:]); err != nil {
			t.Errorf("vector %d: the right tag: %v", v.ID, err)
		}
		wrong := map[string][]byte{"of the bare message": refHMAC(raw, v.Msg), "longer": append(slices.Clone(want), 0), "half": want[:16], "empty": nil}
		if !v.valid(t) {
			fault := xor(v.Tag, refHMAC(v.Key, v.Msg))[:v.tagBits/8]
			wrong["with the vector's fault"] = xor(want, fault)
			wrong["cut, with the vector's fault"] = xor(want, fault)[:v.tagBits/8]
		}
		for name, tag := range wrong {
			if err := key.VerifyMAC(tag, label, v.Msg[:half], v.Msg[half:]); !errors.Is(err, secrets.ErrMAC) {
				t.Errorf("vector %d: a tag %s: %v", v.ID, name, err)
			}
			refused++
		}
		used++
	}
	if used != macAll || refused < 4*macAll+2*macWrong {
		t.Errorf("%d vectors used, %d tags refused", used, refused)
	}
	t.Logf("HMAC-SHA256: %d vectors, %d wrong tags refused", used, refused)
}

// SCR-17: DeriveKey agrees with the reference on the material of every vector.
func TestDeriveKeyAgrees(t *testing.T) {
	used := 0
	for _, v := range vectors(t, hkdfFile, hkdfAll, hkdfWrong) {
		domain := infoDomain(v.Info)
		key, err := secrets.DeriveKey(secrets.New(slices.Clone([]byte(v.IKM))), v.Salt, domain)
		if err != nil {
			t.Errorf("vector %d: %v", v.ID, err)
			continue
		}
		raw := refHKDF(v.IKM, v.Salt, []byte(domain), 32)
		same(t, &v, key, raw)
		next, err := key.Derive(domain)
		if err != nil {
			t.Errorf("vector %d: %v", v.ID, err)
			continue
		}
		same(t, &v, next, refHKDF(raw, nil, []byte(domain), 32))
		used++
	}
	if used != hkdfAll {
		t.Errorf("%d vectors used", used)
	}
	t.Logf("HKDF-SHA256: %d vectors, each derived from twice", used)
}

// infoDomain spells the info of a vector within the grammar of domains.
func infoDomain(info []byte) string {
	const digits = "0123456789abcdef"
	text := []byte("wycheproof/info-")
	for _, b := range info[:min(len(info), 50)] {
		text = append(text, digits[b>>4], digits[b&15])
	}
	return string(text) + "-v1"
}

func same(t *testing.T, v *vector, key secrets.Key, want []byte) {
	t.Helper()
	err := key.Use(func(b *[32]byte) error {
		if !bytes.Equal(b[:], want) {
			t.Errorf("vector %d: the key is another", v.ID)
		}
		return nil
	})
	if err != nil {
		t.Errorf("vector %d: %v", v.ID, err)
	}
}
