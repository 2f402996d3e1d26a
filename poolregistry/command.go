package poolregistry

import (
	"log/slog"
	"time"
)

// Fail takes a node out of use until [Registry.ClearFailed] or a registration of
// a new incarnation: no new work, while its beats go on and running work is left
// alone. Reason is one line of 1 to 256 bytes for people, or the error is
// [InvalidNode]. A node that is offline or failed already is [IllegalTransition].
// A node fails itself by an event of class "fatal" in a beat.
func (r *Registry) Fail(id NodeID, reason string) error {
	c := checker{}
	c.line("reason", reason, maxMessage)
	if err := c.err(InvalidNode); err != nil {
		return err
	}
	return r.command(id, func(e *entry, now time.Duration) error {
		return r.state.obey(e, "fail", reason, now)
	})
}

// ClearFailed ends [Registry.Fail]: the node is registering, with a new epoch,
// and online by its next beat.
func (r *Registry) ClearFailed(id NodeID) error {
	return r.command(id, func(e *entry, now time.Duration) error {
		return r.state.obey(e, "clear", "cleared", now)
	})
}

// obey fires an event of the transition table that a caller asked for.
func (s *state) obey(e *entry, event, reason string, now time.Duration) error {
	if _, ok := e.times.Liveness.next(event); !ok {
		return &Error{Code: IllegalTransition}
	}
	s.fire(e, event, reason, now)
	return nil
}

// Release forgets a node id and all that was wanted of it: the lease is void and
// anybody may register the id. The error is [NodeUnknown].
func (r *Registry) Release(id NodeID) error {
	_ = r.lock()
	defer r.unlock()
	s := r.state
	e, known := s.nodes[id]
	_, kept := s.kept[id]
	delete(s.kept, id)
	switch {
	case known:
		s.remove(e, "released")
	case !kept:
		return &Error{Code: NodeUnknown}
	}
	return nil
}

// Takeover says that this process was elected to lead, in a term that is larger
// than every earlier one: epochs from now on are above term · 2^20, and for
// RestartGrace no node goes offline. Terms count up to 2^32−1; a smaller one than
// before changes nothing but the grace.
func (r *Registry) Takeover(term uint64) {
	now := r.lock()
	defer r.unlock()
	s := r.state
	s.term = max(s.term, min(term, 1<<32-1))
	s.observer.HoldOffline = max(s.observer.HoldOffline, now+max(0, s.cfg.RestartGrace))
	s.note(slog.LevelInfo, "registry took over", slog.Uint64("term", s.term))
}

// ReleaseGuard ends the mass-failure guard: the nodes that it holds go offline
// at once, unless they were heard of.
func (r *Registry) ReleaseGuard() {
	now := r.lock()
	defer r.unlock()
	if s := r.state; s.guard.held {
		s.setGuard(guard{}, guardExpired, now)
		s.due = s.nextDue()
	}
}

// nextEpoch is larger than the given epochs and than all of earlier terms.
func (s *state) nextEpoch(epochs ...uint64) uint64 {
	next := s.term << 20
	for _, e := range epochs {
		next = max(next, e)
	}
	return next + 1
}
