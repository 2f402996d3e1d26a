package nodeagent_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/llorch/llorch/inputvalidation"
	"github.com/llorch/llorch/poolregistry"
	"github.com/llorch/llorch/poolregistry/nodeagent"
	"github.com/llorch/llorch/poolregistry/nodeapi"
	"github.com/llorch/llorch/poolregistry/nodehttp"
)

// cluster is a registry behind its handler, and agents with a way each.
type cluster struct {
	t      *testing.T
	reg    atomic.Pointer[poolregistry.Registry] // the newest; tests replace it
	end    context.CancelFunc                    // of its Run
	net    *network
	agents map[string]*member
	active atomic.Int64 // what the scheduler says it has running in p0 of every node
	gate   gate         // of the handler
}

type member struct {
	*nodeagent.Agent
	way    *way
	cancel context.CancelFunc
	done   chan error
	gate   gate         // of the agent's goroutine
	wall   atomic.Int64 // how far its wall clock is off, ns
	reply  atomic.Pointer[poolregistry.BeatReply]
}

// gate holds up whoever passes while it is shut.
type gate struct{ shut atomic.Pointer[chan struct{}] }

func (g *gate) close() { g.shut.Store(new(make(chan struct{}))) }
func (g *gate) open()  { close(*g.shut.Swap(nil)) }
func (g *gate) pass() {
	if ch := g.shut.Load(); ch != nil {
		<-*ch
	}
}

func newCluster(t *testing.T, timing poolregistry.Timing) *cluster {
	t.Helper()
	c := &cluster{t: t, agents: map[string]*member{}}
	c.run(timing)
	c.net = serve(handler(t, c))
	t.Cleanup(func() {
		for _, m := range c.agents {
			m.cancel()
			<-m.done
			m.way.tr.CloseIdleConnections()
		}
		c.net.stop()
		c.end()
		synctest.Wait()
	})
	return c
}

// run gives the cluster a registry that knows nothing.
func (c *cluster) run(timing poolregistry.Timing) {
	c.t.Helper()
	reg, err := poolregistry.New(poolregistry.Config{Timing: timing, Active: func(poolregistry.NodeID) map[poolregistry.PoolID]int {
		return map[poolregistry.PoolID]int{"p0": int(c.active.Load())}
	}})
	if err != nil {
		c.t.Fatal(err)
	}
	if c.end != nil {
		c.end()
	}
	c.reg.Store(reg)
	c.detect()
}

// detect runs the timers of the cluster's registry until c.end.
func (c *cluster) detect() {
	var ctx context.Context
	ctx, c.end = context.WithCancel(context.Background())
	go func() { _ = c.reg.Load().Run(ctx) }()
	synctest.Wait()
}

// handler serves whichever registry the cluster has at the moment.
func handler(t *testing.T, c *cluster) http.Handler {
	t.Helper()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c.gate.pass()
		h, err := nodehttp.New(nodehttp.Config{Registry: c.reg.Load(), Authorize: func(r *http.Request) (nodeapi.Principal, error) {
			switch r.Header.Get("Authorization") {
			case "Bearer right":
				return nodeapi.Principal{ID: "nodes", Role: nodeapi.RoleNode}, nil
			case "Bearer operator":
				return nodeapi.Principal{ID: "operator", Role: nodeapi.RoleOperator}, nil
			}
			return nodeapi.Principal{}, errors.New("no")
		}})
		if err != nil {
			t.Error(err)
			return
		}
		h.ServeHTTP(w, r)
	})
}

func describe(id string) func(context.Context) (poolregistry.Registration, error) {
	return func(context.Context) (poolregistry.Registration, error) {
		return poolregistry.Registration{
			NodeID: poolregistry.NodeID(id), Address: "http://10.0.0.1:9200", Pools: []poolregistry.Pool{{ID: "p0"}},
		}, nil
	}
}

func snapshot(context.Context) (poolregistry.Beat, error) {
	return poolregistry.Beat{Pools: []poolregistry.Pool{{ID: "p0", State: "ready", Ready: true, Idle: true, SlotsFree: 1, SlotsTotal: 1}}}, nil
}

// start runs an agent under a name of its own; id is its node id.
func (c *cluster) start(name, id string, dir *inputvalidation.Tree) *member {
	c.t.Helper()
	m := &member{way: c.net.way(), done: make(chan error, 1)}
	a, err := nodeagent.New(nodeagent.Config{
		Orchestrators: []string{"http://control.test"}, Token: func() string { return "right" }, HTTP: m.way.client,
		Describe: describe(id), Snapshot: snapshot, StateDir: dir,
		OnReply: func(r poolregistry.BeatReply) { m.reply.Store(&r); m.gate.pass() },
	})
	if err != nil {
		c.t.Fatal(err)
	}
	m.Agent = a
	a.SetWall(func() time.Time { return time.Now().Add(time.Duration(m.wall.Load())) })
	var ctx context.Context
	ctx, m.cancel = context.WithCancel(context.Background())
	go func() { m.done <- a.Run(ctx) }()
	c.agents[name] = m
	return m
}

// kill ends an agent as SIGKILL does: nothing of it is heard again.
func (c *cluster) kill(name string) {
	m := c.agents[name]
	m.way.cut.Store(true)
	m.cancel()
	<-m.done
	m.way.tr.CloseIdleConnections()
	delete(c.agents, name)
}

func (c *cluster) live(id string) poolregistry.Liveness {
	if n, ok := c.reg.Load().View().Node(poolregistry.NodeID(id)); ok {
		return n.Liveness
	}
	return "unknown"
}

func (c *cluster) want(id string, want poolregistry.Liveness) {
	c.t.Helper()
	if got := c.live(id); got != want {
		c.t.Errorf("node %s is %s, want %s", id, got, want)
	}
}

func names(n int) []string {
	out := make([]string, n)
	for i := range out {
		out[i] = fmt.Sprintf("n%d", i)
	}
	return out
}

func (c *cluster) node(id string) *poolregistry.Node {
	c.t.Helper()
	n, ok := c.reg.Load().View().Node(poolregistry.NodeID(id))
	if !ok {
		c.t.Fatalf("node %s is unknown", id)
	}
	return n
}

func openTree(t *testing.T, dir string) *inputvalidation.Tree {
	t.Helper()
	tree, err := inputvalidation.OpenTree(dir, inputvalidation.TreeConfig{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = tree.Close() })
	return tree
}

// G1: kill -9 of a node: offline at most 31 s later, 4 s with Fast; back in use
// when it returns, at once if it has its lease file (PRG-22, 68).
func TestKilledNode(t *testing.T) {
	for _, withFile := range []bool{true, false} {
		for _, timing := range []poolregistry.Timing{poolregistry.Default(), poolregistry.Fast()} {
			dir := t.TempDir()
			tree := openTree(t, dir)
			if !withFile {
				tree = nil
			}
			synctest.Test(t, func(t *testing.T) {
				c := newCluster(t, timing)
				for _, id := range names(3) {
					c.start(id, id, nil)
				}
				c.start("a", "a", tree)
				time.Sleep(10*timing.Beat + 123*time.Millisecond)
				c.want("a", poolregistry.Online)
				epoch := c.node("a").Epoch

				c.kill("a")
				died := time.Now()
				for v := range c.reg.Load().Watch(t.Context()) {
					if n, _ := v.Node("a"); n.Liveness == poolregistry.Offline {
						break
					}
				}
				if d := time.Since(died); d > timing.OfflineAfter+time.Second {
					t.Errorf("beat %v: offline after %v", timing.Beat, d)
				}
				c.start("a", "a", tree)
				time.Sleep(100 * time.Millisecond)
				c.want("a", poolregistry.Online)
				if e := c.node("a").Epoch; e <= epoch {
					t.Errorf("epoch %d after %d", e, epoch)
				}

				// A quick restart: with the file at once, without when the id is free.
				c.kill("a")
				c.start("a", "a", tree)
				wait := 100 * time.Millisecond
				if !withFile {
					wait = timing.OfflineAfter + 2*time.Second
				}
				time.Sleep(wait)
				c.want("a", poolregistry.Online)
			})
		}
	}
}

// PRG-23: a cloned machine image: one winner, one loud loser.
func TestTwoClones(t *testing.T) {
	dir := t.TempDir()
	mine := openTree(t, dir)
	copied := t.TempDir()
	theirs := openTree(t, copied)
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, poolregistry.Fast())
		first := c.start("first", "a", mine)
		time.Sleep(5 * time.Second)
		raw, err := os.ReadFile(filepath.Join(dir, "lease.json"))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(copied, "lease.json"), raw, 0o600); err != nil {
			t.Fatal(err)
		}
		second := c.start("second", "a", theirs)
		if err := <-first.done; !errors.Is(err, poolregistry.LeaseFenced) {
			t.Errorf("the older copy ends with %v", err)
		}
		first.done <- nil
		if s := first.State(); s != nodeagent.Superseded {
			t.Errorf("its state is %s", s)
		}
		time.Sleep(time.Minute)
		if s := second.State(); s != nodeagent.Online {
			t.Errorf("the winner is %s", s)
		}
		c.want("a", poolregistry.Online)
		if c.node("a").ConflictSince.IsZero() || c.reg.Load().Stats().Conflicts != 1 {
			t.Errorf("conflict since %v, %d", c.node("a").ConflictSince, c.reg.Load().Stats().Conflicts)
		}
	})
}

// PRG-67, PRG-68: the file is private while the lease is held and gone after an
// acknowledged leave; without an answer it stays.
func TestLeaveRemovesLeaseFile(t *testing.T) {
	for _, hanging := range []bool{false, true} {
		dir := t.TempDir()
		tree := openTree(t, dir)
		file := filepath.Join(dir, "lease.json")
		synctest.Test(t, func(t *testing.T) {
			c := newCluster(t, poolregistry.Default())
			m := c.start("a", "a", tree)
			time.Sleep(time.Second)
			if fi, err := os.Stat(file); err != nil || fi.Mode().Perm() != 0o600 {
				t.Fatalf("lease file: %v, %v", fi, err)
			}
			m.way.hang.Store(hanging)
			start := time.Now()
			m.cancel()
			if err := <-m.done; !errors.Is(err, context.Canceled) {
				t.Errorf("Run = %v", err)
			}
			m.done <- nil
			_, err := os.Stat(file)
			if hanging {
				if d := time.Since(start); d > 5*time.Second+100*time.Millisecond || err != nil {
					t.Errorf("left after %v, file: %v", d, err)
				}
				return
			}
			if d := time.Since(start); d != 0 || !errors.Is(err, os.ErrNotExist) {
				t.Errorf("left after %v, file: %v", d, err)
			}
			c.want("a", "unknown")
		})
	}
}

// PRG-68: what is not a lease of this node is ignored.
func TestForeignLeaseFile(t *testing.T) {
	const good = `{"node_id":"b","instance_id":"00000000-0000-4000-8000-000000000001","lease_token":"x","epoch":7}`
	for _, content := range []string{good, "", "{", strings.Repeat("x", 5000), strings.Replace(good, "7", "-1", 1)} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "lease.json"), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		tree := openTree(t, dir)
		synctest.Test(t, func(t *testing.T) {
			c := newCluster(t, poolregistry.Fast())
			c.start("a", "a", tree)
			time.Sleep(time.Second)
			c.want("a", poolregistry.Online)
			if e := c.node("a").Epoch; e != 1 {
				t.Errorf("epoch %d from a file that is not its own", e)
			}
		})
	}
}
