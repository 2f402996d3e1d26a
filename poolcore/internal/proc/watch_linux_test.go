package proc_test

import (
	"net/netip"
	"testing"

	"github.com/llorch/llorch/poolcore/internal/proc"
)

// TestParseListener (PCO-29): lines of /proc/net/tcp and tcp6 of a little-endian
// machine.
func TestParseListener(t *testing.T) {
	const rest = " 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1 0000000000000000 100 0 0 10 0"
	for line, want := range map[string]string{
		"   0: 0100007F:1F41" + rest:                         "127.0.0.1:8001",
		"   1: 00000000:0050" + rest:                         "0.0.0.0:80",
		"   2: 00000000000000000000000001000000:1F41" + rest: "[::1]:8001",
		"   3: 0000000000000000FFFF00000100007F:1F41" + rest: "127.0.0.1:8001",
	} {
		if addr, inode, ok := proc.ParseListener(line); !ok || addr != netip.MustParseAddrPort(want) || inode != "4711" {
			t.Errorf("%s: %v, %s, %v; want %s", line, addr, inode, ok, want)
		}
	}
	for _, line := range []string{
		"", "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode",
		"   0: 0100007F:1F41 00000000:0000 01 00000000:00000000 00:00000000 00000000     0        0 4711 1",
		"   0: 0100007F" + rest, "   0: 01007F:1F41" + rest, "   0: 0100007F:FFFFF" + rest, "   0: XX00007F:1F41" + rest,
	} {
		if addr, _, ok := proc.ParseListener(line); ok {
			t.Errorf("%s: %v", line, addr)
		}
	}
}

func FuzzParseListener(f *testing.F) {
	f.Add("   0: 0100007F:1F41 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1")
	f.Fuzz(func(t *testing.T, line string) {
		if addr, inode, ok := proc.ParseListener(line); ok && (!addr.IsValid() || inode == "") {
			t.Errorf("%v, %q", addr, inode)
		}
	})
}
