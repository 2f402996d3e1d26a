package poolregistry_test

import (
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	. "github.com/llorch/llorch/poolregistry"
)

// refNode is the model of one node id. It is written from the specification, in
// terms of instants and without the registry's short cuts.
type refNode struct {
	live     Liveness
	epoch    uint64
	token    string
	instance int
	seq      uint64
	beaten   bool
}

// TestNodeStateMachine is the model test of the state table in the package
// comment (PRG-13, 17, 21, 23, 24, 26…33, 35, 36, 40): random calls in virtual
// time, with pauses of the detection timer, against a small reference. After
// every step: one lease per id, rising epochs, placeable only if online, offline
// only after enough credited silence, sorted output, old views unchanged, and
// what Evaluate says of each node is what the registry shows.
func TestNodeStateMachine(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rapid.SyncTest(t, func(t *rapid.T) {
			m := newMachine(t)
			defer m.stop()
			t.Repeat(map[string]func(*rapid.T){
				"register": m.register,
				"beat":     m.beat,
				"beats":    m.beats,
				"replay":   m.replay,
				"leave":    m.leave,
				"refused":  m.refused,
				"progress": m.progress,
				"sleep":    m.sleep,
				"stall":    m.stall,
				"":         m.check,
			})
		})
	})
}

type machine struct {
	*world
	nodes  map[NodeID]*refNode
	floor  map[NodeID]uint64 // highest epoch that was ever seen of an id
	timing Timing
	last   *View
	digest []nodeFacts // of last
	stop   func()
}

type nodeFacts struct {
	id    NodeID
	epoch uint64
	live  Liveness
	held  bool
	ready bool
}

func facts(v *View) []nodeFacts {
	out := make([]nodeFacts, 0, len(v.Nodes))
	for _, n := range v.Nodes {
		p, _ := n.Pool("p0")
		out = append(out, nodeFacts{n.ID, n.Epoch, n.Liveness, n.GuardHeld, p.Ready})
	}
	return out
}

var machineIDs = []NodeID{"a", "b", "c", "d"}

func newMachine(t *rapid.T) *machine {
	timing := Fast()
	reg, err := New(Config{Timing: timing, ForgetAfter: time.Minute, GuardMaxHold: 20 * time.Second, RestartGrace: -1})
	if err != nil {
		t.Fatal(err)
	}
	m := &machine{
		world:  &world{Registry: reg, grants: map[NodeID]Grant{}, seqs: map[NodeID]uint64{}},
		nodes:  map[NodeID]*refNode{},
		floor:  map[NodeID]uint64{},
		timing: timing,
	}
	ctx, cancel := newContext(t)
	done := make(chan error, 1)
	go func() { done <- reg.RunPausable(ctx, &m.paused) }()
	synctest.Wait()
	m.stop = func() { cancel(); <-done }
	return m
}

func (m *machine) draw(t *rapid.T) NodeID { return rapid.SampledFrom(machineIDs).Draw(t, "id") }

// sync lets the model follow what time alone did: only what Evaluate allows.
func (m *machine) sync() {
	v := m.View()
	for id, r := range m.nodes {
		n, ok := v.Node(id)
		if !ok {
			if r.live == Offline {
				delete(m.nodes, id) // forgotten; check looks at the instant
			}
			continue
		}
		if n.Liveness != r.live {
			r.live = n.Liveness
		}
	}
}

func (m *machine) register(t *rapid.T) {
	m.sync()
	id, instance := m.draw(t), rapid.IntRange(1, 3).Draw(t, "instance")
	token := ""
	r := m.nodes[id]
	if r != nil && rapid.Bool().Draw(t, "with token") {
		token = r.token
	}
	prev := rapid.Uint64Range(0, 5).Draw(t, "prev epoch")
	reg := other(id, instance, token)
	reg.PrevEpoch = prev
	g, err := m.Register(t.Context(), reg)
	switch {
	case r == nil:
	case token != "" && instance == r.instance:
		if err != nil || g.Epoch != r.epoch || g.LeaseToken != token {
			t.Fatalf("repeated registration: %+v, %v", g, err)
		}
		return
	case token != "", r.live == Offline, r.live == Registering && instance == r.instance && !r.beaten:
	default:
		if !errors.Is(err, NodeIDTaken) {
			t.Fatalf("a live id was given away: %v", err)
		}
		return
	}
	if err != nil {
		t.Fatalf("register: %v", err)
	}
	if g.Epoch <= max(prev, m.floor[id]) {
		t.Fatalf("epoch %d after %d, node remembers %d", g.Epoch, m.floor[id], prev)
	}
	m.nodes[id] = &refNode{live: Registering, epoch: g.Epoch, token: g.LeaseToken, instance: instance}
}

func (m *machine) send(t *rapid.T, id NodeID, seq uint64) error {
	r := m.nodes[id]
	reply, err := m.Beat(t.Context(), Beat{NodeID: id, LeaseToken: r.token, Seq: seq, Pools: pool()})
	switch {
	case seq <= r.seq:
		if !errors.Is(err, BeatReplayed) {
			t.Fatalf("seq %d after %d: %v", seq, r.seq, err)
		}
		return err
	case err != nil && !errors.Is(err, TooManyBeats):
		t.Fatalf("beat: %v", err)
	}
	if r.live == Offline {
		r.epoch++
	}
	r.live, r.seq, r.beaten = Online, seq, true
	if err == nil && (reply.Epoch != r.epoch || reply.Status != Online) {
		t.Fatalf("reply = %+v, want epoch %d", reply, r.epoch)
	}
	return err
}

func (m *machine) beat(t *rapid.T) {
	m.sync()
	id := m.draw(t)
	if r := m.nodes[id]; r != nil {
		_ = m.send(t, id, r.seq+rapid.Uint64Range(1, 3).Draw(t, "gap"))
		return
	}
	if _, err := m.Beat(t.Context(), Beat{NodeID: id, LeaseToken: "x", Seq: 1}); !errors.Is(err, NodeUnknown) {
		t.Fatalf("beat of an unknown node: %v", err)
	}
}

// beats keeps some nodes alive for a while.
func (m *machine) beats(t *rapid.T) {
	quiet := m.draw(t)
	for range rapid.IntRange(1, 6).Draw(t, "rounds") {
		m.sync()
		for _, id := range machineIDs {
			if r := m.nodes[id]; r != nil && id != quiet {
				_ = m.send(t, id, r.seq+1)
			}
		}
		time.Sleep(m.timing.Beat)
	}
}

func (m *machine) replay(t *rapid.T) {
	m.sync()
	id := m.draw(t)
	if r := m.nodes[id]; r != nil && r.seq > 0 {
		n, _ := m.View().Node(id)
		before := n.LastHeartbeat()
		_ = m.send(t, id, rapid.Uint64Range(0, r.seq).Draw(t, "old seq"))
		if n.LastHeartbeat() != before {
			t.Fatal("a replayed beat was noted")
		}
	}
}

func (m *machine) leave(t *rapid.T) {
	m.sync()
	id := m.draw(t)
	r := m.nodes[id]
	if r == nil {
		return
	}
	if err := m.Leave(t.Context(), id, "not the token"); !errors.Is(err, LeaseInvalid) {
		t.Fatalf("leave with a wrong token: %v", err)
	}
	if err := m.Leave(t.Context(), id, r.token); err != nil {
		t.Fatal(err)
	}
	delete(m.nodes, id)
}

func (m *machine) refused(t *rapid.T) {
	m.sync()
	id := m.draw(t)
	m.Refused(id)
	if r := m.nodes[id]; r != nil && r.live == Online {
		r.live = Suspect
		if n, _ := m.View().Node(id); n.Liveness != Suspect {
			t.Fatalf("a refused node is %s", n.Liveness)
		}
	}
}

func (m *machine) progress(t *rapid.T) { m.Progress(m.draw(t)) }

func (m *machine) sleep(t *rapid.T) {
	time.Sleep(time.Duration(rapid.IntRange(1, 4000).Draw(t, "ms")) * time.Millisecond)
}

func (m *machine) stall(t *rapid.T) {
	m.paused.Store(true)
	time.Sleep(time.Duration(rapid.IntRange(1, 20_000).Draw(t, "ms")) * time.Millisecond)
	if rapid.Bool().Draw(t, "reader first") {
		m.View()
	}
	if rapid.Bool().Draw(t, "beat first") {
		m.beat(t)
	}
	m.paused.Store(false)
	time.Sleep(300 * time.Millisecond)
}

func (m *machine) check(t *rapid.T) {
	was := map[NodeID]Liveness{}
	for id, r := range m.nodes {
		was[id] = r.live
	}
	m.sync()
	v := m.View()
	if m.last != nil && !slices.Equal(facts(m.last), m.digest) {
		t.Fatal("an earlier view changed")
	}
	m.last, m.digest = v, facts(v)
	if !slices.IsSortedFunc(v.Nodes, func(a, b *Node) int { return compareIDs(a.ID, b.ID) }) {
		t.Fatal("nodes are not sorted")
	}
	if len(v.Nodes) != len(m.nodes) {
		t.Fatalf("%d nodes, want %d", len(v.Nodes), len(m.nodes))
	}
	var online, suspect, offline int
	for _, n := range v.Nodes {
		m.checkNode(t, n, was[n.ID])
		switch n.Liveness {
		case Online:
			online++
		case Suspect:
			suspect++
		case Offline:
			offline++
		}
		if old, ok := was[n.ID]; ok && old != n.Liveness && !slices.Contains([][2]Liveness{
			{Online, Suspect}, {Registering, Suspect}, {Suspect, Offline}, {Online, Offline}, {Registering, Offline},
		}, [2]Liveness{old, n.Liveness}) {
			t.Fatalf("time alone turned %s into %s", old, n.Liveness)
		}
	}
	if v.Online != online || v.Suspect != suspect || v.Offline != offline {
		t.Fatalf("view counts %d %d %d, want %d %d %d", v.Online, v.Suspect, v.Offline, online, suspect, offline)
	}
}

func (m *machine) checkNode(t *rapid.T, n *Node, was Liveness) {
	r := m.nodes[n.ID]
	if n.Epoch != r.epoch || n.Epoch < m.floor[n.ID] {
		t.Fatalf("node %s: epoch %d, want %d, was %d", n.ID, n.Epoch, r.epoch, m.floor[n.ID])
	}
	m.floor[n.ID] = n.Epoch
	if ok, _ := n.Placeable(); ok != (n.Liveness == Online) {
		t.Fatalf("node %s is %s and placeable %t", n.ID, n.Liveness, ok)
	}
	times, o, now := m.Times(n.ID)
	if got, why := Evaluate(times, o, m.timing, now); got != n.Liveness {
		t.Fatalf("node %s is %s, Evaluate says %s (%s)", n.ID, n.Liveness, got, why)
	}
	// A pause can only be told from a late timer once it is longer than this; a
	// node that became offline just before may later be credited that much.
	const blind = 475 * time.Millisecond
	credited := now - times.LastBeat - max(0, o.Credit-times.Credit)
	if n.Liveness == Offline && was != Offline && credited+blind < m.timing.OfflineAfter {
		t.Fatalf("node %s is offline after %v of credited silence", n.ID, credited)
	}
	if n.GuardHeld && n.Liveness != Suspect {
		t.Fatalf("node %s is held and %s", n.ID, n.Liveness)
	}
}
