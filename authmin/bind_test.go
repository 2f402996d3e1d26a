package authmin_test

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os/exec"
	"strings"
	"testing"

	"github.com/llorch/llorch/authmin"
)

// fixed resolves names from a table.
func fixed(table map[string]string) func(context.Context, string) ([]netip.Addr, error) {
	return func(_ context.Context, host string) ([]netip.Addr, error) {
		var out []netip.Addr
		for s := range strings.FieldsSeq(table[strings.ToLower(host)]) {
			out = append(out, netip.MustParseAddr(s))
		}
		if out == nil {
			return nil, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
		}
		return out, nil
	}
}

// AUTH-16, AUTH-17, AUTH-18, AUTH-20
func TestBindCheck(t *testing.T) {
	policy := authmin.BindPolicy{
		Names:   []string{"localhost", "gpu.local", "mixed.local", "v6.local", "gone.local"},
		Resolve: fixed(map[string]string{"localhost": "::1 127.0.0.1", "gpu.local": "127.0.1.1", "mixed.local": "127.0.0.1 10.0.0.1", "v6.local": "::1", "unlisted.local": "127.0.0.1", "lan.local": "10.0.0.1"}),
	}
	const (
		ok      = "ok"      // with and without token
		token   = "token"   // only with a token
		refused = "refused" // never
	)
	for _, c := range []struct{ network, addr, want string }{
		{"tcp", "127.0.0.1:8080", ok},
		{"tcp", "127.255.255.254:0", ok},
		{"tcp", "[::1]:8080", ok},
		{"tcp", "[::ffff:127.0.0.1]:8080", ok},
		{"tcp4", "127.0.0.1:65535", ok},
		{"tcp6", "[::1]:1", ok},
		{"tcp", "localhost:80", ok},
		{"tcp", "LocalHost:80", ok},
		{"tcp", "gpu.local:80", ok},
		{"tcp6", "v6.local:80", ok},
		{"tcp4", "v6.local:80", token}, // no address of that network, so none that is loopback
		{"tcp", "mixed.local:80", token},
		{"tcp4", "mixed.local:80", token},
		{"tcp", "gone.local:80", token},
		{"tcp", "unlisted.local:80", token},
		{"tcp", "lan.local:80", token},
		{"tcp", ":8080", token},
		{"tcp", "*:8080", token},
		{"tcp", "0.0.0.0:8080", token},
		{"tcp", "[::]:8080", token},
		{"tcp", "[::ffff:0.0.0.0]:8080", token},
		{"tcp", "169.254.0.1:80", token},
		{"tcp", "[fe80::1%eth0]:80", token},
		{"tcp", "128.0.0.1:80", token},
		{"tcp", "10.0.0.1:80", token},
		{"tcp", "[::2]:80", token},
		{"unix", "/run/llorch.sock", token},
		{"unix", "/run/with space.sock", token},
		{"unix", "@abstract", token},
		{"unix", "", refused},
		{"unix", "/run/\x00", refused},
		{"udp", "127.0.0.1:80", refused},
		{"", "127.0.0.1:80", refused},
		{"tcp", "", refused},
		{"tcp", "127.0.0.1", refused},
		{"tcp", "127.0.0.1:", refused},
		{"tcp", "127.0.0.1:http", refused},
		{"tcp", "127.0.0.1:evil", refused},
		{"tcp", "127.0.0.1:+80", refused},
		{"tcp", "127.0.0.1:-1", refused},
		{"tcp", "127.0.0.1:65536", refused},
		{"tcp", "127.0.0.1:000080", refused},
		{"tcp", "[::1]", refused},
		{"tcp", "::1:8080", refused},
		{"tcp", "[127.0.0.1]:80", refused},
		{"tcp", "[]:80", refused},
		{"tcp", "[*]:80", refused},
		{"tcp", "[::1%lo]:80", refused},
		{"tcp4", "[::1]:80", refused},
		{"tcp6", "127.0.0.1:80", refused},
		{"tcp", "127.1:80", refused},
		{"tcp", "0177.0.0.1:80", refused},
		{"tcp", "0x7f000001:80", refused},
		{"tcp", "0X7F.1:80", refused},
		{"tcp", "2130706433:80", refused},
		{"tcp", "local host:80", refused},
		{"tcp", "local\nhost:80", refused},
		{"tcp", "-x:80", refused},
		{"tcp", "a..b:80", refused},
		{"tcp", "\u0131ocalhost:80", refused},
		{"tcp", strings.Repeat("a", 254) + ":80", refused},
	} {
		free, with := policy.Check(t.Context(), c.network, c.addr, false), policy.Check(t.Context(), c.network, c.addr, true)
		got := refused
		switch {
		case free == nil && with == nil:
			got = ok
		case errors.Is(free, authmin.ErrBindRefused) && with == nil:
			got = token
		case !errors.Is(free, authmin.ErrBadAddress) || !errors.Is(with, authmin.ErrBadAddress):
			got = "inconsistent"
		}
		if got != c.want {
			t.Errorf("Check(%s %.40q) is %s, want %s: %v, %v", c.network, c.addr, got, c.want, free, with)
		}
		if e, isBind := errors.AsType[*authmin.BindError](free); free != nil && (!isBind || (e.AuthCode == 40301) != (got == token) || (e.Hint != "") != (got == token)) {
			t.Errorf("Check(%s %.40q) = %#v", c.network, c.addr, free)
		}
	}
}

func TestBindErrorText(t *testing.T) {
	err := authmin.BindPolicy{Hint: "run: make token"}.Check(t.Context(), "tcp", "0.0.0.0:80", false)
	if got := err.Error(); got != `authmin: listen tcp "0.0.0.0:80": the address is not loopback and there is no token; run: make token` {
		t.Errorf("Error() = %s", got)
	}
	err = authmin.BindPolicy{}.Check(t.Context(), "tcp", strings.Repeat("\u202e\n", 40), false)
	if got := err.Error(); len(got) > 200 || strings.ContainsAny(got, "\n\u202e") {
		t.Errorf("Error() = %q", got)
	}
}

// AUTH-18: the command of the hint prints a token that is strong enough.
func TestBindHintWorks(t *testing.T) {
	_, command, ok := strings.Cut(authmin.DefaultHint, "by: ")
	if !ok || !strings.Contains(authmin.DefaultHint, "127.0.0.1") {
		t.Fatalf("the hint names no command: %s", authmin.DefaultHint)
	}
	sh, err := exec.LookPath("sh")
	if err != nil {
		t.Skip("no shell here")
	}
	out, err := exec.CommandContext(t.Context(), sh, "-c", command).Output()
	if err != nil {
		t.Fatalf("%s: %v", command, err)
	}
	if _, err := authmin.NewKeySet(authmin.Key{Name: "made", Token: parsed(t, strings.TrimSuffix(string(out), "\n"))}); err != nil {
		t.Errorf("the token of %q is refused: %v", command, err)
	}
}

// AUTH-19
func TestBindListen(t *testing.T) {
	policy := authmin.BindPolicy{Names: []string{"two.local"}, Resolve: fixed(map[string]string{"two.local": "::1 127.0.0.1", "lan.local": "127.0.0.1"})}
	for addr, haveToken := range map[string]bool{"127.0.0.1:0": false, "two.local:0": false, "lan.local:0": true, "[::ffff:127.0.0.1]:0": false} {
		ln, err := policy.Listen(t.Context(), "tcp", addr, haveToken)
		if err != nil {
			t.Errorf("Listen(%s) = %v", addr, err)
			continue
		}
		if got := ln.Addr().(*net.TCPAddr).AddrPort().Addr().Unmap(); got != netip.MustParseAddr("127.0.0.1") {
			t.Errorf("Listen(%s) listens on %v, want 127.0.0.1", addr, got)
		}
		ln.Close()
	}
	for addr, want := range map[string]error{"lan.local:0": authmin.ErrBindRefused, ":0": authmin.ErrBindRefused, "127.1:0": authmin.ErrBadAddress} {
		if ln, err := policy.Listen(t.Context(), "tcp", addr, false); !errors.Is(err, want) || ln != nil {
			t.Errorf("Listen(%s) = %v, want %v", addr, err, want)
		}
	}
	if _, err := policy.Listen(t.Context(), "tcp", "gone.local:0", true); !errors.Is(err, authmin.ErrBadAddress) {
		t.Errorf("Listen(gone.local) = %v", err)
	}
}

// openAt is a listener that only has an address.
type openAt struct {
	net.Listener
	addr net.Addr
}

func (l openAt) Addr() net.Addr { return l.addr }

// AUTH-19: an inherited socket.
func TestCheckListener(t *testing.T) {
	var policy authmin.BindPolicy
	for addr, refused := range map[string]bool{"127.0.0.1:80": false, "[::1]:80": false, "[::ffff:127.0.0.1]:80": false, "0.0.0.0:80": true, "[::]:80": true, "192.168.1.1:80": true} {
		ln := openAt{addr: net.TCPAddrFromAddrPort(netip.MustParseAddrPort(addr))}
		if err := policy.CheckListener(ln, false); errors.Is(err, authmin.ErrBindRefused) != refused || (err == nil) == refused {
			t.Errorf("CheckListener(%s) = %v", addr, err)
		}
		if err := policy.CheckListener(ln, true); err != nil {
			t.Errorf("CheckListener(%s, token) = %v", addr, err)
		}
	}
	ln, err := net.Listen("unix", t.TempDir()+"/s")
	if err != nil {
		t.Skip("no unix sockets here:", err)
	}
	defer ln.Close()
	if err := policy.CheckListener(ln, false); !errors.Is(err, authmin.ErrBindRefused) {
		t.Errorf("CheckListener(unix) = %v", err)
	}
}

// FuzzBindAddress: what Check takes for loopback really listens on loopback.
func FuzzBindAddress(f *testing.F) {
	for _, s := range []string{"127.0.0.1:0", "[::1]:0", "localhost:0", "0.0.0.0:0", "127.1:0", "[::ffff:127.0.0.1]:0", "2130706433:0", "[::1%lo]:0", "*:0"} {
		f.Add("tcp", s)
	}
	policy := authmin.BindPolicy{Resolve: fixed(map[string]string{"localhost": "127.0.0.1"})}
	f.Fuzz(func(t *testing.T, network, addr string) {
		if policy.Check(t.Context(), network, addr, false) != nil {
			return
		}
		host, _, err := net.SplitHostPort(addr)
		if err != nil {
			t.Fatalf("Check accepts %q", addr)
		}
		if a, err := netip.ParseAddr(host); err != nil && !strings.EqualFold(host, "localhost") || err == nil && !a.Unmap().IsLoopback() {
			t.Fatalf("Check accepts %q", addr)
		}
		ln, err := policy.Listen(t.Context(), network, net.JoinHostPort(host, "0"), false)
		if err != nil {
			return // a family or an alias that this machine lacks
		}
		defer ln.Close()
		if !ln.Addr().(*net.TCPAddr).IP.IsLoopback() {
			t.Errorf("Listen(%q) is on %v", addr, ln.Addr())
		}
	})
}
