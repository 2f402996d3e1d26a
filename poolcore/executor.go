package poolcore

import (
	"cmp"
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
	"sync"
	"sync/atomic"
	"time"

	"github.com/llorch/llorch/inputvalidation"
	"github.com/llorch/llorch/poolcore/engine"
	"github.com/llorch/llorch/poolcore/internal/proc"
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
	gen     uint64 // of an adopted worker: set once, before the loop shows it
	cfg     PoolConfig
	kind    engine.Kind
	url     string // for others
	token   string
	probeAt engine.Endpoint
	port    uint16
	dir     *os.Root      // of its own; nil for external
	proc    *proc.Process // nil for external
	cgroup  *proc.Cgroup  // nil: none
	tied    bool          // it ends when this program does
	tail    *logTail
	began   time.Time
	plan    plan          // what it may use
	release func()        // of the catalogue's model; nil: none
	ended   chan struct{} // closed when its group is gone and judged

	asked    atomic.Bool   // its end was wanted
	served   atomic.Bool   // it was ready
	answered atomic.Bool   // its health route answered
	owns     atomic.Bool   // its port was seen to be its own
	doubted  atomic.Bool   // at the last look somebody else listened there
	robbed   atomic.Bool   // another program took its port first
	signs    atomic.Uint64 // a sum that grows with everything that it does
	looked   atomic.Int64  // when its memory was looked at as a sign, in Unix nanoseconds
	held     atomic.Uint64 // what it had then
	watched  atomic.Bool   // its memory is being learned
	took     atomic.Uint64 // GPU memory that loading it took; 0: not known
	warm     atomic.Int32  // warmNot, warmRuns, warmDone
	fault    atomic.Pointer[failure]
	members  members
	unbound  chan struct{} // external: closed by the end
	unbind   atomic.Bool
	noting   sync.Mutex // guards removed and the order of records
	removed  bool       // its files were
}

// hostCrew is the crew that runs real processes.
type hostCrew struct {
	cfg      Config
	ports    *ports
	files    *stateFiles // nil without a StateDir
	memory   *memory
	client   *http.Client
	instance string // tells the engines of this StateDir from others
	// trouble tells the loop of a pool what no request waits for.
	trouble func(poolregistry.PoolID, failure)
	// mark is told each step that changes the world; tests end the program there.
	mark func(point string)

	left    chan struct{} // closed when the engines are left to the next run
	leaving sync.Once
	ctx     context.Context // of the watchers beside; ends with the crew
	end     context.CancelFunc
	beside  sync.WaitGroup

	mu        sync.Mutex
	live      map[poolregistry.WorkerID]*worker
	returning map[string]chan struct{} // by place: closed when its last worker's memory is back
}

// leave parts from the engines: every wait returns and nothing of them is touched
// any more.
func (c *hostCrew) leave() { c.leaving.Do(func() { close(c.left) }) }

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

func (c *hostCrew) stage(ctx context.Context, pc PoolConfig, k engine.Kind, inPlace bool) *failure {
	if engine.ProfileOf(k).External {
		return nil
	}
	return c.preflight(ctx, pc, k, inPlace).failure()
}

func (c *hostCrew) spawn(ctx context.Context, pc PoolConfig, k engine.Kind, at int, gen uint64) (*worker, *failure) {
	w := &worker{
		id: workerID(pc.ID, at), at: at, gen: gen, cfg: pc, kind: k, began: time.Now(), unbound: make(chan struct{}), ended: make(chan struct{}),
		probeAt: engine.Endpoint{Model: pc.Model, Client: c.client},
	}
	if engine.ProfileOf(k).External {
		w.url = strings.TrimSuffix(pc.URL, "/")
		w.probeAt.URL = w.url
		return w, nil
	}
	c.awaitMemory(ctx, pc.ID, at)
	w.plan = c.preflight(ctx, pc, k, false)
	if f := w.plan.failure(); f != nil {
		return nil, f
	}
	if f := c.reserve(w); f != nil {
		c.clean(w)
		return nil, f
	}
	c.at("spawn/reserved")
	if err := c.start(w); err != nil {
		if w.proc != nil {
			w.proc.Stop(0)
			c.settleMemory(w)
		}
		c.clean(w)
		c.cfg.Logger.Warn("engine not started", "pool", pc.ID, "error", err)
		return nil, &failure{class: engine.ClassUnknown, code: WorkerStartFailed, exitCode: -1, message: "the engine could not be started"}
	}
	c.enlist(w)
	c.at("spawn/done")
	return w, nil
}

// at tells the tests' hook where the crew is.
func (c *hostCrew) at(point string) {
	if c.mark != nil {
		c.mark(point)
	}
}

func (c *hostCrew) enlist(w *worker) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.live[w.id] = w
}

// workerID is new for every attempt: nobody can take an old process for a new one.
func workerID(pool string, at int) poolregistry.WorkerID {
	return poolregistry.WorkerID(fmt.Sprintf("%s-r%d-%s", pool, at, strings.ToLower(rand.Text()[:6])))
}

// reserve takes memory, port and model, so that nobody else gets them.
func (c *hostCrew) reserve(w *worker) *failure {
	if short := c.memory.ledger.Reserve(string(w.id), w.plan.wants); len(short) > 0 {
		return plan{faults: shortages(short, w.plan.need)}.failure()
	}
	port, err := c.ports.take(uint16(w.cfg.Port), time.Now())
	if err != nil {
		return plan{faults: []Fault{{Code: PortUnavailable, Detail: err.Error()}}}.failure()
	}
	w.port = port
	if id := w.plan.model.ID; id != "" {
		if w.release, err = c.cfg.Catalog.Use(id); err != nil {
			return plan{faults: []Fault{modelFault(err)}}.failure()
		}
	}
	return nil
}

// start makes the worker's directory, key, log and records, and the process.
func (c *hostCrew) start(w *worker) error {
	dir := workersDir + "/" + string(w.id)
	if err := c.files.root.MkdirAll(dir+"/home", 0o700); err != nil {
		return fmt.Errorf("make worker directory: %w", err)
	}
	root, err := c.files.root.OpenRoot(dir)
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
	if w.tail, err = openLogTail(root, "engine.log", maxLogBytes, w.token); err != nil {
		return err
	}
	c.addresses(w)
	path := filepath.Join(c.cfg.StateDir, filepath.FromSlash(dir))
	cmd, err := w.kind.Command(c.request(w, path))
	if err != nil {
		return fmt.Errorf("make command: %w", err)
	}
	w.tied = cmd.TieStdin
	home := filepath.Join(path, "home")
	env, err := c.environment(w, cmd, home)
	if err != nil {
		return fmt.Errorf("make environment: %w", err)
	}
	if err := c.note(w, stateIntent); err != nil {
		return err
	}
	c.at("spawn/intent")
	w.cgroup = c.newCgroup(w.id)
	w.proc, err = proc.Start(proc.Spec{
		Path: cmd.Path, Args: cmd.Args, Dir: home, Env: env, Log: log, Tag: string(w.id), TieStdin: cmd.TieStdin, Cgroup: w.cgroup,
	})
	if err != nil {
		return err
	}
	c.at("spawn/started")
	return c.note(w, stateRunning)
}

// addresses derives where the worker is asked and what others are told.
func (c *hostCrew) addresses(w *worker) {
	w.url = workerURL(c.cfg.AdvertiseHost, w.port)
	w.probeAt.URL, w.probeAt.Token = workerURL(probeHost(c.cfg.WorkerBind).String(), w.port), w.token
}

// newCgroup returns a folder for one worker, or nil where none is delegated.
func (c *hostCrew) newCgroup(id poolregistry.WorkerID) *proc.Cgroup {
	if c.cfg.CgroupDir == "" {
		return nil
	}
	cg, err := proc.NewCgroup(c.cfg.CgroupDir, c.cgroupName(id))
	if err != nil {
		c.cfg.Logger.Warn("worker without a cgroup", "worker", string(id), "error", err)
		return nil
	}
	return cg
}

func (c *hostCrew) cgroupName(id poolregistry.WorkerID) string { return c.instance + "." + string(id) }

// request is everything the command line is made of.
func (c *hostCrew) request(w *worker, path string) engine.Request {
	pc, p := w.cfg, &w.plan
	r := engine.Request{
		Binary: c.cfg.Binaries[pc.Binary], Model: cmp.Or(p.path, pc.Model), WorkerID: string(w.id),
		Addr: netip.AddrPortFrom(c.cfg.WorkerBind, w.port), Ctx: pc.Ctx, Slots: pc.Slots,
		KeyFile: filepath.Join(path, "key"), Key: w.token, Flags: pc.Flags,
		CPU: p.cpu, TensorSplit: pc.TensorSplit, Deterministic: pc.Deterministic, KVType: pc.KVType,
		VRAMNeed: p.need.Bytes, HomeDir: filepath.Join(path, "home"),
	}
	for _, u := range p.units {
		r.Devices = append(r.Devices, u.UUID)
		if total := u.Memory().Total; total != nil {
			r.VRAMTotal += *total
		}
	}
	return r
}

// probeHost is where a worker that listens on all addresses is asked.
func probeHost(bind netip.Addr) netip.Addr {
	switch {
	case !bind.IsUnspecified():
		return bind
	case bind.Is4():
		return netip.AddrFrom4([4]byte{127, 0, 0, 1})
	}
	return netip.IPv6Loopback()
}

// environment is everything the engine inherits: no variable of this process but
// the time zone, so that no secret of ours reaches it.
func (c *hostCrew) environment(w *worker, cmd engine.Command, home string) ([]string, error) {
	env := []string{
		"PATH=/usr/local/bin:/usr/bin:/bin", "HOME=" + home, "TMPDIR=" + home, "LANG=C.UTF-8", proc.InstanceEnv + "=" + c.instance,
	}
	if tz, ok := os.LookupEnv("TZ"); ok {
		env = append(env, "TZ="+tz)
	}
	if c.cfg.LibraryPath != "" {
		env = append(env, "LD_LIBRARY_PATH="+c.cfg.LibraryPath)
	}
	for name, v := range w.cfg.Env {
		env = append(env, name+"="+v)
	}
	return w.plan.mask.Env(w.plan.devices, append(env, cmd.Env...), engine.ProfileOf(w.kind).Indices)
}

func writeNew(root *os.Root, name, text string) error {
	f, err := root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Close())
}
