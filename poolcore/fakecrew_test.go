package poolcore

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/llorch/llorch/gpuinfo"
	"github.com/llorch/llorch/poolcore/engine"
	"github.com/llorch/llorch/poolregistry"
)

// fakeCrew runs workers that exist only in the test's virtual time.
type fakeCrew struct {
	startIn time.Duration // from spawn to ready
	refuse  bool          // spawns fail
	found   []adopted
	left    []reloadJournal
	devices gpuinfo.Provider
	observe func(Event)
	log     *slog.Logger
	edit    func(*Config)
	before  func(*Host)   // Run
	after   func()        // Run
	leaves  chan struct{} // closed when the engines are left alone; nil: they never are

	mu      sync.Mutex
	broken  map[string]bool // models whose engines never become ready but exit
	unfit   map[string]bool // models that fail to be staged alongside
	absent  map[string]bool // models that fail to be staged at all
	slow    time.Duration   // of a spawn
	busy    *int            // what engines report
	crowded bool
	spawns  []time.Time
	live    map[*worker]chan struct{}
	models  map[*worker]string
	most    int
	begun   map[*worker]time.Time
	phases  []string // journals, "" for a removal
	files   []string // announcements
	purged  []purgeWork
	block   chan struct{} // while open, stage and journal wait
}

func (c *fakeCrew) hold() {
	c.mu.Lock()
	block := c.block
	c.mu.Unlock()
	if block != nil {
		<-block
	}
}

func (c *fakeCrew) stage(_ context.Context, pc PoolConfig, _ engine.Kind, inPlace bool) *failure {
	c.hold()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.absent[pc.Model] || c.unfit[pc.Model] && !inPlace {
		return &failure{class: engine.ClassPreflight, faults: []Fault{{Code: ModelMissing}}}
	}
	return nil
}

func (c *fakeCrew) spawn(_ context.Context, pc PoolConfig, k engine.Kind, at int, gen uint64) (*worker, *failure) {
	c.mu.Lock()
	slow := c.slow
	c.mu.Unlock()
	time.Sleep(slow)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.spawns = append(c.spawns, time.Now())
	if c.refuse {
		return nil, &failure{class: engine.ClassPreflight, faults: []Fault{{Code: ModelMissing}}}
	}
	w := &worker{id: workerID(pc.ID, at), at: at, gen: gen, kind: k, token: "t", url: "http://127.0.0.1:1"}
	c.beginLocked(w, pc)
	return w, nil
}

func (c *fakeCrew) beginLocked(w *worker, pc PoolConfig) {
	c.live[w], c.models[w] = make(chan struct{}), pc.Model
	c.begun[w] = time.Now()
	c.most = max(c.most, len(c.live))
	if c.broken[pc.Model] {
		time.AfterFunc(time.Second, func() { c.end(w) })
	}
}

func (c *fakeCrew) wait(w *worker) failure {
	c.mu.Lock()
	ch := c.live[w]
	c.mu.Unlock()
	if ch != nil {
		select {
		case <-ch:
		case <-c.leaves:
		}
	}
	return failure{class: engine.ClassKilled, signal: "SIGKILL"}
}

func (c *fakeCrew) probe(_ context.Context, w *worker) probe {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.crowded {
		return probe{crowded: true}
	}
	return probe{ready: !c.broken[c.models[w]] && time.Since(c.begun[w]) >= c.startIn, detail: "x", grew: true, busy: c.busy}
}

func (c *fakeCrew) stop(w *worker, grace time.Duration) bool {
	time.Sleep(grace / 2)
	c.end(w)
	return true
}

func (c *fakeCrew) announce(w *worker, pc PoolConfig, on bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	word := "-"
	if on {
		word = "+"
	}
	c.files = append(c.files, word+pc.Model)
}

func (c *fakeCrew) journal(_ poolregistry.PoolID, j *reloadJournal) error {
	c.hold()
	c.mu.Lock()
	defer c.mu.Unlock()
	phase := ""
	if j != nil {
		phase = j.Phase
	}
	c.phases = append(c.phases, phase)
	return nil
}

func (c *fakeCrew) purge(_ context.Context, _ poolregistry.PoolID, r purgeWork) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if r.engine && len(c.live) > 0 {
		return WorkerStuck
	}
	c.purged = append(c.purged, r)
	if len(r.models) > 0 && !r.force {
		return ModelInUse
	}
	return nil
}

func (c *fakeCrew) adopt(context.Context) ([]adopted, []reloadJournal) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := range c.found {
		c.beginLocked(c.found[i].w, c.found[i].cfg)
	}
	return c.found, c.left
}

func (c *fakeCrew) end(w *worker) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if ch, ok := c.live[w]; ok {
		close(ch)
		delete(c.live, w)
	}
}

// crash ends whichever worker lives.
func (c *fakeCrew) crash() {
	c.mu.Lock()
	var w *worker
	for w = range c.live {
		break
	}
	c.mu.Unlock()
	c.end(w)
}

func (c *fakeCrew) times() []time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.spawns)
}

func (c *fakeCrew) set(do func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	do()
}

func (c *fakeCrew) got(list *[]string) []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(*list)
}

// leaving is a crew that can part from its engines.
type leaving struct{ *fakeCrew }

func (c leaving) leave() { close(c.leaves) }

// hosted runs body beside a host with a fake crew, in virtual time.
func hosted(t *testing.T, c *fakeCrew, body func(t *testing.T, h *Host)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		c.live, c.begun, c.models = map[*worker]chan struct{}{}, map[*worker]time.Time{}, map[*worker]string{}
		cfg := Config{
			NodeID: "n", StateDir: "/state", Binaries: map[string]string{"simulator": "/bin/true"}, Devices: c.devices, Observe: c.observe,
			Logger: c.log,
		}
		if c.edit != nil {
			c.edit(&cfg)
		}
		h, err := New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		h.crew = c
		if c.leaves != nil {
			h.crew = leaving{c}
		}
		if c.before != nil {
			c.before(h)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- h.Run(ctx) }()
		synctest.Wait()
		body(t, h)
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run = %v", err)
		}
		if c.after != nil {
			c.after()
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		if len(c.live) > 0 && c.leaves == nil {
			t.Errorf("%d workers are left", len(c.live))
		}
	})
}

func demo(id string) PoolConfig { return PoolConfig{ID: id, Engine: "simulator", Model: "m"} }

// serve preloads pc and waits until it is ready.
func serve(t *testing.T, h *Host, pc PoolConfig) *Pool {
	t.Helper()
	op, err := h.Preload(t.Context(), pc)
	if err == nil {
		err = op.Wait(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	return h.Pool(poolregistry.PoolID(pc.ID))
}

// survivor makes an adopted worker for tests of a restart.
func survivor(pc PoolConfig, at int) adopted {
	return adopted{cfg: pc, kind: engine.Simulator{}, at: at, w: &worker{id: workerID(pc.ID, at), at: at, kind: engine.Simulator{}, token: "t"}}
}
