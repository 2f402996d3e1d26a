package poolclient_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/llorch/llorch/poolregistry"
	"github.com/llorch/llorch/poolregistry/nodeapi"
	"github.com/llorch/llorch/poolregistry/poolclient"
)

// engines are workers that answer /health as they are told.
type engines struct {
	t     *testing.T
	reg   *poolregistry.Registry
	probe *poolclient.StaticProbe
	start time.Time

	mu    sync.Mutex
	fate  map[string]error // by host; nil = healthy
	asked []string
}

var errBusy = errors.New("no answer within the time it is given")

func newEngines(t *testing.T, most int) *engines {
	t.Helper()
	reg, err := poolregistry.New(poolregistry.Config{RestartGrace: -1})
	if err != nil {
		t.Fatal(err)
	}
	e := &engines{t: t, reg: reg, start: time.Now(), fate: map[string]error{}}
	e.probe, err = poolclient.NewStaticProbe(poolclient.StaticConfig{Registry: reg, Most: most})
	if err != nil {
		t.Fatal(err)
	}
	e.probe.SetTransport(way(e.answer))
	return e
}

func (e *engines) answer(r *http.Request) (*http.Response, error) {
	e.mu.Lock()
	fate := e.fate[r.URL.Hostname()]
	e.asked = append(e.asked, fmt.Sprintf("%s %s @%v", r.Method, r.URL, time.Since(e.start)))
	e.mu.Unlock()
	if r.Header.Get("Authorization") != "" {
		e.t.Error("a token was sent to an engine")
	}
	if fate == errBusy {
		<-r.Context().Done()
		return nil, r.Context().Err()
	}
	return reply(200, "ok"), fate
}

// seen returns what was asked so far.
func (e *engines) seen() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.asked)
}

// say decides how the engine at host is from now on.
func (e *engines) say(host string, fate error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.fate[host] = fate
}

// run starts the registry and the probe, until the test ends.
func (e *engines) run() {
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { _ = e.reg.Run(ctx) })
	wg.Go(func() { _ = e.probe.Run(ctx) })
	e.t.Cleanup(func() { cancel(); wg.Wait() })
	synctest.Wait()
}

func (e *engines) put(w nodeapi.StaticWorker) {
	e.t.Helper()
	if err := e.probe.Put(e.t.Context(), w, "p"); err != nil {
		e.t.Fatal(err)
	}
	synctest.Wait()
}

func (e *engines) want(id string, want poolregistry.Liveness) *poolregistry.Node {
	e.t.Helper()
	n, ok := e.reg.View().Node(poolregistry.NodeID(id))
	if !ok {
		e.t.Fatalf("%s is unknown", id)
	}
	if n.Liveness != want {
		e.t.Errorf("%s is %s (%s), want %s", id, n.Liveness, n.Reason, want)
	}
	return n
}

func vllm() nodeapi.StaticWorker {
	return nodeapi.StaticWorker{ID: "vllm", Host: "10.0.0.9", Port: 8000, Model: "llama", Region: "DE", Slots: 4}
}

// PRG-53: a static worker is a node with one pool and one worker, online as long
// as GET /health answers, once per beat.
func TestStaticProbe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEngines(t, 0)
		e.run()
		e.put(vllm())
		for range 10 {
			time.Sleep(10 * time.Second)
			e.want("static-vllm", poolregistry.Online)
		}
		if asked := e.seen(); len(asked) < 10 || len(asked) > 12 || asked[0] != "GET http://10.0.0.9:8000/health @0s" {
			t.Errorf("asked %q in 100 s with a beat of 10 s", asked)
		}
		n := e.want("static-vllm", poolregistry.Online)
		p := n.Pools[0]
		w := p.Workers[0]
		if !p.Available() || p.SlotsFree != 4 || w.URL != "http://10.0.0.9:8000" || w.ModelRef != "llama" || !w.Usable() || n.Region.Country != "DE" || n.Principal != "p" {
			t.Errorf("node %+v", n)
		}
		if n.Address != "" {
			t.Errorf("an engine is no node API, but the address is %s", n.Address)
		}
		if a := e.reg.View().Availability(); len(a.SingleNodeModels) != 1 || a.SingleNodeModels[0] != "llama" {
			t.Errorf("availability %+v", a)
		}
	})
}

// PRG-33, PRG-53: an engine that refuses connections is suspect at once, one that is
// busy only when it has been silent; both come back.
func TestStaticProbeFailures(t *testing.T) {
	for name, c := range map[string]struct {
		fate    error
		suspect time.Duration // at the latest, after the fault
		healthy time.Duration // at least until then
	}{
		"refused": {&net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}, 10500 * time.Millisecond, 0},
		"busy":    {errBusy, 15 * time.Second, 14 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				e := newEngines(t, 0)
				e.run()
				e.put(vllm())
				e.say("10.0.0.9", c.fate)
				time.Sleep(c.healthy)
				if c.healthy > 0 {
					e.want("static-vllm", poolregistry.Online)
				}
				time.Sleep(c.suspect - c.healthy)
				e.want("static-vllm", poolregistry.Suspect)
				epoch := e.want("static-vllm", poolregistry.Suspect).Epoch
				time.Sleep(30 * time.Second)
				e.want("static-vllm", poolregistry.Offline)
				e.say("10.0.0.9", nil)
				time.Sleep(10 * time.Second)
				if n := e.want("static-vllm", poolregistry.Online); n.Epoch <= epoch {
					t.Errorf("epoch %d after %d", n.Epoch, epoch)
				}
			})
		})
	}
}

// PRG-53: the same worker again changes nothing, another one with its id replaces
// it under a new epoch; a stranger may not.
func TestStaticWorkerIsReplaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEngines(t, 1)
		e.run()
		e.put(vllm())
		e.put(vllm())
		if n := e.want("static-vllm", poolregistry.Online); n.Epoch != 1 {
			t.Errorf("epoch %d of the same worker", n.Epoch)
		}
		other := vllm()
		other.Host, other.Model = "10.0.0.10", "qwen"
		if err := e.probe.Put(t.Context(), other, "stranger"); !errors.Is(err, poolregistry.NodeIDTaken) {
			t.Errorf("another principal: %v", err)
		}
		e.put(other)
		if n := e.want("static-vllm", poolregistry.Online); n.Epoch != 2 || n.Pools[0].Workers[0].ModelRef != "qwen" {
			t.Errorf("node %+v", n)
		}
		before := len(e.seen())
		time.Sleep(time.Minute)
		if asked := e.seen()[before:]; slices.ContainsFunc(asked, func(s string) bool { return strings.Contains(s, "10.0.0.9:") }) {
			t.Errorf("the worker before is still asked: %q", asked)
		}
		third := vllm()
		third.ID = "third"
		if err := e.probe.Put(t.Context(), third, "p"); !errors.Is(err, poolregistry.NodeLimit) {
			t.Errorf("one too many: %v", err)
		}
	})
}

// PRG-53: a worker whose node is released, or forgotten, is not asked any more and
// leaves its place; put again it is there again, under a larger epoch.
func TestStaticWorkerIsReleased(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEngines(t, 1)
		e.run()
		e.put(vllm())
		if err := e.reg.Release("static-vllm"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		if asked := e.seen(); len(asked) != 1 || e.probe.Workers() != 0 || len(e.reg.View().Nodes) != 0 {
			t.Errorf("asked %q, %d workers, %d nodes", asked, e.probe.Workers(), len(e.reg.View().Nodes))
		}
		e.put(vllm())
		e.want("static-vllm", poolregistry.Online)
		if err := e.reg.Release("static-vllm"); err != nil {
			t.Fatal(err)
		}
		e.put(vllm()) // before the probe has noticed
		e.want("static-vllm", poolregistry.Online)
		time.Sleep(time.Minute)
		e.want("static-vllm", poolregistry.Online)
		if e.probe.Workers() != 1 {
			t.Errorf("%d workers", e.probe.Workers())
		}
	})
}

// PRG-9: Run is joined, does nothing twice, and may be run again: the workers are
// still there.
func TestStaticProbeRuns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEngines(t, 0)
		go func() { _ = e.reg.Run(t.Context()) }()
		if err := e.probe.Put(t.Context(), vllm(), "p"); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan error, 1)
			go func() { done <- e.probe.Run(ctx) }()
			synctest.Wait()
			if err := e.probe.Run(ctx); err == nil || errors.Is(err, context.Canceled) {
				t.Errorf("a second Run: %v", err)
			}
			e.want("static-vllm", poolregistry.Online)
			cancel()
			if err := <-done; !errors.Is(err, context.Canceled) {
				t.Errorf("Run = %v", err)
			}
			asked := len(e.seen())
			time.Sleep(time.Minute)
			if len(e.seen()) != asked {
				t.Error("it asks after its end")
			}
		}
	})
	if _, err := poolclient.NewStaticProbe(poolclient.StaticConfig{}); err == nil {
		t.Error("New without Registry")
	}
}

// Puts, releases and the end of Run at once, under the race detector.
func TestConcurrentSafePut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEngines(t, 8)
		e.run()
		var wg sync.WaitGroup
		for i := range 16 {
			wg.Go(func() {
				for j := range 20 {
					w := vllm()
					w.ID, w.Port = fmt.Sprint("w", i%8), 8000+j%3
					if err := e.probe.Put(t.Context(), w, "p"); err != nil && !errors.Is(err, poolregistry.NodeLimit) && !errors.Is(err, poolregistry.NodeIDTaken) {
						t.Errorf("Put: %v", err)
					}
					if j%7 == 0 {
						_ = e.reg.Release(poolregistry.NodeID("static-" + w.ID))
					}
				}
			})
		}
		wg.Wait()
		for i := range 8 {
			w := vllm()
			w.ID = fmt.Sprint("w", i)
			e.put(w)
		}
		time.Sleep(time.Minute)
		if v := e.reg.View(); v.Online != 8 || e.probe.Workers() != 8 {
			t.Errorf("%d online, %d workers", v.Online, e.probe.Workers())
		}
	})
}

// PRG-53, PRG-60: over a real connection: a redirect is no health, and is not
// followed.
func TestStaticProbeOverTCP(t *testing.T) {
	var mu sync.Mutex
	status, asked := http.StatusFound, []string{}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		asked = append(asked, r.URL.Path)
		w.Header().Set("Location", "/elsewhere")
		w.WriteHeader(status)
		status = http.StatusOK
	}))
	defer srv.Close()
	u, err := url.Parse(srv.URL)
	if err != nil {
		t.Fatal(err)
	}
	port, err := strconv.Atoi(u.Port())
	if err != nil {
		t.Fatal(err)
	}
	reg, err := poolregistry.New(poolregistry.Config{Address: loopback(), Timing: poolregistry.Timing{Beat: 100 * time.Millisecond}, PublishEvery: -1})
	if err != nil {
		t.Fatal(err)
	}
	probe, err := poolclient.NewStaticProbe(poolclient.StaticConfig{Registry: reg, Address: loopback()})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- probe.Run(ctx) }()
	if err := probe.Put(ctx, nodeapi.StaticWorker{ID: "w", Host: "127.0.0.1", Port: port, Model: "m"}, "p"); err != nil {
		t.Fatal(err)
	}
	online := false
	for v := range reg.Watch(ctx) {
		if n, ok := v.Node("static-w"); ok && n.Liveness == poolregistry.Online {
			online = true
			break
		}
	}
	cancel()
	<-done
	mu.Lock()
	defer mu.Unlock()
	if !online || len(asked) < 2 || slices.ContainsFunc(asked, func(p string) bool { return p != "/health" }) {
		t.Errorf("online %t, asked %q", online, asked)
	}
}

func ExampleStaticProbe() {
	engine := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok") }))
	defer engine.Close()
	u, _ := url.Parse(engine.URL)
	port, _ := strconv.Atoi(u.Port())
	reg, err := poolregistry.New(poolregistry.Config{Address: loopback()})
	if err != nil {
		fmt.Println(err)
		return
	}
	probe, err := poolclient.NewStaticProbe(poolclient.StaticConfig{Registry: reg, Address: loopback()})
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- probe.Run(ctx) }()
	err = probe.Put(ctx, nodeapi.StaticWorker{ID: "vllm", Host: u.Hostname(), Port: port, Model: "llama3:8b"}, "operator")
	fmt.Println(err)
	for v := range reg.Watch(ctx) {
		if v.Online == 1 {
			fmt.Println(v.Nodes[0].ID, v.Nodes[0].Pools[0].ModelsLoaded)
			break
		}
	}
	cancel()
	fmt.Println(<-done)
	// Output:
	// <nil>
	// static-vllm [llama3:8b]
	// context canceled
}
