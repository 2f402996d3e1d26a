// Package gpuinfotest has machines with GPUs that need no hardware, for tests of
// programs that use package gpuinfo, and [TestProvider], the conformance suite for
// implementations of gpuinfo.Provider.
//
// Machines change only when a test says so, and are safe for concurrent use.
package gpuinfotest

import (
	"context"
	"iter"
	"slices"
	"sync"
	"time"

	"github.com/llorch/llorch/gpuinfo"
)

// maxEvents is how many injected events a machine keeps.
const maxEvents = 1 << 10

// Machine is a machine with GPUs. It implements gpuinfo.Provider, ProcessLister and
// EventSource. Methods that take an id accept what gpuinfo.Snapshot.Lookup does and
// the UUID of a MIG slice; they panic when the machine has no such device, because
// the test that asks is wrong.
type Machine struct {
	name   string
	driver string

	mu        sync.Mutex
	devices   []gpuinfo.Device
	broken    gpuinfo.Snapshot // what is said instead while Reason is set
	processes []gpuinfo.Process
	events    []gpuinfo.Event
	first     int           // number of events[0] among all that were ever injected
	changed   chan struct{} // closed when an event arrives or the machine is closed
	closed    bool
}

var (
	_ gpuinfo.Provider      = (*Machine)(nil)
	_ gpuinfo.ProcessLister = (*Machine)(nil)
	_ gpuinfo.EventSource   = (*Machine)(nil)
)

func newMachine(name, driver string, devices ...gpuinfo.Device) *Machine {
	for i := range devices {
		devices[i].Index, devices[i].Driver = i, driver
	}
	return &Machine{name: name, driver: driver, devices: devices, changed: make(chan struct{})}
}

// Name is the name of the constructor, in lower case.
func (m *Machine) Name() string { return m.name }

// Snapshot gives the present state of the machine.
func (m *Machine) Snapshot(ctx context.Context) (gpuinfo.Snapshot, error) {
	if err := ctx.Err(); err != nil {
		return gpuinfo.Snapshot{}, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return gpuinfo.Snapshot{}, gpuinfo.ErrClosed
	}
	s := m.broken
	if s.Reason == "" {
		s = gpuinfo.Snapshot{Devices: m.devices, Driver: m.driver, Reason: gpuinfo.OK}
		switch {
		case len(s.Devices) == 0:
			s.Reason, s.Detail = gpuinfo.NoDevice, "this machine has no GPU"
		case !slices.ContainsFunc(s.Units(), gpuinfo.Unit.Usable):
			s.Reason, s.Detail = gpuinfo.Failed, "no device is usable"
		}
	}
	s.Provider, s.At = m.name, time.Now().UTC().Round(0)
	return gpuinfo.Static(s).Snapshot(ctx) // a deep copy
}

// SetUsed sets how many bytes of the device or slice are in use; the rest is free.
func (m *Machine) SetUsed(id string, used uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	memory := m.memory(id)
	used = min(used, *memory.Total)
	memory.Used, memory.Free = &used, new(*memory.Total-used)
}

// SetProcesses replaces what Processes answers.
func (m *Machine) SetProcesses(ps ...gpuinfo.Process) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.processes = slices.Clone(ps)
}

// Processes gives what SetProcesses was told.
func (m *Machine) Processes(ctx context.Context) ([]gpuinfo.Process, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return nil, gpuinfo.ErrClosed
	}
	return slices.Clone(m.processes), nil
}

// Lose makes the device fall off the bus: it stays listed as lost.
func (m *Machine) Lose(id string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	d := m.device(id)
	d.Health = gpuinfo.Health{State: gpuinfo.Lost}
	d.Memory.Free = nil
	for i := range d.MIG {
		d.MIG[i].Memory.Free = nil
	}
}

// Heal makes the device work again, with all its memory free; "" makes the driver
// of [BrokenDriver] and [HungDriver] work.
func (m *Machine) Heal(id string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if id == "" {
		m.broken = gpuinfo.Snapshot{}
		return
	}
	d := m.device(id)
	d.Health = gpuinfo.Health{State: gpuinfo.Healthy}
	free(&d.Memory)
	for i := range d.MIG {
		free(&d.MIG[i].Memory)
	}
}

func free(m *gpuinfo.Memory) {
	if m.Total != nil {
		m.Used, m.Free = new(uint64), new(*m.Total)
	}
}

// Inject lets the driver report a fault; a zero At is now. It changes no device:
// what an event means is for gpuinfo.Tracker to say.
func (m *Machine) Inject(e gpuinfo.Event) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if e.At.IsZero() {
		e.At = time.Now().UTC().Round(0)
	}
	if len(m.events) == maxEvents {
		m.events = slices.Delete(m.events, 0, 1)
		m.first++
	}
	m.events = append(m.events, e)
	m.wakeLocked()
}

// Events yields every injected event, those from before the call too, so that a
// test need not wait until somebody listens.
func (m *Machine) Events(ctx context.Context) iter.Seq2[gpuinfo.Event, error] {
	return func(yield func(gpuinfo.Event, error) bool) {
		for next := 0; ; {
			m.mu.Lock()
			next = max(next, m.first)
			pending, changed, closed := slices.Clone(m.events[next-m.first:]), m.changed, m.closed
			m.mu.Unlock()
			if ctx.Err() != nil {
				return
			}
			for _, e := range pending {
				if !yield(e, nil) {
					return
				}
				next++
			}
			if closed {
				yield(gpuinfo.Event{}, gpuinfo.ErrClosed)
				return
			}
			select {
			case <-changed:
			case <-ctx.Done():
				return
			}
		}
	}
}

// Close ends all Events; every later call answers gpuinfo.ErrClosed.
func (m *Machine) Close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.closed = true
	m.wakeLocked()
	return nil
}

func (m *Machine) wakeLocked() {
	close(m.changed)
	m.changed = make(chan struct{})
}

func (m *Machine) device(id string) *gpuinfo.Device {
	d, err := gpuinfo.Snapshot{Devices: m.devices}.Lookup(id)
	if err != nil {
		panic("gpuinfotest: no such device")
	}
	return &m.devices[d.Index]
}

func (m *Machine) memory(id string) *gpuinfo.Memory {
	for i := range m.devices {
		for j := range m.devices[i].MIG {
			if slice := &m.devices[i].MIG[j]; slice.UUID == id {
				return &slice.Memory
			}
		}
	}
	return &m.device(id).Memory
}
