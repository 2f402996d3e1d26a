package poolcore

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/llorch/llorch/gpuinfo"
	"github.com/llorch/llorch/poolcore/catalog"
	"github.com/llorch/llorch/poolcore/engine"
	"github.com/llorch/llorch/poolregistry"
)

// Bounds of a host.
const (
	maxPools    = 64
	maxReplicas = 64
	maxSlots    = 4096
	maxFlags    = 64
	maxFlagLen  = 512
	maxEnv      = 64
	maxEvents   = 64 // worker failures kept for the next beat
)

// Config configures a [Host].
type Config struct {
	NodeID poolregistry.NodeID // required
	// StateDir is an absolute path that only this host uses; it is created with
	// mode 0700. Required unless all pools are external.
	StateDir string
	// Binaries is the allow-list of programs: name → absolute path. A pool uses the
	// name in PoolConfig.Binary or, when that is empty, its engine's name.
	Binaries map[string]string
	// Engines are the kinds that pools may use; nil: engine.All().
	Engines []engine.Kind
	// Pools are started by Run and kept running: every failure, also the first,
	// is retried on the restart schedule.
	Pools []PoolConfig
	// DefaultPool is what a worker is started with that a caller asks for by model
	// and device only; nil: nobody can.
	DefaultPool *PoolConfig
	// Devices tells GPUs; nil: none. RequireGPU refuses to run anything without, or
	// partly beside, a GPU.
	Devices    gpuinfo.Provider
	RequireGPU bool
	// Catalog holds the models that pools name without ModelPath; nil: none.
	Catalog *catalog.Catalog
	// ModelDirs are absolute paths of the folders below which a remote caller may
	// name a ModelPath; the program's own pools may name any file.
	ModelDirs []string
	// HandoffDir is the absolute path of the folder for handoff files; empty:
	// "handoff" below StateDir.
	HandoffDir string
	// CgroupDir is the absolute path of a cgroup v2 folder that is delegated to this
	// program; each worker gets a child of it. Empty: none.
	CgroupDir string
	// KillOrphans stops the engines that an earlier run of the program left alive,
	// instead of adopting them. LeaveRunning leaves engines alive when Run ends, for
	// the next run to adopt.
	KillOrphans, LeaveRunning bool
	// AllowOpenWorkers lets engines that cannot ask for a key listen beyond
	// loopback.
	AllowOpenWorkers bool
	// Ports for workers; zero: 8001–8999.
	Ports PortRange
	// WorkerBind is the address that workers listen on; zero: 127.0.0.1.
	WorkerBind netip.Addr
	// AdvertiseHost replaces WorkerBind in the URLs that others are told; empty:
	// WorkerBind.
	AdvertiseHost string
	// LibraryPath becomes LD_LIBRARY_PATH of the engines; empty: not set.
	LibraryPath string
	Timing      Timing
	Limits      Limits
	// Nudge is called when a pool's readiness changes or a worker fails, usually
	// (*nodeagent.Agent).Nudge; it must not block. nil: nothing.
	Nudge func()
	// Observe gets one Event per transition, crash, drain, reload and fetch from one goroutine,
	// in order; when it is slower than 256 events behind, events are dropped and
	// counted in Stats. nil: nothing.
	Observe func(Event)
	Logger  *slog.Logger // nil discards
}

// Limits bound what a host takes; a zero field takes the default.
type Limits struct {
	Pools      int    // 1–64: 64
	SystemVRAM uint64 // bytes of each device that are never given to a worker: 300 MiB
}

// PortRange is an inclusive range of TCP ports.
type PortRange struct{ First, Last uint16 }

// Timing holds the intervals that a host lives by; a zero field takes the default.
type Timing struct {
	RestartFirst, RestartMax time.Duration // back-off of restarts: 1 s doubling to 60 s, ±10 %
	RestartReset             time.Duration // ready for so long forgets earlier failures: 300 s
	BreakerAfter             int           // failures in a row that open the breaker: 5
	BreakerOpen, BreakerMax  time.Duration // open for 300 s, doubling to 1 h
	BreakerClose             time.Duration // ready for so long closes it: 60 s
	ProbeFast, ProbeSlow     time.Duration // while starting: every 100 ms for 5 s, then 500 ms
	Stall, Start, StartMax   time.Duration // no progress for 60 s, or not ready after 120 s (at most 30 min), fails a start
	Health, HealthTimeout    time.Duration // when ready: every 10 s, each at most 5 s
	StopGrace                time.Duration // SIGTERM to SIGKILL: 5 s
	StopBudget               time.Duration // all workers gone after Run's context ended: 35 s
}

// defaults are the intervals and what they are when they are 0.
func (t *Timing) defaults() map[*time.Duration]time.Duration {
	return map[*time.Duration]time.Duration{
		&t.RestartFirst: time.Second, &t.RestartMax: time.Minute, &t.RestartReset: 300 * time.Second,
		&t.BreakerOpen: 300 * time.Second, &t.BreakerMax: time.Hour, &t.BreakerClose: time.Minute,
		&t.ProbeFast: 100 * time.Millisecond, &t.ProbeSlow: 500 * time.Millisecond,
		&t.Stall: time.Minute, &t.Start: 2 * time.Minute, &t.StartMax: 30 * time.Minute,
		&t.Health: 10 * time.Second, &t.HealthTimeout: 5 * time.Second,
		&t.StopGrace: 5 * time.Second, &t.StopBudget: 35 * time.Second,
	}
}

func (t Timing) withDefaults() Timing {
	for field, value := range t.defaults() {
		*field = cmp.Or(*field, value)
	}
	t.BreakerAfter = cmp.Or(t.BreakerAfter, 5)
	return t
}

func (t Timing) validate() error {
	for d := range t.defaults() {
		if *d < time.Millisecond || *d > 24*time.Hour {
			return errors.New("timing: an interval is outside 1 ms–24 h")
		}
	}
	if t.BreakerAfter < 1 || t.RestartFirst > t.RestartMax || t.BreakerOpen > t.BreakerMax {
		return errors.New("timing: a first value is above its maximum, or breaker_after below 1")
	}
	return nil
}

// withDefaults fills in what the comments of Config promise.
func (c Config) withDefaults() Config {
	if c.Engines == nil {
		c.Engines = engine.All()
	}
	if c.Ports == (PortRange{}) {
		c.Ports = PortRange{First: 8001, Last: 8999}
	}
	if !c.WorkerBind.IsValid() {
		c.WorkerBind = netip.AddrFrom4([4]byte{127, 0, 0, 1})
	}
	if c.AdvertiseHost == "" {
		c.AdvertiseHost = c.WorkerBind.String()
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.HandoffDir == "" && c.StateDir != "" {
		c.HandoffDir = filepath.Join(c.StateDir, "handoff")
	}
	c.Limits.Pools = cmp.Or(c.Limits.Pools, maxPools)
	c.Limits.SystemVRAM = cmp.Or(c.Limits.SystemVRAM, 300<<20)
	c.Timing = c.Timing.withDefaults()
	return c
}

// validate reports every fault of a config that has its defaults.
func (c Config) validate() error {
	var errs []error
	if _, err := poolregistry.ParseNodeID(string(c.NodeID)); err != nil {
		errs = append(errs, err)
	}
	if c.StateDir != "" && !filepath.IsAbs(c.StateDir) {
		errs = append(errs, errors.New("state_dir: not an absolute path"))
	}
	for _, path := range append([]string{c.HandoffDir, c.CgroupDir}, c.ModelDirs...) {
		if path != "" && !filepath.IsAbs(path) {
			errs = append(errs, errors.New("handoff_dir, cgroup_dir or model_dirs: not an absolute path"))
		}
	}
	if c.Limits.Pools < 1 || c.Limits.Pools > maxPools {
		errs = append(errs, errors.New("limits: pools outside 1–64"))
	}
	for name, path := range c.Binaries {
		if !filepath.IsAbs(path) {
			errs = append(errs, fmt.Errorf("binaries: the path of %q is not absolute", name))
		}
	}
	if c.Ports.First == 0 || c.Ports.First > c.Ports.Last {
		errs = append(errs, errors.New("ports: empty range"))
	}
	if host := c.AdvertiseHost; host == "" || len(host) > 253 || strings.ContainsAny(host, "/@?# ") {
		errs = append(errs, errors.New("advertise_host: malformed"))
	} else if a, err := netip.ParseAddr(host); err == nil && a.IsUnspecified() {
		errs = append(errs, errors.New("advertise_host: required when workers listen on all addresses"))
	}
	names := make([]string, 0, len(c.Engines))
	for _, k := range c.Engines {
		if slices.Contains(names, k.Name()) {
			errs = append(errs, fmt.Errorf("engines: %q is given twice", k.Name()))
		}
		names = append(names, k.Name())
	}
	errs = append(errs, c.Timing.validate(), c.validatePools())
	return errors.Join(errs...)
}

func (c Config) validatePools() error {
	var errs []error
	if len(c.Pools) > c.Limits.Pools {
		errs = append(errs, errors.New("pools: more than limits.pools"))
	}
	ids := map[string]bool{}
	for i, p := range c.Pools {
		if _, _, err := c.checkPool(p); err != nil {
			errs = append(errs, fmt.Errorf("pools[%d]: %w", i, err))
		}
		if ids[p.ID] {
			errs = append(errs, fmt.Errorf("pools[%d]: pool_id is given twice", i))
		}
		ids[p.ID] = true
	}
	return errors.Join(errs...)
}

func (c Config) kind(name string) engine.Kind {
	if i := slices.IndexFunc(c.Engines, func(k engine.Kind) bool { return k.Name() == name }); i >= 0 {
		return c.Engines[i]
	}
	return nil
}
