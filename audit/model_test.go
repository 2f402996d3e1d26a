package audit_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/llorch/llorch/audit"
	"github.com/llorch/llorch/audit/internal/faultfs"
)

// world is the state of TestLogModel.
type world struct {
	t     *testing.T
	rt    *rapid.T
	fsys  *faultfs.FS
	log   *audit.Log
	mode  audit.FlushMode
	acked []audit.Receipt
	open  []audit.Ticket
}

func (w *world) start() {
	c := config("/memory")
	c.Flush, c.RotateBytes, c.QueueEvents = w.mode, 64<<10, 16
	l, err := audit.OpenFS(w.t.Context(), c, w.fsys)
	if err != nil {
		w.rt.Fatalf("OpenFS() = %v", err)
	}
	w.log = l
}

func (w *world) emit(rt *rapid.T) {
	e := audit.Event{Data: note{Text: rapid.StringN(0, 50, 2000).Draw(rt, "text")}}
	if rapid.Bool().Draw(rt, "critical") {
		e.Data = alarm{}
	}
	tk, err := w.log.Emit(w.t.Context(), e)
	if err == nil {
		w.open = append(w.open, tk)
	} else if !errors.Is(err, audit.ErrDropped) && !errors.Is(err, audit.ErrQueueFull) && !errors.Is(err, audit.ErrUnavailable) {
		rt.Fatalf("Emit() = %v", err)
	}
	if n := w.log.Stats().QueueEvents; n > 17 { // I6: 16 and a tenth, one at least
		rt.Fatalf("%d events queued", n)
	}
}

// collect waits for what was emitted; a ticket may fail, but not hang.
func (w *world) collect() {
	last := uint64(0)
	for _, tk := range w.open {
		ctx, cancel := context.WithTimeout(w.t.Context(), time.Hour)
		rc, err := tk.Wait(ctx)
		cancel()
		switch {
		case err == nil && rc.Seq <= last: // I5
			w.rt.Fatalf("record %d after %d", rc.Seq, last)
		case err == nil:
			last = rc.Seq
			w.acked = append(w.acked, rc)
		case !errors.Is(err, audit.ErrUnavailable):
			w.rt.Fatalf("Wait() = %v", err)
		}
	}
	w.open = nil
}

func (w *world) check() {
	all := history(w.t, w.fsys)
	for _, rc := range w.acked { // I1
		if r, ok := all[rc.ID]; !ok || r.Seq != rc.Seq {
			w.rt.Fatalf("acknowledged record %d is lost", rc.Seq)
		}
	}
	if rep := check(w.t, asMap(w.fsys)); !rep.OK { // I2, I4
		w.rt.Fatalf("Verify() found %v", rep.Findings)
	}
}

// TestLogModel drives a log through random histories. I1 what was acknowledged
// is in the log exactly once, I2 Verify is OK, I4 emitted = records + dropped in
// clean runs, I5 order, I6 the queue is bounded.
func TestLogModel(t *testing.T) { // section 6.1
	rapid.Check(t, func(rt *rapid.T) {
		seed := rapid.Uint64().Draw(rt, "seed")
		mode := audit.FlushMode(rapid.IntRange(0, 2).Draw(rt, "mode"))
		synctest.Test(t, func(t *testing.T) {
			w := &world{t: t, rt: rt, fsys: faultfs.New(), mode: mode}
			rng := rand.New(rand.NewPCG(seed, 9))
			w.start()
			rt.Repeat(map[string]func(*rapid.T){
				"emit": w.emit,
				"append": func(rt *rapid.T) {
					w.collect()
					rc, err := w.log.Append(t.Context(), audit.Event{Data: alarm{}})
					if err == nil {
						w.acked = append(w.acked, rc)
					}
				},
				"burst": func(rt *rapid.T) {
					for range 30 {
						w.emit(rt)
					}
				},
				"flush": func(*rapid.T) { _ = w.log.Flush(t.Context()) },
				"wait": func(rt *rapid.T) {
					time.Sleep(time.Duration(rapid.IntRange(1, 5000).Draw(rt, "ms")) * time.Millisecond)
				},
				"day": func(*rapid.T) { time.Sleep(20 * time.Hour) },
				"fault": func(rt *rapid.T) {
					op := rapid.SampledFrom([]string{"write", "sync", "create", "syncdir", "rename", "truncate"}).Draw(rt, "op")
					left := rapid.IntRange(1, 4).Draw(rt, "times")
					w.fsys.Hook(func(s faultfs.Step) *faultfs.Fault {
						if s.Op != op || left == 0 {
							return nil
						}
						left--
						return &faultfs.Fault{Err: syscall.EIO, Short: rng.IntN(100)}
					})
				},
				"heal": func(*rapid.T) { w.fsys.Hook(nil); time.Sleep(3 * time.Second) },
				"close and reopen": func(*rapid.T) {
					w.fsys.Hook(nil)
					time.Sleep(3 * time.Second)
					if err := w.log.Close(t.Context()); err != nil && !strings.Contains(err.Error(), "unavailable") {
						rt.Fatalf("Close() = %v", err)
					}
					w.collect()
					w.check()
					w.start()
				},
				"crash": func(*rapid.T) {
					w.fsys.Hook(nil)
					old := w.fsys
					old.Kill()
					synctest.Wait()
					ctx, cancel := context.WithTimeout(t.Context(), time.Second)
					_ = w.log.Close(ctx)
					cancel()
					w.collect()
					w.fsys = old.PowerCut(rng)
					w.start()
					w.check()
				},
			})
			w.fsys.Hook(nil)
			time.Sleep(3 * time.Second)
			_ = w.log.Close(t.Context())
			w.collect()
			w.check()
		})
	})
}
