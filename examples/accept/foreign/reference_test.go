package foreign

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha256"
	"encoding/binary"
	"slices"
	"testing"
)

// The references are written from the standards and from the words of our own
// formats, and use neither crypto/hmac nor crypto/hkdf nor our module. They pass the
// vectors first; then our module has to agree with them.

// refHMAC is HMAC-SHA256 from RFC 2104.
func refHMAC(key []byte, parts ...[]byte) []byte {
	block := make([]byte, sha256.BlockSize)
	if len(key) > len(block) {
		sum := sha256.Sum256(key)
		key = sum[:]
	}
	copy(block, key)
	inner, outer := slices.Clone(block), slices.Clone(block)
	for i := range block {
		inner[i] ^= 0x36
		outer[i] ^= 0x5c
	}
	sum := sha256.Sum256(slices.Concat(inner, slices.Concat(parts...)))
	sum = sha256.Sum256(append(outer, sum[:]...))
	return sum[:]
}

// refHKDF is HKDF-SHA256 from RFC 5869; nil where the standard gives nothing.
func refHKDF(ikm, salt, info []byte, size int) (out []byte) {
	if size > 255*sha256.Size {
		return nil
	}
	prk, last := refHMAC(salt, ikm), []byte(nil)
	for n := byte(1); len(out) < size; n++ {
		last = refHMAC(prk, last, info, []byte{n})
		out = append(out, last...)
	}
	return out[:size]
}

// refGCM is AES-GCM with a nonce of n bytes; false where the standard forbids it.
func refGCM(t *testing.T, key []byte, n int) (cipher.AEAD, bool) {
	t.Helper()
	block, err := aes.NewCipher(key)
	if err != nil {
		t.Fatal(err)
	}
	gcm, err := cipher.NewGCMWithNonceSize(block, n)
	return gcm, err == nil
}

// refFrame is how Key.MAC joins its fields: each behind its length in 8 bytes.
func refFrame(fields ...[]byte) (out []byte) {
	for _, f := range fields {
		out = append(binary.BigEndian.AppendUint64(out, uint64(len(f))), f...)
	}
	return out
}

// refHeader is how a sealed box begins.
func refHeader(id uint32) []byte { return binary.BigEndian.AppendUint32([]byte("LLS1\x01"), id) }

// xor returns a with b laid over its beginning.
func xor(a, b []byte) []byte {
	out := slices.Clone(a)
	for i := range min(len(a), len(b)) {
		out[i] ^= b[i]
	}
	return out
}
