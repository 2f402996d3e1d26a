package authmin

import "errors"

// Conditions that callers branch on with errors.Is. None of them carries input.
var (
	// ErrMissing says that no bearer token was presented.
	ErrMissing = errors.New("authmin: no bearer token")
	// ErrMalformed says that a token, its field or a key file breaks the
	// grammar, or that a request has more than one token.
	ErrMalformed = errors.New("authmin: malformed bearer token")
	// ErrRejected says that a well-formed token is not a live one. A Verifier
	// wraps it to say "wrong token"; any other error means "cannot decide".
	ErrRejected = errors.New("authmin: token rejected")
	// ErrExpired says that the token was known and is not valid now. It wraps
	// ErrRejected.
	ErrExpired error = &expiredError{}
	// ErrWeakToken says that a configured token could be guessed.
	ErrWeakToken = errors.New("authmin: weak token")
	// ErrNoKeys says that a set without keys was asked for.
	ErrNoKeys = errors.New("authmin: no keys")
	// ErrBadAddress says that a listen address cannot be understood.
	ErrBadAddress = errors.New("authmin: bad listen address")
	// ErrBindRefused says that other machines could reach a listener without
	// token.
	ErrBindRefused = errors.New("authmin: listener refused")
	// ErrHostNotListed says that a request would carry the token to a host that
	// Transport.Hosts does not name.
	ErrHostNotListed = errors.New("authmin: host not listed")
	// ErrPlaintext says that a request would carry the token over plain HTTP to
	// another machine.
	ErrPlaintext = errors.New("authmin: token over plaintext")
)

type expiredError struct{}

func (*expiredError) Error() string { return "authmin: token expired or not yet valid" }
func (*expiredError) Unwrap() error { return ErrRejected }
