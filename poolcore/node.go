package poolcore

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"runtime"
	"slices"
	"time"

	"github.com/llorch/llorch/gpuinfo"
	"github.com/llorch/llorch/poolregistry"
)

// Event is one thing that happened.
type Event struct {
	Kind     string // transition, crash, drain, reload or fetch
	Pool     poolregistry.PoolID
	Worker   poolregistry.WorkerID // empty: there was no process yet
	From, To string                // of a transition
	Class    string                // of a crash: one of package engine's Class constants
	// Detail is the message of a crash, the cause of a transition, "forced" or "" of a
	// drain, and the error's code or "" of a reload or fetch.
	Detail string
	Took   time.Duration // since it began
}

// devicePatience is how long a beat waits for the devices before it carries their
// last numbers: news about a crash must not wait for a slow driver.
const devicePatience = 200 * time.Millisecond

// Describe says what this node is: its id, hardware and pools. The program adds
// address, region, labels and version. Before Run has taken over the engines of an
// earlier run it waits for that: an engine that is not mentioned counts as lost with
// all that runs there.
func (h *Host) Describe(ctx context.Context) (poolregistry.Registration, error) {
	select {
	case <-h.started:
	case <-h.stopped:
		return poolregistry.Registration{}, fmt.Errorf("describe node: %w", HostStopped)
	case <-ctx.Done():
		return poolregistry.Registration{}, fmt.Errorf("describe node: %w", ctx.Err())
	}
	if err := h.look(ctx); err != nil {
		return poolregistry.Registration{}, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	pools, _ := h.statusesLocked()
	return poolregistry.Registration{
		NodeID: h.cfg.NodeID, Pools: pools, Schedule: h.schedule,
		Capabilities: poolregistry.Capabilities{GPUs: h.contractGPUs(), CPUCores: runtime.NumCPU(), RAMTotalBytes: ramTotal()},
	}, nil
}

// Snapshot says how this node is: pools, GPUs and the failures of workers since
// the last call. A driver that does not answer at once leaves the GPUs as they were
// last seen. The caller owns those events from then on: the next call does not
// return them again.
func (h *Host) Snapshot(ctx context.Context) (poolregistry.Beat, error) {
	hurry, cancel := context.WithTimeout(ctx, devicePatience)
	defer cancel()
	if err := h.look(hurry); err != nil && ctx.Err() != nil {
		return poolregistry.Beat{}, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	pools, at := h.statusesLocked()
	b := poolregistry.Beat{NodeID: h.cfg.NodeID, Pools: pools, GPUs: h.contractGPUs(), Schedule: h.schedule, Events: h.events}
	h.events, h.shown = nil, at
	return b, nil
}

// Reply takes the scheduler's answer to the last [Host.Snapshot]: how many requests it
// has running in each pool, for as long as the granted timeout, and what an operator
// wants of the node: draining and drained drain all pools, those that are busy with
// something else as soon as they are not; anything else undoes that. It does not
// block.
func (h *Host) Reply(r poolregistry.BeatReply) {
	const longestMS = int64(longest / time.Millisecond)
	now := time.Now()
	h.mu.Lock()
	if shut(r.Schedule) && !shut(h.schedule) {
		h.closeBy = now.Add(time.Duration(min(max(r.DrainMS, 0), longestMS)) * time.Millisecond)
	}
	h.schedule = r.Schedule
	closeBy, shown := h.closeBy, h.shown
	h.mu.Unlock()
	for p := range h.Pools() {
		e := evReply{
			active: min(max(r.Active[p.id], 0), maxReplicas*maxSlots), until: never, asOf: shown[p.id],
			closed: shut(r.Schedule), closeBy: p.clock(closeBy),
		}
		if r.TimeoutMS > 0 {
			e.until = p.clock(now.Add(time.Duration(min(r.TimeoutMS, longestMS)) * time.Millisecond))
		}
		p.note(e)
	}
}

// shut reports whether a node with that schedule takes no work.
func shut(s poolregistry.Schedule) bool {
	return s == poolregistry.Draining || s == poolregistry.Drained
}

// statusesLocked shows all pools, and says as of when by the clock of each.
func (h *Host) statusesLocked() (out []poolregistry.Pool, at map[poolregistry.PoolID]time.Duration) {
	out, at = []poolregistry.Pool{}, map[poolregistry.PoolID]time.Duration{}
	for _, id := range slices.Sorted(maps.Keys(h.pools)) {
		p := h.pools[id]
		at[id] = p.view.Load().at // what Status shows is as new, or newer
		out = append(out, p.Status())
	}
	return out, at
}

// look takes a snapshot of the devices; only the end of ctx is an error.
func (h *Host) look(ctx context.Context) error {
	if h.devices == nil {
		return ctx.Err()
	}
	s, err := h.devices.Snapshot(ctx)
	if err != nil {
		return err
	}
	h.see(s)
	return nil
}

// vram is what the usable devices had when they were last asked.
func (h *Host) vram() (total, free uint64) {
	s := h.gpus.Load()
	if s == nil {
		return 0, 0
	}
	total, free = s.Totals()
	return total, min(free, total)
}

func (h *Host) contractGPUs() []poolregistry.GPU {
	s := h.gpus.Load()
	if s == nil {
		return nil
	}
	out := make([]poolregistry.GPU, 0, len(s.Devices))
	for _, d := range s.Devices {
		out = append(out, contractGPU(d))
	}
	return out
}

func contractGPU(d gpuinfo.Device) poolregistry.GPU {
	g := poolregistry.GPU{
		DeviceID: d.Index, UUID: d.UUID, Name: d.Name, Vendor: d.Vendor, MemoryKind: string(d.Memory.Kind),
		VRAMTotalBytes: d.Memory.Total, VRAMFreeBytes: d.Memory.Free, VRAMReservedBytes: d.Memory.Reserved,
		ComputeCapability: d.Compute.String(), DriverVersion: d.Driver, Health: string(d.Health.State), Recovery: string(d.Health.Recovery),
	}
	if g.MemoryKind == "" {
		g.MemoryKind = "unknown"
	}
	if g.Recovery == "" {
		g.Recovery = "none"
	}
	if d.TempC != nil {
		g.TemperatureC = new(float64(*d.TempC))
	}
	if d.UtilPercent != nil {
		g.UtilizationPercent = new(float64(*d.UtilPercent))
	}
	return g
}

// note tells log, metrics, observers and the next beat what happened in a pool.
func (h *Host) note(ctx context.Context, p *Pool, f effect) {
	e := Event{Pool: p.id}
	level, last := slog.LevelInfo, failure{}
	log := []slog.Attr{slog.String("pool", string(p.id)), slog.Int("restart_count", p.state.restarts), slog.String("devices", p.state.edition.cfg.Devices)}
	switch f := f.(type) {
	case effFailed:
		e.Kind, e.Class, e.Detail, e.Took = "crash", f.fail.class, f.fail.message, f.uptime
		level, last = slog.LevelWarn, f.fail
		log = append(log, slog.Int("exit_code", f.fail.exitCode), slog.String("signal", f.fail.signal), slog.Int64("backoff_ms", f.delay.Milliseconds()))
		h.queue(p, f)
	case effMoved:
		e.Kind, e.From, e.To, e.Detail, e.Took = "transition", f.from, f.to, f.why, f.took
		if f.to == ready && f.why == "ready" {
			h.stats.startTook(p.state.edition.cfg.Engine, f.took)
		}
	case effDrained:
		e.Kind, e.Took = "drain", f.outcome.Duration
		if f.outcome.Forced {
			e.Detail = "forced"
		}
		log = append(log, slog.Int("active_left", f.outcome.ActiveLeft))
		h.stats.count(func(s *Stats) {
			s.Drains++
			s.DrainSeconds = s.DrainSeconds.add(e.Took)
		})
	case effReloaded:
		e.Kind, e.Took = "reload", f.took
		if f.fail != nil {
			e.Detail, e.Class, last = string(f.fail.errorCode()), f.fail.class, *f.fail
		}
		h.stats.count(func(s *Stats) {
			if f.fail == nil {
				s.Reloads++
			} else {
				s.ReloadFailures[e.Detail]++
			}
		})
	}
	if g, ok := f.(interface{ attempt() gen }); ok && p.workers[g.attempt()] != nil {
		w := p.workers[g.attempt()]
		e.Worker = w.id
		log = append(log, slog.String("worker", string(w.id)), slog.Int("pid", w.pid()))
	}
	h.cfg.Logger.LogAttrs(ctx, level, e.Kind, append(log, slog.String("from", e.From), slog.String("to", e.To), slog.String("class", e.Class),
		slog.String("detail", e.Detail), slog.String("last_error", last.message), slog.Int64("took_ms", e.Took.Milliseconds()))...)
	for _, line := range last.tail {
		h.cfg.Logger.DebugContext(ctx, "engine", slog.String("worker", string(e.Worker)), slog.String("line", line))
	}
	h.report(e)
}

// pid is that of the worker's process; 0: it has none here.
func (w *worker) pid() int {
	if w.proc == nil {
		return 0
	}
	return w.proc.PID()
}

// queue keeps the newest maxEvents failures of workers for the next beat.
func (h *Host) queue(p *Pool, f effFailed) {
	w := p.workers[f.gen]
	if w == nil {
		return // nothing ran
	}
	e := poolregistry.Event{
		WorkerID: w.id, PoolID: p.id, Signal: f.fail.signal, Class: f.fail.class, Message: f.fail.message, UptimeMS: f.uptime.Milliseconds(),
		VRAMReleasedBytes: w.took.Load(),
	}
	if f.fail.exitCode >= 0 { // it ended by itself
		e.ExitCode = new(f.fail.exitCode)
	}
	if len(w.plan.units) > 0 {
		e.GPU = w.plan.units[0].UUID
	}
	h.mu.Lock()
	h.lastID++
	e.ID = h.lastID
	h.events = append(h.events, e)
	over := max(len(h.events)-maxEvents, 0)
	h.events = slices.Delete(h.events, 0, over)
	h.mu.Unlock()
	h.stats.dropped(over)
	h.nudge()
}

func (h *Host) nudge() {
	if h.cfg.Nudge != nil {
		h.cfg.Nudge()
	}
}

// report hands an event to the observer's goroutine, or drops and counts it.
func (h *Host) report(e Event) {
	if h.cfg.Observe == nil {
		return
	}
	select {
	case h.observe <- e:
	default:
		h.stats.dropped(1)
	}
}

// tell calls the observer outside every loop, and to the end of what happened.
func (h *Host) tell(ctx context.Context, done chan<- struct{}) {
	defer close(done)
	for {
		select {
		case e := <-h.observe:
			h.cfg.Observe(e)
		case <-ctx.Done():
			for {
				select {
				case e := <-h.observe:
					h.cfg.Observe(e)
				default:
					return
				}
			}
		}
	}
}
