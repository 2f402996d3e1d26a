package secrets

import (
	"bytes"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"strconv"
	"strings"
)

// keyLen is the length of every Key, in bytes.
const keyLen = 32

// Key is a Secret of exactly 32 bytes. The zero Key is unusable.
type Key struct {
	redacted
	s Secret
}

// NewKey takes 32 bytes and wipes b. Any other length is [ErrFormat].
func NewKey(b []byte) (Key, error) {
	if len(b) != keyLen {
		clear(b)
		return Key{}, fault("make", ErrFormat, "a key has 32 bytes")
	}
	return Key{s: New(b)}, nil
}

// GenerateKey returns a random Key. The error is always nil today.
func GenerateKey() (Key, error) {
	b := make([]byte, keyLen)
	rand.Read(b) // never fails: it ends the program instead
	return NewKey(b)
}

// ParseKey reads 64 hex digits, 43 or 44 base64 digits (either alphabet, padded
// or not) or 32 raw bytes, each with at most one newline after it. Anything else
// is [ErrFormat]; 32 times the same byte is [ErrWeakKey].
func ParseKey(s Secret) (k Key, err error) {
	err = s.Use(func(b []byte) error {
		var key [keyLen]byte
		defer clear(key[:])
		if !decodeKey(&key, b) {
			return fault("parse", ErrFormat, "a key is 64 hex digits, 43 or 44 base64 digits or 32 raw bytes")
		}
		if bytes.Count(key[:], key[:1]) == keyLen {
			return fault("parse", ErrWeakKey, "all bytes of the key are the same")
		}
		k, err = NewKey(key[:])
		return err
	})
	return k, err
}

func decodeKey(key *[keyLen]byte, b []byte) bool {
	for _, end := range []string{"", "\n", "\r\n"} { // raw bytes may end like a newline themselves
		if raw, ok := bytes.CutSuffix(b, []byte(end)); ok && len(raw) == keyLen {
			copy(key[:], raw)
			return true
		}
	}
	b = trimNewline(b)
	switch len(b) {
	case 2 * keyLen:
		_, err := hex.Decode(key[:], b)
		return err == nil
	case 43, 44:
		enc := base64.RawStdEncoding
		if bytes.ContainsAny(b, "-_") {
			enc = base64.RawURLEncoding
		}
		if len(b) == 44 {
			enc = enc.WithPadding(base64.StdPadding)
		}
		var buf [keyLen + 1]byte // Decode wants room for the padded length
		defer clear(buf[:])
		n, err := enc.Strict().Decode(buf[:], b)
		copy(key[:], buf[:])
		return err == nil && n == keyLen
	}
	return false
}

// Use lends the bytes to fn, which must neither change nor keep them.
func (k Key) Use(fn func(b *[32]byte) error) error {
	return k.s.Use(func(b []byte) error {
		if len(b) != keyLen {
			return fault("use", ErrFormat, "the zero Key is no key")
		}
		return fn((*[keyLen]byte)(b))
	})
}

// Destroy wipes the key, like [Secret.Destroy].
func (k Key) Destroy() { k.s.Destroy() }

// DeriveKey returns the HKDF-SHA256 of ikm (RFC 5869) with domain as info; salt
// may be nil. ikm has at least 16 bytes, else [ErrWeakKey]. domain is unique per
// use and versioned: it matches [a-z0-9][a-z0-9/._-]{0,126} and ends in -vN or
// /vN with N from 1 to 999, else [ErrFormat].
func DeriveKey(ikm Secret, salt []byte, domain string) (k Key, err error) {
	if !wellFormed(domain) {
		return Key{}, fault("derive", ErrFormat, "the domain does not read like name-v1")
	}
	err = ikm.Use(func(b []byte) error {
		if len(b) < 16 {
			return fault("derive", ErrWeakKey, "fewer than 16 bytes to derive from")
		}
		out, err := hkdf.Key(sha256.New, b, salt, domain, keyLen)
		if err != nil {
			return fault("derive", err, "HKDF refused")
		}
		k, err = NewKey(out)
		return err
	})
	return k, err
}

// Derive is DeriveKey from this key, without salt.
func (k Key) Derive(domain string) (Key, error) { return DeriveKey(k.s, nil, domain) }

// wellFormed reports whether s follows the grammar of domains and labels.
func wellFormed(s string) bool {
	if s == "" || len(s) > 127 || madeOf(s[:1], "/._-") || !madeOf(s, lower+digits+"/._-") {
		return false
	}
	i := strings.LastIndexByte(s, 'v')
	if i < 1 || s[i-1] != '-' && s[i-1] != '/' {
		return false
	}
	n, err := strconv.Atoi(s[i+1:])
	return err == nil && n >= 1 && n <= 999 && s[i+1] != '0'
}
