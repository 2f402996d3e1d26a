package poolregistry

import (
	"slices"
	"time"
)

// A Bug breaks one of the numbered invariants of the model test, as a defect of
// the code would. Plant runs after every step of a walk.
type Bug struct {
	Breaks int
	Name   string
	Plant  func(*Registry)
}

// everyNode plants something in every node.
func everyNode(f func(s *state, e *entry, now time.Duration)) func(*Registry) {
	return func(r *Registry) {
		now := r.lockOnly()
		defer r.unlock()
		for _, e := range slices.Clone(r.state.order) {
			f(r.state, e, now)
		}
	}
}

// whole plants something in the registry.
func whole(f func(s *state)) func(*Registry) {
	return func(r *Registry) {
		r.lockOnly()
		defer r.unlock()
		f(r.state)
	}
}

// Bugs returns the list.
func Bugs() []Bug {
	return append(leaseBugs(), axisBugs()...)
}

func leaseBugs() []Bug {
	epochs := map[string]uint64{}
	return []Bug{
		{1, "the lease before holds, the current one is fenced", everyNode(func(_ *state, e *entry, _ time.Duration) {
			if e.hasPrev {
				e.lease, e.prevLease = e.prevLease, e.lease
			}
		})},
		{1, "the lease before is forgotten", everyNode(func(_ *state, e *entry, _ time.Duration) { e.hasPrev = false })},
		{2, "an id that comes back starts over", whole(func(s *state) { s.epochFloor = 0 })},
		{2, "a new term is ignored", whole(func(s *state) { s.term = 0 })},
		{2, "a return from offline keeps the epoch", everyNode(func(s *state, e *entry, _ time.Duration) {
			n := e.node
			if had, ok := epochs[n.InstanceID+string(n.ID)]; ok && n.Liveness == Online && n.Epoch == had+1 {
				s.change(e, func(n *Node) { n.Epoch = had })
			}
			epochs[n.InstanceID+string(n.ID)] = e.node.Epoch
		})},
		{4, "a pause of the observer is held against nodes", whole(func(s *state) {
			s.observer.Credit, s.observer.StallEnd, s.due = 0, 0, 0
		})},
		{7, "the timeout is a longer one", whole(func(s *state) { s.cfg.Timing.OfflineAfter = 10 * time.Second })},
		{5, "nodes come in the order of arrival", whole(func(s *state) { slices.Reverse(s.current); s.urgent = true })},
		{5, "a node is counted twice", whole(func(s *state) { s.tally[Online]++; s.urgent = true })},
		{6, "a published node is written", everyNode(func(_ *state, e *entry, _ time.Duration) {
			if p := e.node.Pools; len(p) > 0 {
				p[0].Ready = !p[0].Ready
			}
		})},
		{11, "the number of a beat is not kept", everyNode(func(_ *state, e *entry, _ time.Duration) { e.seq = 0 })},
		{12, "suspects are forgotten", everyNode(func(s *state, e *entry, _ time.Duration) {
			if e.times.Liveness == Suspect {
				s.remove(e, "forgotten")
			}
		})},
	}
}

func axisBugs() []Bug {
	return []Bug{
		{3, "a draining node looks open", everyNode(func(s *state, e *entry, _ time.Duration) {
			if e.wish.schedule == Draining {
				s.change(e, func(n *Node) { n.Schedule = Open })
			}
		})},
		{4, "a node is suspect at once", everyNode(func(s *state, e *entry, now time.Duration) {
			if e.times.Liveness == Online && now-e.times.LastBeat > time.Millisecond {
				s.fire(e, "silent", "silent", now)
			}
		})},
		{8, "a drain ends without its work", everyNode(func(s *state, e *entry, _ time.Duration) {
			if e.wish.schedule == Draining {
				_ = s.reschedule(e, "idle", e.wish)
			}
		})},
		{8, "a drain has no deadline", everyNode(func(_ *state, e *entry, _ time.Duration) { e.wish.until = forever })},
		{8, "nobody asks whether the engine is idle", everyNode(func(_ *state, e *entry, _ time.Duration) { e.wish.told = true })},
		{9, "a new incarnation is open", everyNode(func(s *state, e *entry, _ time.Duration) {
			if e.times.Liveness == Registering && e.wish.schedule != "" {
				e.wish = wish{}
				s.change(e, func(n *Node) { n.wanted(e.wish) })
			}
		})},
		{9, "a leave takes the schedule along", whole(func(s *state) { clear(s.kept) })},
		{10, "a beat heals a failed node", everyNode(func(s *state, e *entry, _ time.Duration) {
			if e.times.Liveness == Failed {
				e.times.Liveness = Online
				s.tally[Failed]--
				s.tally[Online]++
				s.change(e, func(n *Node) { n.Liveness = Online })
			}
		})},
	}
}
