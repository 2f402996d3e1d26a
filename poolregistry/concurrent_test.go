package poolregistry_test

import (
	"context"
	"fmt"
	"os"
	"sync"
	"testing"
	"time"

	. "github.com/llorch/llorch/poolregistry"
)

// PRG-76: every method at once; with -race this is the proof that the one mutex
// guards what it should. Views stay consistent throughout, and no watcher stays.
func TestConcurrentSafeRegistry(t *testing.T) {
	rounds := 1
	if os.Getenv("LLORCH_NIGHTLY") != "" {
		rounds = 100
	}
	for range rounds {
		hammer(t)
	}
}

func hammer(t *testing.T) {
	var reg *Registry
	reg, err := New(Config{
		Timing: Timing{Beat: 100 * ms}, PublishEvery: time.Millisecond,
		Active: func(id NodeID) map[PoolID]int { reg.Progress(id); return nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var run, work sync.WaitGroup
	run.Go(func() { _ = reg.Run(ctx) })
	for range 8 {
		run.Go(func() {
			gen := uint64(0)
			for v := range reg.Watch(ctx) {
				if v.Gen <= gen {
					t.Errorf("view %d after %d", v.Gen, gen)
				}
				gen = v.Gen
			}
		})
	}
	for g := range 56 {
		work.Go(func() {
			id := NodeID(fmt.Sprint("n", g%16))
			token, seq, epoch := "", uint64(0), uint64(0)
			for i := range 60 {
				r := describe(id)
				r.InstanceID, r.LeaseToken = uuid(g), token
				if grant, err := reg.Register(ctx, r); err == nil {
					if grant.Epoch < epoch {
						t.Errorf("epoch %d after %d", grant.Epoch, epoch)
					}
					token, epoch = grant.LeaseToken, grant.Epoch
				}
				seq++
				_, _ = reg.Beat(ctx, Beat{NodeID: id, LeaseToken: token, Seq: seq, Pools: []Pool{{ID: "p0", SlotsFree: i, SlotsTotal: 100}}})
				if i%10 == 0 {
					reg.Refused(id)
				}
				if i%10 == 5 {
					order(reg, id, i)
				}
				v := reg.View()
				_, _ = v.Hash(), v.Availability()
				if n := v.Online + v.Suspect + v.Offline + v.Failed; n > len(v.Nodes) {
					t.Errorf("%d of %d nodes counted", n, len(v.Nodes))
				}
				if i%20 == 19 {
					_ = reg.Leave(ctx, id, token)
					_ = reg.Stats()
				}
			}
		})
	}
	work.Wait()
	cancel()
	run.Wait()
}

// order gives every command of an operator; which are allowed is not asked here.
func order(reg *Registry, id NodeID, i int) {
	_ = reg.Cordon(id)
	_ = reg.Drain(id, time.Duration(i)*time.Millisecond)
	_ = reg.Fail(id, "x")
	_ = reg.ClearFailed(id)
	reg.ReleaseGuard()
	reg.Takeover(uint64(i))
	if i%3 == 0 {
		_ = reg.Uncordon(id)
	}
	if i%20 == 15 {
		_ = reg.Release(id)
	}
}
