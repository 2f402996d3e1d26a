package poolregistry_test

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	. "github.com/llorch/llorch/poolregistry"
)

// TestNodeStateMachine is the model test of the two state tables in the package
// comment (PRG-11, PRG-13, PRG-17, PRG-21, PRG-23, PRG-24, PRG-26 to PRG-33,
// PRG-35, PRG-36, PRG-40, PRG-45): random commands, registrations, beats,
// repeated and late beats, clones, partitions, lost answers, pauses of the
// detection timer, wrong clocks and restarts in virtual time, against a small
// reference. After every step:
//
//	 1 one lease per id: the current token is heard, the one before is fenced
//	 2 epochs strictly grow, over incarnations, returns, clearings and terms
//	 3 placeable is online and open
//	 4 suspect and offline only after that much silence in which somebody listened
//	 5 output is sorted, and the counts of a view are those of its nodes
//	 6 earlier views are unchanged
//	 7 what Evaluate says of a node is what the registry shows
//	 8 a drain ends when nothing is active and all is idle, or at its deadline
//	 9 a schedule moves by its table only and outlives incarnations and leaves
//	10 a failed node stays failed until it is cleared or replaced
//	11 a beat counts once
//	12 nodes vanish only by leave, release, or an hour of silence
func TestNodeStateMachine(t *testing.T) {
	rounds := 10 // of a hundred walks
	if os.Getenv("LLORCH_NIGHTLY") != "" {
		rounds = 1000
	}
	for range rounds {
		rapid.Check(t, func(t *rapid.T) {
			rapid.SyncTest(t, func(t *rapid.T) {
				if v := run(t, t.Context(), nil); v != "" {
					t.Fatal(v)
				}
			})
		})
	}
}

// TestModelFindsPlantedBugs proves that each invariant is looked at: a registry
// with one planted defect is told from a sound one, by the check of that number,
// within a few random walks.
func TestModelFindsPlantedBugs(t *testing.T) {
	broken := map[int]bool{}
	for _, bug := range Bugs() {
		broken[bug.Breaks] = true
		t.Run(fmt.Sprintf("%d %s", bug.Breaks, bug.Name), func(t *testing.T) {
			for seed := range 400 {
				var v string
				synctest.Test(t, func(t *testing.T) {
					v = rapid.Custom(func(rt *rapid.T) string {
						rapid.Bool().Draw(rt, "a generator has to draw")
						return run(rt, t.Context(), bug.Plant)
					}).Example(seed)
				})
				if strings.HasPrefix(v, fmt.Sprintf("%d: ", bug.Breaks)) {
					t.Logf("walk %d: %s", seed, v)
					return
				}
			}
			t.Error("no walk noticed")
		})
	}
	for i := 1; i <= 12; i++ {
		if !broken[i] {
			t.Errorf("no bug breaks invariant %d", i)
		}
	}
}

// violation is what a walk found; it travels as a panic.
type violation string

// run is one random walk. It returns what it found wrong, or "".
func run(t *rapid.T, ctx context.Context, plant func(*Registry)) (found string) {
	ctx, cancel := context.WithCancel(ctx)
	m := &machine{ctx: ctx, timing: Fast(), plant: plant, agents: map[NodeID]memory{}, active: map[NodeID]int{}}
	m.start()
	defer func() {
		cancel()
		m.join()
		if v := recover(); v != nil {
			text, ok := v.(violation)
			if !ok {
				panic(v)
			}
			found = string(text)
		}
	}()
	t.Repeat(map[string]func(*rapid.T){
		"register": m.register, "beat": m.beat, "beats": m.beats, "replay": m.replay, "clone": m.clone,
		"leave": m.leave, "refused": m.refused, "progress": m.progress, "sleep": m.sleep, "stall": m.stall,
		"command": m.command, "drain": m.drain, "work": m.work, "takeover": m.takeover, "restart": m.restart,
		"release guard": func(*rapid.T) { m.sync(); m.reg.ReleaseGuard(); m.sync() },
		"":              m.check,
	})
	return ""
}

// refNode is the model of one lease. It is written from the specification, in
// terms of instants and without the registry's short cuts.
type refNode struct {
	live        Liveness
	epoch       uint64
	token, prev string
	instance    int
	seq         uint64
	beaten      bool
	heard       time.Time // the newest beat, or the registration
}

// refWish is the model of a schedule; the zero one is open.
type refWish struct {
	schedule Schedule
	until    time.Time
	forced   bool
	told     bool
}

// memory is what an agent remembers of an id when the registry forgets.
type memory struct {
	epoch    uint64
	schedule Schedule
}

type machine struct {
	ctx    context.Context
	timing Timing
	plant  func(*Registry)

	reg    *Registry
	paused *atomic.Bool
	join   func()

	nodes  map[NodeID]*refNode
	wishes map[NodeID]refWish
	floor  map[NodeID]uint64 // highest epoch that this registry showed of an id
	term   uint64
	pauses [][2]time.Time
	agents map[NodeID]memory
	active map[NodeID]int

	last   *View
	digest []nodeFacts // of last
}

func (m *machine) failf(format string, args ...any) {
	panic(violation(fmt.Sprintf(format, args...)))
}

// start makes a registry without memory.
func (m *machine) start() {
	reg, err := New(Config{
		Timing: m.timing, ForgetAfter: time.Minute, GuardMaxHold: 20 * time.Second, RestartGrace: -1, PublishEvery: -1,
		Active: func(id NodeID) map[PoolID]int { return map[PoolID]int{"p0": m.active[id]} },
	})
	if err != nil {
		m.failf("New: %v", err)
	}
	m.reg, m.paused = reg, new(atomic.Bool)
	m.nodes, m.wishes, m.floor = map[NodeID]*refNode{}, map[NodeID]refWish{}, map[NodeID]uint64{}
	m.term, m.last = 0, nil
	ctx, cancel := context.WithCancel(m.ctx)
	done := make(chan error, 1)
	go func(paused *atomic.Bool) { done <- reg.RunPausable(ctx, paused) }(m.paused)
	synctest.Wait()
	m.join = func() { cancel(); <-done }
}

type nodeFacts struct {
	id    NodeID
	epoch uint64
	live  Liveness
	want  Schedule
	held  bool
	ready bool
}

func facts(v *View) []nodeFacts {
	out := make([]nodeFacts, 0, len(v.Nodes))
	for _, n := range v.Nodes {
		p, _ := n.Pool("p0")
		out = append(out, nodeFacts{n.ID, n.Epoch, n.Liveness, n.Schedule, n.GuardHeld, p.Ready})
	}
	return out
}

// sync lets the model follow what time alone did: a step towards offline, the
// deadline of a drain, and forgetting.
func (m *machine) sync() {
	v := m.reg.View()
	for id, r := range m.nodes {
		n, ok := v.Node(id)
		if !ok {
			silent := time.Since(r.heard)
			if r.live != Offline && r.live != Failed || silent < time.Minute {
				m.failf("12: node %s vanished, %s, after %v", id, r.live, silent)
			}
			delete(m.nodes, id)
			continue
		}
		if n.Liveness != r.live {
			m.expired(n, r)
		}
		if w := m.wishes[id]; w.schedule == Draining && n.Schedule == Drained {
			if time.Now().Before(w.until) {
				m.failf("8: node %s is drained %v early", id, time.Until(w.until))
			}
			w.schedule, w.forced = Drained, true
			m.wishes[id] = w
		}
	}
}

// expired takes over what silence did to a node.
func (m *machine) expired(n *Node, r *refNode) {
	if !slices.Contains([][2]Liveness{
		{Online, Suspect}, {Registering, Suspect}, {Suspect, Offline}, {Online, Offline}, {Registering, Offline},
	}, [2]Liveness{r.live, n.Liveness}) {
		m.failf("10: time alone turned %s into %s", r.live, n.Liveness)
	}
	// A pause can only be told from a late timer once it is longer than this.
	const blind = 475 * time.Millisecond
	silence := time.Since(r.heard)
	for _, p := range m.pauses {
		from, to := p[0], p[1]
		if from.Before(r.heard) {
			from = r.heard
		}
		if d := to.Sub(from); d > blind {
			silence -= d - blind
		}
	}
	limit := map[Liveness]time.Duration{Suspect: m.timing.SuspectAfter, Offline: m.timing.OfflineAfter}[n.Liveness]
	if silence+blind < limit {
		m.failf("4: node %s is %s after %v of credited silence", n.ID, n.Liveness, silence)
	}
	r.live = n.Liveness
}

func (m *machine) check(*rapid.T) {
	if m.plant != nil {
		m.plant(m.reg)
	}
	v := m.reg.View()
	if m.last != nil && !slices.Equal(facts(m.last), m.digest) {
		m.failf("6: an earlier view changed")
	}
	m.last, m.digest = v, facts(v)
	if !slices.IsSortedFunc(v.Nodes, func(a, b *Node) int { return compareIDs(a.ID, b.ID) }) {
		m.failf("5: nodes are not sorted")
	}
	for _, n := range v.Nodes {
		times, o, now := m.reg.Times(n.ID)
		if got, why := Evaluate(times, o, m.timing, now); got != n.Liveness {
			m.failf("7: node %s is %s, Evaluate says %s (%s)", n.ID, n.Liveness, got, why)
		}
	}
	m.sync()
	if len(v.Nodes) != len(m.nodes) {
		m.failf("12: %d nodes, want %d", len(v.Nodes), len(m.nodes))
	}
	count := map[Liveness]int{}
	for _, n := range v.Nodes {
		m.checkNode(n)
		count[n.Liveness]++
	}
	if v.Online != count[Online] || v.Suspect != count[Suspect] || v.Offline != count[Offline] || v.Failed != count[Failed] {
		m.failf("5: view counts %d %d %d %d, want %v", v.Online, v.Suspect, v.Offline, v.Failed, count)
	}
}

func (m *machine) checkNode(n *Node) {
	r, w := m.nodes[n.ID], m.wishes[n.ID]
	if r == nil {
		m.failf("12: node %s is there", n.ID)
	}
	if n.Epoch != r.epoch || n.Epoch < m.floor[n.ID] {
		m.failf("2: node %s: epoch %d, want %d, was %d", n.ID, n.Epoch, r.epoch, m.floor[n.ID])
	}
	m.floor[n.ID] = n.Epoch
	want := orOpen(w.schedule)
	if ok, _ := n.Placeable(); ok != (n.Liveness == Online && want == Open) {
		m.failf("3: node %s is %s, %s and placeable %t", n.ID, n.Liveness, want, ok)
	}
	if n.Schedule != want {
		m.failf("9: node %s is %s, want %s", n.ID, n.Schedule, want)
	}
	switch {
	case (want == Draining || want == Drained) != (n.Drain != nil):
		m.failf("8: node %s is %s with drain %v", n.ID, want, n.Drain)
	case n.Drain != nil && n.Drain.Forced != w.forced:
		m.failf("8: node %s: forced %t, want %t", n.ID, n.Drain.Forced, w.forced)
	case want == Draining && n.Liveness != Offline && !time.Now().Before(w.until):
		m.failf("8: node %s drains for longer than its deadline", n.ID)
	}
	if n.GuardHeld && n.Liveness != Suspect {
		m.failf("7: node %s is held and %s", n.ID, n.Liveness)
	}
}

// beats keeps some nodes alive for a while; the others are behind a partition.
func (m *machine) beats(t *rapid.T) {
	cut := map[NodeID]bool{}
	for _, id := range machineIDs {
		cut[id] = rapid.Bool().Draw(t, "cut off")
	}
	for range rapid.IntRange(1, 6).Draw(t, "rounds") {
		m.sync()
		for _, id := range machineIDs {
			if r := m.nodes[id]; r != nil && !cut[id] {
				m.send(id, r.seq+1, true)
			}
		}
		time.Sleep(m.timing.Beat)
	}
}

func (m *machine) sleep(t *rapid.T) {
	time.Sleep(time.Duration(rapid.IntRange(1, 4000).Draw(t, "ms")) * time.Millisecond)
}

// stall pauses the observer.
func (m *machine) stall(t *rapid.T) {
	m.sync()
	m.paused.Store(true)
	from := time.Now()
	time.Sleep(time.Duration(rapid.IntRange(1, 20_000).Draw(t, "ms")) * time.Millisecond)
	m.pauses = append(m.pauses, [2]time.Time{from, time.Now()})
	if rapid.Bool().Draw(t, "reader first") {
		m.reg.View()
	}
	if rapid.Bool().Draw(t, "beat first") {
		m.beat(t)
	}
	m.paused.Store(false)
	time.Sleep(300 * time.Millisecond)
}
