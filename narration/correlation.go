package narration

import (
	"crypto/rand"
	"encoding/hex"
)

// Correlation is the id of one request of a caller: ^[A-Za-z0-9-]{1,64}$.
type Correlation string

// NewCorrelation returns a random UUID, version 4.
func NewCorrelation() Correlation {
	var u [16]byte
	rand.Read(u[:]) // never fails: it ends the program instead
	u[6] = u[6]&0x0f | 0x40
	u[8] = u[8]&0x3f | 0x80
	var b [36]byte
	hex.Encode(b[:8], u[:4])
	hex.Encode(b[9:13], u[4:6])
	hex.Encode(b[14:18], u[6:8])
	hex.Encode(b[19:23], u[8:10])
	hex.Encode(b[24:], u[10:])
	b[8], b[13], b[18], b[23] = '-', '-', '-', '-'
	return Correlation(b[:])
}

// ParseCorrelation reports whether s is a correlation id. Nothing is trimmed and
// no case is changed.
func ParseCorrelation(s string) (Correlation, bool) {
	if s == "" || len(s) > 64 {
		return "", false
	}
	for _, c := range []byte(s) {
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '-' {
			return "", false
		}
	}
	return Correlation(s), true
}
