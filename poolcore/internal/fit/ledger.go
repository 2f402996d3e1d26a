package fit

import (
	"slices"
	"sync"
)

// Device is what one device, or the host, says about its memory now.
type Device struct {
	ID          string // UUID; [Host]: the memory of the machine
	Total, Free uint64
}

// Host is the id of the machine's own memory.
const Host = "host"

// Want is a share of a need.
type Want struct {
	Device Device
	Bytes  uint64
}

// Shortage says on which device how much is missing.
type Shortage struct {
	Device     string
	Need, Free uint64
}

// claim is what one worker was promised on one device, and what it uses.
type claim struct{ reserved, used uint64 }

// Ledger keeps promises: what was promised to one worker is promised to nobody
// else, whether the worker uses it yet or not. It is safe for concurrent use.
type Ledger struct {
	system uint64

	mu     sync.Mutex
	claims map[string]map[string]claim // by worker, then device
}

// NewLedger returns an empty ledger that leaves system bytes of each device alone.
func NewLedger(system uint64) *Ledger {
	return &Ledger{system: system, claims: map[string]map[string]claim{}}
}

// Available is what may still be promised on d: what is free less what was promised
// and is not used yet, and never more than the total less system and promises.
// Workers for whom without is true count as gone; nil: nobody.
func (l *Ledger) Available(d Device, without func(worker string) bool) uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.availableLocked(d, without)
}

func (l *Ledger) availableLocked(d Device, without func(string) bool) uint64 {
	var promised, unrealised, returning uint64
	for worker, devices := range l.claims {
		c, ok := devices[d.ID]
		switch {
		case !ok:
		case without != nil && without(worker):
			returning = plus(returning, c.used)
		default:
			promised = plus(promised, max(c.reserved, c.used))
			unrealised = plus(unrealised, less(c.reserved, c.used))
		}
	}
	free := min(plus(d.Free, returning), d.Total)
	return min(less(free, unrealised), less(less(d.Total, l.system), promised))
}

// Check returns the shares that do not fit now, in the order of wants.
func (l *Ledger) Check(wants []Want, without func(worker string) bool) []Shortage {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.checkLocked(wants, without)
}

func (l *Ledger) checkLocked(wants []Want, without func(string) bool) []Shortage {
	var out []Shortage
	for _, w := range wants {
		if free := l.availableLocked(w.Device, without); w.Bytes > free {
			out = append(out, Shortage{Device: w.Device.ID, Need: w.Bytes, Free: free})
		}
	}
	return out
}

// Reserve promises all shares to the worker or, when one does not fit, none.
func (l *Ledger) Reserve(worker string, wants []Want) []Shortage {
	l.mu.Lock()
	defer l.mu.Unlock()
	if short := l.checkLocked(wants, nil); len(short) > 0 {
		return short
	}
	l.promiseLocked(worker, wants)
	return nil
}

// Keep notes shares that a worker has already, whether they fit or not.
func (l *Ledger) Keep(worker string, wants []Want) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.promiseLocked(worker, wants)
}

func (l *Ledger) promiseLocked(worker string, wants []Want) {
	devices := map[string]claim{}
	for _, w := range wants {
		c := devices[w.Device.ID]
		c.reserved = plus(c.reserved, w.Bytes)
		devices[w.Device.ID] = c
	}
	if len(devices) > 0 {
		l.claims[worker] = devices
	}
}

// Measure notes what a worker uses of each device.
func (l *Ledger) Measure(worker string, used map[string]uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for id, c := range l.claims[worker] {
		c.used = used[id]
		l.claims[worker][id] = c
	}
}

// Realise counts all that a worker was promised as used, where nobody tells what
// it really uses.
func (l *Ledger) Realise(worker string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for id, c := range l.claims[worker] {
		c.used = c.reserved
		l.claims[worker][id] = c
	}
}

// Release ends the promises to a worker; again: nothing.
func (l *Ledger) Release(worker string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.claims, worker)
}

// Promised is what is promised on each device on which something is.
func (l *Ledger) Promised() map[string]uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := map[string]uint64{}
	for _, devices := range l.claims {
		for id, c := range devices {
			out[id] = plus(out[id], max(c.reserved, c.used))
		}
	}
	return out
}

// Used is what is known to be in use of the promises on a device.
func (l *Ledger) Used(device string) uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	var sum uint64
	for _, devices := range l.claims {
		sum = plus(sum, devices[device].used)
	}
	return sum
}

// ReservedBy is the part of Reserved that one worker has.
func (l *Ledger) ReservedBy(worker, device string) uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	c := l.claims[worker][device]
	return max(c.reserved, c.used)
}

// Workers returns who has a promise, sorted.
func (l *Ledger) Workers() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := make([]string, 0, len(l.claims))
	for worker := range l.claims {
		out = append(out, worker)
	}
	slices.Sort(out)
	return out
}
