package sse

import "unicode/utf8"

// UTF8 makes valid UTF-8 of text that arrives in pieces: a rune cut between two
// pieces is held (at most three bytes) until the rest is there, and every byte
// that can not belong to a rune becomes U+FFFD. The output does not depend on
// where the pieces were cut. The zero value is ready; one user at a time.
type UTF8 struct {
	held     [utf8.UTFMax]byte
	n        int
	replaced int
}

// Append appends to dst what is complete of the held bytes and p.
func (u *UTF8) Append(dst, p []byte) []byte {
	if u.n == 0 && utf8.Valid(p) {
		return append(dst, p...)
	}
	for _, b := range p {
		u.held[u.n] = b
		u.n++
		for u.n > 0 && utf8.FullRune(u.held[:u.n]) {
			dst = u.take(dst)
		}
	}
	return dst
}

// Flush appends U+FFFD for each byte still held. Call it at the end of the text.
func (u *UTF8) Flush(dst []byte) []byte {
	for u.n > 0 {
		dst = u.take(dst)
	}
	return dst
}

// Replaced returns how many bytes became U+FFFD so far.
func (u *UTF8) Replaced() int { return u.replaced }

// take moves the first rune of held, valid or not, to dst.
func (u *UTF8) take(dst []byte) []byte {
	r, size := utf8.DecodeRune(u.held[:u.n])
	if r == utf8.RuneError && size == 1 {
		u.replaced++
	}
	copy(u.held[:], u.held[size:u.n])
	u.n -= size
	return utf8.AppendRune(dst, r)
}
