package authmin

import (
	"context"
	"net/netip"
	"slices"
)

// Principal is who a request comes from. The zero Principal is anonymous.
type Principal struct {
	Name   string     // of the key; "" without token
	FP6    string     // label of the token; "" without token
	Tags   []string   // of the key; opaque to this package
	Local  bool       // a strictly local caller without token
	Client netip.Addr // where the request came from, for logs; invalid if unknown
}

// String returns "token:<fp6>", "localhost" or "anonymous".
func (p Principal) String() string {
	switch {
	case p.FP6 != "":
		return "token:" + p.FP6
	case p.Local:
		return "localhost"
	}
	return "anonymous"
}

// HasTag reports whether the key carries the tag.
func (p Principal) HasTag(tag string) bool { return slices.Contains(p.Tags, tag) }

type principalKey struct{}

// WithPrincipal returns a context that carries p.
func WithPrincipal(ctx context.Context, p Principal) context.Context {
	return context.WithValue(ctx, principalKey{}, p)
}

// PrincipalFrom returns the principal that a [Gate] or [WithPrincipal] put
// into ctx.
func PrincipalFrom(ctx context.Context) (Principal, bool) {
	p, ok := ctx.Value(principalKey{}).(Principal)
	return p, ok
}
