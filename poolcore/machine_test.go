package poolcore

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// TestPorts (PCO-19): lowest free port, reserved once, rested after use.
func TestPorts(t *testing.T) {
	foreign := map[uint16]bool{101: true}
	p := newPorts(netip.MustParseAddr("127.0.0.1"), PortRange{First: 100, Last: 103})
	p.inUse = func(a netip.AddrPort) bool { return foreign[a.Port()] }
	now := time.Unix(1000, 0)
	for _, want := range []uint16{100, 102, 103} {
		if got, err := p.take(0, now); got != want || err != nil {
			t.Fatalf("take = %d, %v; want %d", got, err, want)
		}
	}
	if _, err := p.take(0, now); !errors.Is(err, PortUnavailable) {
		t.Fatalf("take from an empty range = %v", err)
	}
	for _, want := range []uint16{101, 102} {
		if _, err := p.take(want, now); !errors.Is(err, PortUnavailable) {
			t.Errorf("take(%d) = %v", want, err)
		}
	}
	p.give(102, now)
	if _, err := p.take(0, now.Add(portRest-1)); !errors.Is(err, PortUnavailable) {
		t.Error("a port is given again too early")
	}
	if got, err := p.take(0, now.Add(portRest)); got != 102 || err != nil {
		t.Errorf("take after the rest = %d, %v", got, err)
	}
}

// TestPortsModel: no port is ever held twice.
func TestPortsModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := newPorts(netip.MustParseAddr("127.0.0.1"), PortRange{First: 10, Last: 14})
		p.inUse = func(netip.AddrPort) bool { return false }
		held := map[uint16]bool{}
		now := time.Unix(0, 0)
		for range 40 {
			now = now.Add(time.Duration(rapid.IntRange(0, 3000).Draw(t, "ms")) * time.Millisecond)
			if rapid.Bool().Draw(t, "take") {
				port, err := p.take(uint16(rapid.SampledFrom([]int{0, 0, 12, 99}).Draw(t, "want")), now)
				if err == nil && held[port] {
					t.Fatalf("port %d is held twice", port)
				}
				if err == nil {
					held[port] = true
				}
				continue
			}
			for port := range held {
				p.give(port, now)
				p.give(port, now)
				delete(held, port)
				break
			}
		}
	})
}

func TestListening(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := netip.MustParseAddrPort(ln.Addr().String())
	if !listening(addr) {
		t.Error("a port in use counts as free")
	}
	_ = ln.Close()
	if listening(addr) {
		t.Error("a free port counts as used")
	}
}

func tailed(t *testing.T, limit int64) (*os.Root, *os.File, *logTail) {
	t.Helper()
	root, err := os.OpenRoot(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	w, err := root.OpenFile("engine.log", os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	tail, err := openLogTail(root, "engine.log", limit, "the-key-of-this-engine")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _, _ = w.Close(), tail.close(), root.Close() })
	return root, w, tail
}

// TestLogTail (PCO-21): the last lines, cut, escaped, without the engine's own key,
// whatever the writes looked like.
func TestLogTail(t *testing.T) {
	_, w, tail := tailed(t, 1<<30)
	fmt.Fprint(w, "first\nsec")
	if err := tail.look(); err != nil {
		t.Fatal(err)
	}
	fmt.Fprint(w, "ond the-key-of-this-engine\r\n\x1b[31mred\n"+strings.Repeat("x", 3*maxLine)+"\n")
	if err := tail.look(); err != nil {
		t.Fatal(err)
	}
	lines := tail.tail(10)
	if len(lines) != 4 || lines[0] != "first" || lines[1] != "second [key]" || strings.Contains(lines[2], "\x1b") || len(lines[3]) > maxLine {
		t.Fatalf("lines = %.80q", lines)
	}
	for i := range 1000 {
		fmt.Fprintln(w, i)
	}
	if err := tail.look(); err != nil {
		t.Fatal(err)
	}
	lines = tail.tail(1 << 30)
	if len(lines) != keptLines || lines[keptLines-1] != "999" {
		t.Errorf("%d lines, last %q", len(lines), lines[len(lines)-1])
	}
}

// TestLogRotation: a flood is bounded to three files of about the limit, and the
// engine's own handle goes on.
func TestLogRotation(t *testing.T) {
	root, w, tail := tailed(t, 1000)
	var wrote int64
	for i := range 100 {
		n, err := fmt.Fprintf(w, "line %d %s\n", i, strings.Repeat("y", 90))
		if err != nil {
			t.Fatal(err)
		}
		wrote += int64(n)
		if err := tail.look(); err != nil {
			t.Fatal(err)
		}
	}
	if tail.bytes() != wrote {
		t.Errorf("read %d bytes of %d", tail.bytes(), wrote)
	}
	if lines := tail.tail(1); !strings.HasPrefix(lines[0], "line 99 ") {
		t.Errorf("last line = %q", lines[0])
	}
	for _, name := range []string{"engine.log", "engine.log.1", "engine.log.2"} {
		info, err := root.Stat(name)
		if err != nil || info.Size() > 1200 || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", name, info, err)
		}
	}
	if _, err := root.Stat("engine.log.3"); err == nil {
		t.Error("more than two old files are kept")
	}
}

// FuzzLogTail: any bytes in any pieces give bounded, printable lines.
func FuzzLogTail(f *testing.F) {
	f.Add([]byte("a\nb\r\n\x00\xff\n"), 3)
	f.Fuzz(func(t *testing.T, b []byte, cut int) {
		tail := &logTail{}
		if len(b) > 0 {
			cut = max(0, cut) % len(b)
			tail.takeLocked(b[:cut])
			tail.takeLocked(b[cut:])
		}
		whole := &logTail{}
		whole.takeLocked(b)
		if fmt.Sprintf("%q", tail.tail(999)) != fmt.Sprintf("%q", whole.tail(999)) {
			t.Errorf("cut at %d: %q, whole %q", cut, tail.tail(999), whole.tail(999))
		}
		for _, line := range whole.tail(999) {
			if len(line) > maxLine || strings.ContainsAny(line, "\n\x00\x1b") {
				t.Errorf("line %q", line)
			}
		}
	})
}
