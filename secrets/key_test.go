package secrets_test

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"strings"
	"testing"

	"github.com/llorch/llorch/secrets"
	"pgregory.net/rapid"
)

func count32() []byte {
	b := make([]byte, 32)
	for i := range b {
		b[i] = byte(i)
	}
	return b
}

func keyHex(t *testing.T, k secrets.Key) (out string) {
	t.Helper()
	if err := k.Use(func(b *[32]byte) error { out = hex.EncodeToString(b[:]); return nil }); err != nil {
		t.Fatal(err)
	}
	return out
}

// SCR-17, SCR-18: HKDF vectors.
func TestDeriveVectors(t *testing.T) {
	ikm := secrets.New(count32())
	for _, v := range []struct{ salt, domain, want string }{
		{"", "llorch-seal-key-v1", "54894b8161681cdb216a7219dcb0b8d344dfb3d859dbde05a2127cf87595d6b8"},
		{"salt-0001", "llorch-encryption-v1", "e8bd981205b354ee4710bcb1f9b9718399cb9aa26114327b72e9672c027104b0"},
	} {
		k, err := secrets.DeriveKey(ikm, []byte(v.salt), v.domain)
		if err != nil || keyHex(t, k) != v.want {
			t.Errorf("%s: %v", v.domain, err)
		}
	}
	k, err := secrets.NewKey(count32())
	if err != nil {
		t.Fatal(err)
	}
	d, err := k.Derive("llorch-seal-key-v1")
	if err != nil || !strings.HasPrefix(keyHex(t, d), "54894b81") {
		t.Errorf("Key.Derive differs from DeriveKey: %v", err)
	}
}

// SCR-17: grammar of domains, and weak input.
func TestDeriveRefuses(t *testing.T) {
	ikm := secrets.New(count32())
	for domain, ok := range map[string]bool{
		"a-v1": true, "a/b.c_d/v999": true, "0-v1": true, strings.Repeat("a", 124) + "-v1": true,
		"": false, "a": false, "a-v0": false, "a-v1000": false, "a-v01": false, "av1": false, "-v1": false, "A-v1": false, "a b-v1": false, "a-v": false,
		"a-v1x": false, "ä-v1": false, "a-v+1": false, strings.Repeat("a", 125) + "-v1": false, "v1": false,
	} {
		if _, err := secrets.DeriveKey(ikm, nil, domain); (err == nil) != ok || !ok && !errors.Is(err, secrets.ErrFormat) {
			t.Errorf("domain %q: %v", domain, err)
		}
	}
	if _, err := secrets.DeriveKey(secretOf("fifteen bytes.."), nil, "a-v1"); !errors.Is(err, secrets.ErrWeakKey) {
		t.Errorf("15 bytes: %v", err)
	}
	if _, err := (secrets.Key{}).Derive("a-v1"); err == nil {
		t.Error("the zero Key derives")
	}
}

// SCR-19: vector, and what VerifyMAC refuses.
func TestMAC(t *testing.T) {
	k, _ := secrets.NewKey(count32())
	mac, err := k.MAC("llorch-shard-seal-v1", []byte("shard-1"), []byte("0"))
	if err != nil || hex.EncodeToString(mac[:]) != "f0de37c63c18dce86b36374e13c1a5487e0ed6e6bfa0aa390073645f4b7235b5" {
		t.Errorf("%x, %v", mac, err)
	}
	if err := k.VerifyMAC(mac[:], "llorch-shard-seal-v1", []byte("shard-1"), []byte("0")); err != nil {
		t.Error(err)
	}
	for _, bad := range [][]byte{nil, mac[:31], append(mac[:], 0), make([]byte, 32)} {
		if err := k.VerifyMAC(bad, "llorch-shard-seal-v1", []byte("shard-1"), []byte("0")); !errors.Is(err, secrets.ErrMAC) {
			t.Errorf("%d bytes: %v", len(bad), err)
		}
	}
	if _, err := k.MAC("no version"); !errors.Is(err, secrets.ErrFormat) {
		t.Error(err)
	}
	if err := (secrets.Key{}).VerifyMAC(mac[:], "a-v1"); err == nil || errors.Is(err, secrets.ErrMAC) {
		t.Errorf("the zero Key: %v", err)
	}
}

// Bytes that move from one field to the next change the MAC.
func TestTrap_ConcatMAC(t *testing.T) {
	k, _ := secrets.NewKey(count32())
	a, _ := k.MAC("a-v1", []byte("ab"), []byte("c"))
	b, _ := k.MAC("a-v1", []byte("a"), []byte("bc"))
	c, _ := k.MAC("a-v1", []byte("abc"))
	if a == b || b == c || a == c {
		t.Error("fields without lengths")
	}
}

// SCR-12: all encodings of a key agree.
func TestParseKeyEncodings(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		raw := rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(rt, "key")
		if bytes.Count(raw, raw[:1]) == 32 {
			raw[0]++
		}
		newline := rapid.SampledFrom([]string{"", "\n", "\r\n"}).Draw(rt, "newline")
		for _, text := range []string{
			string(raw), hex.EncodeToString(raw), strings.ToUpper(hex.EncodeToString(raw)),
			base64.StdEncoding.EncodeToString(raw), base64.RawStdEncoding.EncodeToString(raw),
			base64.URLEncoding.EncodeToString(raw), base64.RawURLEncoding.EncodeToString(raw),
		} {
			k, err := secrets.ParseKey(secretOf(text + newline))
			if err != nil || keyHex(t, k) != hex.EncodeToString(raw) {
				rt.Fatalf("%q: %v", text+newline, err)
			}
		}
	})
}

func TestParseKeyRefuses(t *testing.T) {
	for text, want := range map[string]error{
		"": secrets.ErrFormat, "short": secrets.ErrFormat, strings.Repeat("g", 64): secrets.ErrFormat, strings.Repeat("0", 63): secrets.ErrFormat,
		strings.Repeat("ab", 32) + "\n\n": secrets.ErrFormat, " " + strings.Repeat("ab", 32): secrets.ErrFormat,
		strings.Repeat("A", 42) + "B": secrets.ErrFormat, strings.Repeat("Ab+_", 11)[:43]: secrets.ErrFormat,
		strings.Repeat("A", 40) + "\nAAA": secrets.ErrFormat,
		strings.Repeat("\x00", 32):        secrets.ErrWeakKey, strings.Repeat("ab", 32): secrets.ErrWeakKey, strings.Repeat("A", 43): secrets.ErrWeakKey,
	} {
		if _, err := secrets.ParseKey(secretOf(text)); !errors.Is(err, want) {
			t.Errorf("%q: %v, want %v", text, err, want)
		}
	}
	if _, err := secrets.NewKey(make([]byte, 31)); !errors.Is(err, secrets.ErrFormat) {
		t.Error(err)
	}
}

func TestGenerateKey(t *testing.T) {
	a, err := secrets.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	b, _ := secrets.GenerateKey()
	if keyHex(t, a) == keyHex(t, b) {
		t.Error("twice the same key")
	}
	a.Destroy()
	if err := a.Use(func(*[32]byte) error { return nil }); !errors.Is(err, secrets.ErrDestroyed) {
		t.Error(err)
	}
}
