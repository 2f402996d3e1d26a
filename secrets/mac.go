package secrets

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"slices"
)

// MAC returns HMAC-SHA256 over label and parts, each behind its length as 8 bytes
// big-endian, so that bytes cannot move from one field to the next. label follows
// the grammar of domains, see [DeriveKey].
func (k Key) MAC(label string, parts ...[]byte) (sum [32]byte, err error) {
	if !wellFormed(label) {
		return sum, fault("mac", ErrFormat, "the label does not read like name-v1")
	}
	err = k.Use(func(key *[32]byte) error {
		h := hmac.New(sha256.New, key[:])
		for _, field := range slices.Insert(slices.Clone(parts), 0, []byte(label)) {
			h.Write(binary.BigEndian.AppendUint64(nil, uint64(len(field))))
			h.Write(field)
		}
		h.Sum(sum[:0])
		return nil
	})
	return sum, err
}

// VerifyMAC returns [ErrMAC] unless mac is the 32 bytes that MAC returns for the
// same label and parts. It compares in constant time.
func (k Key) VerifyMAC(mac []byte, label string, parts ...[]byte) error {
	want, err := k.MAC(label, parts...)
	if err != nil {
		return err
	}
	if subtle.ConstantTimeCompare(mac, want[:]) != 1 {
		return fault("mac", ErrMAC, "the MAC does not fit")
	}
	return nil
}
