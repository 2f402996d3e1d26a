package poolregistry

import "time"

// guard stops the registry from declaring most nodes dead at once: when so many
// fall silent together, the fault is more likely on the observer's side.
type guard struct {
	held      bool
	since     time.Duration
	threshold float64 // frozen when it tripped
}

// guardLoss is what the guard decides on.
type guardLoss struct {
	online int // nodes online at the start of the last OfflineAfter
	lost   int // of the silent, not refused ones: on their way to offline, or gone offline since then
	due    int // of those, how many would go offline at this instant
}

// guardVerdict says what became of the guard in one step.
type guardVerdict int

const (
	guardUnchanged guardVerdict = iota
	guardTripped
	guardRecovered // enough nodes are back: the silent ones get one fresh SuspectAfter
	guardExpired   // held for too long: the ordinary rule applies at once
)

// step is the pure decision of the guard at now. A negative maxHold never
// expires.
func (g guard) step(l guardLoss, floor int, fraction float64, maxHold, now time.Duration) (guard, guardVerdict) {
	if !g.held {
		threshold := max(float64(floor), fraction*float64(l.online))
		if l.due > 0 && float64(l.lost) > threshold {
			return guard{held: true, since: now, threshold: threshold}, guardTripped
		}
		return g, guardUnchanged
	}
	switch {
	case float64(l.lost) <= g.threshold/2:
		return guard{}, guardRecovered
	case maxHold >= 0 && now-g.since >= maxHold:
		return guard{}, guardExpired
	}
	return g, guardUnchanged
}
