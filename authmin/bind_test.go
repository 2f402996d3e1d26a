package authmin_test

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os/exec"
	"strconv"
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
	rows := tsv(t, "bind.tsv")
	rows = append(rows, []string{"tcp", strconv.Quote(strings.Repeat("a", 254) + ":80"), refused}, []string{"unix", strconv.Quote("/" + strings.Repeat("a", 256)), refused},
		[]string{"unix", strconv.Quote("/" + strings.Repeat("a", 255)), token})
	for _, cols := range rows {
		c := struct{ network, addr, want string }{strings.Trim(cols[0], "-"), unquoted(t, cols[1]), cols[2]}
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

// AUTH-19: one resolution, so that the answer cannot change between the check
// and the use.
func TestBindListenResolvesOnce(t *testing.T) {
	for _, haveToken := range []bool{false, true} {
		asked := 0
		policy := authmin.BindPolicy{Resolve: func(context.Context, string) ([]netip.Addr, error) {
			asked++
			return []netip.Addr{netip.MustParseAddr("127.0.0.1")}, nil
		}}
		ln, err := policy.Listen(t.Context(), "tcp", "localhost:0", haveToken)
		if err != nil {
			t.Fatal(err)
		}
		ln.Close()
		if asked != 1 {
			t.Errorf("Listen with token %v resolves %d times, want once", haveToken, asked)
		}
	}
}

// AUTH-19: a listener that is not where it was asked to be is closed.
func TestBindListenChecksAgain(t *testing.T) {
	for _, haveToken := range []bool{false, true} {
		closed := false
		ln, err := authmin.ListenBy(authmin.BindPolicy{}, t.Context(), "tcp", "127.0.0.1:80", haveToken, func(_ context.Context, network, addr string) (net.Listener, error) {
			if network != "tcp" || addr != "127.0.0.1:80" {
				t.Errorf("opens %s %s", network, addr)
			}
			return openAt{addr: publicAddr, closed: &closed}, nil
		})
		if closed == haveToken || (ln != nil) != haveToken || errors.Is(err, authmin.ErrBindRefused) == haveToken {
			t.Errorf("a public listener with token %v: %v, %v, closed %v", haveToken, ln, err, closed)
		}
	}
}

// openAt is a listener that only has an address.
type openAt struct {
	net.Listener
	addr   net.Addr
	closed *bool
}

func (l openAt) Addr() net.Addr { return l.addr }
func (l openAt) Close() error   { *l.closed = true; return nil }

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
	for _, cols := range tsv(f, "bind.tsv") {
		f.Add(cols[0], unquoted(f, cols[1]))
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
