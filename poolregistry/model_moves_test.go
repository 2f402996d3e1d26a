package poolregistry_test

import (
	"errors"
	"time"

	"pgregory.net/rapid"

	. "github.com/llorch/llorch/poolregistry"
)

var machineIDs = []NodeID{"a", "b", "c", "d"}

func draw(t *rapid.T) NodeID { return rapid.SampledFrom(machineIDs).Draw(t, "id") }

// after returns what a table says of a state and an event.
func after(table [][3]string, from, event string) (to string, ok bool) {
	for _, row := range table {
		if row[0] == from && row[1] == event {
			return row[2], true
		}
	}
	return from, false
}

func strictness(s Schedule) int {
	return map[Schedule]int{Cordoned: 1, Draining: 2, Drained: 3}[s]
}

// register is a start, a restart, a second copy, or the repetition of a
// registration whose answer got lost.
func (m *machine) register(t *rapid.T) {
	m.sync()
	id, instance := draw(t), rapid.IntRange(1, 3).Draw(t, "instance")
	r, reg := m.nodes[id], other(id, instance, "")
	if r != nil && rapid.Bool().Draw(t, "with token") {
		reg.LeaseToken = r.token
	}
	if rapid.Bool().Draw(t, "with memory") {
		reg.PrevEpoch, reg.Schedule = m.agents[id].epoch, m.agents[id].schedule
	}
	if r != nil && reg.LeaseToken == "" {
		m.mayTake(r, reg)
		return
	}
	m.take(r, reg)
}

// mayTake registers without the lease token: only an id that nobody can use is
// given away.
func (m *machine) mayTake(r *refNode, reg Registration) {
	lost := r.live == Registering && reg.InstanceID == uuid(r.instance) && !r.beaten
	if r.live == Offline || r.live == Failed || lost {
		m.take(r, reg)
		return
	}
	if _, err := m.reg.Register(m.ctx, reg); !errors.Is(err, NodeIDTaken) {
		m.failf("1: a live id was given away: %v", err)
	}
}

func (m *machine) take(r *refNode, reg Registration) {
	g, err := m.reg.Register(m.ctx, reg)
	if err != nil {
		m.failf("1: register: %v", err)
	}
	id := reg.NodeID
	if r != nil && reg.LeaseToken == r.token && reg.InstanceID == uuid(r.instance) {
		if g.Epoch != r.epoch || g.LeaseToken != r.token {
			m.failf("1: a repeated registration got %+v", g)
		}
		r.heard = time.Now()
		return
	}
	if g.Epoch <= max(reg.PrevEpoch, m.floor[id], m.term<<20) {
		m.failf("2: epoch %d after %d in term %d, node remembers %d", g.Epoch, m.floor[id], m.term, reg.PrevEpoch)
	}
	fresh := &refNode{live: Registering, epoch: g.Epoch, token: g.LeaseToken, heard: time.Now()}
	for i := range 4 {
		if uuid(i) == reg.InstanceID {
			fresh.instance = i
		}
	}
	if r != nil {
		fresh.prev = r.token
	}
	m.nodes[id] = fresh
	w := m.wishes[id]
	w.told = false
	if strictness(reg.Schedule) > strictness(w.schedule) {
		w = refWish{schedule: reg.Schedule}
		if reg.Schedule == Draining {
			w.until = time.Now().Add(24 * time.Hour)
		}
	}
	m.wishes[id] = w
}

// send sends one beat; idle is what the engine says.
func (m *machine) send(id NodeID, seq uint64, idle bool) {
	r, w := m.nodes[id], m.wishes[id]
	pools := pool()
	pools[0].Idle = idle
	reply, err := m.reg.Beat(m.ctx, Beat{
		NodeID: id, LeaseToken: r.token, Seq: seq, Pools: pools, Schedule: m.agents[id].schedule,
		Timestamp: time.Now().Add(time.Duration(seq%5) * time.Hour), // its clock jumps
	})
	switch {
	case seq <= r.seq:
		if !errors.Is(err, BeatReplayed) {
			m.failf("11: seq %d after %d: %v", seq, r.seq, err)
		}
		return
	case err != nil && !errors.Is(err, TooManyBeats):
		m.failf("1: beat: %v", err)
	}
	if r.live == Offline {
		r.epoch = max(r.epoch, m.term<<20) + 1
	}
	if r.live != Failed {
		r.live = Online
	}
	r.seq, r.beaten, r.heard = seq, true, time.Now()
	if err != nil {
		return
	}
	if w.schedule == Draining {
		if w.told && idle && m.active[id] == 0 {
			w.schedule, w.forced = Drained, !time.Now().Before(w.until)
		}
		w.told = true
		m.wishes[id] = w
	}
	if reply.Epoch != r.epoch || reply.Status != r.live {
		m.failf("2: reply = %+v, want %s in epoch %d", reply, r.live, r.epoch)
	}
	if reply.Schedule != orOpen(w.schedule) || reply.DrainMS != 0 && w.schedule != Draining {
		m.failf("8: reply says %s and %d ms, want %s", reply.Schedule, reply.DrainMS, orOpen(w.schedule))
	}
	m.agents[id] = memory{reply.Epoch, reply.Schedule}
}

func orOpen(s Schedule) Schedule {
	if s == "" {
		return Open
	}
	return s
}

func (m *machine) beat(t *rapid.T) {
	m.sync()
	id := draw(t)
	if r := m.nodes[id]; r != nil {
		m.send(id, r.seq+rapid.Uint64Range(1, 3).Draw(t, "gap"), rapid.Bool().Draw(t, "idle"))
		return
	}
	if _, err := m.reg.Beat(m.ctx, Beat{NodeID: id, LeaseToken: "x", Seq: 1}); !errors.Is(err, NodeUnknown) {
		m.failf("12: beat of an unknown node: %v", err)
	}
}

// replay delivers an old beat once more.
func (m *machine) replay(t *rapid.T) {
	m.sync()
	id := draw(t)
	if r := m.nodes[id]; r != nil && r.seq > 0 {
		n, _ := m.reg.View().Node(id)
		before := n.LastHeartbeat()
		m.send(id, rapid.Uint64Range(0, r.seq).Draw(t, "old seq"), true)
		if n.LastHeartbeat() != before {
			m.failf("11: a replayed beat was noted")
		}
	}
}

// clone is a beat of the incarnation before, or of one that nobody knows.
func (m *machine) clone(t *rapid.T) {
	m.sync()
	id := draw(t)
	r := m.nodes[id]
	if r == nil {
		return
	}
	token, want := "nobody's", LeaseInvalid
	if r.prev != "" && rapid.Bool().Draw(t, "once current") {
		token, want = r.prev, LeaseFenced
	}
	if _, err := m.reg.Beat(m.ctx, Beat{NodeID: id, LeaseToken: token, Seq: 1000, Pools: pool()}); !errors.Is(err, want) {
		m.failf("1: a beat under %s token: %v, want %s", token, err, want)
	}
}

func (m *machine) leave(t *rapid.T) {
	m.sync()
	id := draw(t)
	r := m.nodes[id]
	if r == nil {
		return
	}
	if err := m.reg.Leave(m.ctx, id, "not the token"); !errors.Is(err, LeaseInvalid) {
		m.failf("1: leave with a wrong token: %v", err)
	}
	if err := m.reg.Leave(m.ctx, id, r.token); err != nil {
		m.failf("1: leave: %v", err)
	}
	delete(m.nodes, id)
}

func (m *machine) refused(t *rapid.T) {
	m.sync()
	id := draw(t)
	m.reg.Refused(id)
	if r := m.nodes[id]; r != nil && r.live == Online {
		r.live = Suspect
		if n, _ := m.reg.View().Node(id); n.Liveness != Suspect {
			m.failf("7: a refused node is %s", n.Liveness)
		}
	}
}

func (m *machine) progress(t *rapid.T) { m.reg.Progress(draw(t)) }

func (m *machine) work(t *rapid.T) { m.active[draw(t)] = rapid.IntRange(0, 1).Draw(t, "active") }

// command gives one order of either table, allowed or not.
func (m *machine) command(t *rapid.T) {
	m.sync()
	id := draw(t)
	event := rapid.SampledFrom([]string{"cordon", "uncordon", "fail", "clear", "release"}).Draw(t, "command")
	r, w := m.nodes[id], m.wishes[id]
	err := map[string]func() error{
		"cordon":   func() error { return m.reg.Cordon(id) },
		"uncordon": func() error { return m.reg.Uncordon(id) },
		"fail":     func() error { return m.reg.Fail(id, "smoke") },
		"clear":    func() error { return m.reg.ClearFailed(id) },
		"release":  func() error { return m.reg.Release(id) },
	}[event]()
	if r == nil {
		gone := event == "uncordon" || event == "release" // what is wanted of a node that left can be taken back
		if kept := orOpen(w.schedule) != Open; kept && gone && err != nil || !(kept && gone) && !errors.Is(err, NodeUnknown) {
			m.failf("12: %s of a node that is not there, %s: %v", event, orOpen(w.schedule), err)
		}
		if gone {
			delete(m.wishes, id)
		}
		return
	}
	live, moves := after(Transitions(), string(r.live), event)
	plan, reschedules := after(Scheduling(), string(orOpen(w.schedule)), event)
	if legal := moves || reschedules; legal != (err == nil) || !legal && !errors.Is(err, IllegalTransition) {
		m.failf("9: %s of a node that is %s and %s: %v", event, r.live, orOpen(w.schedule), err)
	}
	switch {
	case live == "removed":
		delete(m.nodes, id)
		delete(m.wishes, id)
	case moves:
		r.live = Liveness(live)
		if event == "clear" {
			r.epoch = max(r.epoch, m.term<<20) + 1
		}
	case reschedules:
		m.wishes[id] = refWish{schedule: Schedule(plan)}
	}
}

func (m *machine) drain(t *rapid.T) {
	m.sync()
	id := draw(t)
	within := time.Duration(rapid.IntRange(0, 10).Draw(t, "within")) * time.Second
	err := m.reg.Drain(id, within)
	if m.nodes[id] == nil {
		if !errors.Is(err, NodeUnknown) {
			m.failf("12: drain of a node that is not there: %v", err)
		}
		return
	}
	if err != nil {
		m.failf("9: drain: %v", err)
	}
	w, until := m.wishes[id], time.Now().Add(within)
	switch {
	case w.schedule == Drained:
	case w.schedule != Draining:
		m.wishes[id] = refWish{schedule: Draining, until: until}
	case until.Before(w.until):
		w.until = until
		m.wishes[id] = w
	}
}

func (m *machine) takeover(t *rapid.T) {
	term := rapid.Uint64Range(0, 5).Draw(t, "term")
	m.reg.Takeover(term)
	m.term = max(m.term, term)
}

// restart loses the registry and all it knows; agents remember.
func (m *machine) restart(t *rapid.T) {
	if rapid.IntRange(0, 4).Draw(t, "rarely") > 0 {
		return
	}
	m.join()
	m.start()
}
