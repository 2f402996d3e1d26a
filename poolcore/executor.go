package poolcore

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"github.com/llorch/llorch/inputvalidation"
	"github.com/llorch/llorch/poolcore/engine"
	"github.com/llorch/llorch/poolregistry"
)

// Intervals of the tailer, and how much of a log a failure carries.
const (
	tailFast    = 50 * time.Millisecond
	tailSlow    = 250 * time.Millisecond
	failureTail = 50
	workersDir  = "workers"
)

// worker is one attempt of a place: a process, or the binding of an external
// server. Everything but the atomics is fixed once it is made.
type worker struct {
	id      poolregistry.WorkerID
	at      int
	gen     uint64
	kind    engine.Kind
	url     string // for others
	token   string
	probeAt engine.Endpoint
	port    uint16
	dir     *os.Root // of its own; nil for external
	proc    *process // nil for external
	tail    *logTail
	began   time.Time

	asked    atomic.Bool // its end was wanted
	served   atomic.Bool // it was ready
	answered atomic.Bool
	seen     atomic.Int64  // bytes of log at the last probe
	unbound  chan struct{} // external: closed by the end
	unbind   atomic.Bool
}

// crew carries out what the loop decides; the loop's tests bring their own.
type crew interface {
	// spawn starts a worker or leaves nothing behind.
	spawn(ctx context.Context, c PoolConfig, k engine.Kind, at int, gen uint64) (*worker, *failure)
	// wait blocks until the worker is gone and cleaned up, and says why it went.
	wait(w *worker) failure
	probe(ctx context.Context, w *worker) probe
	// stop ends a worker; false: it survives SIGKILL.
	stop(w *worker, grace time.Duration) bool
}

// hostCrew is the crew that runs real processes.
type hostCrew struct {
	cfg    Config
	ports  *ports
	state  *os.Root // StateDir; nil without one
	client *http.Client
}

// probeClient dials only where workers may live, follows no redirect and no proxy.
func probeClient(bind netip.Addr) *http.Client {
	allow := []inputvalidation.AddrKind{inputvalidation.AddrLoopback, inputvalidation.AddrPrivate}
	if inputvalidation.ClassifyAddr(bind) == inputvalidation.AddrPublic {
		allow = append(allow, inputvalidation.AddrPublic)
	}
	dialer := net.Dialer{Timeout: 500 * time.Millisecond, Control: inputvalidation.DialControl(allow...)}
	return &http.Client{
		Transport: &http.Transport{
			DialContext: dialer.DialContext, DisableCompression: true, MaxIdleConnsPerHost: 1,
			IdleConnTimeout: 30 * time.Second, MaxResponseHeaderBytes: 64 << 10,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

func (c *hostCrew) spawn(_ context.Context, pc PoolConfig, k engine.Kind, at int, gen uint64) (*worker, *failure) {
	w := &worker{
		id: workerID(pc.ID, at), at: at, gen: gen, kind: k, began: time.Now(), unbound: make(chan struct{}),
		probeAt: engine.Endpoint{Model: pc.Model, Client: c.client},
	}
	if engine.ProfileOf(k).External {
		w.url = strings.TrimSuffix(pc.URL, "/")
		w.probeAt.URL = w.url
		return w, nil
	}
	if faults := c.preflight(pc, k); len(faults) > 0 {
		return nil, &failure{class: engine.ClassPreflight, exitCode: -1, message: faults[0].Detail, faults: faults}
	}
	port, err := c.ports.take(uint16(pc.Port), time.Now())
	if err != nil {
		fault := Fault{Code: PortUnavailable, Detail: err.Error()}
		return nil, &failure{class: engine.ClassPreflight, exitCode: -1, message: fault.Detail, faults: []Fault{fault}}
	}
	w.port = port
	if err := c.start(w, pc); err != nil {
		c.clean(w)
		c.cfg.Logger.Warn("engine not started", "pool", pc.ID, "error", err)
		return nil, &failure{class: engine.ClassUnknown, code: WorkerStartFailed, exitCode: -1, message: "the engine could not be started"}
	}
	return w, nil
}

// workerID is new for every attempt: nobody can take an old process for a new one.
func workerID(pool string, at int) poolregistry.WorkerID {
	return poolregistry.WorkerID(fmt.Sprintf("%s-r%d-%s", pool, at, strings.ToLower(rand.Text()[:6])))
}

// start makes the worker's directory, key and log, and the process.
func (c *hostCrew) start(w *worker, pc PoolConfig) error {
	dir := workersDir + "/" + string(w.id)
	if err := c.state.MkdirAll(dir+"/home", 0o700); err != nil {
		return fmt.Errorf("make worker directory: %w", err)
	}
	root, err := c.state.OpenRoot(dir)
	if err != nil {
		return fmt.Errorf("open worker directory: %w", err)
	}
	w.dir = root
	w.token = rand.Text() + rand.Text()
	if err := writeNew(root, "key", w.token+"\n"); err != nil {
		return fmt.Errorf("write worker key: %w", err)
	}
	log, err := root.OpenFile("engine.log", os.O_WRONLY|os.O_CREATE|os.O_EXCL|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("create engine log: %w", err)
	}
	defer log.Close()
	if w.tail, err = openLogTail(root, "engine.log", maxLogBytes); err != nil {
		return err
	}
	addr := netip.AddrPortFrom(c.cfg.WorkerBind, w.port)
	path := filepath.Join(c.cfg.StateDir, filepath.FromSlash(dir))
	cmd, err := w.kind.Command(engine.Request{
		Binary: c.cfg.Binaries[pc.Binary], Model: modelArgument(pc), WorkerID: string(w.id), Addr: addr, Ctx: pc.Ctx, Slots: pc.Slots,
		KeyFile: filepath.Join(path, "key"), Flags: pc.Flags,
	})
	if err != nil {
		return fmt.Errorf("make command: %w", err)
	}
	home := filepath.Join(path, "home")
	w.proc, err = startProcess(cmd, home, c.environment(w, pc, cmd, home), log, string(w.id))
	w.url = workerURL(c.cfg.AdvertiseHost, w.port)
	w.probeAt.URL, w.probeAt.Token = workerURL(probeHost(c.cfg.WorkerBind), w.port), w.token
	return err
}

// probeHost is where a worker that listens on all addresses is asked.
func probeHost(bind netip.Addr) string {
	switch {
	case !bind.IsUnspecified():
		return bind.String()
	case bind.Is4():
		return "127.0.0.1"
	}
	return "::1"
}

func modelArgument(pc PoolConfig) string {
	if pc.ModelPath != "" {
		return pc.ModelPath
	}
	return pc.Model
}

// environment is everything the engine inherits: no variable of this process but
// the time zone, so that no secret of ours reaches it.
func (c *hostCrew) environment(w *worker, pc PoolConfig, cmd engine.Command, home string) []string {
	env := []string{
		"PATH=/usr/local/bin:/usr/bin:/bin", "HOME=" + home, "TMPDIR=" + home, "LANG=C.UTF-8",
		"CUDA_DEVICE_ORDER=PCI_BUS_ID", workerEnv + "=" + string(w.id),
	}
	if tz, ok := os.LookupEnv("TZ"); ok {
		env = append(env, "TZ="+tz)
	}
	if c.cfg.LibraryPath != "" {
		env = append(env, "LD_LIBRARY_PATH="+c.cfg.LibraryPath)
	}
	for name, v := range pc.Env {
		env = append(env, name+"="+v)
	}
	return append(env, cmd.Env...)
}

func writeNew(root *os.Root, name, text string) error {
	f, err := root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Close())
}

// wait follows the log until the worker is gone, judges its end and removes what
// it leaves.
func (c *hostCrew) wait(w *worker) failure {
	if w.proc == nil {
		<-w.unbound
		return failure{class: engine.ClassGraceful}
	}
	every := time.NewTicker(tailFast)
	defer every.Stop()
	slowed := false
	for running := true; running; {
		select {
		case <-w.proc.done:
			running = false
		case <-every.C:
			if err := w.tail.look(); err != nil {
				c.cfg.Logger.Debug("engine log", "worker", string(w.id), "error", err)
			}
			if w.served.Load() && !slowed {
				slowed = true
				every.Reset(tailSlow)
			}
		}
	}
	for last := int64(-1); last != w.tail.bytes(); {
		last = w.tail.bytes()
		if w.tail.look() != nil {
			break
		}
	}
	f := failure{exitCode: w.proc.code, signal: w.proc.sig, tail: w.tail.tail(failureTail), message: "the engine ended by itself"}
	f.class = engine.ClassGraceful
	if !w.asked.Load() {
		f.class = w.kind.Classify(engine.Exit{Code: f.exitCode, Signal: f.signal, Lines: f.tail, Uptime: time.Since(w.proc.start), Answered: w.answered.Load()})
	}
	c.clean(w)
	return f
}

// clean removes the worker's files and ends the reservation of its port.
func (c *hostCrew) clean(w *worker) {
	if w.tail != nil {
		_ = w.tail.close()
	}
	if w.dir != nil {
		_ = w.dir.Close()
		if err := c.state.RemoveAll(workersDir + "/" + string(w.id)); err != nil {
			c.cfg.Logger.Warn("worker directory not removed", "worker", string(w.id), "error", err)
		}
	}
	if w.port != 0 {
		c.ports.give(w.port, time.Now())
	}
}

func (c *hostCrew) probe(ctx context.Context, w *worker) probe {
	var p probe
	r, err := w.kind.Probe(ctx, w.probeAt)
	if w.tail != nil {
		size := w.tail.bytes()
		p.grew = w.seen.Swap(size) != size
	}
	if err != nil {
		p.failed = true
		return p
	}
	w.answered.Store(true)
	p.ready, p.detail = r.Ready, r.Detail
	p.foreign = r.Ready && r.Alias != string(w.id) && !engine.ProfileOf(w.kind).External
	if r.SlotsTotal != nil {
		p.slots = *r.SlotsTotal
	}
	return p
}

func (c *hostCrew) stop(w *worker, grace time.Duration) bool {
	w.asked.Store(true)
	if w.proc == nil {
		if w.unbind.CompareAndSwap(false, true) {
			close(w.unbound)
		}
		return true
	}
	return w.proc.stop(grace)
}
