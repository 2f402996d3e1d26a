package workertest

import (
	"context"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/llorch/llorch/orchestrator/worker"
)

// Config describes an engine. The zero value is a llama.cpp-like engine with
// four slots and the default timing.
type Config struct {
	Model   string         // names the text's source; "" = "sim-8b"
	Alias   string         // the name under which Model is served; "" = Model
	Version string         // engine version; a part of what determines the text; "" = "sim-1"
	Flavour worker.Flavour // dialect; "" = worker.LlamaCPP
	Seed    int64
	Tokens  int      // length of every answer that max_tokens does not cut; 0 = 16 to 127, by the seed
	Slots   int      // requests that run at once; 0 = 4
	Queue   int      // requests that wait for a slot; 0 = 16, -1 = none; one more is answered busy
	KV      int      // tokens of KV memory that the slots share, in blocks of 16; 0 = Slots × Ctx. A request that does not fit waits; one that never can is busy
	Ctx     int      // context of one slot in tokens; 0 = 8,192
	Keys    []string // accepted bearer keys; nil = open

	VRAM       int64         // bytes that it declares to hold from New on, see [Engine.VRAM]
	VRAMReturn time.Duration // after its end, until they are free
	LoadDelay  time.Duration // after New, while /health and all work answer 503
	Preset     string        // timing by name: fast slow cpu h200 zero; "" = the default
	Latency    *Latency      // wins over Preset

	Faults        []Fault
	RequestFaults bool // honour the header X-Sim-Fault
	Hooks         Hooks
	Trace         func(Event) // called for every event, one at a time; nil = not
}

// Hooks are what a process adds to an engine. They are called on the goroutine
// of the request and need not return.
type Hooks struct {
	Exit func(arg string) // fault "exit"; nil closes all connections and the listener at once
	OOM  func()           // fault "oom"; nil does the same
	Leak func()           // fault "leak-vram"; the engine's VRAM is never free again; may be nil
}

// Engine is a simulated engine. It is safe for concurrent use.
type Engine struct {
	// URL is where the engine is reached, without path; set by [Start] and
	// [Net.Start].
	URL string

	cfg     Config
	latency Latency
	mux     *http.ServeMux
	srv     *http.Server
	born    time.Time
	stop    chan struct{} // closed when nothing may go on
	halt    func()        // closes stop, once
	work    sync.WaitGroup
	slots   slots
	prompts prefixes
	leaked  atomic.Bool
	died    atomic.Int64 // Unix ns of the end, 0 before it
	book    book
	refusal atomic.Bool

	mu       sync.Mutex
	faults   []Fault
	listener net.Listener
	dead     bool
}

// New checks cfg and returns an engine that listens nowhere yet.
func New(cfg Config) (*Engine, error) {
	var errs []error
	lat, err := preset(cfg.Preset)
	errs = append(errs, err)
	if cfg.Latency != nil {
		lat = *cfg.Latency
	}
	errs = append(errs, lat.validate())
	for _, f := range cfg.Faults {
		errs = append(errs, f.validate())
	}
	if cfg.Tokens < 0 || cfg.Slots < 0 || cfg.Queue < -1 || cfg.Ctx < 0 || cfg.KV < 0 || cfg.VRAM < 0 || cfg.VRAMReturn < 0 || cfg.LoadDelay < 0 {
		errs = append(errs, errors.New("workertest: Config: a negative number where none makes sense"))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	cfg.fill()
	e := &Engine{cfg: cfg, latency: lat, born: time.Now(), stop: make(chan struct{}), faults: slices.Clone(cfg.Faults)}
	e.halt = sync.OnceFunc(func() { close(e.stop) })
	e.slots = slots{total: cfg.Slots, queue: max(cfg.Queue, 0), blocks: blocks(cfg.KV), queued: e.book.touch}
	e.prompts.size = blocks(cfg.KV)
	e.book.trace = cfg.Trace
	e.mux = e.routes()
	e.srv = &http.Server{Handler: e, ReadHeaderTimeout: 10 * time.Second, ErrorLog: log.New(io.Discard, "", 0)}
	return e, nil
}

func (c *Config) fill() {
	if c.Model == "" {
		c.Model = "sim-8b"
	}
	if c.Alias == "" {
		c.Alias = c.Model
	}
	if c.Version == "" {
		c.Version = "sim-1"
	}
	if c.Flavour == "" {
		c.Flavour = worker.LlamaCPP
	}
	if c.Slots == 0 {
		c.Slots = 4
	}
	if c.Queue == 0 {
		c.Queue = 16
	}
	if c.Ctx == 0 {
		c.Ctx = 8192
	}
	if c.KV == 0 {
		c.KV = c.Slots * (c.Ctx + blockTokens)
	}
}

// Start serves a new engine on a free port of 127.0.0.1. It panics if cfg is
// wrong or the machine has no free port.
func Start(cfg Config) *Engine {
	e, err := New(cfg)
	if err != nil {
		panic(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic("workertest: listen on loopback: " + err.Error())
	}
	e.URL = "http://" + l.Addr().String()
	e.attach(l)
	e.work.Go(func() { _ = e.Serve(l) })
	return e
}

// Serve accepts connections on l until Close or Shutdown, and returns nil then.
func (e *Engine) Serve(l net.Listener) error {
	e.attach(l)
	err := e.srv.Serve(l)
	if e.refusal.Load() {
		<-e.stop // requests that already run go on
		return nil
	}
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

// attach makes l the listener that fault "refuse" closes, now or in time.
func (e *Engine) attach(l net.Listener) {
	e.mu.Lock()
	known := e.listener == l
	e.listener = l
	e.mu.Unlock()
	if known {
		return
	}
	for _, f := range e.activeFaults() {
		if f.Kind != "refuse" || f.Request > 0 || f.P > 0 {
			continue
		}
		if wait := f.After - time.Since(e.born); wait > 0 {
			time.AfterFunc(wait, e.refuse)
		} else {
			e.refuse()
		}
	}
}

// refuse stops listening for good.
func (e *Engine) refuse() {
	e.refusal.Store(true)
	e.mu.Lock()
	l := e.listener
	e.mu.Unlock()
	if l != nil {
		_ = l.Close()
	}
}

// Kill cuts every connection and the listener, as the death of a process does,
// and does not wait. A hook may call it.
func (e *Engine) Kill() {
	e.mu.Lock()
	e.dead = true
	e.mu.Unlock()
	e.died.CompareAndSwap(0, time.Now().UnixNano())
	e.halt()
	_ = e.srv.Close()
}

// Close is Kill, and waits until the engine is still. A hook may not call it.
func (e *Engine) Close() {
	e.Kill()
	e.work.Wait()
}

// VRAM returns the bytes that the engine holds now: Config.VRAM while it lives
// and for VRAMReturn after, and for ever once it leaked.
func (e *Engine) VRAM() int64 {
	died := e.died.Load()
	if died != 0 && !e.leaked.Load() && time.Now().UnixNano()-died >= int64(e.cfg.VRAMReturn) {
		return 0
	}
	return e.cfg.VRAM
}

// Shutdown stops listening, lets running and waiting requests finish until ctx
// ends, and closes.
func (e *Engine) Shutdown(ctx context.Context) error {
	err := e.srv.Shutdown(ctx)
	e.Close()
	return err
}

// SetFaults replaces the faults. Requests that already run keep theirs.
func (e *Engine) SetFaults(faults ...Fault) error {
	var errs []error
	for _, f := range faults {
		errs = append(errs, f.validate())
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.faults = slices.Clone(faults)
	return nil
}

func (e *Engine) activeFaults() []Fault {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.faults
}

// sleep waits for d; false if ctx or the engine ended first.
func (e *Engine) sleep(ctx context.Context, d time.Duration) bool {
	if d > 0 {
		t := time.NewTimer(d)
		defer t.Stop()
		select {
		case <-t.C:
		case <-ctx.Done():
		case <-e.stop:
		}
	}
	select {
	case <-e.stop:
		return false
	default:
		return ctx.Err() == nil
	}
}
