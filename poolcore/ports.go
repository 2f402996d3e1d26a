package poolcore

import (
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"
)

// portRest is how long a port is not given again: connections of its last owner
// may still be closing, and a client may still believe in it.
const portRest = 2 * time.Second

// ports hands out the ports of one host. It is safe for concurrent use.
type ports struct {
	addr  netip.Addr
	rng   PortRange
	inUse func(netip.AddrPort) bool

	mu     sync.Mutex
	taken  map[uint16]bool
	rested map[uint16]time.Time // when a port may be given again
}

func newPorts(addr netip.Addr, rng PortRange) *ports {
	return &ports{addr: addr, rng: rng, inUse: listening, taken: map[uint16]bool{}, rested: map[uint16]time.Time{}}
}

// take reserves want, or for 0 the lowest port that is free, rested and bindable.
func (p *ports) take(want uint16, now time.Time) (uint16, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if want != 0 {
		if p.taken[want] || p.inUse(netip.AddrPortFrom(p.addr, want)) {
			return 0, fmt.Errorf("the wanted port: %w", PortUnavailable)
		}
		p.taken[want] = true
		return want, nil
	}
	for n := int(p.rng.First); n <= int(p.rng.Last); n++ {
		port := uint16(n)
		if p.taken[port] || now.Before(p.rested[port]) || p.inUse(netip.AddrPortFrom(p.addr, port)) {
			continue
		}
		delete(p.rested, port)
		p.taken[port] = true
		return port, nil
	}
	return 0, fmt.Errorf("no port of the range is free: %w", PortUnavailable)
}

// free reports whether take would give that port now.
func (p *ports) free(port uint16) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return !p.taken[port] && !p.inUse(netip.AddrPortFrom(p.addr, port))
}

// keep reserves a port that a worker of an earlier run holds.
func (p *ports) keep(port uint16) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.taken[port] = true
}

// give ends a reservation.
func (p *ports) give(port uint16, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.taken[port] {
		delete(p.taken, port)
		p.rested[port] = now.Add(portRest)
	}
}

// listening reports whether the address cannot be bound now.
func listening(addr netip.AddrPort) bool {
	ln, err := net.ListenTCP("tcp", net.TCPAddrFromAddrPort(addr))
	if err != nil {
		return true
	}
	return ln.Close() != nil
}
