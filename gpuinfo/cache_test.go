package gpuinfo_test

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/llorch/llorch/gpuinfo"
)

// slowProvider answers with what the test put into it, after a delay.
type slowProvider struct {
	calls atomic.Int64
	delay time.Duration
	next  atomic.Pointer[gpuinfo.Snapshot]
}

func (p *slowProvider) Name() string { return "slow" }

func (p *slowProvider) Snapshot(context.Context) (gpuinfo.Snapshot, error) {
	p.calls.Add(1)
	time.Sleep(p.delay)
	s := *p.next.Load()
	s.At = time.Now()
	return s, nil
}

func oneGPU() *gpuinfo.Snapshot {
	total := uint64(8 << 30)
	free := total
	return &gpuinfo.Snapshot{Reason: gpuinfo.OK, Devices: []gpuinfo.Device{{
		Vendor: "nvidia", UUID: "GPU-1", Health: gpuinfo.Health{State: gpuinfo.Healthy}, Memory: gpuinfo.Memory{Total: &total, Free: &free},
	}}}
}

// TestCacheSingleFlight (GPU-33): all waiters share one refresh, and a caller that gives up
// does not end it.
func TestCacheSingleFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &slowProvider{delay: time.Second}
		p.next.Store(oneGPU())
		c := gpuinfo.NewCache(p, time.Minute)
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		if _, err := c.Snapshot(ctx); err == nil {
			t.Error("a short wait got an answer")
		}
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() {
				if s, err := c.Snapshot(t.Context()); err != nil || s.Reason != gpuinfo.OK {
					t.Errorf("Snapshot = %s, %v", s.Reason, err)
				}
			})
		}
		wg.Wait()
		if got := p.calls.Load(); got != 1 {
			t.Errorf("%d refreshes, want 1", got)
		}
	})
}

// TestCacheConcurrentSafe (GPU-34): what one caller does to its copy, no other sees.
func TestCacheConcurrentSafe(t *testing.T) {
	c := gpuinfo.NewCache(gpuinfo.Static(*oneGPU()), 0)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 200 {
				s, err := c.Snapshot(t.Context())
				if err != nil || *s.Devices[0].Memory.Free != 8<<30 {
					t.Errorf("Snapshot = %v, %v", s, err)
					return
				}
				*s.Devices[0].Memory.Free = 1
				s.Devices[0].Name = "mine"
			}
		})
	}
	wg.Wait()
}
