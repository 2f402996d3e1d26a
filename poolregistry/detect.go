package poolregistry

import (
	"log/slog"
	"time"
)

// tick is the detection timer: it notes stalls of this process, then lets time
// act. Force counts all the time since the last tick as a stall.
func (s *state) tick(now time.Duration, force bool) {
	from, stall := s.observer.recordStall(s.cfg.Timing, now, force)
	if stall {
		for _, e := range s.order {
			e.times.credit(from)
		}
		if !force {
			s.counts.stalls++
			s.counts.stalled += now - from
			s.note(slog.LevelWarn, "this process was paused", slog.Int64("stall_ms", (now-from).Milliseconds()))
		}
	}
	s.advance(now)
}

// advance lets time act: it applies Evaluate to every node, asks the guard, and
// ends what has a deadline: drains, and the memory of nodes that are gone.
func (s *state) advance(now time.Duration) {
	if !s.observer.Detecting || s.observer.stalled(s.cfg.Timing, now) {
		s.due = forever // until the next tick
		return
	}
	for _, e := range s.order {
		if e.times.Liveness != Suspect {
			s.silent(e, now)
		}
	}
	g, verdict := s.guard.step(s.loss(now), s.cfg.GuardFloor, s.cfg.GuardFraction, s.cfg.GuardMaxHold, now)
	s.setGuard(g, verdict, now)
	s.expire(now)
	s.due = s.nextDue()
}

func (s *state) nextDue() time.Duration {
	due := forever
	for _, e := range s.order {
		due = min(due, s.dueOf(e))
	}
	if s.guard.held && s.cfg.GuardMaxHold >= 0 {
		due = min(due, s.guard.since+s.cfg.GuardMaxHold)
	}
	return due
}

// silent applies Evaluate to a node and reports whether that moved it.
func (s *state) silent(e *entry, now time.Duration) bool {
	to, reason := Evaluate(e.times, s.observer, s.cfg.Timing, now)
	if to == e.times.Liveness {
		return false
	}
	s.fire(e, "silent", reason, now)
	return true
}

func (s *state) setGuard(g guard, verdict guardVerdict, now time.Duration) {
	if verdict == guardUnchanged {
		return
	}
	s.guard = g
	s.observer.GuardHeld = g.held
	s.urgent = true
	switch verdict {
	case guardTripped:
		s.counts.guardTrips++
		s.note(slog.LevelError, "mass-failure guard tripped")
	case guardRecovered:
		s.observer.HoldOffline = max(s.observer.HoldOffline, now+s.cfg.Timing.SuspectAfter)
		s.note(slog.LevelWarn, "mass-failure guard recovered")
	case guardExpired:
		s.note(slog.LevelWarn, "mass-failure guard expired")
		// What the guard held goes now, and does not count against the rest.
		for _, e := range s.order {
			if e.times.Liveness == Suspect && s.silent(e, now) {
				e.lostAt = forever
			}
		}
	}
	s.markHeld(now)
}

// loss counts what the guard decides on.
func (s *state) loss(now time.Duration) guardLoss {
	var l guardLoss
	window := now - s.cfg.Timing.OfflineAfter
	for _, e := range s.order {
		gone := e.lostAt != forever && e.lostAt > window
		if e.onlineAt <= window && (e.times.Liveness != Offline || gone) {
			l.online++
		}
		switch {
		case gone:
			l.lost++
		case e.times.Liveness == Suspect && !e.times.Refused && !e.times.progressing(s.cfg.Timing, now):
			l.lost++
			if s.dueNow(e, now) {
				l.due++
			}
		}
	}
	return l
}

// dueNow reports whether a suspect node would go offline now but for the guard.
func (s *state) dueNow(e *entry, now time.Duration) bool {
	o := s.observer
	o.GuardHeld = false
	to, _ := Evaluate(e.times, o, s.cfg.Timing, now)
	return to == Offline
}

// markHeld keeps Node.GuardHeld true for exactly the nodes that only the guard
// keeps from being offline.
func (s *state) markHeld(now time.Duration) {
	for _, e := range s.order {
		_, reason := Evaluate(e.times, s.observer, s.cfg.Timing, now)
		held := reason == "guard"
		if held != e.node.GuardHeld {
			s.change(e, func(n *Node) { n.GuardHeld = held })
		}
	}
}

func (s *state) expire(now time.Duration) {
	var gone []*entry
	for _, e := range s.order {
		switch e.times.Liveness {
		case Suspect:
			s.silent(e, now)
		case Offline, Failed:
			if now >= s.forgetAt(e) {
				gone = append(gone, e)
			}
		}
		s.overdue(e, now)
		if !e.node.ConflictSince.IsZero() && now-e.conflict >= conflictShown {
			s.change(e, func(n *Node) { n.ConflictSince = time.Time{} })
		}
	}
	if s.guard.held {
		s.markHeld(now)
	}
	for _, e := range gone {
		s.remove(e, "forgotten")
	}
}
