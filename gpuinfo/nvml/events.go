//go:build linux && cgo

package nvml

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"time"

	gonvml "github.com/NVIDIA/go-nvml/pkg/nvml"
	"github.com/llorch/llorch/gpuinfo"
)

const (
	// pollEvery bounds how late an event is, and how long the end of a context is
	// not seen. One long wait would keep the thread from every snapshot.
	pollEvery = 100 * time.Millisecond
	pollWait  = 1 // milliseconds inside the library
	maxBatch  = 64
	faults    = gonvml.EventTypeXidCriticalError | gonvml.EventTypeDoubleBitEccError
)

// Events yields critical XIDs and uncorrectable memory errors within about 100 ms.
// gpuinfo.ErrUnsupported: no device tells. While the driver hangs nothing comes, nor
// from a failure of a snapshot until the library can be started again; an error of the
// waiting itself ends the sequence.
func (p *Provider) Events(ctx context.Context) iter.Seq2[gpuinfo.Event, error] {
	return func(yield func(gpuinfo.Event, error) bool) {
		l := &listener{p: p, out: make(chan gpuinfo.Event, maxBatch+maxDevices)}
		// Without a context: the set must go even when its reader is cancelled. An error
		// means closed or hung: then the set goes with the library.
		defer func() { _ = p.worker.do(context.WithoutCancel(ctx), l.free) }()
		tick := time.NewTicker(pollEvery)
		defer tick.Stop()
		for {
			err := p.worker.do(ctx, l.poll)
			for len(l.out) > 0 {
				if !yield(<-l.out, nil) {
					return
				}
			}
			if _, stuck := errors.AsType[*stuckError](err); err != nil && !stuck {
				if ctx.Err() == nil {
					yield(gpuinfo.Event{}, fmt.Errorf("hear of events: %w", err))
				}
				return
			}
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
		}
	}
}

// listener is one event set; only the worker's goroutine uses it.
type listener struct {
	p       *Provider
	out     chan gpuinfo.Event // so that no event is lost when a poll is abandoned
	set     gonvml.EventSet    // nil: none
	session int                // of the library when the set was made, which it does not outlive
	devices []gpuinfo.Event    // who was registered
}

func (l *listener) listen() error {
	p := l.p
	if !p.start() {
		return fmt.Errorf("%s: %w", p.failure.Reason, gpuinfo.ErrUnsupported)
	}
	for _, symbol := range []string{"nvmlEventSetCreate", "nvmlEventSetWait_v2", "nvmlEventSetFree", "nvmlDeviceRegisterEvents", "nvmlDeviceGetSupportedEventTypes", "nvmlDeviceGetUUID"} {
		if !p.has(symbol) {
			return gpuinfo.ErrUnsupported
		}
	}
	set, ret := p.lib.EventSetCreate()
	if ret != gonvml.SUCCESS {
		return gpuinfo.ErrUnsupported
	}
	l.devices = nil
	count, _ := p.lib.DeviceGetCount()
	for i := range min(count, maxDevices) {
		h, ret := p.lib.DeviceGetHandleByIndex(i)
		if ret != gonvml.SUCCESS {
			continue
		}
		kinds, ret := h.GetSupportedEventTypes()
		if ret == gonvml.SUCCESS && kinds&faults != 0 && h.RegisterEvents(kinds&faults, set) == gonvml.SUCCESS {
			l.devices = append(l.devices, l.who(h))
		}
	}
	if len(l.devices) == 0 {
		set.Free()
		return gpuinfo.ErrUnsupported
	}
	l.set, l.session = set, p.session
	return nil
}

func (l *listener) free() error {
	if l.alive() {
		l.set.Free()
	}
	l.set = nil
	return nil
}

func (l *listener) alive() bool {
	return l.set != nil && l.p.open && l.session == l.p.session
}

func (l *listener) who(h gonvml.Device) (e gpuinfo.Event) {
	uuid, _ := h.GetUUID() // without an answer it is empty
	e.UUID = clean(uuid, maxText)
	if l.p.has("nvmlDeviceGetPciInfo_v3") {
		if pci, ret := h.GetPciInfo(); ret == gonvml.SUCCESS {
			e.BusID = busID(pci)
		}
	}
	return e
}

// poll takes what has come in. A fault whose device does not say who it is counts
// for all, since it is one of them.
func (l *listener) poll() error {
	if !l.alive() {
		if err := l.listen(); err != nil && l.set == nil {
			return err
		} else if err != nil {
			return nil // the library was stopped after a failure, and may come back
		}
	}
	for len(l.out) < maxBatch {
		data, ret := l.set.Wait(pollWait)
		switch ret {
		case gonvml.SUCCESS:
		case gonvml.ERROR_TIMEOUT, gonvml.ERROR_GPU_IS_LOST: // snapshots say which one is lost
			return nil
		default:
			return fmt.Errorf("nvml code %d", ret)
		}
		from := l.devices
		if data.Device != nil {
			if e := l.who(data.Device); e.UUID != "" || e.BusID != "" {
				from = []gpuinfo.Event{e}
			}
		}
		for _, e := range from {
			e.At = time.Now().UTC().Round(0)
			switch data.EventType {
			case gonvml.EventTypeXidCriticalError:
				e.XID = int(data.EventData)
			case gonvml.EventTypeDoubleBitEccError:
				e.Action = gpuinfo.DrainReset
			default:
				continue
			}
			l.out <- e // has room: the capacity is a batch and one event per device
		}
	}
	return nil
}
