//go:build unix

package secrets_test

import (
	"context"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/llorch/llorch/secrets"
	"github.com/llorch/llorch/secrets/secretstest"
)

// SCR-26, SCR-28: a volume is swapped a thousand times, ten thousand at night, while
// others load from it all the time. Every new value is seen at once, no load is torn
// or fails because its generation is taken away, and none goes back in time.
func TestTrap_InodeWatch(t *testing.T) {
	swaps := 1000
	if testing.Short() {
		swaps = 100
	}
	if os.Getenv("LLORCH_NIGHTLY") != "" {
		swaps = 10_000
	}
	v := secretstest.Projected(t, map[string]string{"token": generation(0)})
	src, _ := source(t, map[string]string{"TOKEN_FILE": v.Path("token")}, secrets.Config{})
	r := rotating(t, src, secrets.RotateConfig{Overlap: time.Hour}, false)
	ctx, cancel := context.WithCancel(t.Context())
	var loads, torn atomic.Int64
	var readers sync.WaitGroup
	for range 1 + swaps/10_000 {
		readers.Go(func() {
			for last := 0; ctx.Err() == nil; loads.Add(1) {
				s, _, err := secrets.ReadFile(t.Context(), v.Path("token"), secrets.Rules{})
				if err != nil {
					t.Errorf("after generation %d: %v", last, err)
					return
				}
				b, _ := content(s)
				s.Destroy()
				i := generationOf(string(b))
				if i == -1 {
					torn.Add(1)
				} else if i < last {
					t.Errorf("generation %d after %d", i, last)
				}
				last = max(i, last)
			}
		})
	}
	for i := 1; i <= swaps; i++ {
		v.Swap(map[string]string{"token": generation(i)})
		if err := r.Check(t.Context()); err != nil || generationOf(current(r)) != i {
			t.Errorf("after swap %d: generation %d, %v", i, generationOf(current(r)), err)
			break
		}
	}
	cancel()
	readers.Wait()
	if torn.Load() != 0 || loads.Load() == 0 {
		t.Errorf("%d torn of %d loads", torn.Load(), loads.Load())
	}
	t.Logf("%d swaps, %d loads, %d torn", swaps, loads.Load(), torn.Load())
}

// SCR-27: readers, polls and Checks at once. Current never goes back, and what was
// handed out can be used for Overlap.
func TestRotatingConcurrentSafe(t *testing.T) {
	v := secretstest.Projected(t, map[string]string{"token": generation(0)})
	src, _ := source(t, map[string]string{"TOKEN_FILE": v.Path("token")}, secrets.Config{})
	r := rotating(t, src, secrets.RotateConfig{Every: 100 * time.Millisecond, OnChange: func(old, now secrets.Meta) {
		if old.Version == now.Version {
			t.Error("told of no change")
		}
	}}, true)
	ctx, cancel := context.WithCancel(t.Context())
	var others sync.WaitGroup
	for range 2 {
		others.Go(func() {
			for last := 0; ctx.Err() == nil; {
				s, m := r.Current()
				b, err := content(s)
				i := generationOf(string(b))
				if err != nil || i < last || m.Path == "" {
					t.Errorf("generation %d after %d, %v", i, last, err)
					return
				}
				last = i
				if p, _, ok := r.Previous(); ok {
					if b, err := content(p); err != nil || generationOf(string(b)) == -1 {
						t.Errorf("Previous: %v", err)
						return
					}
				}
				if err := r.Err(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for range 2 {
		others.Go(func() {
			for ctx.Err() == nil {
				if err := r.Check(ctx); err != nil && ctx.Err() == nil {
					t.Error(err)
				}
			}
		})
	}
	for i := 1; i <= 100; i++ {
		v.Swap(map[string]string{"token": generation(i)})
	}
	if err := r.Check(t.Context()); err != nil || generationOf(current(r)) != 100 {
		t.Errorf("generation %d, %v", generationOf(current(r)), err)
	}
	cancel()
	others.Wait()
}
