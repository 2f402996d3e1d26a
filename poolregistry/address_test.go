package poolregistry_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/llorch/llorch/inputvalidation"
	. "github.com/llorch/llorch/poolregistry"
)

func all() AddressPolicy {
	return AddressPolicy{Allow: []inputvalidation.AddrKind{inputvalidation.AddrPublic, inputvalidation.AddrPrivate, inputvalidation.AddrLoopback}}
}

// PRG-57.
func TestAddressCheck(t *testing.T) {
	tls := all()
	tls.RequireTLS = true
	low := all()
	low.MinPort = 1
	for _, c := range []struct {
		p    AddressPolicy
		raw  string
		want string // the URL, or ": " and the fault
	}{
		{AddressPolicy{}, "http://10.0.0.1:9200", "http://10.0.0.1:9200"},
		{AddressPolicy{}, "https://10.0.0.1:9200/", "https://10.0.0.1:9200"},
		{AddressPolicy{}, "HTTP://gpu-1.lan:9200", "http://gpu-1.lan:9200"},
		{AddressPolicy{}, "http://[fd00::1]:9200", "http://[fd00::1]:9200"},
		{AddressPolicy{}, "http://100.64.0.1:9200", "http://100.64.0.1:9200"},
		{AddressPolicy{}, "http://10.0.0.1:80", "http://10.0.0.1:80"},
		{AddressPolicy{}, "http://10.0.0.1:443", "http://10.0.0.1:443"},
		{AddressPolicy{}, "http://10.0.0.1:1024", "http://10.0.0.1:1024"},
		{AddressPolicy{}, "http://10.0.0.1:65535", "http://10.0.0.1:65535"},
		{AddressPolicy{}, "http://10.0.0.1:1023", ": port"},
		{low, "http://10.0.0.1:1", "http://10.0.0.1:1"},
		{low, "http://10.0.0.1:0", ": port"},
		{AddressPolicy{}, "http://10.0.0.1:65536", ": port"},
		{AddressPolicy{}, "http://10.0.0.1", ": port"},
		{AddressPolicy{}, "http://10.0.0.1:", ": port"},
		{AddressPolicy{}, "http://10.0.0.1:+9200", ": syntax"},
		{AddressPolicy{}, "", ": required"},
		{AddressPolicy{}, "http://" + strings.Repeat("a", 2048), ": too_long"},
		{AddressPolicy{}, "http://10.0.0.1:9200/v2", ": syntax"},
		{AddressPolicy{}, "http://10.0.0.1:9200//", ": syntax"},
		{AddressPolicy{}, "http://user@10.0.0.1:9200", ": syntax"},
		{AddressPolicy{}, "http://u:p@10.0.0.1:9200", ": syntax"},
		{AddressPolicy{}, "http://10.0.0.1:9200?x", ": syntax"},
		{AddressPolicy{}, "http://10.0.0.1:9200#x", ": syntax"},
		{AddressPolicy{}, "http://[fe80::1%25eth0]:9200", ": syntax"},
		{AddressPolicy{}, "http://10.0.0.1:9200\n", ": charset"},
		{AddressPolicy{}, "http://10.0.0.1 :9200", ": charset"},
		{AddressPolicy{}, "http://gpü.lan:9200", ": charset"},
		{AddressPolicy{}, `http:\\10.0.0.1:9200`, ": charset"},
		{AddressPolicy{}, "10.0.0.1:9200", ": syntax"},
		{AddressPolicy{}, "//10.0.0.1:9200", ": scheme"},
		{AddressPolicy{}, "http:10.0.0.1:9200", ": syntax"},
		{AddressPolicy{}, "ftp://10.0.0.1:9200", ": scheme"},
		{AddressPolicy{}, "file:///etc/passwd", ": syntax"},
		{tls, "http://10.0.0.1:9200", ": scheme"},
		{tls, "https://10.0.0.1:9200", "https://10.0.0.1:9200"},
		{AddressPolicy{}, "http://127.0.0.1:9200", ": address"},
		{all(), "http://127.0.0.1:9200", "http://127.0.0.1:9200"},
		{AddressPolicy{}, "http://8.8.8.8:9200", ": address"},
		{all(), "http://8.8.8.8:9200", "http://8.8.8.8:9200"},
		{all(), "http://169.254.169.254:80", ": address"},
		{all(), "http://[fd00:ec2::254]:80", ": address"},
		{all(), "http://0.0.0.0:9200", ": address"},
		{all(), "http://[::]:9200", ": address"},
		{all(), "http://[::ffff:169.254.169.254]:80", ": address"},
		{all(), "http://[64:ff9b::a9fe:a9fe]:80", ": address"},
		{all(), "http://a_b.lan:9200", "http://a_b.lan:9200"},
		{all(), "http://a,b:9200", ": syntax"},
	} {
		u, err := c.p.Check(c.raw)
		got := ""
		if err != nil {
			e := wantCode(t, err, AddressNotAllowed)
			got = strings.TrimPrefix(e.Fields[0], "address")
		} else {
			got = u.String()
		}
		if got != c.want {
			t.Errorf("Check(%q) = %q, want %q", c.raw, got, c.want)
		}
	}
}

// PRG-60: a list that names what must never be dialled is refused, and a policy
// that was not checked does not dial it either.
func TestPolicyNeverAllowsMetadata(t *testing.T) {
	for _, k := range []inputvalidation.AddrKind{0, inputvalidation.AddrLinkLocal, inputvalidation.AddrMetadata, inputvalidation.AddrReserved} {
		p := AddressPolicy{Allow: []inputvalidation.AddrKind{k}, MinPort: 1}
		if _, err := New(Config{Address: p}); err == nil {
			t.Errorf("New accepts %v", k)
		}
		if _, err := p.Check("http://169.254.169.254:80"); err == nil {
			t.Errorf("Check accepts %v", k)
		}
	}
}

// dial sends one request to host, which resolves to answers, one per dial.
func dial(t *testing.T, p AddressPolicy, host string) error {
	t.Helper()
	tr := p.Transport()
	defer tr.CloseIdleConnections()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+host, nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := (&http.Client{Transport: tr}).Do(req)
	if err == nil {
		res.Body.Close()
	}
	return err
}

// PRG-60, CVE-2024-24790: the address that is connected is judged, in any form.
func TestMappedAddressRefused(t *testing.T) {
	for _, host := range []string{"127.0.0.1:9", "[::ffff:127.0.0.1]:9", "[::1]:9", "[::ffff:169.254.169.254]:80", "0.0.0.0:9"} {
		if err := dial(t, AddressPolicy{}, host); !errors.Is(err, inputvalidation.RuleAddress) {
			t.Errorf("dial %s: %v, want %v", host, err, inputvalidation.RuleAddress)
		}
	}
}

// PRG-60: a name passes Check and is judged when it is dialled, every time: an
// answer that changes between two dials is refused at the second.
func TestRebindingNameRefusedAtDial(t *testing.T) {
	var hits atomic.Int64
	srv := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { hits.Add(1) }))
	defer srv.Close()
	_, port, err := net.SplitHostPort(srv.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	host := "localhost:" + port
	if _, err := (AddressPolicy{}).Check("http://" + host); err != nil {
		t.Fatal(err)
	}
	if err := dial(t, AddressPolicy{}, host); !errors.Is(err, inputvalidation.RuleAddress) {
		t.Errorf("a name of this machine was dialled: %v", err)
	}
	if err := dial(t, all(), host); err != nil {
		t.Errorf("an allowed name: %v", err)
	}
	if n := hits.Load(); n != 1 {
		t.Errorf("%d requests arrived, want 1", n)
	}

	// The same connection pool, another answer: the guard sits below resolution.
	dials := 0
	tr := AddressPolicy{Allow: []inputvalidation.AddrKind{inputvalidation.AddrLoopback}}.Transport()
	guarded := tr.DialContext
	tr.DisableKeepAlives = true
	tr.DialContext = func(ctx context.Context, network, _ string) (net.Conn, error) {
		dials++
		answer := []string{"127.0.0.1", "169.254.169.254"}[dials-1]
		return guarded(ctx, network, net.JoinHostPort(answer, port))
	}
	for i, want := range []error{nil, inputvalidation.RuleAddress} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://gpu.example:"+port, nil)
		if err != nil {
			t.Fatal(err)
		}
		res, err := (&http.Client{Transport: tr}).Do(req)
		if err == nil {
			res.Body.Close()
		}
		if !errors.Is(err, want) {
			t.Errorf("dial %d: %v, want %v", i, err, want)
		}
	}
}

func TestTransportIgnoresProxy(t *testing.T) {
	if tr := (AddressPolicy{}).Transport(); tr.Proxy != nil {
		t.Error("proxy variables are honoured")
	}
}

func ExampleAddressPolicy_Check() {
	var p AddressPolicy // private addresses only
	for _, raw := range []string{"https://10.1.2.3:9200/", "http://169.254.169.254:80", "http://10.1.2.3:22"} {
		u, err := p.Check(raw)
		fmt.Println(u, err)
	}
	// Output:
	// https://10.1.2.3:9200 <nil>
	// <nil> ADDRESS_NOT_ALLOWED: address: address
	// <nil> ADDRESS_NOT_ALLOWED: address: port
}
