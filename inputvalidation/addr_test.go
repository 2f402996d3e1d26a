package inputvalidation_test

import (
	"errors"
	"net"
	"net/netip"
	"testing"

	"github.com/llorch/llorch/inputvalidation"
)

// VAL-33: each range at its first and last address and at both neighbours.
func TestClassifyAddrRanges(t *testing.T) {
	const (
		pub  = inputvalidation.AddrPublic
		priv = inputvalidation.AddrPrivate
		loop = inputvalidation.AddrLoopback
		link = inputvalidation.AddrLinkLocal
		meta = inputvalidation.AddrMetadata
		res  = inputvalidation.AddrReserved
	)
	for _, c := range []struct {
		first, last         string
		kind, before, after inputvalidation.AddrKind // 0 = there is no neighbour
	}{
		{"0.0.0.0", "0.255.255.255", res, 0, pub},
		{"10.0.0.0", "10.255.255.255", priv, pub, pub},
		{"100.64.0.0", "100.100.100.199", priv, pub, meta},
		{"100.100.100.200", "100.100.100.200", meta, priv, priv}, // Alibaba Cloud
		{"100.100.100.201", "100.127.255.255", priv, meta, pub},
		{"127.0.0.0", "127.255.255.255", loop, pub, pub},
		{"169.254.0.0", "169.254.169.253", link, pub, meta},
		{"169.254.169.254", "169.254.169.254", meta, link, link},
		{"169.254.169.255", "169.254.170.1", link, meta, meta},
		{"169.254.170.2", "169.254.170.2", meta, link, link}, // AWS ECS
		{"169.254.170.3", "169.254.170.22", link, meta, meta},
		{"169.254.170.23", "169.254.170.23", meta, link, link}, // AWS EKS
		{"169.254.170.24", "169.254.255.255", link, meta, pub},
		{"168.63.129.16", "168.63.129.16", meta, pub, pub}, // Azure
		{"172.16.0.0", "172.31.255.255", priv, pub, pub},
		{"192.0.0.0", "192.0.0.255", res, pub, pub},
		{"192.0.2.0", "192.0.2.255", res, pub, pub},
		{"192.168.0.0", "192.168.255.255", priv, pub, pub},
		{"198.18.0.0", "198.19.255.255", res, pub, pub},
		{"198.51.100.0", "198.51.100.255", res, pub, pub},
		{"203.0.113.0", "203.0.113.255", res, pub, pub},
		{"224.0.0.0", "239.255.255.255", res, pub, res},
		{"240.0.0.0", "255.255.255.255", res, res, 0},
		{"::", "::", res, 0, loop},
		{"::1", "::1", loop, res, res},
		{"::2", "::fffe:ffff:ffff", res, loop, 0}, // what follows maps IPv4, see below
		{"64:ff9b:1::", "64:ff9b:1:ffff:ffff:ffff:ffff:ffff", res, pub, pub},
		{"100::", "100::ffff:ffff:ffff:ffff", res, pub, pub},
		{"2001::", "2001:0:ffff:ffff:ffff:ffff:ffff:ffff", res, pub, pub},
		{"2001:db8::", "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff", res, pub, pub},
		{"2002::", "2002:ffff:ffff:ffff:ffff:ffff:ffff:ffff", res, pub, pub},
		{"fc00::", "fd00:ec2::22", priv, pub, meta},
		{"fd00:ec2::23", "fd00:ec2::23", meta, priv, priv}, // AWS EKS
		{"fd00:ec2::24", "fd00:ec2::253", priv, meta, meta},
		{"fd00:ec2::254", "fd00:ec2::254", meta, priv, priv},
		{"fd20:ce::254", "fd20:ce::254", meta, priv, priv},
		{"fd20:ce::255", "fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", priv, meta, pub},
		{"fe80::", "febf:ffff:ffff:ffff:ffff:ffff:ffff:ffff", link, pub, priv},
		{"fec0::", "feff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", priv, link, res},
		{"ff00::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", res, priv, 0},
	} {
		first, last := netip.MustParseAddr(c.first), netip.MustParseAddr(c.last)
		if c.first == "::2" {
			last = netip.MustParseAddr("::ffff:ffff") // the end of ::/96
			if got := inputvalidation.ClassifyAddr(last.Next()); got != pub {
				t.Errorf("ClassifyAddr(%v) = %v, want public", last.Next(), got)
			}
		}
		for a, want := range map[netip.Addr]inputvalidation.AddrKind{first.Prev(): c.before, first: c.kind, last: c.kind, last.Next(): c.after} {
			if want == 0 || !a.IsValid() {
				continue
			}
			if got := inputvalidation.ClassifyAddr(a); got != want {
				t.Errorf("ClassifyAddr(%v) = %v, want %v", a, got, want)
			}
			if !a.Is4() {
				continue
			}
			b := a.As4()
			mapped := netip.AddrFrom16(a.As16())
			nat64 := netip.AddrFrom16([16]byte{0, 0x64, 0xff, 0x9b, 12: b[0], b[1], b[2], b[3]})
			if got := inputvalidation.ClassifyAddr(mapped); got != want {
				t.Errorf("ClassifyAddr(%v) = %v, want %v", mapped, got, want)
			}
			if got := inputvalidation.ClassifyAddr(nat64); got != want {
				t.Errorf("ClassifyAddr(%v) = %v, want %v", nat64, got, want)
			}
		}
	}
}

func TestClassifyAddrForms(t *testing.T) {
	if got := inputvalidation.ClassifyAddr(netip.Addr{}); got != inputvalidation.AddrReserved {
		t.Errorf("ClassifyAddr(zero) = %v, want reserved", got)
	}
	if got := inputvalidation.ClassifyAddr(netip.MustParseAddr("fe80::1%eth0")); got != inputvalidation.AddrLinkLocal {
		t.Errorf("ClassifyAddr(zone) = %v, want link-local", got)
	}
	if got := inputvalidation.AddrKind(0).String(); got != "none" {
		t.Errorf("zero kind = %q", got)
	}
	for a, name := range map[string]string{
		"8.8.8.8": "public", "10.0.0.1": "private", "127.0.0.1": "loopback", "169.254.1.1": "link-local", "169.254.169.254": "metadata", "0.0.0.0": "reserved",
	} {
		if got := inputvalidation.ClassifyAddr(netip.MustParseAddr(a)).String(); got != name {
			t.Errorf("ClassifyAddr(%s) = %s, want %s", a, got, name)
		}
	}
}

func TestDialControl(t *testing.T) {
	loop := inputvalidation.DialControl(inputvalidation.AddrLoopback, inputvalidation.AddrKind(0), inputvalidation.AddrKind(200))
	for _, c := range []struct {
		network, address string
		ok               bool
	}{
		{"tcp4", "127.0.0.1:80", true},
		{"tcp6", "[::1]:80", true},
		{"tcp6", "[::ffff:127.0.0.1]:80", true},
		{"tcp4", "10.0.0.1:80", false},
		{"udp4", "127.0.0.1:80", false},
		{"tcp", "127.0.0.1:80", false},
		{"unix", "/run/x.sock", false},
		{"tcp4", "localhost:80", false},
		{"tcp4", "127.1:80", false},
		{"tcp4", "", false},
	} {
		err := loop(c.network, c.address, nil)
		if c.ok && err != nil {
			t.Errorf("DialControl(%s, %s) = %v, want nil", c.network, c.address, err)
		}
		if !c.ok {
			wantRule(t, "DialControl("+c.network+", "+c.address+")", err, inputvalidation.RuleAddress)
		}
	}
	wantRule(t, "DialControl()", inputvalidation.DialControl()("tcp4", "127.0.0.1:80", nil), inputvalidation.RuleAddress)
}

// The guard works where it is used: in a real dialer, also for a host name.
func TestDialControlInDialer(t *testing.T) {
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	_, port, _ := net.SplitHostPort(ln.Addr().String())
	for _, host := range []string{"127.0.0.1", "localhost"} { // localhost stands in the machine's hosts file
		d := net.Dialer{Control: inputvalidation.DialControl(inputvalidation.AddrPublic)}
		conn, err := d.DialContext(t.Context(), "tcp", net.JoinHostPort(host, port))
		if conn != nil {
			conn.Close()
		}
		if !errors.Is(err, inputvalidation.RuleAddress) {
			t.Errorf("dial %s = %v, want RuleAddress", host, err)
		}
	}
	d := net.Dialer{Control: inputvalidation.DialControl(inputvalidation.AddrLoopback)}
	conn, err := d.DialContext(t.Context(), "tcp", ln.Addr().String())
	if err != nil {
		t.Fatalf("dial of an allowed kind = %v", err)
	}
	conn.Close()
}

func BenchmarkClassifyAddr(b *testing.B) {
	a := netip.MustParseAddr("2a00:1450:4001:82a::200e")
	for b.Loop() {
		if inputvalidation.ClassifyAddr(a) != inputvalidation.AddrPublic {
			b.Fatal("wrong")
		}
	}
}
