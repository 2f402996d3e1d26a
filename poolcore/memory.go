package poolcore

import (
	"context"
	"errors"
	"math"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/llorch/llorch/gpuinfo"
	"github.com/llorch/llorch/poolcore/engine"
	"github.com/llorch/llorch/poolcore/internal/fit"
	"github.com/llorch/llorch/poolregistry"
)

// gpuFresh is how old the picture of the devices may be when something is decided
// on it; a provider that is slow to answer stretches it.
const gpuFresh = 100 * time.Millisecond

// gpuWait is how long a start waits for a driver that hangs; longer than the time
// limits of the providers, which tell more.
const gpuWait = 15 * time.Second

// memory knows the devices, what is promised on them, and what loads have taught.
type memory struct {
	devices gpuinfo.Provider      // nil: none
	lister  gpuinfo.ProcessLister // nil: the provider does not tell who uses what
	ledger  *fit.Ledger
	table   *fit.Table
	save    func([]byte) error // of the table

	mu     sync.Mutex
	pinned map[string]string // by pool and mask: the UUIDs that the mask once meant
	saving sync.Mutex
}

func newMemory(cfg Config) *memory {
	m := &memory{ledger: fit.NewLedger(cfg.Limits.SystemVRAM), table: &fit.Table{}, pinned: map[string]string{}}
	if cfg.Devices != nil {
		m.devices = gpuinfo.NewCache(cfg.Devices, gpuFresh)
		m.lister, _ = cfg.Devices.(gpuinfo.ProcessLister)
	}
	return m
}

func (m *memory) snapshot(ctx context.Context) (gpuinfo.Snapshot, error) {
	if m.devices == nil {
		return gpuinfo.Snapshot{Reason: gpuinfo.NoDevice}, nil
	}
	ctx, cancel := context.WithTimeout(ctx, gpuWait)
	defer cancel()
	return m.devices.Snapshot(ctx)
}

// renewed waits, a second at most, until the picture that decisions are made on is
// younger than t: memory that came back after an older one is not seen in it.
func (m *memory) renewed(ctx context.Context, t time.Time) {
	every := time.NewTicker(gpuFresh / 4)
	defer every.Stop()
	for late := time.Now().Add(time.Second); time.Now().Before(late); {
		if s, err := m.snapshot(ctx); err != nil || m.devices == nil || s.At.After(t) {
			return
		}
		select {
		case <-every.C:
		case <-ctx.Done():
			return
		}
	}
}

// processes tells who uses which unit; false: nobody can say.
func (m *memory) processes(ctx context.Context) ([]gpuinfo.Process, bool) {
	if m.lister == nil {
		return nil, false
	}
	list, err := m.lister.Processes(ctx)
	return list, err == nil
}

// persist writes the table; the newest content wins.
func (m *memory) persist() error {
	m.saving.Lock()
	defer m.saving.Unlock()
	b, err := m.table.Encode()
	if err != nil || m.save == nil {
		return err
	}
	return m.save(b)
}

func (m *memory) outOfMemory(w *worker, now time.Time) {
	m.table.OutOfMemory(w.plan.key, w.plan.need.Bytes, w.plan.free, now)
	_ = m.persist() // the table in memory holds for this run
}

// reserved is what is promised of each device, by UUID, and of the host's memory.
func (c *hostCrew) reserved() map[string]uint64 { return c.memory.ledger.Promised() }

// usesGPU reports whether a worker is to be placed on devices. An engine that
// loads nothing and was given none runs anywhere.
func (c *hostCrew) usesGPU(pc PoolConfig, profile engine.Profile) bool {
	return profile.NeedsGPU || profile.ModelFile || profile.PerDeviceOverhead > 0 || pc.Devices != "" || pc.VRAMDeclared > 0 || c.cfg.RequireGPU
}

// checkDevices resolves the mask to the units that the worker will see.
func (c *hostCrew) checkDevices(ctx context.Context, p *plan, pc PoolConfig, profile engine.Profile) {
	mask, err := gpuinfo.ParseMask(c.memory.pin(pc))
	if err != nil {
		p.add(deviceMaskInvalid, "devices: "+maskRule(err))
		return
	}
	p.mask, p.cpu = mask, true
	if !c.usesGPU(pc, profile) {
		return
	}
	if mask.CPUOnly() {
		if c.cfg.RequireGPU {
			p.add(GPUUnavailable, "a GPU is required and the mask allows none")
		}
		return
	}
	if p.devices, err = c.memory.snapshot(ctx); err != nil {
		p.add(GPUUnavailable, "the devices were not asked in time")
		return
	}
	if len(p.devices.Devices) == 0 {
		if mask.Restricts() || c.cfg.RequireGPU || profile.NeedsGPU {
			p.add(GPUUnavailable, "no GPU: "+string(p.devices.Reason))
		}
		return
	}
	p.cpu = false
	if p.units, err = mask.Resolve(p.devices); err != nil {
		p.add(deviceMaskInvalid, "devices: "+maskRule(err))
		return
	}
	if chosen := best(p.units); !mask.Restricts() && len(chosen) < len(p.units) {
		p.units = chosen
		if p.mask, err = gpuinfo.ParseMask(p.unitIDs()); err != nil {
			p.add(deviceMaskInvalid, "devices: "+maskRule(err))
		}
	}
	if _, err := p.mask.Env(p.devices, nil, profile.Indices); err != nil {
		p.add(deviceMaskInvalid, "devices: "+maskRule(err))
	}
	for i, u := range p.units {
		p.checkHealth(i, u)
	}
	if len(p.faults) == 0 {
		c.memory.repin(pc, p.units)
	}
}

// maskRule is the rule that a mask breaks, without its text.
func maskRule(err error) string {
	if e, ok := errors.AsType[*gpuinfo.MaskError](err); ok {
		return e.Reason
	}
	return "not a mask of these devices"
}

// best is what an engine that may use all devices is given: the usable ones of one
// vendor, because no engine spreads over two.
func best(units []gpuinfo.Unit) []gpuinfo.Unit {
	for _, vendor := range []string{"nvidia", "amd", "intel"} {
		chosen := slices.DeleteFunc(slices.Clone(units), func(u gpuinfo.Unit) bool { return u.Vendor != vendor || !u.Usable() || u.UUID == "" })
		if len(chosen) > 0 {
			return chosen
		}
	}
	return units
}

func (p *plan) checkHealth(i int, u gpuinfo.Unit) {
	d, device := u.Device, "device "+strconv.Itoa(i)
	switch {
	case !u.Usable():
		p.add(GPUUnhealthy, device+" is "+string(d.Health.State))
	case d.Health.Recovery != "" && d.Health.Recovery != gpuinfo.RestartApp:
		p.add(GPUUnhealthy, device+" waits for "+string(d.Health.Recovery))
	case d.TempC != nil && *d.TempC >= tooHot:
		p.add(GPUUnhealthy, device+" is too hot")
	}
}

// pin returns the mask of a pool as it was resolved first, so that an index goes on
// meaning the same device when another one disappears.
func (m *memory) pin(pc PoolConfig) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	if uuids, ok := m.pinned[pc.ID+"\x00"+pc.Devices]; ok {
		return uuids
	}
	return pc.Devices
}

func (m *memory) repin(pc PoolConfig, units []gpuinfo.Unit) {
	if pc.Devices == "" || len(units) == 0 {
		return
	}
	ids := make([]string, len(units))
	for i, u := range units {
		if ids[i] = u.UUID; ids[i] == "" {
			return
		}
	}
	m.pinAs(pc, strings.Join(ids, ","))
}

func (m *memory) pinAs(pc PoolConfig, uuids string) {
	if mask, err := gpuinfo.ParseMask(uuids); err != nil || !mask.Restricts() || mask.CPUOnly() {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.pinned) > 4*maxPools {
		clear(m.pinned)
	}
	m.pinned[pc.ID+"\x00"+pc.Devices] = uuids
}

// checkMemory judges need and room on the units, or in the memory of the host.
func (c *hostCrew) checkMemory(p *plan, pc PoolConfig, k engine.Kind, inPlace bool) {
	c.judgeNeed(p, pc, k)
	if n := len(pc.TensorSplit); n > 0 && len(p.units) > 0 && n != len(p.units) {
		p.add(InvalidParams, "tensor_split has not one share per device")
		return
	}
	p.wants, p.before = p.shares(pc), map[string]uint64{}
	for _, u := range p.units {
		d := fitDevice(u)
		p.before[u.UUID] = d.Total - min(d.Total, d.Free)
		p.free += d.Free
	}
	var without func(string) bool
	if inPlace {
		own := c.workersOf(pc.ID)
		without = func(worker string) bool { return own[worker] }
	}
	p.faults = append(p.faults, shortages(c.memory.ledger.Check(p.wants, without), p.need)...)
}

// judgeNeed fills in key and need of the plan.
func (c *hostCrew) judgeNeed(p *plan, pc PoolConfig, k engine.Kind) {
	profile := engine.ProfileOf(k)
	p.key.Engine, p.key.Version = k.Name(), majorMinor(pc.EngineVersion)
	p.key.Ctx, p.key.Slots, p.key.KVType, p.key.Devices = pc.Ctx, pc.Slots, pc.KVType, len(p.units)
	if len(p.units) > 0 {
		p.key.Device = p.units[0].Device.Name
	}
	slots := pc.Slots
	if pc.Deterministic {
		slots = 1
	}
	e := fit.Load{
		Shape: fit.Shape{
			Tensors: uint64(max(p.shape.TensorBytes, 0)), Layers: p.shape.Layers, KVHeads: p.shape.KVHeads,
			KeyLength: p.shape.KeyLength, ValueLength: p.shape.ValueLength, Known: p.shape.Known,
		},
		Ctx: pc.Ctx, Slots: slots, KVType: pc.KVType, Devices: len(p.units), PerDevice: profile.PerDeviceOverhead,
	}.Estimated()
	if own, ok := k.(engine.Estimator); ok && e.Bytes > 0 && len(p.units) > 0 {
		r := engine.Request{Ctx: pc.Ctx, Slots: slots, KVType: pc.KVType, TensorSplit: pc.TensorSplit}
		for _, u := range p.units {
			r.Devices = append(r.Devices, u.UUID)
		}
		e.Bytes = own.EstimateVRAM(r, e.Weights, e.Cache)
	}
	p.need = c.memory.table.Need(p.key, pc.VRAMDeclared, e)
}

// shares divides the need among the units by the pool's split, or equally, or takes
// it from the memory of the host where no device is used.
func (p *plan) shares(pc PoolConfig) []fit.Want {
	if p.need.Bytes == 0 {
		return nil
	}
	if total := ramTotal(); p.cpu && total > 0 {
		return []fit.Want{{Device: fit.Device{ID: fit.Host, Total: total, Free: ramAvailable()}, Bytes: p.need.Bytes}}
	}
	var out []fit.Want
	for i, u := range p.units {
		share := 1 / float64(len(p.units))
		if len(pc.TensorSplit) == len(p.units) {
			share = pc.TensorSplit[i]
		}
		out = append(out, fit.Want{Device: fitDevice(u), Bytes: uint64(math.Ceil(float64(p.need.Bytes) * share))})
	}
	return out
}

// fitDevice is the unit as the ledger sees it: what is not known is not there.
func fitDevice(u gpuinfo.Unit) fit.Device {
	d := fit.Device{ID: u.UUID}
	if m := u.Memory(); m.Total != nil && m.Free != nil {
		d.Total, d.Free = *m.Total, *m.Free
	}
	return d
}

func shortages(short []fit.Shortage, need fit.Need) []Fault {
	var out []Fault
	for _, s := range short {
		code := InsufficientVRAM
		if s.Device == fit.Host {
			code = insufficientRAM
		}
		out = append(out, Fault{Code: code, Detail: "needs " + strconv.FormatUint(s.Need, 10) + " bytes (" + need.By + "), " +
			strconv.FormatUint(s.Free, 10) + " are free on " + s.Device})
	}
	return out
}

func (c *hostCrew) workersOf(pool string) map[string]bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := map[string]bool{}
	for id, w := range c.live {
		if w.cfg.ID == pool {
			out[string(id)] = true
		}
	}
	return out
}

// majorMinor is the part of a version by which memory is learned.
func majorMinor(v string) string {
	parts := strings.SplitN(v, ".", 3)
	return strings.Join(parts[:min(2, len(parts))], ".")
}

// tell reports trouble that nobody waits for.
func (c *hostCrew) tell(pool string, f failure) {
	if c.trouble != nil {
		c.trouble(poolregistry.PoolID(pool), f)
	}
}
