package poolcore

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/llorch/llorch/gpuinfo"
	"github.com/llorch/llorch/poolcore/catalog"
	"github.com/llorch/llorch/poolcore/engine"
	"github.com/llorch/llorch/poolregistry"
)

// deviceHealth remembers what happened to the devices, and what the pools on them
// were told.
type deviceHealth struct {
	mu      sync.Mutex
	tracker gpuinfo.Tracker
	asked   map[string]bool // devices whose wish for a restart was passed on
	told    map[poolregistry.PoolID]bool
}

// attend looks after the devices, the schedule and retired models until ctx ends.
func (h *Host) attend(ctx context.Context) {
	every := time.NewTicker(h.cfg.Timing.Health)
	defer every.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-h.schedule.wake:
		case <-every.C:
			_ = h.look(ctx) // only the end of ctx is an error
			h.retire(ctx)
		}
		h.keepSchedule(ctx)
	}
}

// hear passes on the faults that a driver reports as they happen.
func (h *Host) hear(ctx context.Context) {
	source, ok := h.cfg.Devices.(gpuinfo.EventSource)
	for ok && ctx.Err() == nil {
		for e, err := range source.Events(ctx) {
			if err != nil {
				h.cfg.Logger.InfoContext(ctx, "no news from the devices", slog.Any("error", err))
				return // what snapshots say still counts
			}
			h.happened(ctx, e)
		}
		select { // a source that ended without an error is asked again, slowly
		case <-ctx.Done():
		case <-time.After(h.cfg.Timing.Health):
		}
	}
}

// happened takes one event of a device.
func (h *Host) happened(ctx context.Context, e gpuinfo.Event) {
	action := e.Action
	name := ""
	if e.XID != 0 {
		var usual gpuinfo.Action
		if name, usual = gpuinfo.LookupXID(e.XID); action == "" {
			action = usual
		}
	}
	h.cfg.Logger.WarnContext(ctx, "device event", slog.String("device", e.UUID), slog.Int("xid", e.XID), slog.String("name", name), slog.String("action", string(action)))
	h.health.mu.Lock()
	h.health.tracker.Event(e, time.Now())
	h.health.mu.Unlock()
	if action == gpuinfo.RestartApp {
		h.eachOn(func(u gpuinfo.Unit) bool {
			return u.UUID == e.UUID || u.Device.UUID == e.UUID || e.BusID != "" && u.Device.BusID == e.BusID
		},
			func(p *Pool) { h.noteDevice(p, true) })
	}
	if s := h.gpus.Load(); s != nil {
		h.see(*s)
	}
}

// see completes a snapshot by what is remembered, shows it, and tells the
// pools what it means for them.
func (h *Host) see(s gpuinfo.Snapshot) {
	h.health.mu.Lock()
	s = h.health.tracker.Observe(s, time.Now())
	h.health.mu.Unlock()
	h.gpus.Store(&s)
	h.judge(s)
}

// judge tells each pool when one of its devices fell ill or recovered. Where the
// provider has no events, the wish for a restart is read from the snapshot.
func (h *Host) judge(s gpuinfo.Snapshot) {
	_, events := h.cfg.Devices.(gpuinfo.EventSource)
	restart := map[string]bool{}
	h.health.mu.Lock()
	if h.health.asked == nil {
		h.health.asked, h.health.told = map[string]bool{}, map[poolregistry.PoolID]bool{}
	}
	for _, d := range s.Devices {
		asks := d.Health.Recovery == gpuinfo.RestartApp
		restart[d.UUID] = asks && !h.health.asked[d.UUID] && !events
		h.health.asked[d.UUID] = asks
	}
	h.health.mu.Unlock()
	for p := range h.Pools() {
		units, ok := p.units(s)
		if !ok {
			continue // not on any device, or the mask cannot be read now: as before
		}
		sick, again := false, false
		for _, u := range units {
			sick = sick || ill(u.Device.Health)
			again = again || restart[u.Device.UUID]
		}
		h.health.mu.Lock()
		changed := h.health.told[p.id] != sick
		h.health.told[p.id] = sick
		h.health.mu.Unlock()
		if changed || again {
			h.noteDevice(p, again)
		}
	}
}

func (h *Host) noteDevice(p *Pool, restart bool) {
	h.health.mu.Lock()
	sick := h.health.told[p.id]
	h.health.mu.Unlock()
	p.note(func(m *mailbox) { m.noteDevice(evDevice{sick: sick, restart: restart}) })
}

// ill reports whether nothing can run on a device until somebody brings it back.
func ill(d gpuinfo.Health) bool {
	switch d.Recovery {
	case gpuinfo.DrainReset, gpuinfo.Reset, gpuinfo.Reboot, gpuinfo.Contact:
		return true
	}
	return d.State == gpuinfo.Broken || d.State == gpuinfo.Lost
}

// eachOn does something for the pools on the units that match.
func (h *Host) eachOn(match func(gpuinfo.Unit) bool, do func(*Pool)) {
	s := h.gpus.Load()
	if s == nil {
		return
	}
	for p := range h.Pools() {
		units, _ := p.units(*s)
		for _, u := range units {
			if match(u) {
				do(p)
				break
			}
		}
	}
}

// units are what the pool's engines may use; false: it has no process, it uses no
// device, or that cannot be told now.
func (p *Pool) units(s gpuinfo.Snapshot) ([]gpuinfo.Unit, bool) {
	v := p.view.Load()
	if v.cfg.ID == "" || v.kind == nil {
		return nil, false
	}
	profile := engine.ProfileOf(v.kind)
	_, simulated := v.kind.(engine.Simulator)
	if profile.External || simulated && v.cfg.Devices == "" {
		return nil, false
	}
	mask, err := gpuinfo.ParseMask(v.cfg.Devices)
	if err != nil || mask.CPUOnly() {
		return nil, false
	}
	units, err := mask.Resolve(s)
	return units, err == nil && len(units) > 0
}

// retire drains the pools whose model may not be used any more.
func (h *Host) retire(ctx context.Context) {
	if h.cfg.Catalog == nil {
		return
	}
	for p := range h.Pools() {
		v := p.view.Load()
		if v.cfg.Model == "" || v.cfg.ModelPath != "" || v.status.Draining || v.phase == stopped || v.phase == stopping {
			continue
		}
		m, err := h.cfg.Catalog.Locate(v.cfg.Model)
		if err != nil || m.State != catalog.Retired {
			continue
		}
		h.cfg.Logger.InfoContext(ctx, "model is retired", slog.String("pool", string(p.id)))
		p.beginDrain(ctx, max(time.Until(m.RetireAt), 0))
	}
}

// beginDrain asks for a drain and does not wait for it.
func (p *Pool) beginDrain(ctx context.Context, within time.Duration) {
	m := message{ev: evDrain{op: p.host.nextOp(), within: within}, wait: waiter{done: func(reply) bool { return true }}}
	_ = p.send(ctx, m) // the end of ctx or of the loop: nothing is left to be drained
}

// schedule is what an operator wants of this node, by the registry's replies.
type schedule struct {
	wake chan struct{} // capacity 1

	mu     sync.Mutex
	now    poolregistry.Schedule
	by     time.Time                    // while draining: its deadline
	byNode map[poolregistry.PoolID]bool // pools that were drained for it
}

func newSchedule() schedule {
	return schedule{wake: make(chan struct{}, 1), byNode: map[poolregistry.PoolID]bool{}}
}

// set takes the schedule of a reply.
func (s *schedule) set(to poolregistry.Schedule, within time.Duration) {
	s.mu.Lock()
	if to != s.now {
		s.by = time.Now().Add(within)
	}
	s.now = to
	s.mu.Unlock()
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

func (s *schedule) get() poolregistry.Schedule {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.now
}

// closed reports whether nothing new is started on this node.
func (s *schedule) closed() bool {
	now := s.get()
	return now == poolregistry.Draining || now == poolregistry.Drained
}

// keepSchedule drains what the schedule wants drained, pools that were busy with
// something else until now among them, and undoes it when it is over.
func (h *Host) keepSchedule(ctx context.Context) {
	s := &h.schedule
	closed := s.closed()
	for p := range h.Pools() {
		v := p.view.Load()
		s.mu.Lock()
		byNode, left := s.byNode[p.id], max(time.Until(s.by), 0)
		s.mu.Unlock()
		switch {
		case closed && !v.status.Draining && v.phase != stopped && v.phase != stopping:
			p.beginDrain(ctx, left)
			byNode = true
		case !closed && byNode:
			m := message{ev: evUndrain{op: h.nextOp()}, wait: waiter{done: func(reply) bool { return true }}}
			_ = p.send(ctx, m)
			byNode = false
		default:
			continue
		}
		s.mu.Lock()
		s.byNode[p.id] = byNode
		s.mu.Unlock()
	}
}
