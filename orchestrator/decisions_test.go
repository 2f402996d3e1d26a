package orchestrator_test

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/llorch/llorch/orchestrator"
	"github.com/llorch/llorch/orchestrator/decisionlog"
	"github.com/llorch/llorch/orchestrator/placement"
	"github.com/llorch/llorch/orchestrator/queue"
	"github.com/llorch/llorch/orchestrator/worker/workertest"
)

// recorded is all segments of a folder, one after the other.
func recorded(t *testing.T, dir string) io.Reader {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "decisions-*.ndjson"))
	if err != nil || len(names) == 0 {
		t.Fatalf("no segments: %v", err)
	}
	var parts []io.Reader
	for _, name := range names {
		f, err := os.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		parts = append(parts, f)
	}
	return io.MultiReader(parts...)
}

// TestRecordedRunReplays (ORC-130 to ORC-133, G6): what a whole orchestrator decided
// under load, with cancels, failing engines and a change of policy, replays without a
// difference; another policy is shown with what it would have done.
func TestRecordedRunReplays(t *testing.T) {
	dir := t.TempDir()
	evidence := new(recorder)
	faults, err := workertest.ParseFaults("reset@p=0.05 status:503@p=0.05")
	if err != nil {
		t.Fatal(err)
	}
	engines := []workertest.Config{{Tokens: 20, Seed: 1}, {Tokens: 20, Seed: 2, Faults: faults}, {Tokens: 40, Seed: 3}}
	synctest.Test(t, func(t *testing.T) {
		log, err := decisionlog.NewWriter(decisionlog.Config{Dir: dir})
		if err != nil {
			t.Fatal(err)
		}
		b := begin(t, orchestrator.Config{Decisions: log, Recorder: evidence, Queue: queue.Config{Capacity: queue.Unbounded}}, engines)
		var list []*placement.Worker
		for i, w := range b.pools.list {
			x := *w
			x.VRAMFree = uint64(i+1) << 30
			list = append(list, &x)
		}
		b.pools.set(list...)
		rng := rand.New(rand.NewPCG(7, 7))
		var wg sync.WaitGroup
		for i := range 400 {
			time.Sleep(time.Duration(rng.IntN(60)) * time.Millisecond)
			acc := b.submit(orchestrator.Spec{Class: queue.Class(rng.IntN(2)), Keep: true})
			if rng.IntN(10) == 0 {
				wg.Go(func() { _ = b.Cancel(context.Background(), me, acc.ID) })
			}
			if i == 200 {
				admin := me
				admin.Roles |= orchestrator.RoleOperator
				if err := b.SetPolicy(t.Context(), admin, placement.Policy{Strategy: "round-robin"}); err != nil {
					t.Error(err)
				}
			}
		}
		wg.Wait()
		time.Sleep(5 * time.Minute) // what waits runs
	})
	rep, err := decisionlog.Replay(t.Context(), recorded(t, dir))
	if err != nil || rep.Decisions < 350 || rep.Gaps != 0 {
		t.Fatalf("Replay = %+v, %v", rep, err)
	}
	diff, err := decisionlog.Diff(t.Context(), recorded(t, dir), placement.Policy{Strategy: "most-vram-free"})
	if err != nil || diff.Differ == 0 || len(diff.Differences) == 0 || diff.Differences[0].Recorded.Winner == diff.Differences[0].Other.Winner {
		t.Errorf("Diff = %d of %d decisions, %v", diff.Differ, diff.Decisions, err)
	}
	sealed := 0
	for _, e := range evidence.take() {
		if fmt.Sprintf("%T", e.Data) == "orchestrator.decisionsSealed" {
			sealed++
		}
	}
	if sealed != rep.Segments {
		t.Errorf("%d segments were sealed in the audit log, want %d", sealed, rep.Segments)
	}
	t.Logf("%d decisions in %d steps, %d otherwise under most-vram-free", rep.Decisions, rep.Steps, diff.Differ)
}
