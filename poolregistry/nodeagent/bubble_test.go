package nodeagent_test

import (
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/llorch/llorch/poolregistry"
	"github.com/llorch/llorch/poolregistry/nodeagent"
)

// PRG-61, PRG-62, PRG-63, PRG-64, PRG-65, PRG-66, G1, G2, G3: five agents, the real handler and registry, in virtual time:
// loss, a partition, pauses of either side, clock steps, restarts, a drain, a
// second machine with the same id.
func TestAgentsAndRegistry(t *testing.T) {
	for name, timing := range map[string]poolregistry.Timing{"default": poolregistry.Default(), "fast": poolregistry.Fast()} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := &bubble{newCluster(t, timing), timing, map[string]uint64{}}
				for _, id := range names(5) {
					b.start(id, id, nil)
				}
				time.Sleep(time.Second)
				b.allOnline("after the start")
				b.loss()
				b.partition()
				b.segmentation()
				b.registryRestarts()
				b.registryPauses()
				b.agentPauses()
				b.clockSteps()
				b.drain()
				b.agentRestarts()
				b.twin()
			})
		})
	}
}

type bubble struct {
	*cluster
	timing poolregistry.Timing
	epochs map[string]uint64 // the largest seen of each node
}

// allOnline checks what must hold whenever faults are over: all are online, and
// no epoch went back (G3).
func (b *bubble) allOnline(when string) {
	b.t.Helper()
	v := b.reg.Load().View()
	if v.Online != 5 || len(v.Nodes) != 5 {
		for _, n := range v.Nodes {
			b.t.Logf("%s is %s: %s", n.ID, n.Liveness, n.Reason)
		}
		b.t.Fatalf("%s: %d of %d online", when, v.Online, len(v.Nodes))
	}
	for _, n := range v.Nodes {
		if n.Epoch < b.epochs[string(n.ID)] {
			b.t.Errorf("%s: epoch of %s fell from %d to %d", when, n.ID, b.epochs[string(n.ID)], n.Epoch)
		}
		b.epochs[string(n.ID)] = n.Epoch
	}
}

// newEpoch checks that a node's epoch is larger than the last time.
func (b *bubble) newEpoch(id, when string) {
	b.t.Helper()
	if e := b.node(id).Epoch; e <= b.epochs[id] {
		b.t.Errorf("%s: epoch %d after %d", when, e, b.epochs[id])
	}
}

// Every third request of each agent is lost: nobody is even suspect.
func (b *bubble) loss() {
	for _, m := range b.agents {
		m.way.loss.Store(3)
	}
	for range 100 {
		time.Sleep(b.timing.Beat)
		b.allOnline("with loss")
	}
	for _, m := range b.agents {
		m.way.loss.Store(0)
	}
}

// One is cut off: offline in time, and back within two beats, under a new epoch.
func (b *bubble) partition() {
	cutAt := time.Now()
	b.agents["n0"].way.hang.Store(true)
	for b.live("n0") != poolregistry.Offline && time.Since(cutAt) < 2*time.Minute {
		time.Sleep(10 * time.Millisecond)
	}
	if d := time.Since(cutAt); d > b.timing.OfflineAfter+time.Second {
		b.t.Errorf("offline after %v", d)
	}
	if s := b.agents["n0"].State(); s != nodeagent.Lost {
		b.t.Errorf("the agent says %s", s)
	}
	b.agents["n0"].way.hang.Store(false)
	time.Sleep(2 * b.timing.Beat)
	b.newEpoch("n0", "after the partition")
	b.allOnline("after the partition")
}

// All are cut off: the fault is ours, nobody is evicted (G2).
func (b *bubble) segmentation() {
	for _, m := range b.agents {
		m.way.cut.Store(true)
	}
	time.Sleep(4 * b.timing.OfflineAfter)
	if v := b.reg.Load().View(); v.Offline != 0 || v.Suspect != 5 || !v.GuardHeld {
		b.t.Errorf("all silent: %d offline, %d suspect, guard %t", v.Offline, v.Suspect, v.GuardHeld)
	}
	for _, m := range b.agents {
		m.way.cut.Store(false)
	}
	time.Sleep(2 * b.timing.Beat)
	b.allOnline("after the segmentation")
}

// The registry loses its memory: its nodes bring their epochs.
func (b *bubble) registryRestarts() {
	b.run(b.timing)
	time.Sleep(2*b.timing.Beat + time.Second)
	for _, id := range names(5) {
		b.newEpoch(id, "after a restart of the registry")
	}
	b.allOnline("after a restart of the registry")
}

// The registry's process stops for longer than any timeout: its timers and its
// handlers. Nobody is offline for that, neither then nor afterwards (G2).
func (b *bubble) registryPauses() {
	b.gate.close()
	b.end()
	time.Sleep(2 * b.timing.OfflineAfter)
	b.gate.open()
	b.detect()
	for range 20 {
		if v := b.reg.Load().View(); v.Offline != 0 {
			b.t.Fatalf("%d offline after a pause of the registry", v.Offline)
		}
		time.Sleep(b.timing.Beat / 10)
	}
	b.allOnline("after a pause of the registry")
}

// A node's process stops: it is offline as if it were gone, and returns by a beat
// under a new epoch, because what it did meanwhile counts as lost.
func (b *bubble) agentPauses() {
	m := b.agents["n1"]
	m.gate.close()
	time.Sleep(2*b.timing.OfflineAfter + b.timing.Beat)
	b.want("n1", poolregistry.Offline)
	if s := m.State(); s != nodeagent.Lost {
		b.t.Errorf("a stopped agent says %s", s)
	}
	m.gate.open()
	time.Sleep(2 * b.timing.Beat)
	b.newEpoch("n1", "after a pause of the node")
	b.allOnline("after a pause of the node")
}

// Wall clocks jump: forward brings a beat at once, and neither makes a node late.
func (b *bubble) clockSteps() {
	m := b.agents["n2"]
	for _, step := range []time.Duration{time.Hour, -time.Hour} {
		time.Sleep(3 * time.Second) // away from the beat before
		at := time.Now()
		m.wall.Store(int64(step))
		time.Sleep(1100 * time.Millisecond)
		if last := b.node("n2").LastHeartbeat(); step > 0 && last.Before(at) {
			b.t.Error("a clock that jumped forward brought no beat")
		}
		for range 30 {
			time.Sleep(b.timing.Beat / 10)
			b.want("n2", poolregistry.Online)
		}
	}
	if skew := b.node("n2").ClockSkewMS; skew > -3_500_000 {
		b.t.Errorf("skew %d ms of a clock that is an hour behind", skew)
	}
	m.wall.Store(0)
	b.allOnline("after clock steps")
}

// command sends an operator's command about a node.
func (b *bubble) command(route, body string) {
	b.t.Helper()
	w := b.net.way()
	defer w.tr.CloseIdleConnections()
	req, err := http.NewRequestWithContext(b.t.Context(), http.MethodPost, "http://control.test/v2/nodes/"+route, strings.NewReader(body))
	if err != nil {
		b.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer operator")
	req.Header.Set("Content-Type", "application/json")
	res, err := w.client.Do(req)
	if err != nil {
		b.t.Fatal(err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		b.t.Fatalf("%s: %s", route, res.Status)
	}
}

// PRG-45: a drain reaches the node, waits for the scheduler's work, and is kept by
// a node whose registry forgets, and by a registry whose node restarts.
func (b *bubble) drain() {
	b.active.Store(1)
	b.command("n3/drain", `{"deadline_ms":600000}`)
	time.Sleep(2 * b.timing.Beat)
	m := b.agents["n3"]
	if r := m.reply.Load(); r.Schedule != poolregistry.Draining || r.DrainMS <= 0 || r.DrainMS > 600_000 || m.Active("p0") != 1 {
		b.t.Errorf("the node was told %+v, active %d", r, m.Active("p0"))
	}
	wantSchedule := func(when string, want poolregistry.Schedule) {
		b.t.Helper()
		if n := b.node("n3"); n.Schedule != want || n.Liveness != poolregistry.Online {
			b.t.Errorf("%s: %s and %s, want %s", when, n.Liveness, n.Schedule, want)
		}
	}
	wantSchedule("while work is running", poolregistry.Draining)
	b.run(b.timing) // which knows of no drain
	time.Sleep(2*b.timing.Beat + time.Second)
	wantSchedule("after a restart of the registry", poolregistry.Draining)
	b.active.Store(0)
	time.Sleep(3 * b.timing.Beat)
	wantSchedule("when the work has ended", poolregistry.Drained)
	if d := b.node("n3").Drain; d == nil || d.Forced {
		b.t.Errorf("drain %+v", d)
	}
	b.kill("n3")
	time.Sleep(b.timing.OfflineAfter + 2*time.Second)
	b.start("n3", "n3", nil)
	time.Sleep(b.timing.Beat)
	wantSchedule("after a restart of the node", poolregistry.Drained)
	b.command("n3/uncordon", "")
	time.Sleep(2 * b.timing.Beat)
	wantSchedule("after uncordon", poolregistry.Open)
	if r := b.agents["n3"].reply.Load(); r.Schedule != poolregistry.Open || r.DrainMS != 0 {
		b.t.Errorf("the node was told %+v", r)
	}
	b.allOnline("after a drain")
}

// A node that dies and starts without its lease file gets its id back when the
// dead one is offline, under a new epoch.
func (b *bubble) agentRestarts() {
	b.kill("n4")
	b.start("n4", "n4", nil)
	time.Sleep(b.timing.OfflineAfter + b.timing.Beat + 2*time.Second)
	b.newEpoch("n4", "after a restart of the node")
	b.allOnline("after a restart of the node")
}

// Another machine that claims a live id is refused, says so in its state, and
// costs the holder nothing (PRG-21). Clones with one lease file are TestTwoClones.
func (b *bubble) twin() {
	epoch := b.node("n0").Epoch
	other := b.start("twin", "n0", nil)
	for range 100 {
		time.Sleep(b.timing.Beat)
		b.allOnline("with a twin")
	}
	if s := other.State(); s != nodeagent.Registering || b.agents["n0"].State() != nodeagent.Online || b.node("n0").Epoch != epoch {
		b.t.Errorf("the twin is %s, the holder %s, epoch %d after %d", s, b.agents["n0"].State(), b.node("n0").Epoch, epoch)
	}
	if n := other.Stats().Registrations["fenced"]; n == 0 {
		b.t.Error("the twin was never refused")
	}
}
