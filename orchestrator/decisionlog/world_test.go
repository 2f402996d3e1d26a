package decisionlog_test

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/llorch/llorch/orchestrator/decisionlog"
	"github.com/llorch/llorch/orchestrator/internal/exec"
	"github.com/llorch/llorch/orchestrator/internal/sched"
	"github.com/llorch/llorch/orchestrator/placement"
	"github.com/llorch/llorch/orchestrator/queue"
)

func id(n int) (out queue.ID) {
	binary.BigEndian.PutUint64(out[8:], uint64(n))
	return out
}

// world is a core with a writer, as the loop has them.
type world struct {
	core *sched.Core
	w    *decisionlog.Writer
	now  sched.Instant
	runs []sched.Assign
	next int
	rng  uint64
}

// newWorld returns a core with n workers of two slots, at the beginning of a segment.
func newWorld(tb testing.TB, w *decisionlog.Writer, n int) *world {
	tb.Helper()
	core, err := sched.New(sched.Config{Queue: queue.Config{Capacity: 50, Policy: queue.DropLRU}, CancelAfter: time.Second, Seed: 3})
	if err != nil {
		tb.Fatal(err)
	}
	x := &world{core: core, w: w, rng: 1}
	w.Begin(core, 1, time.Unix(1_700_000_000, 0))
	var list []*placement.Worker
	for i := range n {
		list = append(list, &placement.Worker{
			Key: placement.Key{Node: fmt.Sprintf("node-%d", i), Pool: "p", Worker: "r0"}, Epoch: 1, Models: []string{"m"}, SlotsTotal: 2,
			VRAMFree: uint64(i) << 30, VRAMTotal: 8 << 30, Online: true, Ready: true, TokensPerS: 40_000, FirstToken: int64(80 * time.Millisecond),
		})
	}
	x.step(sched.Workers{List: list})
	return x
}

func (x *world) step(e sched.Event) []sched.Effect {
	x.now += sched.Instant(time.Millisecond)
	fx := x.core.Step(x.now, e)
	x.w.Record(x.core, x.now, e, fx)
	for _, f := range fx {
		if a, ok := f.(sched.Assign); ok {
			x.runs = append(x.runs, a)
		}
	}
	return fx
}

// rand is splitmix64: tests must be the same everywhere.
func (x *world) rand(n int) int {
	x.rng += 0x9e3779b97f4a7c15
	z := (x.rng ^ x.rng>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return int((z ^ z>>31) >> 1 % uint64(n))
}

// live does n things that happen to a scheduler.
func (x *world) live(n int) {
	for range n {
		switch x.rand(10) {
		case 0, 1, 2, 3:
			x.next++
			x.step(sched.Submit{Task: sched.Task{
				ID: id(x.next), Tenant: queue.Tenant{byte(1 + x.rand(2))}, Class: queue.Class(x.rand(2)), Need: placement.Request{Model: "m", Prompt: 10 + x.rand(90), Expected: 100},
				MaxTokens: 200, Cost: int64(1+x.rand(9)) * 1000, Bytes: 100, Total: time.Minute, Ephemeral: x.rand(2) == 0,
			}})
			x.step(sched.Persisted{ID: id(x.next)})
		case 4, 5, 6, 7:
			if len(x.runs) == 0 {
				continue
			}
			i := x.rand(len(x.runs))
			a := x.runs[i]
			x.runs = slices.Delete(x.runs, i, i+1)
			r := sched.Result{TokensIn: 50, TokensOut: x.rand(200), First: 90 * time.Millisecond, Decode: time.Second}
			if x.rand(5) == 0 {
				r.Class = []exec.Class{exec.Reset, exec.Overload, exec.Server, exec.Connect}[x.rand(4)]
			}
			x.step(sched.Finished{ID: a.ID, Attempt: a.Attempt, Result: r})
		case 8:
			x.step(sched.Cancel{ID: id(1 + x.rand(x.next+1)), Reason: sched.Client})
		default:
			x.now += sched.Instant(time.Second)
			x.step(sched.Tick{})
		}
	}
}

// open makes a running writer; the second function ends it and returns when all is written.
func open(tb testing.TB, cfg decisionlog.Config) (*decisionlog.Writer, func()) {
	tb.Helper()
	if cfg.Dir == "" {
		cfg.Dir = tb.TempDir()
	}
	w, err := decisionlog.NewWriter(cfg)
	if err != nil {
		tb.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx) }()
	return w, func() {
		cancel()
		if err := <-done; err != nil {
			tb.Error(err)
		}
	}
}

// files returns the segments of a directory in order, and all of them as one.
func files(tb testing.TB, dir string) ([]string, []byte) {
	tb.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "decisions-*.ndjson"))
	if err != nil {
		tb.Fatal(err)
	}
	slices.SortFunc(names, func(a, b string) int { return cmp.Or(cmp.Compare(len(a), len(b)), strings.Compare(a, b)) })
	var all []byte
	for _, n := range names {
		b, err := os.ReadFile(n)
		if err != nil {
			tb.Fatal(err)
		}
		all = append(all, b...)
	}
	return names, all
}

// record writes a log of n things in one segment and returns it.
func record(tb testing.TB, workers, n int) []byte {
	tb.Helper()
	dir := tb.TempDir()
	w, stop := open(tb, decisionlog.Config{Dir: dir, Ring: 1 << 20})
	newWorld(tb, w, workers).live(n)
	stop()
	_, all := files(tb, dir)
	return all
}

func lines(b []byte) [][]byte {
	ls := bytes.SplitAfter(b, []byte("\n"))
	return ls[:len(ls)-1]
}
