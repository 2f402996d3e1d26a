package gpuinfo_test

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/llorch/llorch/gpuinfo"
	"pgregory.net/rapid"
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

// TestCacheModel (GPU-33) drives the cache in virtual time beside a model of its rules.
func TestCacheModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		synctest.Test(t, func(t *testing.T) {
			p := &slowProvider{delay: 50 * time.Millisecond}
			p.next.Store(oneGPU())
			const ttl = 100 * time.Millisecond
			c := gpuinfo.NewCache(p, ttl)
			var failingSince, lastGood time.Time
			for range rapid.IntRange(1, 30).Draw(rt, "steps") {
				if rapid.IntRange(0, 3).Draw(rt, "op") == 0 {
					if rapid.Bool().Draw(rt, "healthy") {
						p.next.Store(oneGPU())
					} else {
						p.next.Store(&gpuinfo.Snapshot{Reason: gpuinfo.DriverHung})
					}
				}
				time.Sleep(time.Duration(rapid.IntRange(0, 900).Draw(rt, "ms")) * time.Millisecond)
				before := p.calls.Load()
				s, err := c.Snapshot(t.Context())
				if err != nil {
					rt.Fatal(err)
				}
				asked := p.calls.Load() > before
				good := p.next.Load().Reason == gpuinfo.OK
				switch {
				case !asked && time.Since(s.At) > 4*p.delay+p.delay:
					rt.Fatalf("answered from a snapshot %v old", time.Since(s.At))
				case asked && good:
					failingSince, lastGood = time.Time{}, time.Now()
					if s.Reason != gpuinfo.OK || s.Stale {
						rt.Fatalf("fresh good answer: %s stale=%v", s.Reason, s.Stale)
					}
				case asked && !good:
					if failingSince.IsZero() {
						failingSince = time.Now()
					}
					stands := !lastGood.IsZero() && time.Since(failingSince) < 2*time.Second
					if s.Stale != stands {
						rt.Fatalf("failing for %v: stale=%v, want %v", time.Since(failingSince), s.Stale, stands)
					}
					if !stands {
						lastGood, failingSince = time.Time{}, time.Time{}
					}
				}
			}
		})
	})
}

// TestCacheSingleFlight: all waiters share one refresh, and a caller that gives up
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
