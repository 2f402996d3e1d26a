package queue

import "encoding/hex"

// MarshalText writes 32 hex digits: decision logs and states are read by people.
func (id ID) MarshalText() ([]byte, error) { return hex.AppendEncode(nil, id[:]), nil }

// UnmarshalText reads 32 hex digits.
func (id *ID) UnmarshalText(b []byte) error { return unhex(id[:], b) }

// MarshalText writes 32 hex digits.
func (t Tenant) MarshalText() ([]byte, error) { return hex.AppendEncode(nil, t[:]), nil }

// UnmarshalText reads 32 hex digits.
func (t *Tenant) UnmarshalText(b []byte) error { return unhex(t[:], b) }

func unhex(dst, b []byte) error {
	if len(b) != 2*len(dst) {
		return hex.ErrLength
	}
	_, err := hex.Decode(dst, b)
	return err
}
