package secrets_test

import (
	"crypto/aes"
	"crypto/cipher"
	"testing"
)

// randomNonceGCM is what SCR-20 builds on, with its key prepared.
func randomNonceGCM(b *testing.B) cipher.AEAD {
	b.Helper()
	block, err := aes.NewCipher(make([]byte, 32))
	if err != nil {
		b.Fatal(err)
	}
	gcm, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		b.Fatal(err)
	}
	return gcm
}

func BenchmarkSeal(b *testing.B) {
	ring, gcm, plain, aad := ringOf(b, 1), randomNonceGCM(b), make([]byte, 1<<10), []byte("task-42")
	b.Run("1KiB", func(b *testing.B) {
		b.SetBytes(1 << 10)
		for b.Loop() {
			if _, err := ring.Seal(nil, plain, aad); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("1KiB-AES-GCM", func(b *testing.B) {
		b.SetBytes(1 << 10)
		for b.Loop() {
			gcm.Seal(nil, nil, plain, aad)
		}
	})
}

func BenchmarkOpen(b *testing.B) {
	ring, gcm, plain, aad := ringOf(b, 1), randomNonceGCM(b), make([]byte, 1<<10), []byte("task-42")
	b.Run("1KiB", func(b *testing.B) {
		box, err := ring.Seal(nil, plain, aad)
		if err != nil {
			b.Fatal(err)
		}
		b.SetBytes(1 << 10)
		for b.Loop() {
			if _, err := ring.Open(nil, box, aad); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("1KiB-AES-GCM", func(b *testing.B) {
		box := gcm.Seal(nil, nil, plain, aad)
		b.SetBytes(1 << 10)
		for b.Loop() {
			if _, err := gcm.Open(nil, nil, box, aad); err != nil {
				b.Fatal(err)
			}
		}
	})
}
