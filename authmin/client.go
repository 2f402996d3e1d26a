package authmin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
)

// maxDrain bounds what is read of a refused answer so that its connection can
// be used again, in bytes.
const maxDrain = 64 << 10

// Transport adds a bearer token to requests for listed hosts, and to no others:
// the check runs on every hop, so a redirect cannot collect the token. It is
// safe for concurrent use; its fields must not change after the first request.
type Transport struct {
	// Base sends the requests. nil = http.DefaultTransport.
	Base http.RoundTripper
	// Token returns the current token. It is called for each request and again
	// after a 401, so it should not be slow. Required.
	Token func(context.Context) (Token, error)
	// Hosts lists where the token may go: "host:port", or "host" for the
	// default port of the scheme, in any letter case. Required.
	Hosts []string
	// AllowPlaintext allows http:// to other machines. Default: only https://,
	// and http:// to a loopback IP literal.
	AllowPlaintext bool
}

var _ http.RoundTripper = (*Transport)(nil)

// RoundTrip sends a copy of r with the token. It fails with ErrHostNotListed,
// ErrPlaintext, ErrMissing if there is no token, and an error if the caller has
// set Authorization. After a 401 it asks for the token again; if that changed,
// and the body is empty or can be had again, the request is repeated once.
func (t *Transport) RoundTrip(r *http.Request) (*http.Response, error) {
	token, err := t.admit(r)
	if err != nil {
		closeBody(r)
		return nil, err
	}
	resp, err := t.send(r, r.Body, token)
	if err != nil || resp.StatusCode != http.StatusUnauthorized {
		return resp, err
	}
	next, err := t.Token(r.Context())
	if err != nil || next.IsZero() || next.Equal(token) {
		return resp, nil // the first answer tells more than this failure
	}
	body, err := bodyAgain(r)
	if err != nil {
		return resp, nil // as before: the answer stands
	}
	_, _ = io.CopyN(io.Discard, resp.Body, maxDrain) // only to reuse the connection
	_ = resp.Body.Close()
	return t.send(r, body, next)
}

// admit decides whether the token may go with r, and returns it.
func (t *Transport) admit(r *http.Request) (Token, error) {
	switch {
	case t.Token == nil || len(t.Hosts) == 0:
		return Token{}, errors.New("authmin: Transport needs Token and Hosts")
	case carriesToken(r.Header):
		return Token{}, errors.New("authmin: the request carries its own Authorization")
	case !t.listed(r.URL):
		return Token{}, ErrHostNotListed
	case r.URL.Scheme != "https" && !t.AllowPlaintext && !loopbackLiteral(r.URL.Hostname()):
		return Token{}, ErrPlaintext
	}
	token, err := t.Token(r.Context())
	if err != nil {
		return Token{}, fmt.Errorf("get token: %w", err)
	}
	if token.IsZero() {
		return Token{}, ErrMissing
	}
	return token, nil
}

// carriesToken reports whether the caller set Authorization, in any spelling.
func carriesToken(h http.Header) bool {
	for name := range h {
		if strings.EqualFold(name, "Authorization") {
			return true
		}
	}
	return false
}

// send sends a copy of r. The response points to r itself, so that whoever
// prints it does not print the token.
func (t *Transport) send(r *http.Request, body io.ReadCloser, token Token) (*http.Response, error) {
	out := r.Clone(r.Context())
	out.Body = body
	if out.Header == nil {
		out.Header = make(http.Header, 1)
	}
	out.Header.Set("Authorization", bearer+" "+token.Reveal())
	base := t.Base
	if base == nil {
		base = http.DefaultTransport
	}
	resp, err := base.RoundTrip(out)
	if resp != nil {
		resp.Request = r
	}
	return resp, err
}

// listed reports whether Hosts names the host and port of u.
func (t *Transport) listed(u *url.URL) bool {
	port := u.Port()
	standard := u.Scheme == "https" && (port == "" || port == "443") || u.Scheme == "http" && (port == "" || port == "80")
	if port == "" {
		port = map[string]string{"https": "443", "http": "80"}[u.Scheme]
	}
	full := net.JoinHostPort(u.Hostname(), port)
	return slices.ContainsFunc(t.Hosts, func(h string) bool {
		return strings.EqualFold(h, full) || standard && strings.EqualFold(strings.Trim(h, "[]"), u.Hostname())
	})
}

func loopbackLiteral(host string) bool {
	a, err := netip.ParseAddr(host)
	return err == nil && isLoopback(a)
}

// bodyAgain returns a fresh body for a second try.
func bodyAgain(r *http.Request) (io.ReadCloser, error) {
	switch {
	case r.Body == nil || r.Body == http.NoBody:
		return r.Body, nil
	case r.GetBody == nil:
		return nil, errors.New("authmin: the body cannot be had again")
	}
	return r.GetBody()
}

func closeBody(r *http.Request) {
	if r.Body != nil {
		_ = r.Body.Close() // the error that is returned is the one to act on
	}
}
