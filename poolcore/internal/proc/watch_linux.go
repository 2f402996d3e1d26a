package proc

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"maps"
	"net/netip"
	"os"
	"strconv"
	"strings"
)

// maxConnections bounds the lines of /proc/net/tcp that are looked at.
const maxConnections = 1 << 20

// PIDs returns the living members of the worker, the leader among them.
func (p *Process) PIDs() []int {
	if p.cgroup != nil {
		return p.cgroup.pids()
	}
	var out []int
	for _, pid := range pids() {
		s, err := readStat(pid)
		if err == nil && !s.Ended() && s.StartTicks >= p.ticks && (pid == p.pid || s.Group == p.pid || carries(pid, TagEnv, p.tag)) {
			out = append(out, pid)
		}
	}
	return out
}

// ReadBytes is how much the leader and its reaped children have read so far, by
// calls and from disks. It only serves to see progress.
func (p *Process) ReadBytes() uint64 {
	b, err := readProc(p.pid, "io", maxStat)
	if err != nil {
		return 0
	}
	var sum uint64
	for line := range bytes.Lines(b) {
		name, value, _ := bytes.Cut(bytes.TrimSpace(line), []byte(": "))
		if string(name) == "rchar" || string(name) == "read_bytes" {
			n, _ := strconv.ParseUint(string(value), 10, 64) // 0: not told
			sum += n
		}
	}
	return sum
}

// OOMKills is how often the kernel ended a member for want of host memory, as far
// as a cgroup tells.
func (p *Process) OOMKills() uint64 {
	if p.cgroup == nil {
		return 0
	}
	return p.cgroup.number("memory.events", "oom_kill")
}

// Listens reports whether every socket that listens on addr belongs to a member of
// the worker, and whether anybody listens there at all. known is false where the
// system does not tell.
func (p *Process) Listens(addr netip.AddrPort) (owned, known, anybody bool) {
	inodes, ok := listeners(addr)
	if !ok {
		return false, false, false
	}
	if len(inodes) == 0 {
		return false, true, false
	}
	readable := false
	strike := func(pids ...int) {
		for _, pid := range pids {
			open, ok := sockets(pid)
			readable = readable || ok
			maps.DeleteFunc(inodes, func(inode string, _ bool) bool { return open[inode] })
		}
	}
	if open, ok := sockets(p.pid); ok && open == nil {
		return false, true, false // the leader is ending: its files are gone, and its sockets go
	}
	strike(p.pid) // mostly it is the leader, and nobody else has to be looked for
	if len(inodes) > 0 {
		strike(p.PIDs()...)
	}
	return len(inodes) == 0, readable, true
}

// listeners returns the inodes of the sockets that get the connections to addr:
// those bound to it, or else those bound to all addresses.
func listeners(addr netip.AddrPort) (map[string]bool, bool) {
	exact, wild := map[string]bool{}, map[string]bool{}
	told := false
	for _, name := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		f, err := os.Open(name)
		if err != nil {
			continue
		}
		told = true
		lines := bufio.NewScanner(f)
		for n := 0; n < maxConnections && lines.Scan(); n++ {
			local, inode, ok := parseListener(lines.Text())
			switch {
			case !ok || local.Port() != addr.Port():
			case local.Addr() == addr.Addr().Unmap():
				exact[inode] = true
			case local.Addr().IsUnspecified():
				wild[inode] = true
			}
		}
		_ = f.Close()
	}
	if len(exact) > 0 {
		return exact, told
	}
	return wild, told
}

// parseListener reads one line of /proc/net/tcp or tcp6; ok only for a socket that
// listens.
func parseListener(line string) (local netip.AddrPort, inode string, ok bool) {
	const listen = "0A"
	f := strings.Fields(line)
	if len(f) < 10 || f[3] != listen {
		return netip.AddrPort{}, "", false
	}
	host, port, found := strings.Cut(f[1], ":")
	n, err := strconv.ParseUint(port, 16, 16)
	raw, err2 := hex.DecodeString(host)
	if !found || err != nil || err2 != nil || len(raw) != 4 && len(raw) != 16 {
		return netip.AddrPort{}, "", false
	}
	for word := 0; word < len(raw); word += 4 { // 32-bit words in the machine's order
		binary.BigEndian.PutUint32(raw[word:], binary.NativeEndian.Uint32(raw[word:]))
	}
	a, _ := netip.AddrFromSlice(raw)
	return netip.AddrPortFrom(a.Unmap(), uint16(n)), f[9], true
}

// sockets returns the inodes of the sockets that a process has open, nil where it
// has no file at all because it ended; false: it may not be asked.
func sockets(pid int) (map[string]bool, bool) {
	path := "/proc/" + strconv.Itoa(pid) + "/fd"
	dir, err := os.Open(path)
	if err != nil {
		return nil, errors.Is(err, os.ErrNotExist)
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return nil, false
	}
	if len(names) == 0 {
		return nil, true
	}
	out := map[string]bool{}
	for _, name := range names {
		to, err := os.Readlink(path + "/" + name)
		if err != nil {
			continue
		}
		if inode, ok := strings.CutPrefix(to, "socket:["); ok {
			out[strings.TrimSuffix(inode, "]")] = true
		}
	}
	return out, true
}
