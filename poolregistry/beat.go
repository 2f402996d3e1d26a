package poolregistry

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"log/slog"
	"maps"
	"slices"
	"time"
)

// burst is how many beats a node may send at once; one more is granted every
// quarter of its interval.
const burst = 8

// Beat takes a sign of life and what it says about the node's pools. The error
// is an [*Error]. With [InvalidBeat] and [TooManyBeats] the content was ignored
// and the life was noted; with any other code nothing was.
func (r *Registry) Beat(_ context.Context, b Beat) (BeatReply, error) {
	c := checker{limits: r.state.cfg.Limits, policy: r.state.cfg.Address}
	if n, ok := r.view.Load().Node(b.NodeID); ok {
		c.known = n.Pools
	}
	lease := sha256.Sum256([]byte(b.LeaseToken))
	b, invalid := c.beat(b)
	reply, drain, err := r.beatLocked(b, lease, invalid, c.clamped)
	if err != nil {
		return BeatReply{}, err
	}
	if active := r.state.cfg.Active; active != nil {
		reply.Active = active(b.NodeID)
	}
	if reply.Active == nil {
		reply.Active = map[PoolID]int{}
	}
	if drain != 0 && !slices.ContainsFunc(slices.Collect(maps.Values(reply.Active)), func(n int) bool { return n > 0 }) {
		r.settle(b.NodeID, drain, &reply)
	}
	return reply, nil
}

func (r *Registry) beatLocked(b Beat, lease [sha256.Size]byte, invalid error, clamped uint64) (reply BeatReply, drain uint64, err error) {
	now := r.lock()
	defer r.unlock()
	reply, drain, err = r.state.beat(b, lease, invalid, now)
	if err == nil {
		r.state.counts.clamped += clamped
	}
	r.state.countBeat(b.NodeID, outcomeOf(err))
	return reply, drain, err
}

// beat is the decision. Invalid is the fault of the content, if any. Drain is
// the number of the drain that ends if nothing is active on the node, or 0.
func (s *state) beat(b Beat, lease [sha256.Size]byte, invalid error, now time.Duration) (reply BeatReply, drain uint64, err error) {
	e, ok := s.nodes[b.NodeID]
	if !ok {
		return reply, 0, &Error{Code: NodeUnknown}
	}
	if err := s.checkLease(e, lease, b.Seq, now); err != nil {
		return reply, 0, err
	}
	if b.Seq <= e.seq {
		return reply, 0, &Error{Code: BeatReplayed}
	}
	e.seq = b.Seq
	e.heardAt(s, now)
	e.node.heard.at.Store(int64(max(now, 1)))
	s.fire(e, "beat", "beat", now)
	s.skew(e, b.Timestamp)
	e.intervals = [2]time.Duration{e.intervals[1], s.cfg.Timing.interval(len(s.nodes))}
	e.times.Granted = max(e.intervals[0], e.intervals[1])
	s.remind(e)
	if wait := e.limit(now); wait > 0 {
		return reply, 0, &Error{Code: TooManyBeats, RetryAfter: wait}
	}
	if invalid != nil {
		return reply, 0, invalid
	}
	unknown := s.content(e, b, now)
	_, offline := s.cfg.Timing.scaled(e.times.Granted)
	reply = BeatReply{
		Success: true, NextHeartbeatMS: s.spread(e).Milliseconds(), TimeoutMS: offline.Milliseconds(),
		Epoch: e.node.Epoch, Status: e.times.Liveness, UnknownPools: unknown, Reregister: len(unknown) > 0,
	}
	return reply, s.tell(e, &reply, b, now), nil
}

// heardAt notes that the node lives at now.
func (e *entry) heardAt(s *state, now time.Duration) {
	e.times.LastBeat, e.times.Credit, e.times.Refused = now, s.observer.Credit, false
}

// checkLease compares a token with the current and the previous one of the id.
func (s *state) checkLease(e *entry, lease [sha256.Size]byte, seq uint64, now time.Duration) error {
	current := subtle.ConstantTimeCompare(lease[:], e.lease[:])
	previous := subtle.ConstantTimeCompare(lease[:], e.prevLease[:])
	switch {
	case current == 1:
		return nil
	case !e.hasPrev || previous != 1:
		return &Error{Code: LeaseInvalid}
	}
	if seq > e.prevSeq { // not a late copy of an old beat: somebody lives there
		e.prevSeq = seq
		e.conflict = now
		s.counts.conflicts++
		if e.node.ConflictSince.IsZero() { // told once, however long the copy goes on
			s.change(e, func(n *Node) { n.ConflictSince = s.wall() })
			s.urgent = true
			s.remind(e)
			s.note(slog.LevelError, "two live copies of one node id", e.node.attr(), slog.Uint64("epoch", e.node.Epoch))
		}
	}
	return &Error{Code: LeaseFenced}
}

// limit takes one beat from the node's allowance, or says how long to wait.
func (e *entry) limit(now time.Duration) time.Duration {
	refill := e.times.Granted / 4
	e.tokens = min(burst, e.tokens+float64(now-e.tokensAt)/float64(refill))
	e.tokensAt = now
	if e.tokens < 1 {
		return max(time.Duration((1-e.tokens)*float64(refill)), time.Millisecond)
	}
	e.tokens--
	return 0
}

// spread is the interval that a node is told: the granted one give or take 5 %,
// so that nodes which started together do not beat together for ever.
func (s *state) spread(e *entry) time.Duration {
	h := uint32(2166136261) // FNV-1a
	for i := range len(e.node.ID) {
		h = (h ^ uint32(e.node.ID[i])) * 16777619
	}
	h = (h ^ uint32(e.seq)) * 16777619
	return time.Duration(float64(e.intervals[1]) * (0.95 + float64(h%1001)/10_000))
}

const (
	skewLimit  = 30_000 // ms; beyond it the node is flagged
	skewChange = 500    // ms; smaller changes are not news
)

// skew keeps the median difference of the last five timestamps to our clock.
func (s *state) skew(e *entry, theirs time.Time) {
	if theirs.IsZero() {
		return
	}
	d := theirs.Sub(s.clock.Round(0)).Milliseconds() // saturates
	e.skews[e.skewN%len(e.skews)] = d
	e.skewN++
	recent := e.skews
	n := min(e.skewN, len(recent))
	slices.Sort(recent[:n])
	median := recent[n/2]
	skewed := median > skewLimit || median < -skewLimit
	if skewed && !e.skewed {
		s.counts.skewed++
		s.note(slog.LevelWarn, "clock of node is off by more than 30 s", e.node.attr())
	}
	if diff := median - e.node.ClockSkewMS; skewed != e.skewed || diff > skewChange || diff < -skewChange {
		s.change(e, func(n *Node) { n.ClockSkewMS = median })
	}
	e.skewed = skewed
}
