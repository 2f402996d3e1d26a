package authmin

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"fmt"
	"io"
	"log/slog"
	"strings"
)

// maxToken bounds a token, in bytes; it is the most that common servers accept
// for a whole header field.
const maxToken = 8192

// Token is a presented or configured bearer token. It is held behind a
// function, so that printing by reflection shows an address, and it does not
// compare with ==; use [Token.Equal]. The zero Token is none and equals nothing.
type Token struct{ reveal func() string }

// Generate returns a new token of 260 random bits: prefix, "_" and 52 letters
// and digits. The prefix tells people and scanners what leaked. It panics if
// prefix does not match [a-z][a-z0-9]{0,15}, which is a mistake in the program.
func Generate(prefix string) Token {
	ok := len(prefix) >= 1 && len(prefix) <= 16 && prefix[0] >= 'a'
	for i := range len(prefix) {
		c := prefix[i]
		ok = ok && (c >= 'a' && c <= 'z' || c >= '0' && c <= '9')
	}
	if !ok {
		panic("authmin: Generate: prefix must match [a-z][a-z0-9]{0,15}")
	}
	return newToken(prefix + "_" + rand.Text() + rand.Text())
}

// ParseToken accepts a bare token: 1..8192 bytes of A-Z a-z 0-9 - . _ ~ + /
// followed by any number of '=' (token68 of RFC 9110). Anything else is
// ErrMalformed; surrounding blanks and line ends are not removed.
func ParseToken(s string) (Token, error) {
	if !isToken68(s) {
		return Token{}, ErrMalformed
	}
	return newToken(s), nil
}

func newToken(s string) Token { return Token{reveal: func() string { return s }} }

// Reveal returns the token, "" for the zero Token. It is the only way out.
func (t Token) Reveal() string {
	if t.reveal == nil {
		return ""
	}
	return t.reveal()
}

// IsZero reports whether t is none.
func (t Token) IsZero() bool { return t.reveal == nil }

// Equal reports whether both tokens are the same, in a time that does not
// depend on where they differ. The zero Token equals nothing, itself included.
func (t Token) Equal(u Token) bool {
	a, b := t.digest(), u.digest()
	return equalDigest(&a, &b) == 1 && !t.IsZero() && !u.IsZero()
}

// digest returns the SHA-256 of the token, that of nothing for the zero Token,
// and makes no garbage of a token unless it is uncommonly long.
func (t Token) digest() [sha256.Size]byte {
	var buf [128]byte
	s := t.Reveal()
	if len(s) > len(buf) {
		return sha256.Sum256([]byte(s))
	}
	return sha256.Sum256(buf[:copy(buf[:], s)])
}

// equalDigest is the one place where secrets are compared. It returns 1 or 0.
func equalDigest(a, b *[sha256.Size]byte) int { return subtle.ConstantTimeCompare(a[:], b[:]) }

// String returns "[token <fp6>]", or "[token none]". It is no token68, so it
// cannot become a credential by mistake.
func (t Token) String() string {
	if t.IsZero() {
		return "[token none]"
	}
	return "[token " + FP6(t.Reveal()) + "]"
}

// GoString returns the same as String.
func (t Token) GoString() string { return t.String() }

// Format writes the same as String for every verb and flag.
func (t Token) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, t.String()) }

// LogValue returns the same as String.
func (t Token) LogValue() slog.Value { return slog.StringValue(t.String()) }

// MarshalText returns the same as String; there is no way back.
func (t Token) MarshalText() ([]byte, error) { return []byte(t.String()), nil }

// MarshalJSON returns String as a JSON string.
func (t Token) MarshalJSON() ([]byte, error) { return []byte(`"` + t.String() + `"`), nil }

// FP6 returns the first six lower-case hexadecimal digits of the SHA-256 of s,
// a label under which a token appears in logs. s may be any bytes.
func FP6(s string) string {
	sum := newToken(s).digest()
	return fp6Digest(&sum)
}

func fp6Digest(sum *[sha256.Size]byte) string { return hex.EncodeToString(sum[:3]) }

// isToken68 reports whether s is 1..maxToken bytes of token68.
func isToken68(s string) bool {
	if len(s) > maxToken {
		return false
	}
	body := strings.TrimRight(s, "=")
	for i := range len(body) {
		if !isToken68Byte(body[i]) {
			return false
		}
	}
	return body != ""
}

func isToken68Byte(c byte) bool {
	switch c {
	case '-', '.', '_', '~', '+', '/':
		return true
	}
	return isAlnum(c)
}

func isAlnum(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
}
