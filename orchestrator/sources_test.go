package orchestrator_test

import (
	"context"
	"errors"
	"iter"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/llorch/llorch/orchestrator"
	"github.com/llorch/llorch/orchestrator/placement"
	"github.com/llorch/llorch/orchestrator/taskapi"
	"github.com/llorch/llorch/orchestrator/worker/workertest"
	"github.com/llorch/llorch/poolregistry"
)

// latest follows a source; now returns its newest list once everything rests.
func latest(t *testing.T, p orchestrator.Pools) (now func() []*placement.Worker, yields func() int) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var mu sync.Mutex // guards list and n
	var list []*placement.Worker
	n := 0
	done := make(chan struct{})
	go func() {
		defer close(done)
		for l := range p.Watch(ctx) {
			mu.Lock()
			list, n = l, n+1
			mu.Unlock()
		}
	}()
	t.Cleanup(func() { cancel(); <-done })
	look := func() ([]*placement.Worker, int) {
		synctest.Wait()
		mu.Lock()
		defer mu.Unlock()
		return list, n
	}
	return func() []*placement.Worker { l, _ := look(); return l }, func() int { _, n := look(); return n }
}

// TestStaticEngines: an engine that starts late becomes ready, one that dies
// becomes not ready and says why, and nothing is told twice.
func TestStaticEngines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := new(workertest.Net)
		up := start(t, net, workertest.Config{Slots: 3, Ctx: 4096})
		late := start(t, net, workertest.Config{LoadDelay: 5 * time.Second, Model: "other", Flavour: "vllm"})
		a := dialer(t, net)
		now, yields := latest(t, orchestrator.StaticWith(a, orchestrator.Engine{Name: "up", URL: up.URL}, orchestrator.Engine{Name: "late", URL: late.URL, Slots: 7}))
		list := now()
		if len(list) != 2 {
			t.Fatalf("%d workers, want 2", len(list))
		}
		w := list[0]
		if !w.Ready || !w.Online || !w.Static || w.Key.String() != "static/up/r0" || w.SlotsTotal != 3 || w.CtxMax != 4096 || !slices.Equal(w.Models, []string{"sim-8b"}) || w.Engine != "llamacpp" {
			t.Errorf("a ready engine = %+v", w)
		}
		if list[1].Ready || list[1].Why != "starting" {
			t.Errorf("a loading engine = %+v, want not ready, starting", list[1])
		}
		time.Sleep(7 * time.Second)
		list = now()
		if w := list[1]; !w.Ready || w.Why != "" || w.SlotsTotal != 7 || w.Engine != "vllm" || !slices.Equal(w.Models, []string{"other"}) {
			t.Errorf("a late engine = %+v, want ready with the 7 slots of the list", w)
		}
		told := yields()
		time.Sleep(time.Minute)
		if yields() != told {
			t.Errorf("nothing changed, yet %d lists came", yields()-told)
		}
		up.Kill()
		time.Sleep(3 * time.Second)
		if w := now()[0]; w.Ready || w.Why != "no answer" || !w.Online || len(w.Models) != 1 {
			t.Errorf("a dead engine = %+v, want not ready, with what it said before", w)
		}
		if told+1 != yields() {
			t.Errorf("a death gave %d lists, want 1", yields()-told)
		}
	})
}

// TestStaticServes: the whole way with a fixed list; while the engine breaks off
// what it gets, tasks wait, they are not refused.
func TestStaticServes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := new(workertest.Net)
		e := start(t, net, workertest.Config{LoadDelay: 3 * time.Second})
		a := dialer(t, net)
		o, _ := serve(t, orchestrator.Config{Pools: orchestrator.StaticWith(a, orchestrator.Engine{Name: "e", URL: e.URL}), Workers: a})
		if m := o.Models(); len(m) != 0 {
			t.Errorf("Models before the engine is there = %q", m)
		}
		if _, err := o.Submit(t.Context(), me, fill(orchestrator.Spec{})); err == nil {
			t.Errorf("Submit = nil, want a refusal while no engine ever named its models")
		}
		time.Sleep(5 * time.Second)
		if m := o.Models(); !slices.Equal(m, []string{"sim-8b"}) {
			t.Errorf("Models = %q, want sim-8b", m)
		}
		if err := e.SetFaults(workertest.Fault{Kind: "reset", Token: -1}); err != nil {
			t.Fatal(err)
		}
		acc, err := o.Submit(t.Context(), me, fill(orchestrator.Spec{}))
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait() // the first attempt has failed
		if err := e.SetFaults(); err != nil {
			t.Fatal(err)
		}
		if _, c := ends(t, o, acc.ID); c != "" {
			t.Errorf("ended with %q", c)
		}
	})
}

// fixed yields one list and then waits.
type fixed []*placement.Worker

func (f fixed) Watch(ctx context.Context) iter.Seq[[]*placement.Worker] {
	return func(yield func([]*placement.Worker) bool) {
		if yield(f) {
			<-ctx.Done()
		}
	}
}

// TestJoin: the union of sources, told whenever one of them changed.
func TestJoin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		changing := &pools{changed: make(chan struct{})}
		now, _ := latest(t, orchestrator.Join(fixed{fake("a", 1)}, changing, fixed{fake("b", 1)}))
		names := func() string {
			var out []string
			for _, w := range now() {
				out = append(out, w.Key.Worker)
			}
			return strings.Join(out, " ")
		}
		if got := names(); got != "a b" {
			t.Errorf("union = %q, want a b", got)
		}
		changing.set(fake("x", 1), fake("y", 1))
		if got := names(); got != "a x y b" {
			t.Errorf("union = %q, want a x y b", got)
		}
		changing.set()
		if got := names(); got != "a b" {
			t.Errorf("union = %q, want a b", got)
		}
	})
	synctest.Test(t, func(t *testing.T) { // a reader that leaves early leaves nothing behind
		for range orchestrator.Join(fixed{}, fixed{}).Watch(t.Context()) {
			break
		}
	})
}

// node is a node that a test plays.
type node struct {
	t     *testing.T
	reg   *poolregistry.Registry
	id    poolregistry.NodeID
	token string
	seq   uint64
}

func (n *node) register(instance string) poolregistry.Grant {
	n.t.Helper()
	g, err := n.reg.Register(n.t.Context(), poolregistry.Registration{
		NodeID: n.id, InstanceID: instance, LeaseToken: n.token, InProcess: true, Pools: []poolregistry.Pool{{ID: "chat"}},
	})
	if err != nil {
		n.t.Fatal(err)
	}
	n.token, n.seq = g.LeaseToken, 0
	return g
}

func (n *node) beat(pool poolregistry.Pool) poolregistry.BeatReply {
	n.t.Helper()
	n.seq++
	reply, err := n.reg.Beat(n.t.Context(), poolregistry.Beat{NodeID: n.id, LeaseToken: n.token, Seq: n.seq, Pools: []poolregistry.Pool{pool}})
	if err != nil {
		n.t.Fatal(err)
	}
	return reply
}

// beats beats every second until stop is called.
func (n *node) beats(pool poolregistry.Pool) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				n.beat(pool)
			}
		}
	}()
	return func() { cancel(); <-done }
}

const (
	firstLife  = "00000000-0000-4000-8000-000000000001"
	secondLife = "00000000-0000-4000-8000-000000000002"
)

// chat is a pool with one worker on an engine.
func chat(url string) poolregistry.Pool {
	return poolregistry.Pool{
		ID: "chat", State: "ready", Live: true, Ready: true, SlotsFree: 2, SlotsTotal: 2,
		Workers: []poolregistry.Worker{{
			ID: "chat-r0-5f3b1c", Status: "ready", URL: url, ModelRef: "sim-8b", Engine: "external", EngineVersion: "9", CtxMax: 8192, SlotsFree: 2, SlotsTotal: 2,
		}},
	}
}

func registry(t *testing.T, active func(poolregistry.NodeID) map[poolregistry.PoolID]int) *poolregistry.Registry {
	t.Helper()
	reg, err := poolregistry.New(poolregistry.Config{Timing: poolregistry.Fast(), PublishEvery: -1, RestartGrace: -1, Active: active})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- reg.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("registry: %v", err)
		}
	})
	synctest.Wait()
	return reg
}

// TestFromRegistryWorkers: what a node reports becomes workers to place on.
func TestFromRegistryWorkers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reg := registry(t, nil)
		now, _ := latest(t, orchestrator.FromRegistry(reg))
		n := &node{t: t, reg: reg, id: "gpu-1"}
		g := n.register(firstLife)
		pool := chat("http://10.0.0.1:9000")
		pool.Workers = append(pool.Workers,
			poolregistry.Worker{ID: "chat-r1-000000", Status: "starting"}, // has no address yet
			poolregistry.Worker{ID: "chat-r2-000000", Status: "failed", URL: "http://10.0.0.1:9002", ModelRef: "sim-8b", Engine: "llamacpp", SlotsTotal: 2})
		pool.Workers[0].SlotsFree = 1
		n.beat(pool)
		list := now()
		if len(list) != 2 {
			t.Fatalf("%d workers, want 2: one without an address is none", len(list))
		}
		w := list[0]
		if w.Key.String() != "gpu-1/chat/chat-r0-5f3b1c" || !w.Online || !w.Ready || w.Gone || w.Static || w.Epoch != g.Epoch || w.URL != "http://10.0.0.1:9000" ||
			w.SlotsTotal != 2 || w.SlotsBusy != 1 || w.CtxMax != 8192 || w.Version != "9" || !slices.Equal(w.Models, []string{"sim-8b"}) || w.ServedAs != "" {
			t.Errorf("worker = %+v", w)
		}
		if x := list[1]; x.Ready || !x.Gone || x.Why != "failed" || x.ServedAs != "chat-r2-000000" {
			t.Errorf("a failed worker = %+v, want gone", x)
		}
		pool.Draining, pool.ActiveLeases = true, 1 // the one busy slot is ours
		n.beat(pool)
		if w := now()[0]; !w.Draining || w.SlotsBusy != 0 {
			t.Errorf("worker of a draining pool = %+v, want draining and nothing of others", w)
		}
		time.Sleep(1600 * time.Millisecond)
		if w := now()[0]; w.Online || w.Gone || w.Why != "suspect" {
			t.Errorf("of a suspect node = %+v, want not online, not gone", w)
		}
		time.Sleep(2 * time.Second)
		if w := now()[0]; w.Online || !w.Gone || w.Why != "offline" {
			t.Errorf("of an offline node = %+v, want gone", w)
		}
		again := n.register(secondLife)
		n.beat(chat("http://10.0.0.1:9000"))
		if w := now()[0]; !w.Online || w.Gone || w.Epoch != again.Epoch || w.Epoch <= g.Epoch {
			t.Errorf("after the return = %+v, want online with epoch %d", w, again.Epoch)
		}
		if err := reg.Leave(t.Context(), n.id, n.token); err != nil {
			t.Fatal(err)
		}
		if list := now(); len(list) != 0 {
			t.Errorf("%d workers after the node left", len(list))
		}
	})
}

// TestFromRegistryServes: tasks run on a registered node; its death while they
// stream is WORKER_RESET, and a return takes new work. The beat is answered
// with what runs there.
func TestFromRegistryServes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := new(workertest.Net)
		dead, err := workertest.ParseFaults("stall@token=100,request=1") // it dies with its node
		if err != nil {
			t.Fatal(err)
		}
		e := start(t, net, workertest.Config{Tokens: 2000, Faults: dead})
		var o *orchestrator.Orchestrator
		reg := registry(t, func(id poolregistry.NodeID) map[poolregistry.PoolID]int { return o.Active(id) })
		n := &node{t: t, reg: reg, id: "gpu-1"}
		o, _ = serve(t, orchestrator.Config{Pools: orchestrator.FromRegistry(reg), Workers: dialer(t, net)})
		if _, err := o.Submit(t.Context(), me, fill(orchestrator.Spec{})); !errors.Is(err, taskapi.PoolUnavailable) {
			t.Errorf("Submit without a node = %v, want POOL_UNAVAILABLE", err)
		}
		n.register(firstLife)
		pool := chat(e.URL)
		if r := n.beat(pool); len(r.Active) != 0 {
			t.Errorf("active = %v before any task", r.Active)
		}
		stop := n.beats(pool)
		synctest.Wait()
		acc, err := o.Submit(t.Context(), me, fill(orchestrator.Spec{MaxTokens: 2000, Keep: true}))
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(1500 * time.Millisecond)
		stop()
		if r := n.beat(pool); r.Active["chat"] != 1 {
			t.Errorf("active = %v with one running task, want chat: 1", r.Active)
		}
		died := time.Now()
		if _, c := ends(t, o, acc.ID); c != string(taskapi.WorkerReset) {
			t.Errorf("ended with %q, want WORKER_RESET: the node was silent", c)
		}
		if took := time.Since(died); took < 3*time.Second || took > 5*time.Second {
			t.Errorf("the death was noticed after %v, want 3 to 5 s", took)
		}
		n.register(secondLife)
		n.beat(pool)
		stop = n.beats(pool)
		defer stop()
		synctest.Wait()
		acc, err = o.Submit(t.Context(), me, fill(orchestrator.Spec{MaxTokens: 10}))
		if err != nil {
			t.Fatal(err)
		}
		if _, c := ends(t, o, acc.ID); c != "" {
			t.Errorf("after the return: ended with %q", c)
		}
		if task, err := o.Task(t.Context(), me, acc.ID); err != nil || task.NodeID != "gpu-1" || task.PoolID != "chat" || task.WorkerID != "chat-r0-5f3b1c" {
			t.Errorf("Task = %+v, %v", task, err)
		}
	})
}

// TestSilentNodeKeepsItsStreams: when a node's beats are lost and its tokens are
// not, the registry is told so, and the stream goes on to its end (PRG-33, N05).
func TestSilentNodeKeepsItsStreams(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := new(workertest.Net)
		e := start(t, net, workertest.Config{Tokens: 1000})
		reg := registry(t, nil)
		n := &node{t: t, reg: reg, id: "gpu-1"}
		o, _ := serve(t, orchestrator.Config{Pools: orchestrator.Join(orchestrator.FromRegistry(reg)), Workers: dialer(t, net)})
		n.register(firstLife)
		n.beat(chat(e.URL))
		synctest.Wait()
		acc, err := o.Submit(t.Context(), me, fill(orchestrator.Spec{MaxTokens: 1000, Keep: true}))
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		if _, c := ends(t, o, acc.ID); c != "" {
			t.Errorf("ended with %q after %v, want the whole answer", c, time.Since(began))
		}
		if took := time.Since(began); took < 2*poolregistry.Fast().OfflineAfter {
			t.Fatalf("the answer took %v: the node was not silent for long enough to prove anything", took)
		}
		if v := reg.View(); v.Online != 0 {
			t.Error("a silent node is online")
		}
		time.Sleep(poolregistry.Fast().OfflineAfter)
		if v := reg.View(); v.Offline != 1 {
			t.Error("a node that is silent in every way is not offline")
		}
	})
}

// TestWorkerOutlivesItsDaemon: a daemon that comes back with a larger epoch and the
// same engine process has lost nothing; with another process it has lost what ran
// (PRG-25, G8 of poolcore).
func TestWorkerOutlivesItsDaemon(t *testing.T) {
	for name, c := range map[string]struct {
		worker poolregistry.WorkerID
		want   string
	}{"the same process": {"chat-r0-5f3b1c", ""}, "another process": {"chat-r0-other1", string(taskapi.WorkerReset)}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				net := new(workertest.Net)
				e := start(t, net, workertest.Config{Tokens: 300})
				reg := registry(t, nil)
				n := &node{t: t, reg: reg, id: "gpu-1"}
				o, _ := serve(t, orchestrator.Config{Pools: orchestrator.FromRegistry(reg), Workers: dialer(t, net)})
				n.register(firstLife)
				pool := chat(e.URL)
				n.beat(pool)
				synctest.Wait()
				acc, err := o.Submit(t.Context(), me, fill(orchestrator.Spec{MaxTokens: 300, Keep: true}))
				if err != nil {
					t.Fatal(err)
				}
				time.Sleep(time.Second)
				pool.Workers[0].ID = c.worker
				if g, err := reg.Register(t.Context(), poolregistry.Registration{
					NodeID: n.id, InstanceID: secondLife, InProcess: true, LeaseToken: n.token, Pools: []poolregistry.Pool{pool},
				}); err != nil || g.Epoch < 2 {
					t.Fatalf("Register = %+v, %v", g, err)
				}
				if _, code := ends(t, o, acc.ID); code != c.want {
					t.Errorf("ended with %q, want %q", code, c.want)
				}
			})
		})
	}
}
