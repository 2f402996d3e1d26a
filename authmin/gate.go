package authmin

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

// Config describes a [Gate]. The zero Config is refused: either Keys or
// LoopbackOptional must be set.
type Config struct {
	// Keys decides about tokens. nil, or a nil *KeySet, only together with
	// LoopbackOptional; then every token is ignored and only strictly local
	// requests are served.
	Keys Verifier
	// LoopbackOptional lets strictly local requests come without a token.
	// Default: everyone needs one.
	LoopbackOptional bool
	// Open lists exact paths that GET and HEAD reach without token; OpenLocal
	// those that they reach so from strictly local callers. nil = {"/health"}
	// and {"/metrics"}; empty = none.
	Open, OpenLocal []string
	// AllowedHosts lists Host values, "host" or "host:port", that are accepted
	// beside loopback names. A listener that is not on loopback checks Host
	// only if the list is not empty. Default: none.
	AllowedHosts []string
	// CrossOrigin is consulted for each request admitted without token.
	// nil = a zero http.CrossOriginProtection.
	CrossOrigin *http.CrossOriginProtection
	// Proxies lists peers whose X-Forwarded-For is believed, for logs only.
	// nil = nobody.
	Proxies []netip.Prefix
	// Realm stands in challenges: printable ASCII without quote and backslash,
	// at most 64 bytes. "" = "llorch".
	Realm string
	// Answer writes the body of a refusal and may set headers; the status and
	// the refusal's own headers are the gate's. nil = the message as text.
	Answer func(http.ResponseWriter, *http.Request, *Refusal)
	// Observe is called synchronously, once per decision except for the
	// failures of a flood, which the next event counts; it must not block and
	// may be called concurrently. nil = nothing.
	Observe func(context.Context, Event)
	// Logger gets the same as Observe. nil = nothing is logged.
	Logger *slog.Logger
}

// Gate decides about requests. It is safe for concurrent use.
type Gate struct {
	keys            Verifier // nil without keys
	loopback        bool
	open, openLocal []string
	hosts           []string // lower case
	crossOrigin     *http.CrossOriginProtection
	proxies         []netip.Prefix
	realm           string
	answer          func(http.ResponseWriter, *http.Request, *Refusal)
	observe         func(context.Context, Event)
	logger          *slog.Logger
	limiter         limiter
}

// New makes a gate and reports all faults of cfg at once. No keys without
// LoopbackOptional is ErrNoKeys.
func New(cfg Config) (*Gate, error) {
	g := &Gate{
		keys: cfg.Keys, loopback: cfg.LoopbackOptional, open: slices.Clone(cfg.Open), openLocal: slices.Clone(cfg.OpenLocal),
		crossOrigin: cfg.CrossOrigin, proxies: slices.Clone(cfg.Proxies), realm: cfg.Realm, answer: cfg.Answer, observe: cfg.Observe, logger: cfg.Logger,
	}
	if set, ok := cfg.Keys.(*KeySet); ok && set.Len() == 0 {
		g.keys = nil // a nil set in the interface must not pass for keys
	}
	if g.open == nil {
		g.open = []string{"/health"}
	}
	if g.openLocal == nil {
		g.openLocal = []string{"/metrics"}
	}
	if g.crossOrigin == nil {
		g.crossOrigin = http.NewCrossOriginProtection()
	}
	if g.realm == "" {
		g.realm = "llorch"
	}
	if g.answer == nil {
		g.answer = plainAnswer
	}
	if g.logger == nil {
		g.logger = slog.New(slog.DiscardHandler)
	}
	for _, h := range cfg.AllowedHosts {
		g.hosts = append(g.hosts, strings.ToLower(h))
	}
	if err := g.check(); err != nil {
		return nil, err
	}
	for i, h := range g.hosts {
		g.hosts[i] = strings.Trim(h, "[]") // as Host is compared; "[::1]:80" keeps its bracket inside
		if strings.Contains(h, "]:") {
			g.hosts[i] = h
		}
	}
	return g, nil
}

// check reports all faults of the configuration.
func (g *Gate) check() error {
	var faults []error
	if g.keys == nil && !g.loopback {
		faults = append(faults, fmt.Errorf("%w, and LoopbackOptional is not set", ErrNoKeys))
	}
	for _, p := range slices.Concat(g.open, g.openLocal) {
		faults = append(faults, checkOpenPath(p))
	}
	for _, h := range g.hosts {
		faults = append(faults, checkAllowedHost(h))
	}
	for _, p := range g.proxies {
		switch {
		case !p.IsValid() || p.Bits() == 0:
			faults = append(faults, errors.New("authmin: a proxy prefix is invalid or means everybody"))
		case g.loopback && len(g.hosts) == 0 && overlapsLoopback(p):
			faults = append(faults, errors.New("authmin: a proxy on loopback beside LoopbackOptional needs AllowedHosts"))
		}
	}
	if len(g.realm) > 64 || strings.ContainsFunc(g.realm, func(r rune) bool { return r < ' ' || r > '~' || r == '"' || r == '\\' }) {
		faults = append(faults, errors.New("authmin: the realm is not printable ASCII without quote and backslash, at most 64 bytes"))
	}
	return errors.Join(faults...)
}

// overlapsLoopback reports whether the prefix covers a loopback address, also
// in IPv4-mapped form.
func overlapsLoopback(p netip.Prefix) bool {
	for _, l := range [...]netip.Prefix{
		netip.PrefixFrom(netip.AddrFrom4([4]byte{127}), 8), netip.PrefixFrom(netip.IPv6Loopback(), 128),
		netip.PrefixFrom(netip.AddrFrom16([16]byte{10: 0xff, 11: 0xff, 12: 127}), 104),
	} {
		if p.Overlaps(l) {
			return true
		}
	}
	return false
}

// Wrap lets requests that pass reach next, with their [Principal] in the
// context and without Authorization and Proxy-Authorization, and answers the
// others. The caller's request is not modified.
func (g *Gate) Wrap(next http.Handler) http.Handler { return g.wrap(next, false) }

// WrapStrict is as Wrap, but LoopbackOptional counts only while Config.Keys is
// nil: as soon as there are keys, everybody needs one. It is meant for
// endpoints that change who is trusted, such as the registration of nodes.
func (g *Gate) WrapStrict(next http.Handler) http.Handler { return g.wrap(next, true) }

func (g *Gate) wrap(next http.Handler, strict bool) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p, refusal := g.authorize(r, strict, w.Header())
		if refusal != nil {
			aw := &answerWriter{ResponseWriter: w, refusal: refusal, head: r.Method == http.MethodHead}
			g.answer(aw, withoutSecrets(r.Context(), r), refusal)
			aw.WriteHeader(refusal.Status)
			return
		}
		next.ServeHTTP(w, withoutSecrets(WithPrincipal(r.Context(), p), r))
	})
}

// Authorize is the decision of Wrap alone, for packages that take such a
// function. The error is a *Refusal. The events it causes carry no correlation
// id.
func (g *Gate) Authorize(r *http.Request) (Principal, error) {
	p, refusal := g.authorize(r, false, nil)
	if refusal != nil {
		return Principal{}, refusal
	}
	return p, nil
}

// authorize decides and reports. response holds the fields that are set so far.
func (g *Gate) authorize(r *http.Request, strict bool, response http.Header) (Principal, *Refusal) {
	peer := peerAddr(r)
	p, refusal := g.decide(r, peer, strict)
	p.Client = g.clientAddr(r, peer)
	g.report(r, p, refusal, response)
	return p, refusal
}

// decide applies the rules in their normative order. Beside a refusal the
// principal is only what may be logged.
func (g *Gate) decide(r *http.Request, peer netip.Addr, strict bool) (Principal, *Refusal) {
	here := localAddr(r)
	if !g.hostAllowed(r, here) {
		return Principal{}, refusalHost()
	}
	if openPath(r, g.open) || openPath(r, g.openLocal) && strictlyLocal(r, peer, here) {
		return Principal{}, nil
	}
	if g.keys == nil {
		if !strictlyLocal(r, peer, here) {
			return Principal{}, refusalNotLocal()
		}
		return g.admitLocal(r)
	}
	token, err := FromRequest(r)
	switch {
	case errors.Is(err, ErrMissing) && g.loopback && !strict && strictlyLocal(r, peer, here):
		return g.admitLocal(r)
	case errors.Is(err, ErrMissing):
		return Principal{}, refusalFor(ErrMissing, err, g.realm)
	case err != nil:
		return Principal{}, refusalFor(ErrMalformed, err, g.realm)
	}
	p, err := g.keys.Verify(r.Context(), token)
	switch {
	case errors.Is(err, ErrRejected):
		return Principal{FP6: rejectedFP6(token)}, refusalFor(ErrRejected, err, g.realm)
	case err != nil:
		return Principal{FP6: rejectedFP6(token)}, refusalFor(nil, err, g.realm)
	}
	p.Local = false
	return p, nil
}

// admitLocal admits a strictly local request without token, unless a page of
// another site sent it.
func (g *Gate) admitLocal(r *http.Request) (Principal, *Refusal) {
	if err := g.crossOrigin.Check(r); err != nil {
		return Principal{}, refusalCrossOrigin(err)
	}
	return Principal{Local: true}, nil
}

// rejectedFP6 labels a rejected token, unless it is so short that it may be a
// mistyped password.
func rejectedFP6(t Token) string {
	if s := t.Reveal(); len(s) >= minToken {
		return FP6(s)
	}
	return ""
}

// withoutSecrets returns a copy of r with ctx and without the fields that
// carry credentials.
func withoutSecrets(ctx context.Context, r *http.Request) *http.Request {
	out := r.WithContext(ctx)
	out.Header = maps.Clone(r.Header)
	maps.DeleteFunc(out.Header, func(name string, _ []string) bool {
		return strings.EqualFold(name, "Authorization") || strings.EqualFold(name, "Proxy-Authorization")
	})
	return out
}
