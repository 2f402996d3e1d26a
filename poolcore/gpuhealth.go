package poolcore

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/llorch/llorch/gpuinfo"
	"github.com/llorch/llorch/poolcore/catalog"
	"github.com/llorch/llorch/poolcore/engine"
)

// deviceHealth remembers what happened to the devices.
type deviceHealth struct {
	mu      sync.Mutex
	tracker gpuinfo.Tracker
	asked   map[string]bool // devices whose wish for a restart is known
}

// attend looks after the devices and retired models until ctx ends.
func (h *Host) attend(ctx context.Context) {
	every := time.NewTicker(h.cfg.Timing.Health)
	defer every.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-every.C:
			_ = h.look(ctx) // only the end of ctx is an error
			h.retire(ctx)
		}
	}
}

// hear passes on the faults that a driver reports as they happen. A source that
// fails is asked again, slowly.
func (h *Host) hear(ctx context.Context) {
	source, ok := h.cfg.Devices.(gpuinfo.EventSource)
	again := time.NewTicker(h.cfg.Timing.Health)
	defer again.Stop()
	for level := slog.LevelWarn; ok && ctx.Err() == nil; level = slog.LevelDebug { // once is enough
		for e, err := range source.Events(ctx) {
			switch {
			case errors.Is(err, gpuinfo.ErrUnsupported):
				h.cfg.Logger.DebugContext(ctx, "no news from the devices", slog.Any("error", err))
				return // what snapshots say counts
			case err != nil:
				h.cfg.Logger.Log(ctx, level, "no news from the devices", slog.Any("error", err))
			default:
				h.happened(ctx, e)
			}
		}
		select {
		case <-ctx.Done():
		case <-again.C:
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
	defer h.health.mu.Unlock()
	h.health.tracker.Event(e, time.Now())
	s := h.gpus.Load()
	if s == nil {
		return
	}
	h.seeLocked(*s, func(u gpuinfo.Unit) bool {
		return action == gpuinfo.RestartApp && (u.UUID == e.UUID || u.Device.UUID == e.UUID || e.BusID != "" && u.Device.BusID == e.BusID)
	})
}

// see takes a snapshot, unless a newer one was taken meanwhile.
func (h *Host) see(s gpuinfo.Snapshot) {
	h.health.mu.Lock()
	defer h.health.mu.Unlock()
	if last := h.gpus.Load(); last == nil || !s.At.Before(last.At) {
		h.seeLocked(s, func(u gpuinfo.Unit) bool { return asks(u.Device) && !h.health.asked[u.Device.UUID] })
	}
}

// seeLocked completes a snapshot by what is remembered, shows it, and tells each pool
// when one of its devices fell ill, recovered, or has to be left by what runs on it.
func (h *Host) seeLocked(s gpuinfo.Snapshot, restart func(gpuinfo.Unit) bool) {
	s = h.health.tracker.Observe(s, time.Now())
	h.gpus.Store(&s)
	for p := range h.Pools() {
		v := p.view.Load()
		units, ok := unitsOf(v.edition, s)
		if !ok {
			continue // not on any device, or the mask cannot be read now: as before
		}
		e := evDevice{jitter: jitter()}
		for _, u := range units {
			e.sick = e.sick || ill(u.Device.Health)
			e.restart = e.restart || restart(u)
		}
		if e.sick != v.sick || e.restart {
			p.note(e)
		}
	}
	h.health.asked = map[string]bool{}
	for _, d := range s.Devices {
		h.health.asked[d.UUID] = asks(d)
	}
}

// asks reports whether a device wants its programs to be started again.
func asks(d gpuinfo.Device) bool { return d.Health.Recovery == gpuinfo.RestartApp }

// sick reports whether a device of a configuration is known to be ill.
func (h *Host) sick(ed *edition) bool {
	s := h.gpus.Load()
	if s == nil {
		return false
	}
	units, _ := unitsOf(ed, *s)
	return slices.ContainsFunc(units, func(u gpuinfo.Unit) bool { return ill(u.Device.Health) })
}

// ill reports whether nothing can run on a device until somebody brings it back.
func ill(d gpuinfo.Health) bool {
	switch d.Recovery {
	case gpuinfo.DrainReset, gpuinfo.Reset, gpuinfo.Reboot, gpuinfo.Contact:
		return true
	}
	return d.State == gpuinfo.Broken || d.State == gpuinfo.Lost
}

// unitsOf are what the engines of a configuration may use; false: it has no process,
// it uses no device, or that cannot be told now.
func unitsOf(ed *edition, s gpuinfo.Snapshot) ([]gpuinfo.Unit, bool) {
	if ed.kind == nil || engine.ProfileOf(ed.kind).External {
		return nil, false
	}
	if _, simulated := ed.kind.(engine.Simulator); simulated && ed.cfg.Devices == "" {
		return nil, false
	}
	mask, err := gpuinfo.ParseMask(ed.cfg.Devices)
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
		p.note(evDrain{within: max(time.Until(m.RetireAt), 0)})
	}
}
