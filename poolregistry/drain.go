package poolregistry

import (
	"log/slog"
	"time"
)

// wish is what an operator wants of a node id. It outlives incarnations and, in
// state.kept, also the node.
type wish struct {
	schedule Schedule
	until    time.Duration // when a drain is forced
	untilMS  int64         // the same on the wall clock
	forced   bool
	told     bool          // a reply has said draining: beats after it may end the drain
	number   uint64        // of the drain, so that a late answer does not end another one
	claimed  bool          // only the node says so: nobody told this registry
	leftAt   time.Duration // when the node left; for wishes in state.kept
}

// unknownDrain is what a drain gets that only the node remembers.
const unknownDrain = 24 * time.Hour

// Cordon keeps new work from a node and does nothing else. It is idempotent; a
// node that is draining or drained must be uncordoned first. The errors of the
// five commands on a node are an [*Error] with [NodeUnknown] or
// [IllegalTransition]; what they change is in the view before they return.
func (r *Registry) Cordon(id NodeID) error {
	return r.command(id, func(e *entry, _ time.Duration) error {
		w := e.wish
		w.claimed = false
		return r.state.reschedule(e, "cordon", w)
	})
}

// Uncordon opens a node for new work, also one that is draining or drained, or
// that has left and would be cordoned when it comes back.
func (r *Registry) Uncordon(id NodeID) error {
	now := r.lock()
	defer r.unlock()
	if _, away := r.state.kept[id]; away { // then it is not known
		delete(r.state.kept, id)
		return nil
	}
	return r.state.command(id, now, func(e *entry, _ time.Duration) error {
		return r.state.reschedule(e, "uncordon", wish{})
	})
}

// Drain keeps new work from a node and gives what runs there until within has
// passed; 0 = now. The node learns of it by its next beat. It is drained when
// the scheduler has nothing running there and every pool of a later beat, whose
// content is fresh, is idle, or, forced, at the deadline. Of two drains the earlier deadline counts.
// A drain of an offline node waits for its return.
func (r *Registry) Drain(id NodeID, within time.Duration) error {
	if within < 0 {
		return &Error{Code: InvalidNode, Fields: []string{"within: " + faultRange}}
	}
	return r.command(id, func(e *entry, now time.Duration) error {
		return r.state.drain(e, within, now)
	})
}

// command lets f change a node, and then time act on what it changed.
func (r *Registry) command(id NodeID, f func(e *entry, now time.Duration) error) error {
	now := r.lock()
	defer r.unlock()
	return r.state.command(id, now, f)
}

func (s *state) command(id NodeID, now time.Duration, f func(e *entry, now time.Duration) error) error {
	e, ok := s.nodes[id]
	if !ok {
		return &Error{Code: NodeUnknown}
	}
	if err := f(e, now); err != nil {
		return err
	}
	s.remind(e)
	return nil
}

func (s *state) drain(e *entry, within, now time.Duration) error {
	w := e.wish
	if w.schedule == Drained {
		return nil
	}
	w.claimed = false
	until := now + min(within, forever-now)
	if w.schedule != Draining || until < w.until {
		w.until, w.untilMS = until, s.clock.Add(within).UnixMilli()
	}
	if w.schedule != Draining {
		s.drains++
		w.number = s.drains
	}
	if err := s.reschedule(e, "drain", w); err != nil {
		return err
	}
	s.overdue(e, now)
	return nil
}

// reschedule applies one event of the schedule table, with what else w says.
func (s *state) reschedule(e *entry, event string, w wish) error {
	from := orOpen(e.wish.schedule)
	to, ok := from.next(event)
	if !ok {
		return &Error{Code: IllegalTransition}
	}
	w.schedule = to
	e.wish = w
	s.change(e, func(n *Node) { n.wanted(w) })
	s.urgent = true
	if to != from {
		s.note(slog.LevelInfo, "schedule of node", e.node.attr(), slog.String("from", string(from)),
			slog.String("to", string(to)), slog.String("reason", event))
	}
	return nil
}

// wanted shows a wish in a node that is not published yet.
func (n *Node) wanted(w wish) {
	n.Schedule, n.Drain = orOpen(w.schedule), nil
	if w.schedule == Draining || w.schedule == Drained {
		d := fresh(&n.Drain)
		d.DeadlineMS, d.Forced = w.untilMS, w.forced
	}
}

// adopt gives a new incarnation the stricter of what the registry keeps and what
// the node remembers. A drain that only the node remembers gets a day.
func (s *state) adopt(e *entry, remembered Schedule, now time.Duration) {
	e.wish.told = false
	if orOpen(remembered).strictness() > orOpen(e.wish.schedule).strictness() {
		e.wish = wish{schedule: remembered, claimed: true}
		if remembered == Draining {
			s.drains++
			e.wish.number, e.wish.until = s.drains, now+unknownDrain
			e.wish.untilMS = s.clock.Add(unknownDrain).UnixMilli()
		}
	}
}

// overdue forces a drain whose deadline has passed. That of an offline node
// waits, so that the node hears of it.
func (s *state) overdue(e *entry, now time.Duration) {
	if e.wish.schedule == Draining && e.times.Liveness != Offline && now >= e.wish.until {
		w := e.wish
		w.forced = true
		_ = s.reschedule(e, "deadline", w) // the table has this row
	}
}

// tell writes the schedule into a reply. It returns the number of the drain that
// this beat may end, if nothing is active there, or 0. Content that is older than
// its beat ends none.
func (s *state) tell(e *entry, reply *BeatReply, b Beat, now time.Duration) (drain uint64) {
	reply.Schedule = orOpen(e.wish.schedule)
	if reply.Schedule != Draining {
		return 0
	}
	reply.DrainMS = max(e.wish.until-now, 0).Milliseconds()
	if e.wish.told && b.StaleMS == 0 && allIdle(b.Pools) {
		drain = e.wish.number
	}
	e.wish.told = true
	return drain
}

func allIdle(pools []Pool) bool {
	for i := range pools {
		if !pools[i].Idle {
			return false
		}
	}
	return true
}

// settle ends a drain of a node on which nothing is active, unless it is another
// one by now, and writes what then holds into the reply.
func (r *Registry) settle(id NodeID, drain uint64, reply *BeatReply) {
	now := r.lock()
	defer r.unlock()
	e, ok := r.state.nodes[id]
	if !ok {
		return
	}
	if e.wish.schedule == Draining && e.wish.number == drain {
		w := e.wish
		w.forced = now >= w.until
		_ = r.state.reschedule(e, "idle", w) // the table has this row
	}
	reply.DrainMS = 0
	r.state.tell(e, reply, Beat{}, now)
}

// keep remembers what an operator wanted of a node that is removed.
func (s *state) keep(e *entry) {
	if orOpen(e.wish.schedule) == Open {
		return
	}
	e.wish.leftAt = s.clock.Sub(s.start)
	s.kept[e.node.ID] = e.wish
	if len(s.kept) <= s.cfg.Limits.Nodes {
		return
	}
	first := e.node.ID
	for id, w := range s.kept {
		if w.goesBefore(s.kept[first]) {
			first = id
		}
	}
	delete(s.kept, first)
	s.note(slog.LevelWarn, "too many schedules of nodes that left: one is forgotten", slog.String("node", string(first)))
}

// goesBefore orders the wishes that are forgotten when there are too many: those
// that a node brought along, then the oldest. So nodes that come and go cannot
// make the registry forget what an operator told it.
func (w wish) goesBefore(o wish) bool {
	if w.claimed != o.claimed {
		return w.claimed
	}
	return w.leftAt < o.leftAt
}

func orOpen(s Schedule) Schedule {
	if s == "" {
		return Open
	}
	return s
}

// fresh points p to a zero value and returns it.
func fresh[T any](p **T) *T {
	*p = new(T)
	return *p
}
