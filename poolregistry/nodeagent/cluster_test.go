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
	net    *network
	agents map[string]*member
}

type member struct {
	*nodeagent.Agent
	way    *way
	cancel context.CancelFunc
	done   chan error
}

func newCluster(t *testing.T, timing poolregistry.Timing) *cluster {
	t.Helper()
	c := &cluster{t: t, agents: map[string]*member{}}
	reg, stop := runRegistry(t, timing)
	c.reg.Store(reg)
	c.net = serve(handler(t, c))
	t.Cleanup(func() {
		for _, m := range c.agents {
			m.cancel()
			<-m.done
			m.way.tr.CloseIdleConnections()
		}
		c.net.stop()
		stop()
		synctest.Wait()
	})
	return c
}

func runRegistry(t *testing.T, timing poolregistry.Timing) (*poolregistry.Registry, context.CancelFunc) {
	t.Helper()
	reg, err := poolregistry.New(poolregistry.Config{Timing: timing})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	go func() { _ = reg.Run(ctx) }()
	synctest.Wait()
	return reg, cancel
}

// handler serves whichever registry the cluster has at the moment.
func handler(t *testing.T, c *cluster) http.Handler {
	t.Helper()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h, err := nodehttp.New(nodehttp.Config{Registry: c.reg.Load(), Authorize: func(r *http.Request) (nodeapi.Principal, error) {
			if r.Header.Get("Authorization") != "Bearer right" {
				return nodeapi.Principal{}, errors.New("no")
			}
			return nodeapi.Principal{ID: "nodes", Role: nodeapi.RoleNode}, nil
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
	return poolregistry.Beat{Pools: []poolregistry.Pool{{ID: "p0", State: "ready", Ready: true, SlotsFree: 1, SlotsTotal: 1}}}, nil
}

// start runs an agent under a name of its own; id is its node id.
func (c *cluster) start(name, id string, dir *inputvalidation.Tree) *member {
	c.t.Helper()
	m := &member{way: c.net.way(), done: make(chan error, 1)}
	a, err := nodeagent.New(nodeagent.Config{
		Orchestrators: []string{"http://control.test"}, Token: func() string { return "right" }, HTTP: m.way.client,
		Describe: describe(id), Snapshot: snapshot, StateDir: dir,
	})
	if err != nil {
		c.t.Fatal(err)
	}
	m.Agent = a
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

// PRG-61…66, G1–G3: five agents, the real handler, loss, a partition, pauses of
// the registry's network, a restart of the registry, in virtual time.
func TestAgentsAndRegistry(t *testing.T) {
	for name, timing := range map[string]poolregistry.Timing{"default": poolregistry.Default(), "fast": poolregistry.Fast()} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newCluster(t, timing)
				nodes := names(5)
				for _, id := range nodes {
					c.start(id, id, nil)
				}
				time.Sleep(time.Second)
				allOnline := func(when string) {
					t.Helper()
					if v := c.reg.Load().View(); v.Online != 5 || len(v.Nodes) != 5 {
						t.Fatalf("%s: %d of %d online", when, v.Online, len(v.Nodes))
					}
				}
				allOnline("after the start")

				// Every third request of each agent is lost: nobody is even suspect.
				for _, m := range c.agents {
					m.way.loss.Store(3)
				}
				for range 100 {
					time.Sleep(timing.Beat)
					allOnline("with loss")
				}
				for _, m := range c.agents {
					m.way.loss.Store(0)
				}

				// One is cut off: offline in time, and back within two beats.
				epoch := c.node("n0").Epoch
				cutAt := time.Now()
				c.agents["n0"].way.hang.Store(true)
				for c.live("n0") != poolregistry.Offline && time.Since(cutAt) < 2*time.Minute {
					time.Sleep(10 * time.Millisecond)
				}
				if d := time.Since(cutAt); d > timing.OfflineAfter+time.Second {
					t.Errorf("offline after %v", d)
				}
				if s := c.agents["n0"].State(); s != nodeagent.Lost {
					t.Errorf("the agent says %s", s)
				}
				c.agents["n0"].way.hang.Store(false)
				time.Sleep(2 * timing.Beat)
				allOnline("after the partition")
				if e := c.node("n0").Epoch; e <= epoch {
					t.Errorf("epoch %d after %d", e, epoch)
				}

				// All are cut off: the fault is ours, nobody is evicted.
				for _, m := range c.agents {
					m.way.cut.Store(true)
				}
				time.Sleep(4 * timing.OfflineAfter)
				if v := c.reg.Load().View(); v.Offline != 0 || v.Suspect != 5 || !v.GuardHeld {
					t.Errorf("all silent: %d offline, %d suspect, guard %t", v.Offline, v.Suspect, v.GuardHeld)
				}
				for _, m := range c.agents {
					m.way.cut.Store(false)
				}
				time.Sleep(2 * timing.Beat)
				allOnline("after the segmentation")

				// The registry loses its memory.
				before := c.node("n1").Epoch
				next, stop := runRegistry(t, timing)
				defer stop()
				c.reg.Store(next)
				time.Sleep(2*timing.Beat + time.Second)
				allOnline("after a restart of the registry")
				if e := c.node("n1").Epoch; e <= before {
					t.Errorf("epoch %d after %d", e, before)
				}
			})
		})
	}
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
// when it returns, at once if it has its lease file (PRG-68).
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

// PRG-67, 68: the file is private while the lease is held and gone after an
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
