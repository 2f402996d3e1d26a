package poolregistry

import "time"

// Instants in this file are monotonic: durations since the registry was made.

// NodeTimes is what the freshness rule knows about a node.
type NodeTimes struct {
	Liveness Liveness
	LastBeat time.Duration // instant of the newest beat, or of the registration
	Credit   time.Duration // the observer's credit at that instant
	Granted  time.Duration // the larger of the last two granted beat intervals
	Progress time.Duration // instant when bytes last arrived from the node
	Refused  bool          // its address refused a connection after the last beat
}

// ObserverTimes is what the freshness rule knows about the observer itself.
type ObserverTimes struct {
	Detecting   bool          // the detection timer is running
	LastTick    time.Duration // instant of its last tick
	Credit      time.Duration // sum of all stalls that were recorded
	StallEnd    time.Duration // end of the last of them
	HoldOffline time.Duration // before this instant nobody goes offline
	GuardHeld   bool
}

// Evaluate is the freshness rule: what a node is at now, and why. It is pure. It
// moves at most one step, so a caller that was away for long applies it twice.
//
// A pause of the observer itself is never held against a node: what the node
// could not say while nobody listened does not count as silence, and after a
// pause every node gets one beat interval to be heard. A pause shows itself as
// a last tick that is older than the detection period allows.
func Evaluate(n NodeTimes, o ObserverTimes, t Timing, now time.Duration) (Liveness, string) {
	switch {
	case n.Liveness == Offline:
		return Offline, "silent" // only a beat or a registration ends it
	case n.Liveness == Failed:
		return Failed, "failed" // only a command or a registration ends it
	case !o.Detecting:
		return n.Liveness, "not_detecting"
	case o.stalled(t, now), now < o.StallEnd+n.Granted:
		return n.Liveness, "observer_stall"
	}
	silence := n.silence(o, now)
	suspectAfter, offlineAfter := t.scaled(n.Granted)
	if n.Liveness != Suspect {
		if silence >= suspectAfter {
			return Suspect, "silent"
		}
		return n.Liveness, "fresh"
	}
	switch {
	case silence < offlineAfter:
		return Suspect, "fresh"
	case now < o.HoldOffline:
		return Suspect, "grace"
	case n.progressing(t, now):
		return Suspect, "progress"
	case o.GuardHeld && !n.Refused:
		return Suspect, "guard"
	}
	return Offline, "silent"
}

// stalled reports whether the detection timer is so late that the observer must
// have been paused. The allowance is above the jitter of a busy machine and
// below any OfflineAfter that Timing accepts together with one more beat.
func (o ObserverTimes) stalled(t Timing, now time.Duration) bool {
	tick := t.tick()
	return now-o.LastTick > tick+tick/2+100*time.Millisecond
}

// silence is the time since the last beat without the observer's recorded
// stalls.
func (n NodeTimes) silence(o ObserverTimes, now time.Duration) time.Duration {
	return max(0, now-n.LastBeat-max(0, o.Credit-n.Credit))
}

// progressing reports whether the data plane vouches for the node. That lasts
// SuspectAfter per sign of life, and ten OfflineAfter after the last beat in all.
func (n NodeTimes) progressing(t Timing, now time.Duration) bool {
	return n.Progress > n.LastBeat && now-n.Progress < t.SuspectAfter && now-n.LastBeat < 10*t.OfflineAfter
}

const forever = time.Duration(1<<63 - 1)

// due returns the earliest instant at which Evaluate would move the node, if
// nothing happens and the observer does not stall before.
func (n NodeTimes) due(o ObserverTimes, t Timing) time.Duration {
	if n.Liveness == Offline || n.Liveness == Failed || !o.Detecting {
		return forever
	}
	suspectAfter, offlineAfter := t.scaled(n.Granted)
	start := n.LastBeat + max(0, o.Credit-n.Credit)
	if n.Liveness != Suspect {
		return max(start+suspectAfter, o.StallEnd+n.Granted)
	}
	if o.GuardHeld && !n.Refused {
		return forever
	}
	at := max(start+offlineAfter, o.StallEnd+n.Granted, o.HoldOffline)
	if n.progressing(t, at) {
		at = max(at, min(n.Progress+t.SuspectAfter, n.LastBeat+10*t.OfflineAfter))
	}
	return at
}

// recordStall adds the pause that ended at now to the observer, if there was
// one, and notes the tick. Force makes a pause of any length since the last
// tick; a detection timer that only starts was not looking before.
func (o *ObserverTimes) recordStall(t Timing, now time.Duration, force bool) (from time.Duration, stall bool) {
	from = o.LastTick
	if stall = force || o.stalled(t, now); stall {
		o.Credit += now - from
		o.StallEnd = now
	}
	o.LastTick = now
	return from, stall
}

// credit adjusts a node that was heard during a stall that began at from: only
// the part of the stall after that beat is to be taken off its silence.
func (n *NodeTimes) credit(from time.Duration) {
	n.Credit += max(0, n.LastBeat-from)
}
