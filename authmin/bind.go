package authmin

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

const (
	maxAddress  = 256 // bytes of a listen address
	shownAddr   = 64  // bytes of it that an error shows
	authBind    = 40301
	defaultHint = "listen on 127.0.0.1 or [::1], or configure a token of 32 characters or more, made for example by: head -c 32 /dev/urandom | base64"
)

// BindPolicy decides which addresses may be listened on. The rule: an address
// that other machines, or other users through a socket file, can reach needs a
// token. The zero value is ready to use.
type BindPolicy struct {
	// Names lists the host names that may count as loopback, in any letter
	// case, provided that all their addresses are. nil = {"localhost"}.
	Names []string
	// Resolve returns the addresses of a host. nil = net.DefaultResolver.
	Resolve func(ctx context.Context, host string) ([]netip.Addr, error)
	// Hint ends the message of a refusal: what the operator should do. "" = a
	// text that names both remedies and a command that prints a token.
	Hint string
}

// BindError says why an address may not be listened on. It wraps
// ErrBindRefused or ErrBadAddress.
type BindError struct {
	Network, Reason string
	Hint            string // only with ErrBindRefused
	AuthCode        int    // 40301 with ErrBindRefused, else 0
	address         string // quoted to ASCII, at most shownAddr bytes
	class           error
}

// Error names the address in part, the reason and the hint.
func (e *BindError) Error() string {
	s := "authmin: listen " + e.Network + " " + e.address + ": " + e.Reason
	if e.Hint != "" {
		s += "; " + e.Hint
	}
	return s
}

// Unwrap returns ErrBindRefused or ErrBadAddress.
func (e *BindError) Unwrap() error { return e.class }

// Check reports with a *BindError whether the address may not be listened on.
// network is tcp, tcp4, tcp6 or unix. A TCP address is host:port with a decimal
// port and IPv6 in brackets; an empty host and "*" mean every interface. Only a
// name of the policy is resolved when there is no token, and none when there is.
func (p BindPolicy) Check(ctx context.Context, network, addr string, haveToken bool) error {
	target, err := parseBind(network, addr)
	if err != nil {
		return err
	}
	if haveToken {
		return nil
	}
	_, err = p.loopbackAddrs(ctx, target)
	return err
}

// Listen checks the address and listens on it. A name is resolved once, and the
// first address that fits the network is listened on, IPv4 before IPv6. Without
// token the address of the open listener is checked again.
func (p BindPolicy) Listen(ctx context.Context, network, addr string, haveToken bool) (net.Listener, error) {
	return p.listen(ctx, network, addr, haveToken, (&net.ListenConfig{}).Listen)
}

// listen is Listen with the function that opens the socket.
func (p BindPolicy) listen(ctx context.Context, network, addr string, haveToken bool, open func(ctx context.Context, network, addr string) (net.Listener, error)) (net.Listener, error) {
	target, err := parseBind(network, addr)
	if err != nil {
		return nil, err
	}
	literal := target.literal()
	if !haveToken || target.name != "" {
		addrs, err := p.resolve(ctx, target, haveToken)
		if err != nil {
			return nil, err
		}
		literal = net.JoinHostPort(addrs[0].String(), target.port)
	}
	ln, err := open(ctx, network, literal)
	if err != nil {
		return nil, err
	}
	if err := p.CheckListener(ln, haveToken); err != nil {
		return nil, errors.Join(err, ln.Close())
	}
	return ln, nil
}

// CheckListener applies the policy to an open listener, for example one that
// was inherited from a service manager.
func (p BindPolicy) CheckListener(ln net.Listener, haveToken bool) error {
	if haveToken {
		return nil
	}
	addr := ln.Addr()
	if tcp, ok := addr.(*net.TCPAddr); ok && isLoopback(tcp.AddrPort().Addr()) {
		return nil
	}
	return p.refused(bindTarget{network: addr.Network(), text: addr.String()}, "the open socket is not on loopback and there is no token")
}

// resolve returns the addresses to listen on, the preferred one first.
func (p BindPolicy) resolve(ctx context.Context, target bindTarget, haveToken bool) ([]netip.Addr, error) {
	if !haveToken {
		return p.loopbackAddrs(ctx, target)
	}
	addrs, err := p.lookup(ctx, target.name)
	if addrs = target.fitting(addrs); err != nil || len(addrs) == 0 {
		return nil, target.bad("the host has no address of this network")
	}
	return addrs, nil
}

// loopbackAddrs returns the addresses of a target that nobody else can reach.
func (p BindPolicy) loopbackAddrs(ctx context.Context, target bindTarget) ([]netip.Addr, error) {
	switch {
	case target.network == "unix":
		return nil, p.refused(target, "a socket file can be reached by others and there is no token")
	case target.addr.IsValid() && isLoopback(target.addr):
		return []netip.Addr{target.addr}, nil
	case target.name == "":
		return nil, p.refused(target, "the address is not loopback and there is no token")
	}
	names := p.Names
	if names == nil {
		names = []string{"localhost"}
	}
	if !slices.ContainsFunc(names, func(n string) bool { return strings.EqualFold(n, target.name) }) {
		return nil, p.refused(target, "the name does not count as loopback and there is no token")
	}
	addrs, err := p.lookup(ctx, target.name)
	foreign := slices.ContainsFunc(addrs, func(a netip.Addr) bool { return !isLoopback(a) })
	if addrs = target.fitting(addrs); err != nil || foreign || len(addrs) == 0 {
		return nil, p.refused(target, "the name does not resolve to loopback only and there is no token")
	}
	return addrs, nil
}

// lookup returns the addresses of a name, IPv4 first.
func (p BindPolicy) lookup(ctx context.Context, name string) ([]netip.Addr, error) {
	resolve := p.Resolve
	if resolve == nil {
		resolve = func(ctx context.Context, host string) ([]netip.Addr, error) {
			return net.DefaultResolver.LookupNetIP(ctx, "ip", host)
		}
	}
	found, err := resolve(ctx, name)
	addrs := make([]netip.Addr, 0, len(found))
	for _, a := range found {
		addrs = append(addrs, a.Unmap())
	}
	slices.SortStableFunc(addrs, func(a, b netip.Addr) int { return a.BitLen() - b.BitLen() })
	return addrs, err
}

func (p BindPolicy) refused(target bindTarget, reason string) error {
	hint := p.Hint
	if hint == "" {
		hint = defaultHint
	}
	return &BindError{target.network, reason, hint, authBind, target.shown(), ErrBindRefused}
}

// bindTarget is an address that follows the grammar.
type bindTarget struct {
	network, text string
	name          string     // a host name, or
	addr          netip.Addr // a literal, or neither: every interface
	port          string
}

// parseBind applies the grammar of listen addresses.
func parseBind(network, addr string) (bindTarget, error) {
	t := bindTarget{network: network, text: addr}
	switch network {
	case "tcp", "tcp4", "tcp6", "unix":
	default:
		t.network = "network"
		return t, t.bad("the network is not tcp, tcp4, tcp6 or unix")
	}
	if addr == "" || len(addr) > maxAddress {
		return t, t.bad("the address is empty or longer than 256 bytes")
	}
	for i := range len(addr) {
		if addr[i] < ' ' || addr[i] >= 0x7f {
			return t, t.bad("the address is not printable ASCII")
		}
	}
	if network == "unix" {
		return t, nil
	}
	host, port, err := net.SplitHostPort(addr)
	if err != nil || !isPort(port) {
		return t, t.bad("the address is not host:port with a decimal port, IPv6 in brackets")
	}
	t.port = port
	return t, t.parseHost(host, addr[0] == '[')
}

func (t *bindTarget) parseHost(host string, bracketed bool) error {
	if !bracketed && (host == "" || host == "*") {
		return nil
	}
	ip, err := netip.ParseAddr(host)
	switch {
	case err == nil:
		plain := ip.Unmap().WithZone("")
		if bracketed != ip.Is6() || ip.Zone() != "" && isLoopback(plain) || !t.fits(ip.Unmap()) {
			return t.bad("the address does not fit the network, its brackets or its zone")
		}
		t.addr = ip
		if ip.Is4In6() {
			t.addr = plain
		}
	case bracketed || !isHostName(host):
		return t.bad("the host is neither an IP literal nor a host name")
	default:
		t.name = host
	}
	return nil
}

// fits reports whether the network can listen on an unmapped address.
func (t *bindTarget) fits(a netip.Addr) bool {
	return t.network == "tcp" || t.network == "tcp4" && a.Is4() || t.network == "tcp6" && a.Is6()
}

// fitting returns those of addrs that the network can listen on.
func (t *bindTarget) fitting(addrs []netip.Addr) []netip.Addr {
	return slices.DeleteFunc(slices.Clone(addrs), func(a netip.Addr) bool { return !t.fits(a) })
}

// literal returns what net.Listen is given for a target without name.
func (t *bindTarget) literal() string {
	switch {
	case t.network == "unix":
		return t.text
	case t.addr.IsValid():
		return net.JoinHostPort(t.addr.String(), t.port)
	}
	return ":" + t.port
}

func (t *bindTarget) bad(reason string) error {
	return &BindError{Network: t.network, Reason: reason, address: t.shown(), class: ErrBadAddress}
}

// shown quotes the address to ASCII and cuts it.
func (t *bindTarget) shown() string {
	quoted := strconv.QuoteToASCII(t.text[:min(len(t.text), shownAddr)])
	return quoted[:min(len(quoted), shownAddr)]
}

// isPort reports whether s is a decimal port without sign, 0..65535.
func isPort(s string) bool {
	n, err := strconv.ParseUint(s, 10, 16)
	return err == nil && n <= 65535 && len(s) <= 5
}

// isHostName reports whether s is a DNS name whose last label is no number:
// resolvers read 127.1, 0x7f000001 and 2130706433 as addresses.
func isHostName(s string) bool {
	if len(s) > 253 {
		return false
	}
	last := ""
	for label := range strings.SplitSeq(s, ".") {
		if !isWord(label, 63, "-_") || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		last = label
	}
	digits, set := last, "0123456789"
	if len(last) > 1 && strings.EqualFold(last[:2], "0x") {
		digits, set = last[2:], "0123456789abcdefABCDEF"
	}
	return strings.Trim(digits, set) != ""
}

// isLoopback reports whether a is in 127.0.0.0/8 or ::1, IPv4-mapped or not,
// without zone.
func isLoopback(a netip.Addr) bool { return a.Unmap().IsLoopback() && a.Zone() == "" }
