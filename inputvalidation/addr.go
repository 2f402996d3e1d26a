package inputvalidation

import (
	"net/netip"
	"syscall"
)

// AddrKind is the kind of network that an address belongs to. The zero value
// is no kind and is never allowed.
type AddrKind uint8

// The kinds of addresses. Every address has exactly one.
const (
	AddrPublic    AddrKind = iota + 1
	AddrPrivate            // RFC 1918, 100.64.0.0/10, fc00::/7, fec0::/10
	AddrLoopback           // 127.0.0.0/8, ::1
	AddrLinkLocal          // 169.254.0.0/16, fe80::/10
	AddrMetadata           // the services of clouds that give credentials to whoever asks from inside
	AddrReserved           // nothing that a client should connect to
)

// String returns the name of the kind in lower case.
func (k AddrKind) String() string {
	switch k {
	case AddrPublic:
		return "public"
	case AddrPrivate:
		return "private"
	case AddrLoopback:
		return "loopback"
	case AddrLinkLocal:
		return "link-local"
	case AddrMetadata:
		return "metadata"
	case AddrReserved:
		return "reserved"
	}
	return "none"
}

type addrRange struct {
	prefix netip.Prefix
	kind   AddrKind
}

// ClassifyAddr returns the kind of an address that is really connected.
// IPv4-mapped and NAT64 (64:ff9b::/96) forms are judged by the address inside.
// The zero Addr is AddrReserved.
func ClassifyAddr(a netip.Addr) AddrKind {
	a = a.Unmap().WithZone("")
	if !a.IsValid() {
		return AddrReserved
	}
	if b := a.As16(); a.Is6() && [12]byte(b[:12]) == [12]byte{0, 0x64, 0xff, 0x9b} {
		a = netip.AddrFrom4([4]byte(b[12:]))
	}
	if a.IsMulticast() || a.IsUnspecified() {
		return AddrReserved
	}
	for _, r := range addrRanges() {
		if r.prefix.Contains(a) {
			return r.kind
		}
	}
	return AddrPublic
}

// addrRanges lists the special ranges, the more specific first.
func addrRanges() [31]addrRange {
	v4 := func(a, b, c, d byte, bits int, k AddrKind) addrRange {
		return addrRange{netip.PrefixFrom(netip.AddrFrom4([4]byte{a, b, c, d}), bits), k}
	}
	v6 := func(a [16]byte, bits int, k AddrKind) addrRange {
		return addrRange{netip.PrefixFrom(netip.AddrFrom16(a), bits), k}
	}
	return [...]addrRange{
		v4(169, 254, 169, 254, 32, AddrMetadata), // AWS, Azure, Google Cloud and most others
		v4(169, 254, 170, 2, 32, AddrMetadata),   // AWS ECS, credentials of tasks
		v4(169, 254, 170, 23, 32, AddrMetadata),  // AWS EKS, credentials of pods
		v4(168, 63, 129, 16, 32, AddrMetadata),   // Azure, WireServer
		v4(100, 100, 100, 200, 32, AddrMetadata), // Alibaba Cloud
		v4(169, 254, 0, 0, 16, AddrLinkLocal),
		v4(127, 0, 0, 0, 8, AddrLoopback),
		v4(10, 0, 0, 0, 8, AddrPrivate),
		v4(172, 16, 0, 0, 12, AddrPrivate),
		v4(192, 168, 0, 0, 16, AddrPrivate),
		v4(100, 64, 0, 0, 10, AddrPrivate),
		v4(0, 0, 0, 0, 8, AddrReserved),
		v4(192, 0, 0, 0, 24, AddrReserved),
		v4(192, 0, 2, 0, 24, AddrReserved),
		v4(198, 18, 0, 0, 15, AddrReserved),
		v4(198, 51, 100, 0, 24, AddrReserved),
		v4(203, 0, 113, 0, 24, AddrReserved),
		v4(240, 0, 0, 0, 4, AddrReserved),
		v6([16]byte{0xfd, 0x00, 0x0e, 0xc2, 14: 0x02, 15: 0x54}, 128, AddrMetadata), // AWS
		v6([16]byte{0xfd, 0x00, 0x0e, 0xc2, 15: 0x23}, 128, AddrMetadata),           // AWS EKS, credentials of pods
		v6([16]byte{0xfd, 0x20, 0x00, 0xce, 14: 0x02, 15: 0x54}, 128, AddrMetadata), // Google Cloud
		v6([16]byte{15: 1}, 128, AddrLoopback),
		v6([16]byte{}, 96, AddrReserved), // IPv4-compatible, deprecated
		v6([16]byte{0xfe, 0x80}, 10, AddrLinkLocal),
		v6([16]byte{0xfe, 0xc0}, 10, AddrPrivate), // site-local, deprecated
		v6([16]byte{0xfc}, 7, AddrPrivate),
		v6([16]byte{0x20, 0x01, 0x0d, 0xb8}, 32, AddrReserved),
		v6([16]byte{0x20, 0x02}, 16, AddrReserved),                         // 6to4
		v6([16]byte{0x20, 0x01}, 32, AddrReserved),                         // Teredo
		v6([16]byte{0x01}, 64, AddrReserved),                               // discard-only
		v6([16]byte{0x00, 0x64, 0xff, 0x9b, 0x00, 0x01}, 48, AddrReserved), // local-use NAT64
	}
}

// DialControl returns a function for [net.Dialer.Control] that refuses every
// connection except over tcp4 and tcp6 to an address of an allowed kind, with
// RuleAddress. It sees the address after resolution, for each address that a
// dialer tries, so odd spellings of an address and names that change their
// address need no rule of their own. With no kinds nothing can be dialled.
func DialControl(allow ...AddrKind) func(network, address string, c syscall.RawConn) error {
	var allowed [AddrReserved + 1]bool
	for _, k := range allow {
		if k >= AddrPublic && k <= AddrReserved {
			allowed[k] = true
		}
	}
	return func(network, address string, _ syscall.RawConn) error {
		if network != "tcp4" && network != "tcp6" {
			return refuse("address", RuleAddress)
		}
		ap, err := netip.ParseAddrPort(address)
		if err != nil || !allowed[ClassifyAddr(ap.Addr())] {
			return refuse("address", RuleAddress)
		}
		return nil
	}
}
