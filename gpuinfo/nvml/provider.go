//go:build linux && cgo

package nvml

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	gonvml "github.com/NVIDIA/go-nvml/pkg/nvml"
	"github.com/llorch/llorch/gpuinfo"
)

const (
	retryAfter = 10 * time.Second // between attempts to load and start the library
	maxDevices = 256
)

// Provider asks the library. It is safe for concurrent use.
type Provider struct {
	cfg    Config
	lib    gonvml.Interface
	worker *worker

	// All that follows is touched by the worker's goroutine only.
	open    bool
	session int              // how often it was started
	failure gpuinfo.Snapshot // why it is not open
	retry   time.Time        // not before
	symbols map[string]bool
	seen    map[int]gpuinfo.Device // who had which index
}

var (
	_ gpuinfo.Provider      = (*Provider)(nil)
	_ gpuinfo.ProcessLister = (*Provider)(nil)
	_ gpuinfo.EventSource   = (*Provider)(nil)
)

// New checks cfg and loads nothing. The caller closes the provider.
func New(cfg Config) (*Provider, error) {
	if err := cfg.complete(); err != nil {
		return nil, err
	}
	var options []gonvml.LibraryOption
	if cfg.Library != "" {
		options = append(options, gonvml.WithLibraryPath(cfg.Library))
	}
	return newProvider(cfg, gonvml.New(options...)), nil
}

func newProvider(cfg Config, lib gonvml.Interface) *Provider {
	p := &Provider{cfg: cfg, lib: lib}
	p.worker = newWorker(cfg.Timeout, p.shut)
	return p
}

func (p *Provider) take(ctx context.Context) (gpuinfo.Snapshot, error) {
	var s gpuinfo.Snapshot
	err := p.worker.do(ctx, func() error { s = p.ask(); return nil })
	if stuck, ok := errors.AsType[*stuckError](err); ok {
		return gpuinfo.Snapshot{Reason: stuck.reason, Detail: stuck.Error()}, nil
	}
	if err != nil {
		return gpuinfo.Snapshot{}, err // s may still be written
	}
	return s, nil
}

// Processes lists the programs that compute on the devices and slices.
func (p *Provider) Processes(ctx context.Context) ([]gpuinfo.Process, error) {
	var ps []gpuinfo.Process
	err := p.worker.do(ctx, func() (err error) {
		ps, err = p.processes()
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list processes: %w", err)
	}
	return ps, nil
}

// Close unloads the library and ends the provider's goroutine; every later call
// answers gpuinfo.ErrClosed. While the driver hangs it waits for the time limit, and
// the goroutine ends when the driver lets go.
func (p *Provider) Close() error {
	p.worker.close()
	return nil
}

// start loads and starts the library, at most once in retryAfter.
func (p *Provider) start() bool {
	if p.open || time.Now().Before(p.retry) {
		return p.open
	}
	p.symbols = map[string]bool{}
	if ret := p.lib.Init(); ret != gonvml.SUCCESS {
		p.fail("nvmlInit", ret)
		return false
	}
	p.open = true
	p.session++
	return true
}

// fail ends the use of the library after a call that makes all others pointless.
func (p *Provider) fail(call string, ret gonvml.Return) {
	p.shut()
	reason, detail := reasonOf(ret)
	p.failure, p.retry = gpuinfo.Snapshot{Reason: reason, Detail: detail}, time.Now().Add(retryAfter)
	p.cfg.Logger.Debug("nvml call failed", slog.String("call", call), slog.Int("code", int(ret)))
}

func (p *Provider) shut() {
	if p.open {
		p.lib.Shutdown()
	}
	p.open = false
}

// has reports whether the library exports the symbol; calling one that it does not
// export would end this process.
func (p *Provider) has(symbol string) bool {
	known, asked := p.symbols[symbol]
	if !asked {
		known = p.lib.Extensions().LookupSymbol(symbol) == nil
		p.symbols[symbol] = known
	}
	return known
}

// ask takes one snapshot.
func (p *Provider) ask() gpuinfo.Snapshot {
	if !p.start() {
		return p.failure
	}
	count, ret := p.lib.DeviceGetCount()
	if ret != gonvml.SUCCESS {
		p.fail("nvmlDeviceGetCount", ret)
		return p.failure
	}
	s := gpuinfo.Snapshot{Reason: gpuinfo.NoDevice, Detail: "the library lists no device"}
	if p.has("nvmlSystemGetDriverVersion") {
		v, _ := p.lib.SystemGetDriverVersion()
		s.Driver = clean(v, maxText)
	}
	before, skipped := p.seen, max(0, count-maxDevices)
	p.seen = map[int]gpuinfo.Device{}
	for i := range min(count, maxDevices) {
		d := p.device(i, before[i])
		if d.UUID == "" && d.BusID == "" {
			skipped++
			continue
		}
		d.Driver, p.seen[i] = s.Driver, gpuinfo.Device{UUID: d.UUID, BusID: d.BusID, Name: d.Name, PCIID: d.PCIID}
		s.Devices = append(s.Devices, d)
	}
	if skipped > 0 {
		s.Reason, s.Detail = gpuinfo.Failed, "no device could be identified"
	}
	s.Conclude(skipped)
	return s
}
