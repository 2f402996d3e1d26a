package authmin

import (
	"net/http"
	"strings"
)

const bearer = "Bearer"

// ParseBearer accepts one Authorization field value: the scheme Bearer in any
// letter case, one space, a token as [ParseToken] accepts it, and nothing
// before or after. A field that is empty or has another scheme is ErrMissing,
// everything else ErrMalformed; so is a field longer than the longest token
// allows, before it is looked at.
func ParseBearer(field string) (Token, error) {
	if len(field) > len(bearer)+1+maxToken {
		return Token{}, ErrMalformed
	}
	trimmed := strings.TrimLeft(field, " \t")
	if len(trimmed) < len(bearer) || !strings.EqualFold(trimmed[:len(bearer)], bearer) {
		return Token{}, ErrMissing
	}
	rest := trimmed[len(bearer):]
	if rest != "" && isSchemeByte(rest[0]) {
		return Token{}, ErrMissing // a longer name: another scheme
	}
	token, ok := strings.CutPrefix(rest, " ")
	if !ok || len(trimmed) != len(field) {
		return Token{}, ErrMalformed
	}
	return ParseToken(token)
}

// FromRequest parses the Authorization field of r. Several fields, even
// identical ones, are ErrMalformed, because the next hop might pick another.
// URL and cookies are never looked at: they end up in logs and histories.
func FromRequest(r *http.Request) (Token, error) {
	switch fields := r.Header.Values("Authorization"); len(fields) {
	case 0:
		return Token{}, ErrMissing
	case 1:
		return ParseBearer(fields[0])
	}
	return Token{}, ErrMalformed
}

// isSchemeByte reports whether c can continue the name of a scheme (tchar of
// RFC 9110).
func isSchemeByte(c byte) bool {
	return isAlnum(c) || strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0
}
