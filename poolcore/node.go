package poolcore

import (
	"context"
	"fmt"
	"log/slog"
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
	return poolregistry.Registration{
		NodeID: h.cfg.NodeID, Pools: h.statuses(), Schedule: h.schedule.get(),
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
	b := poolregistry.Beat{NodeID: h.cfg.NodeID, Pools: h.statuses(), GPUs: h.contractGPUs(), Schedule: h.schedule.get()}
	h.mu.Lock()
	b.Events, h.events = h.events, nil
	h.mu.Unlock()
	return b, nil
}

// Reply takes the scheduler's answer to a beat: how many requests it has running
// in each pool, for as long as the granted timeout, and what an operator wants of
// the node: draining and drained drain all pools, anything else undoes that. It
// does not block.
func (h *Host) Reply(r poolregistry.BeatReply) {
	var until time.Time
	if r.TimeoutMS > 0 {
		until = time.Now().Add(time.Duration(r.TimeoutMS) * time.Millisecond)
	}
	for p := range h.Pools() {
		n := min(max(r.Active[p.id], 0), maxReplicas*maxSlots)
		p.note(func(m *mailbox) { m.active = &activeNews{n: n, until: until} })
	}
	h.schedule.set(r.Schedule, time.Duration(max(r.DrainMS, 0))*time.Millisecond)
}

func (h *Host) statuses() []poolregistry.Pool {
	out := []poolregistry.Pool{}
	for p := range h.Pools() {
		out = append(out, p.Status())
	}
	return out
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

// failed tells log, observers, metrics and the next beat about a worker.
func (h *Host) failed(ctx context.Context, p *Pool, w *worker, f effFailed) {
	var id poolregistry.WorkerID
	if w != nil {
		id = w.id
		h.queue(poolregistry.Event{
			WorkerID: id, PoolID: p.id, ExitCode: exitCode(f.fail), Signal: f.fail.signal, Class: f.fail.class,
			Message: f.fail.message, UptimeMS: f.uptime.Milliseconds(),
		})
	}
	h.cfg.Logger.WarnContext(ctx, "worker failed",
		slog.String("pool", string(p.id)), slog.String("worker", string(id)), slog.String("class", f.fail.class),
		slog.String("last_error", f.fail.message), slog.Int("exit_code", f.fail.exitCode), slog.String("signal", f.fail.signal),
		slog.Int("restart_count", p.state.restarts), slog.Int64("backoff_ms", f.delay.Milliseconds()))
	for _, line := range f.fail.tail {
		h.cfg.Logger.DebugContext(ctx, "engine", slog.String("worker", string(id)), slog.String("line", line))
	}
	h.report(Event{Kind: "crash", Pool: p.id, Worker: id, Class: f.fail.class, Detail: f.fail.message, Took: f.uptime})
	h.nudge()
}

// exitCode is absent where the process did not end by itself.
func exitCode(f failure) *int {
	if f.exitCode < 0 {
		return nil
	}
	return new(f.exitCode)
}

// queue keeps the newest maxEvents failures for the next beat.
func (h *Host) queue(e poolregistry.Event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.lastID++
	e.ID = h.lastID
	h.events = append(h.events, e)
	if over := len(h.events) - maxEvents; over > 0 {
		h.events = slices.Delete(h.events, 0, over)
		h.stats.dropped(over)
	}
}

func (h *Host) moved(ctx context.Context, p *Pool, w *worker, f effMoved) {
	e := Event{Kind: "transition", Pool: p.id, From: f.from, To: f.to, Detail: f.why, Took: f.took}
	pid := 0
	if w != nil {
		e.Worker = w.id
		if w.proc != nil {
			pid = w.proc.PID()
		}
	}
	if f.to == ready && f.why == "ready" {
		h.stats.startTook(p.config().Engine, f.took)
	}
	h.cfg.Logger.InfoContext(ctx, "worker",
		slog.String("pool", string(p.id)), slog.String("worker", string(e.Worker)), slog.Int("pid", pid),
		slog.String("from", f.from), slog.String("why", f.why), slog.String("to", f.to), slog.Int64("took_ms", f.took.Milliseconds()),
		slog.String("devices", p.config().Devices))
	h.report(e)
}

func (h *Host) drained(ctx context.Context, p *Pool, f effDrained) {
	o := f.outcome
	h.stats.drained(o)
	h.cfg.Logger.InfoContext(ctx, "drain", slog.String("pool", string(p.id)), slog.Bool("forced", o.Forced),
		slog.Int("active_left", o.ActiveLeft), slog.Int64("took_ms", o.Duration.Milliseconds()))
	e := Event{Kind: "drain", Pool: p.id, Took: o.Duration}
	if o.Forced {
		e.Detail = "forced"
	}
	h.report(e)
}

func (h *Host) reloaded(ctx context.Context, p *Pool, f effReloaded) {
	e := Event{Kind: "reload", Pool: p.id, Took: f.took}
	if f.fail != nil {
		e.Detail, e.Class = string(f.fail.errorCode()), f.fail.class
	}
	h.stats.reloaded(e.Detail)
	h.cfg.Logger.InfoContext(ctx, "reload", slog.String("pool", string(p.id)), slog.String("error", e.Detail), slog.Int64("took_ms", f.took.Milliseconds()))
	h.report(e)
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
