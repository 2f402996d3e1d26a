package gpuinfo_test

import (
	"context"
	"errors"
	"iter"
	"slices"
	"testing"
	"time"

	"github.com/llorch/llorch/gpuinfo"
)

// ranking is GPU-1's order, the most telling first.
var ranking = []gpuinfo.Reason{
	gpuinfo.DriverHung, gpuinfo.DriverMismatch, gpuinfo.DriverMissing, gpuinfo.Permission, gpuinfo.Timeout, gpuinfo.ParseFailed,
	gpuinfo.NoDriver, gpuinfo.Failed, gpuinfo.NoTool, gpuinfo.NoDevice, gpuinfo.Disabled,
}

func because(r gpuinfo.Reason) gpuinfo.Provider {
	return gpuinfo.Static(gpuinfo.Snapshot{Reason: r, Provider: string(r), Detail: "a sentence"})
}

// TestFirstRanks (GPU-1): the most telling reason wins whatever its place.
func TestFirstRanks(t *testing.T) {
	for i, a := range ranking {
		for _, b := range ranking[i:] {
			for _, p := range []gpuinfo.Provider{gpuinfo.First(because(a), because(b)), gpuinfo.First(because(b), nil, because(a))} {
				if s := snapshotOf(t, p); s.Reason != a || s.Provider != string(a) {
					t.Errorf("First of %s and %s = %s from %s", a, b, s.Reason, s.Provider)
				}
			}
		}
		good := gpuinfo.Static(*oneGPU())
		if s := snapshotOf(t, gpuinfo.First(because(a), good, because("strange"))); s.Reason != gpuinfo.OK || len(s.Devices) != 1 {
			t.Errorf("First of %s and a good one = %s", a, s.Reason)
		}
		if s := snapshotOf(t, gpuinfo.First(because("strange"), because(a))); s.Reason != a {
			t.Errorf("First of a strange reason and %s = %s", a, s.Reason)
		}
	}
	if s := snapshotOf(t, gpuinfo.First()); s.Reason != gpuinfo.NoDevice {
		t.Errorf("First() = %s", s.Reason)
	}
}

func snapshotOf(t *testing.T, p gpuinfo.Provider) gpuinfo.Snapshot {
	t.Helper()
	s, err := p.Snapshot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// fullProvider has every ability, and answers with the errors that it holds.
type fullProvider struct {
	snapErr, procErr, eventErr error
	events                     int
}

func (*fullProvider) Name() string { return "full" }

func (p *fullProvider) Snapshot(ctx context.Context) (gpuinfo.Snapshot, error) {
	if ctx.Err() != nil {
		return gpuinfo.Snapshot{}, ctx.Err()
	}
	return *oneGPU(), p.snapErr
}

func (p *fullProvider) Processes(context.Context) ([]gpuinfo.Process, error) {
	return []gpuinfo.Process{{PID: 1}}, p.procErr
}

func (p *fullProvider) Events(context.Context) iter.Seq2[gpuinfo.Event, error] {
	return func(yield func(gpuinfo.Event, error) bool) {
		for i := range p.events {
			if !yield(gpuinfo.Event{XID: i + 1}, nil) {
				return
			}
		}
		if p.eventErr != nil {
			yield(gpuinfo.Event{}, p.eventErr)
		}
	}
}

// TestFirstSkipsClosed: a closed member leaves the answer to the others.
func TestFirstSkipsClosed(t *testing.T) {
	closed := &fullProvider{snapErr: gpuinfo.ErrClosed}
	if s := snapshotOf(t, gpuinfo.First(closed, because(gpuinfo.NoDriver))); s.Reason != gpuinfo.NoDriver {
		t.Errorf("Reason = %s", s.Reason)
	}
	if _, err := gpuinfo.First(closed, closed).Snapshot(t.Context()); !errors.Is(err, gpuinfo.ErrClosed) {
		t.Errorf("all closed: err = %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := gpuinfo.First(&fullProvider{}).Snapshot(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: err = %v", err)
	}
}

// TestWrappersPassOn (GPU-34): First and Cache answer through the member that can.
func TestWrappersPassOn(t *testing.T) {
	plain := because(gpuinfo.NoDevice)
	broken := errors.New("broken")
	for name, c := range map[string]struct {
		p        gpuinfo.Provider
		procs    int
		procErr  error
		events   []int
		eventErr error
	}{
		"none":        {gpuinfo.First(plain), 0, gpuinfo.ErrUnsupported, nil, gpuinfo.ErrUnsupported},
		"second":      {gpuinfo.First(plain, &fullProvider{events: 2}), 1, nil, []int{1, 2}, nil},
		"unsupported": {gpuinfo.First(&fullProvider{procErr: gpuinfo.ErrUnsupported, eventErr: gpuinfo.ErrUnsupported}, &fullProvider{events: 1}), 1, nil, []int{1}, nil},
		"broken":      {gpuinfo.First(plain, &fullProvider{procErr: broken, eventErr: broken}, plain), 0, broken, nil, broken},
		"breaks":      {gpuinfo.First(&fullProvider{events: 1, eventErr: broken}, &fullProvider{events: 3}), 1, nil, []int{1}, broken},
		"nested":      {gpuinfo.NewCache(gpuinfo.First(plain, gpuinfo.NewCache(&fullProvider{events: 1}, 0)), time.Hour), 1, nil, []int{1}, nil},
		"cache alone": {gpuinfo.NewCache(plain, 0), 0, gpuinfo.ErrUnsupported, nil, gpuinfo.ErrUnsupported},
	} {
		list, err := c.p.(gpuinfo.ProcessLister).Processes(t.Context())
		if (err == nil && len(list) != c.procs) || !errors.Is(err, c.procErr) {
			t.Errorf("%s: Processes = %v, %v; want %d, %v", name, list, err, c.procs, c.procErr)
		}
		var got []int
		var last error
		for e, err := range c.p.(gpuinfo.EventSource).Events(t.Context()) {
			if err != nil {
				last = err
				continue
			}
			got = append(got, e.XID)
		}
		if !slices.Equal(got, c.events) || !errors.Is(last, c.eventErr) {
			t.Errorf("%s: Events = %v, %v; want %v, %v", name, got, last, c.events, c.eventErr)
		}
	}
	for e := range gpuinfo.First(&fullProvider{events: 5}).(gpuinfo.EventSource).Events(t.Context()) {
		if e.XID != 1 {
			t.Error("the sequence went on after the loop was left")
		}
		break
	}
}
