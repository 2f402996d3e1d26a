package audit_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/llorch/llorch/audit"
	"github.com/llorch/llorch/audit/internal/faultfs"
)

// history reads a log as its chain says: in the order of the files, of each
// only what the next one sealed. It fails on a record that is there twice.
func history(t testing.TB, fsys *faultfs.FS) map[string]audit.Record {
	t.Helper()
	files := fsys.Snapshot()
	var names []string
	for name := range files {
		if strings.HasSuffix(name, ".audit") {
			names = append(names, name)
		}
	}
	slices.SortFunc(names, func(a, b string) int { // by day, then by number
		if c := strings.Compare(a[:10], b[:10]); c != 0 {
			return c
		}
		if c := len(a) - len(b); c != 0 {
			return c
		}
		return strings.Compare(a, b)
	})
	out := make(map[string]audit.Record)
	for i, name := range names {
		b := files[name]
		if i+1 < len(names) {
			var seal struct {
				Bytes int `json:"prev_bytes"`
			}
			next, _, _ := bytes.Cut(files[names[i+1]], []byte("\n"))
			r, err := audit.ParseRecord(next)
			if err == nil {
				err = json.Unmarshal(r.Event.Data.(json.RawMessage), &seal)
			}
			if err != nil {
				t.Fatalf("%s: %v", names[i+1], err)
			}
			b = b[:seal.Bytes]
		}
		for l := range bytes.Lines(b) {
			r, err := audit.ParseRecord(l)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if _, twice := out[r.ID]; twice {
				t.Fatalf("%s: record %d is there twice", name, r.Seq)
			}
			out[r.ID] = r
		}
	}
	return out
}

// script is a run with every kind of step: start, batches, rotation, manifest,
// stop. It returns what was acknowledged.
func script(t *testing.T, fsys *faultfs.FS) []audit.Receipt {
	c := config("/memory")
	c.RotateBytes = 64 << 10
	c.MinFree = 0
	c.Flush = audit.FlushHybrid
	l, err := audit.OpenFS(t.Context(), c, fsys)
	if err != nil {
		return nil // the fault hit the start
	}
	var acked []audit.Receipt
	long := slices.Repeat([]string{strings.Repeat("x", 250)}, 60)
	for i := range 12 {
		if _, err := l.Emit(t.Context(), audit.Event{Data: note{N: int64(i), List: long}}); err != nil {
			continue
		}
		if i%3 == 0 {
			synctest.Wait() // so that batches are of one and of more
		}
		if rc, err := l.Append(t.Context(), audit.Event{Data: alarm{N: uint64(i)}}); err == nil {
			acked = append(acked, rc)
		}
		time.Sleep(300 * time.Millisecond) // heads are due, failures retried
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	_ = l.Close(ctx) // its error is what a fault may cause
	return acked
}

// survive reopens what is left and checks I1, I2, I4 and that nothing lies
// about.
func survive(t *testing.T, what string, fsys *faultfs.FS, acked []audit.Receipt) {
	t.Helper()
	l, err := audit.OpenFS(t.Context(), config("/memory"), fsys)
	if err != nil {
		t.Errorf("%s: OpenFS() = %v", what, err)
		return
	}
	last := mustAppend(t, l, audit.Event{Data: alarm{}})
	mustClose(t, l)
	all := history(t, fsys)
	for _, rc := range append(acked, last) {
		if r, ok := all[rc.ID]; !ok || r.Seq != rc.Seq || r.Hash != rc.Hash {
			t.Errorf("%s: acknowledged record %d is lost", what, rc.Seq)
		}
	}
	if rep := check(t, asMap(fsys)); !rep.OK {
		t.Errorf("%s: %v", what, rep.Findings)
	}
	for name := range fsys.Snapshot() {
		if strings.HasPrefix(name, ".tmp") {
			t.Errorf("%s: %s is left", what, name)
		}
	}
}

// stride thins the crash matrix out: all points in the nightly run, a seventh
// otherwise.
func stride() int {
	if os.Getenv("LLORCH_NIGHTLY") != "" {
		return 1
	}
	return 7
}

func TestCrashMatrix(t *testing.T) { // G1, AUD-20, 22, 31, 32, 38; traps: torn lines, rollover
	steps := 0
	synctest.Test(t, func(t *testing.T) {
		fsys := faultfs.New()
		acked := script(t, fsys)
		steps = fsys.Steps()
		if len(acked) != 12 || steps < 100 {
			t.Fatalf("%d acknowledged in %d steps", len(acked), steps)
		}
		survive(t, "no fault", fsys, acked)
	})
	for n := range steps {
		for k, kind := range []string{"EIO", "ENOSPC", "short", "forever", "kill", "power"} {
			if (n+k)%stride() != 0 {
				continue
			}
			synctest.Test(t, func(t *testing.T) {
				what := fmt.Sprintf("%s at step %d", kind, n)
				rng := rand.New(rand.NewPCG(uint64(n), 7))
				fsys := faultfs.New()
				fsys.Hook(func(s faultfs.Step) *faultfs.Fault {
					if s.N < n || s.N > n && kind != "forever" {
						return nil
					}
					switch kind {
					case "short":
						return &faultfs.Fault{Err: syscall.ENOSPC, Short: rng.IntN(400)}
					case "ENOSPC":
						return &faultfs.Fault{Err: syscall.ENOSPC}
					case "kill", "power":
						return &faultfs.Fault{Kill: true, Short: rng.IntN(40_000)}
					}
					return &faultfs.Fault{Err: syscall.EIO}
				})
				acked := script(t, fsys)
				fsys.Hook(nil)
				disk := fsys.Survivor()
				if kind == "power" {
					disk = fsys.PowerCut(rng)
				}
				survive(t, what, disk, acked)
				survive(t, what+", then power cut", disk.PowerCut(rng), acked)
			})
		}
	}
}

func TestCrashDuringRecovery(t *testing.T) { // AUD-31: every step of Open may be the last
	for n := range 60 {
		synctest.Test(t, func(t *testing.T) {
			rng := rand.New(rand.NewPCG(uint64(n), 8))
			fsys := faultfs.New()
			fsys.Hook(func(s faultfs.Step) *faultfs.Fault {
				if s.N == 60+n {
					return &faultfs.Fault{Kill: true, Short: 1000}
				}
				return nil
			})
			acked := script(t, fsys)
			disk := fsys.PowerCut(rng)
			disk.Hook(func(s faultfs.Step) *faultfs.Fault {
				if s.N == n%25 {
					return &faultfs.Fault{Kill: true, Short: 100}
				}
				return nil
			})
			if l, err := audit.OpenFS(t.Context(), config("/memory"), disk); err == nil {
				_ = l.Close(t.Context())
			}
			disk.Hook(nil)
			survive(t, fmt.Sprintf("crash %d", n), disk.PowerCut(rng), acked)
		})
	}
}
