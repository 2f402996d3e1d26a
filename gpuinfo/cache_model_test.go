package gpuinfo_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/llorch/llorch/gpuinfo"
	"pgregory.net/rapid"
)

// answer is what the provider of a model run will do.
type answer struct {
	delay  time.Duration
	reason gpuinfo.Reason
	err    error
}

// scripted is a provider that does what the model decided.
type scripted struct {
	mu    sync.Mutex
	next  answer
	calls int
}

func (p *scripted) Name() string { return "scripted" }

func (p *scripted) Snapshot(context.Context) (gpuinfo.Snapshot, error) {
	p.mu.Lock()
	a := p.next
	p.calls++
	p.mu.Unlock()
	at := time.Now()
	time.Sleep(a.delay) // inside a synctest bubble
	s := gpuinfo.Snapshot{Reason: a.reason, At: at}
	if a.reason == gpuinfo.OK {
		s = *oneGPU()
		s.At = at
	}
	return s, a.err
}

func (p *scripted) count() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.calls
}

// cacheModel is GPU-33 as a table of what is kept.
type cacheModel struct {
	ttl          time.Duration
	have, good   bool
	taken        time.Time
	cost         time.Duration
	failingSince time.Time
}

// fresh reports whether the kept answer may be given without asking.
func (m *cacheModel) fresh(now time.Time) bool {
	return m.have && m.failingSince.IsZero() && now.Sub(m.taken) <= max(m.ttl, 4*m.cost)
}

// asked takes one answer of the provider and says whether the old one stands in.
func (m *cacheModel) asked(began, ended time.Time, a answer) (stale bool) {
	failed := a.err != nil || a.reason != gpuinfo.OK
	if failed && m.have && m.good {
		if m.failingSince.IsZero() {
			m.failingSince = ended
		}
		if ended.Sub(m.failingSince) < 2*time.Second {
			return true
		}
	}
	if a.err == nil {
		*m = cacheModel{ttl: m.ttl, have: true, good: !failed, taken: began, cost: ended.Sub(began)}
	}
	return false
}

// TestCacheModel (GPU-33, GPU-34) drives the cache in virtual time beside a model of
// its rules: when it asks, what it answers, how old that is, and one flight for all.
func TestCacheModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		synctest.Test(t, func(t *testing.T) {
			p := &scripted{next: answer{reason: gpuinfo.OK}}
			m := &cacheModel{ttl: time.Duration(rapid.IntRange(0, 300).Draw(rt, "ttl")) * time.Millisecond}
			c := gpuinfo.NewCache(p, m.ttl)
			for range rapid.IntRange(1, 40).Draw(rt, "steps") {
				if rapid.IntRange(0, 2).Draw(rt, "change") == 0 {
					p.next = answer{
						delay:  time.Duration(rapid.IntRange(0, 200).Draw(rt, "cost")) * time.Millisecond,
						reason: rapid.SampledFrom([]gpuinfo.Reason{gpuinfo.OK, gpuinfo.OK, gpuinfo.DriverHung}).Draw(rt, "reason"),
					}
					if rapid.IntRange(0, 5).Draw(rt, "closed") == 0 {
						p.next.err = gpuinfo.ErrClosed
					}
				}
				time.Sleep(time.Duration(rapid.SampledFrom([]int{0, 1, 50, 200, 400, 801, 2500}).Draw(rt, "ms")) * time.Millisecond)
				step(t.Context(), rt, c, p, m, rapid.IntRange(1, 3).Draw(rt, "callers"))
			}
		})
	})
}

// step lets several callers ask at one instant and compares with the model.
func step(ctx context.Context, rt *rapid.T, c *gpuinfo.Cache, p *scripted, m *cacheModel, callers int) {
	began, before, kept := time.Now(), p.count(), *m
	fresh := m.fresh(began)
	snaps, errs := make([]gpuinfo.Snapshot, callers), make([]error, callers)
	var wg sync.WaitGroup
	for i := range callers {
		wg.Go(func() { snaps[i], errs[i] = c.Snapshot(ctx) })
	}
	wg.Wait()
	ended, calls := time.Now(), p.count()-before
	stale := false
	switch {
	case fresh && calls != 0:
		rt.Fatalf("asked again although the kept answer is %v old", began.Sub(kept.taken))
	case !fresh && calls == 0:
		rt.Fatalf("an answer %v old was given again", began.Sub(kept.taken))
	case !fresh && p.next.delay > 0 && calls != 1:
		rt.Fatalf("%d refreshes for %d callers", calls, callers)
	case !fresh:
		stale = m.asked(began, ended, p.next)
	}
	if p.next.delay == 0 && calls > 1 {
		return // with a refresh that takes no time a later caller may start another
	}
	for i := range snaps {
		s, err := snaps[i], errs[i]
		switch {
		case !fresh && !stale && p.next.err != nil:
			if !errors.Is(err, gpuinfo.ErrClosed) {
				rt.Fatalf("err = %v, want the provider's", err)
			}
		case err != nil:
			rt.Fatal(err)
		case s.Stale != stale:
			rt.Fatalf("Stale = %v, want %v", s.Stale, stale)
		case (fresh || stale) && !s.At.Equal(kept.taken):
			rt.Fatalf("a snapshot of %v, want the kept one of %v", s.At, kept.taken)
		case stale && s.Reason != gpuinfo.OK:
			rt.Fatalf("stale with reason %s", s.Reason)
		case !fresh && !stale && (s.Reason != p.next.reason || !s.At.Equal(began)):
			rt.Fatalf("%s of %v, want the fresh %s of %v", s.Reason, s.At, p.next.reason, began)
		}
	}
}

// TestCacheSlowTool (GPU-33): with a tool that takes 100 ms no answer is older than
// 400 ms, and its age is visible.
func TestCacheSlowTool(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &scripted{next: answer{delay: 100 * time.Millisecond, reason: gpuinfo.OK}}
		c := gpuinfo.NewCache(p, 50*time.Millisecond)
		oldest := time.Duration(0)
		for range 100 {
			s, err := c.Snapshot(t.Context())
			if err != nil || s.Stale {
				t.Fatalf("%v, stale %v", err, s.Stale)
			}
			oldest = max(oldest, time.Since(s.At))
			time.Sleep(30 * time.Millisecond)
		}
		if oldest > 400*time.Millisecond || oldest < 350*time.Millisecond {
			t.Errorf("the oldest answer was %v old, want at most 400 ms and not much less", oldest)
		}
		if p.count() > 15 {
			t.Errorf("%d calls of the tool in 3 s", p.count())
		}
	})
}
