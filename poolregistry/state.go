package poolregistry

import (
	"crypto/sha256"
	"slices"
	"sync"
	"time"
)

// state is everything that changes. Its methods are the decisions: they take the
// instant as an argument, use no clock, no randomness and no I/O, and leave what
// is to be logged in records. Registry guards it with one mutex.
type state struct {
	cfg   Config    // filled
	start time.Time // instant 0, with a monotonic reading
	clock time.Time // the wall clock at this step: for people and clock skew only

	nodes   map[NodeID]*entry
	order   []*entry // sorted by id
	current []*Node  // the newest version of each, in the same order; views are copies
	tally   map[Liveness]int
	// epochFloor is above every epoch of a node that was removed.
	epochFloor uint64
	term       uint64          // of the last Takeover
	kept       map[NodeID]wish // of nodes that left; at most Limits.Nodes
	drains     uint64          // how many there were
	named      int             // entries that have their own heartbeat counters

	observer ObserverTimes
	guard    guard
	due      time.Duration // before this instant time alone changes nothing

	gen         uint64
	urgent      bool // liveness or membership changed since the last view
	dirty       bool // content changed since the last view
	publishedAt time.Duration

	counts  counts
	records []record
	lost    []NodeID // went offline in this step
}

// entry is one node id with a lease.
type entry struct {
	node  *Node // newest version; replaced by setNode, never written
	times NodeTimes
	wish  wish

	lease, prevLease [sha256.Size]byte // digests of the current and the previous token
	hasPrev          bool
	seq, prevSeq     uint64 // last accepted under each
	lastEvent        uint64

	intervals [2]time.Duration // granted, newest last
	tokens    float64          // beats that may come now
	tokensAt  time.Duration
	skews     [5]int64 // ms, the newest at skewN-1 modulo 5
	skewN     int
	skewed    bool

	onlineAt  time.Duration // when it last became online from registering or offline; forever = not yet
	lostAt    time.Duration // when silence made it offline; forever = not so
	changedAt time.Duration // when its liveness last changed
	conflict  time.Duration // when a second copy was last seen; 0 = never

	beats map[string]uint64 // its own counters by outcome, or nil: counted with the others
}

func newState(cfg Config, start time.Time) *state {
	return &state{
		cfg: cfg, start: start, nodes: map[NodeID]*entry{}, kept: map[NodeID]wish{}, tally: map[Liveness]int{}, due: forever,
		counts:   counts{registrations: map[string]uint64{}, deregistrations: map[string]uint64{}, otherBeats: map[string]uint64{}},
		observer: ObserverTimes{HoldOffline: cfg.RestartGrace},
		// So that the very first change is not held back.
		publishedAt: -time.Hour,
	}
}

// highestFloor bounds what a claimed epoch can do to the epochs of other nodes:
// it leaves room below maxPrevEpoch for as many incarnations as anybody needs.
// Epochs of the present term are always believed: the registry gave them.
const highestFloor = 1 << 48

func (s *state) insert(e *entry) {
	i, _ := slices.BinarySearchFunc(s.order, e.node.ID, byID)
	s.order = slices.Insert(s.order, i, e)
	s.current = slices.Insert(s.current, i, e.node)
	s.nodes[e.node.ID] = e
	if s.named < maxNamed {
		s.named++
		e.beats = map[string]uint64{}
	}
	s.urgent = true
}

func (s *state) remove(e *entry, reason string) {
	s.noteMove(e, e.times.Liveness, "removed", reason, 0)
	i, _ := slices.BinarySearchFunc(s.order, e.node.ID, byID)
	s.order = slices.Delete(s.order, i, i+1)
	s.current = slices.Delete(s.current, i, i+1)
	s.tally[e.times.Liveness]--
	delete(s.nodes, e.node.ID)
	if reason != "released" {
		s.keep(e)
	}
	if e.beats != nil {
		s.named--
	}
	s.epochFloor = max(s.epochFloor, min(e.node.Epoch, max(highestFloor, (s.term+1)<<20)))
	s.urgent = true
}

// setNode replaces the version of a node, also if the node is not inserted yet.
func (s *state) setNode(e *entry, n *Node) {
	e.node = n
	if i, ok := slices.BinarySearchFunc(s.order, n.ID, byID); ok {
		s.current[i] = n
	}
}

func byID(e *entry, id NodeID) int { return compare(e.node.ID, id) }

// change replaces the node of e by a copy that edit has worked on.
func (s *state) change(e *entry, edit func(*Node)) {
	n := *e.node
	edit(&n)
	s.setNode(e, &n)
	s.dirty = true
}

// fire applies one event of the transition table to a node that stays known.
func (s *state) fire(e *entry, event, reason string, now time.Duration) {
	from := e.times.Liveness
	if from == Online && event == "beat" {
		return // by far the most frequent case
	}
	to, ok := from.next(event)
	if !ok || to == from {
		return
	}
	e.times.Liveness = to
	e.changedAt = now
	s.tally[from]--
	s.tally[to]++
	e.lostAt = forever
	switch {
	case to == Online && (from == Offline || e.onlineAt == forever):
		e.onlineAt = now
	case to == Offline:
		s.counts.detected(e.times.silence(s.observer, now))
		if !e.times.Refused {
			e.lostAt = now
		}
	case to == Failed:
		e.onlineAt = forever
	}
	s.change(e, func(n *Node) {
		n.Liveness, n.Reason, n.Since = to, reason, s.wall()
		n.GuardHeld = false
		if from == Offline && to == Online || event == "clear" {
			n.Epoch = s.nextEpoch(n.Epoch)
		}
	})
	s.urgent = true
	s.noteMove(e, from, to, reason, e.times.silence(s.observer, now))
}

// wall is the wall-clock instant of this step, for people.
func (s *state) wall() time.Time { return s.clock.Round(0).UTC().Truncate(time.Millisecond) }

// remind makes sure that time looks at e not later than it must.
func (s *state) remind(e *entry) { s.due = min(s.due, s.dueOf(e)) }

func (s *state) dueOf(e *entry) time.Duration {
	if !s.observer.Detecting {
		return forever
	}
	at := e.times.due(s.observer, s.cfg.Timing)
	at = min(at, s.forgetAt(e))
	if e.wish.schedule == Draining && e.times.Liveness != Offline {
		at = min(at, e.wish.until)
	}
	if !e.node.ConflictSince.IsZero() {
		at = min(at, e.conflict+conflictShown)
	}
	return at
}

// forgetAt is when a node is forgotten: ForgetAfter after it went offline, or
// after a failed one was last heard of.
func (s *state) forgetAt(e *entry) time.Duration {
	switch l := e.times.Liveness; {
	case s.cfg.ForgetAfter < 0 || l != Offline && l != Failed:
		return forever
	case l == Failed:
		return max(e.changedAt, e.times.LastBeat) + s.cfg.ForgetAfter
	}
	return e.changedAt + s.cfg.ForgetAfter
}

const conflictShown = 10 * time.Minute

// takeView returns the next view if one is due at now, else nil.
func (s *state) takeView(now time.Duration) *View {
	if !s.urgent && now < s.publishDue() {
		return nil
	}
	s.urgent, s.dirty = false, false
	s.publishedAt = now
	return s.newView()
}

// publishDue is the instant at which changed content is to be published.
func (s *state) publishDue() time.Duration {
	if !s.dirty {
		return forever
	}
	return s.publishedAt + s.cfg.PublishEvery
}

func (s *state) newView() *View {
	s.gen++
	nodes := slices.Clone(s.current)
	return &View{
		Gen: s.gen, Nodes: nodes, hash: sync.OnceValue(func() [32]byte { return hashOf(nodes) }),
		Online: s.tally[Online], Suspect: s.tally[Suspect], Offline: s.tally[Offline], Failed: s.tally[Failed],
		GuardHeld: s.guard.held, Detecting: s.observer.Detecting,
	}
}
