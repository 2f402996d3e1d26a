//go:build linux && cgo

package nvml_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	gonvml "github.com/NVIDIA/go-nvml/pkg/nvml"
	"github.com/llorch/llorch/gpuinfo"
	"github.com/llorch/llorch/gpuinfo/nvml"
)

func (l *library) report(e gonvml.EventData) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.queue = append(l.queue, e)
}

// TestEvents (GPU-21): critical XIDs and double-bit errors arrive within 200 ms, a
// snapshot is not held up meanwhile, and the end of the context is seen.
func TestEvents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := h100()
		p := open(t, l, nvml.Config{})
		ctx, cancel := context.WithCancel(t.Context())
		got := make(chan string, 100)
		go func() {
			defer close(got)
			for e, err := range p.Events(ctx) {
				got <- fmt.Sprint(e.UUID, " ", e.BusID, " ", e.XID, " ", e.Action, " ", err)
			}
		}()
		time.Sleep(time.Second)
		l.report(gonvml.EventData{Device: l.cards[1], EventType: gonvml.EventTypeXidCriticalError, EventData: 79})
		time.Sleep(200 * time.Millisecond)
		const second = "GPU-10de2330-0043-5000-8000-000000000000 0000:43:00.0"
		if e := <-got; e != second+" 79  <nil>" {
			t.Errorf("event %q", e)
		}
		l.report(gonvml.EventData{Device: l.cards[1], EventType: gonvml.EventTypeDoubleBitEccError})
		l.report(gonvml.EventData{Device: l.cards[1], EventType: 1 << 40}) // nobody asked for it
		l.report(gonvml.EventData{EventType: gonvml.EventTypeXidCriticalError, EventData: 48})
		time.Sleep(200 * time.Millisecond)
		if e := <-got; e != second+" 0 drain_reset <nil>" {
			t.Errorf("event %q", e)
		}
		for _, who := range []string{"GPU-10de2330-001b-5000-8000-000000000000 0000:1b:00.0", second} { // it does not say who: both
			if e := <-got; e != who+" 48  <nil>" {
				t.Errorf("event %q", e)
			}
		}
		start := time.Now()
		if s := snapshot(t, p); s.Reason != gpuinfo.OK || time.Since(start) > 0 {
			t.Errorf("snapshot beside a listener: %s after %v", s.Reason, time.Since(start))
		}
		cancel()
		synctest.Wait()
		if e, more := <-got; more {
			t.Errorf("event %q after the end of the context", e)
		}
		if l.sets != 0 {
			t.Errorf("%d event sets are left", l.sets)
		}
		if slices.Max(l.waited) > 10 {
			t.Errorf("waits of %d ms keep the thread from snapshots", slices.Max(l.waited))
		}
	})
}

// TestEventsThroughAHang (GPU-22): a hang is no end of the sequence.
func TestEventsThroughAHang(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := h100()
		p := open(t, l, nvml.Config{})
		got := make(chan int, 10)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go func() {
			defer close(got)
			for e, err := range p.Events(ctx) {
				if err != nil {
					t.Errorf("Events: %v", err)
				}
				got <- e.XID
			}
		}()
		synctest.Wait()
		block := make(chan struct{})
		locked(l, func() bool { l.block = block; return true })
		if s := snapshot(t, p); s.Reason != gpuinfo.DriverHung {
			t.Errorf("reason %s", s.Reason)
		}
		l.report(gonvml.EventData{Device: l.cards[0], EventType: gonvml.EventTypeXidCriticalError, EventData: 79})
		time.Sleep(time.Minute)
		locked(l, func() bool { l.block = nil; return true })
		close(block)
		time.Sleep(200 * time.Millisecond)
		if xid := <-got; xid != 79 {
			t.Errorf("XID %d", xid)
		}
	})
}

// TestEventsEnd: what ends the sequence, and how it says so.
func TestEventsEnd(t *testing.T) {
	first := func(t *testing.T, p *nvml.Provider) (err error) {
		for _, err = range p.Events(t.Context()) {
		}
		return err
	}
	for name, spoil := range map[string]func(*library){
		"no driver":    func(l *library) { l.init = gonvml.ERROR_DRIVER_NOT_LOADED },
		"no symbol":    func(l *library) { l.missing["nvmlEventSetWait_v2"] = true },
		"no support":   func(l *library) { l.cards[0].fails["events"], l.cards[1].fails["events"] = 3, 3 },
		"no such kind": func(l *library) { l.cards = nil },
	} {
		l := h100()
		spoil(l)
		if err := first(t, open(t, l, nvml.Config{})); !errors.Is(err, gpuinfo.ErrUnsupported) || l.sets != 0 {
			t.Errorf("%s: %v, %d sets left", name, err, l.sets)
		}
	}
	l := h100()
	l.wait = gonvml.ERROR_UNINITIALIZED
	if err := first(t, open(t, l, nvml.Config{})); err == nil || errors.Is(err, gpuinfo.ErrUnsupported) || l.sets != 0 {
		t.Errorf("a failing library: %v, %d sets left", err, l.sets)
	}
	synctest.Test(t, func(t *testing.T) {
		l := h100()
		l.wait = gonvml.ERROR_GPU_IS_LOST // one of them: the others go on
		p := open(t, l, nvml.Config{})
		ended := make(chan error, 1)
		go func() { ended <- first(t, p) }()
		time.Sleep(time.Minute)
		if err := p.Close(); err != nil {
			t.Error(err)
		}
		if err := <-ended; !errors.Is(err, gpuinfo.ErrClosed) {
			t.Errorf("after Close: %v", err)
		}
	})
}

// TestEventsOutliveTheLibrary (GPU-21): an event set of a library that was stopped is
// neither asked nor freed; when the library runs again a new one brings events.
func TestEventsOutliveTheLibrary(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := h100()
		p := open(t, l, nvml.Config{})
		next, stop := iter.Pull2(p.Events(t.Context()))
		defer stop()
		hear := func(xid uint64) {
			t.Helper()
			l.report(gonvml.EventData{Device: l.cards[0], EventType: gonvml.EventTypeXidCriticalError, EventData: xid})
			if e, err, more := next(); e.XID != int(xid) || err != nil || !more {
				t.Fatalf("event %+v, %v, %v", e, err, more)
			}
		}
		hear(13)
		l.count = gonvml.ERROR_UNKNOWN
		snapshot(t, p)
		l.count = gonvml.SUCCESS
		start := time.Now()
		hear(31)
		if took := time.Since(start); took < 10*time.Second || took > 11*time.Second || l.inits != 2 {
			t.Errorf("heard again after %v, the library started %d times", took, l.inits)
		}
		stop()
		if l.sets != 1 {
			t.Errorf("%d sets: one that went with its library was freed, or the new one was not", l.sets)
		}
	})
}
