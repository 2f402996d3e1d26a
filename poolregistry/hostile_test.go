package poolregistry_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	. "github.com/llorch/llorch/poolregistry"
)

// onRecord is a log handler that calls a function for each record.
type onRecord func(slog.Record)

func (onRecord) Enabled(context.Context, slog.Level) bool { return true }

func (f onRecord) Handle(_ context.Context, r slog.Record) error {
	f(r)
	return nil
}

func (f onRecord) WithAttrs([]slog.Attr) slog.Handler { return f }
func (f onRecord) WithGroup(string) slog.Handler      { return f }

// PRG-21: a node that was cleared is registering again, and its id is still its
// own: who knows the instance, which every reader sees, does not get it.
func TestClearedNodeKeepsItsID(t *testing.T) {
	inBubble(t, Config{}, func(t *testing.T, w *world) {
		w.register("a")
		w.must(w.try(describe("a"))) // the answer got lost: it could not beat
		w.beat("a")
		w.must(w.Fail("a", "smoke"))
		w.must(w.ClearFailed("a"))
		w.want("a", Registering)
		wantCode(t, w.try(describe("a")), NodeIDTaken)
		w.beat("a") // under the lease that it has
		w.want("a", Online)
	})
}

// PRG-23, PRG-74: a second copy that goes on beating is told and counted every
// time, and costs one log record and one view.
func TestConflictIsToldOnce(t *testing.T) {
	loud := 0
	logger := slog.New(onRecord(func(r slog.Record) {
		if r.Level == slog.LevelError {
			loud++
		}
	}))
	inBubble(t, Config{Logger: logger}, func(t *testing.T, w *world) {
		w.register("a")
		old := w.grants["a"].LeaseToken
		w.must(w.try(other("a", 2, old)))
		w.seqs["a"] = 0
		w.beat("a")
		var since time.Time
		var gen uint64
		for seq := uint64(1); seq <= 100; seq++ {
			_, err := w.Beat(t.Context(), Beat{NodeID: "a", LeaseToken: old, Seq: seq})
			wantCode(t, err, LeaseFenced)
			if seq == 1 {
				since, gen = w.node("a").ConflictSince, w.View().Gen
			}
			time.Sleep(time.Millisecond)
		}
		if n := w.node("a"); loud != 1 || w.View().Gen != gen || !n.ConflictSince.Equal(since) || w.Stats().Conflicts != 100 {
			t.Errorf("%d records, view %d after %d, since %v, %d counted", loud, w.View().Gen, gen, n.ConflictSince, w.Stats().Conflicts)
		}
	})
}

// PRG-9, PRG-45: nodes that come with a schedule of their own and leave do not
// push out what an operator said of a node that is away.
func TestOperatorsSchedulesAreKeptLongest(t *testing.T) {
	inBubble(t, Config{Limits: Limits{Nodes: 3}}, func(t *testing.T, w *world) {
		w.register("mine")
		w.must(w.Cordon("mine"))
		w.must(w.Leave(t.Context(), "mine", w.grants["mine"].LeaseToken))
		for i := range 10 {
			time.Sleep(time.Second)
			r := describe(NodeID(fmt.Sprint("guest-", i)))
			r.Schedule = Cordoned
			w.must(w.try(r))
			w.must(w.Leave(t.Context(), r.NodeID, w.grants[r.NodeID].LeaseToken))
		}
		w.register("mine", "guest-9", "guest-0")
		w.wantSchedule("mine", Cordoned, false)
		w.wantSchedule("guest-9", Cordoned, false) // theirs is kept too, while there is room
		w.wantSchedule("guest-0", Open, false)
	})
}

// PRG-24: epochs of a high term are not taken for lies when a node leaves.
func TestEpochsOfHighTermsNeverRepeat(t *testing.T) {
	inBubble(t, Config{}, func(t *testing.T, w *world) {
		for _, term := range []uint64{1, 1 << 28, 1 << 30, 1<<32 - 1} {
			w.Takeover(term)
			last := uint64(0)
			for range 3 {
				w.register("a")
				if e := w.grants["a"].Epoch; e <= last || e <= term<<20 {
					t.Errorf("term %d: epoch %d after %d", term, e, last)
				}
				last = w.grants["a"].Epoch
				w.must(w.Leave(t.Context(), "a", w.grants["a"].LeaseToken))
			}
		}
	})
}

// PRG-45: uncordon wins also over a registration that comes at the same moment:
// the node is either there or remembered, and never between.
func TestUncordonMeetsRegistration(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var w *world
		comes := func() {}
		w = newWorld(t, Config{RestartGrace: -1, Logger: slog.New(onRecord(func(r slog.Record) {
			if r.Message == "node suspect" { // logged outside the lock, in the middle of whatever is going on
				comes()
			}
		}))})
		w.register("a")
		w.must(w.Cordon("a"))
		w.must(w.Leave(t.Context(), "a", w.grants["a"].LeaseToken))
		time.Sleep(500 * time.Millisecond) // so that the timer does not come first
		w.register("b")
		w.beat("b")
		time.Sleep(15 * time.Second)
		comes = func() { comes = func() {}; w.register("a") }
		if err := w.Uncordon("a"); errors.Is(err, NodeUnknown) {
			t.Error("the node was neither there nor remembered")
		}
		w.register("a")
		w.wantSchedule("a", Open, false)
	})
}

// PRG-45: content that is older than its beat does not say that nothing runs.
func TestStaleContentEndsNoDrain(t *testing.T) {
	active := 0
	drainWorld(t, Config{}, &active, func(w *world) {
		w.must(w.Drain("a", time.Minute))
		w.idle("a", true)
		for _, pools := range [][]Pool{nil, pool()} {
			_, err := w.beatWith("a", func(b *Beat) {
				b.StaleMS, b.Pools = 1, pools
				for i := range pools {
					pools[i].Idle = true
				}
			})
			w.must(err)
			w.wantSchedule("a", Draining, false)
		}
		w.idle("a", true)
		w.wantSchedule("a", Drained, false)
	})
}

// PRG-42: a beat of which the caller could read no more than the lease keeps the
// node alive and changes nothing else.
func TestUnreadBeatIsASignOfLife(t *testing.T) {
	inBubble(t, Config{Timing: Fast(), RestartGrace: -1}, func(t *testing.T, w *world) {
		w.register("a")
		w.beat("a")
		before := w.node("a").Pools
		for range 10 {
			time.Sleep(time.Second)
			_, err := w.beatWith("a", func(b *Beat) { b.Pools, b.Unread = nil, []string{"pools: type"} })
			if e := wantCode(t, err, InvalidBeat); len(e.Fields) != 1 || e.Fields[0] != "pools: type" {
				t.Errorf("fields %q", e.Fields)
			}
			w.want("a", Online)
		}
		if p := w.node("a").Pools; !p[0].Ready || &p[0] != &before[0] {
			t.Errorf("pools changed: %+v", p)
		}
	})
}

// PRG-21: where nothing is ever forgotten, the id of another principal is not
// promised for any time: an hour is said.
func TestTakenForGood(t *testing.T) {
	inBubble(t, Config{ForgetAfter: -1, RestartGrace: -1}, func(t *testing.T, w *world) {
		w.register("a")
		w.beat("a")
		for _, live := range []Liveness{Online, Offline} {
			w.want("a", live)
			r := other("a", 2, "")
			r.Principal = "p2"
			if e := wantCode(t, w.try(r), NodeIDTaken); e.RetryAfter != time.Hour {
				t.Errorf("%s: retry after %v", live, e.RetryAfter)
			}
			time.Sleep(24 * time.Hour)
		}
	})
}
