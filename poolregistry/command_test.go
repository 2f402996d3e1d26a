package poolregistry_test

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	. "github.com/llorch/llorch/poolregistry"
)

// §4.2: a failed node beats and stays failed, keeps what runs, and comes back by
// being cleared, with a new epoch.
func TestFail(t *testing.T) {
	inBubble(t, Config{}, func(t *testing.T, w *world) {
		w.register("a")
		w.beat("a")
		epoch := w.node("a").Epoch
		w.must(w.Fail("a", "fan is loud"))
		n := w.node("a") // PRG-13
		if ok, why := n.Placeable(); n.Liveness != Failed || n.Reason != "fan is loud" || ok || why != "failed" || n.Status() != "failed" {
			t.Errorf("node %s, %s; placeable %t, %q", n.Liveness, n.Reason, ok, why)
		}
		if v := w.View(); v.Failed != 1 || v.Online != 0 {
			t.Errorf("view counts %d failed, %d online", v.Failed, v.Online)
		}
		wantCode(t, w.Fail("a", "again"), IllegalTransition)
		r, err := w.beatWith("a", nil)
		if err != nil || r.Status != Failed || r.Epoch != epoch {
			t.Errorf("reply %+v, %v", r, err)
		}
		time.Sleep(50 * time.Minute) // silent: the operator's word stands
		w.want("a", Failed)
		w.beat("a")
		time.Sleep(time.Hour - 1) // an hour after it was last heard of
		w.want("a", Failed)
		w.beat("a")
		w.must(w.ClearFailed("a"))
		w.want("a", Registering)
		wantCode(t, w.ClearFailed("a"), IllegalTransition)
		w.beat("a")
		w.want("a", Online)
		if e := w.node("a").Epoch; e != epoch+1 {
			t.Errorf("epoch %d after %d", e, epoch)
		}
		for _, reason := range []string{"", "two\nlines", strings.Repeat("x", 257)} {
			if e := wantCode(t, w.Fail("a", reason), InvalidNode); !strings.HasPrefix(e.Fields[0], "reason: ") {
				t.Errorf("fields %q", e.Fields)
			}
		}
		time.Sleep(time.Minute)
		w.want("a", Offline)
		wantCode(t, w.Fail("a", "too late"), IllegalTransition)
	})
}

// §4.2, PRG-21: a failed id is given away like an offline one, and forgotten like
// one; the same incarnation does not heal itself.
func TestFailedIsReplacedOrForgotten(t *testing.T) {
	inBubble(t, Config{}, func(t *testing.T, w *world) {
		w.register("a")
		w.beat("a")
		w.must(w.Fail("a", "x"))
		first := w.grants["a"]
		w.must(w.try(other("a", 1, first.LeaseToken)))
		w.want("a", Failed)
		r := other("a", 2, "")
		r.Principal = "somebody else"
		if e := wantCode(t, w.try(r), NodeIDTaken); e.RetryAfter != time.Hour {
			t.Errorf("retry after %v", e.RetryAfter)
		}
		w.must(w.try(other("a", 2, "")))
		w.want("a", Registering)
		if g := w.grants["a"]; g.Epoch <= first.Epoch {
			t.Errorf("epoch %d after %d", g.Epoch, first.Epoch)
		}
		w.must(w.Fail("a", "x"))
		time.Sleep(time.Hour - 1)
		w.want("a", Failed)
		time.Sleep(time.Nanosecond)
		if len(w.View().Nodes) != 0 {
			t.Error("a failed node is not forgotten")
		}
	})
}

// §4.2, PRG-38: a node fails itself by an event of class fatal, once.
func TestFatalEvent(t *testing.T) {
	inBubble(t, Config{}, func(t *testing.T, w *world) {
		w.register("a")
		send := func(e Event) BeatReply {
			r, err := w.beatWith("a", func(b *Beat) { b.Events = []Event{e} })
			w.must(err)
			return r
		}
		if r := send(Event{ID: 1, WorkerID: "w", PoolID: "p0", Class: "oom_vram"}); r.Status != Online {
			t.Errorf("after the failure of a worker: %s", r.Status)
		}
		if r := send(Event{ID: 2, Class: "fatal", Message: "GPU fell off the bus"}); r.Status != Failed {
			t.Errorf("after a fatal event: %s", r.Status)
		}
		if n := w.node("a"); n.Reason != "fatal" || len(n.Events) != 2 {
			t.Errorf("reason %s, %d events", n.Reason, len(n.Events))
		}
		w.must(w.ClearFailed("a"))
		if r := send(Event{ID: 2, Class: "fatal"}); r.Status != Online { // its answer got lost
			t.Errorf("after the same event again: %s", r.Status)
		}
		for _, e := range []Event{{ID: 3, Class: "oom_vram"}, {ID: 3, Class: "fatal", WorkerID: "-", PoolID: "-"}} {
			_, err := w.beatWith("a", func(b *Beat) { b.Events = []Event{e} })
			if e := wantCode(t, err, InvalidBeat); len(e.Fields) != 2 {
				t.Errorf("fields %q", e.Fields)
			}
		}
	})
}

// PRG-21 (T5): an operator frees an id at once, whoever holds it.
func TestRelease(t *testing.T) {
	inBubble(t, Config{}, func(t *testing.T, w *world) {
		w.register("a")
		w.beat("a")
		w.must(w.Cordon("a"))
		epoch := w.node("a").Epoch
		r := other("a", 2, "")
		r.Principal = "new owner"
		wantCode(t, w.try(r), NodeIDTaken)
		w.must(w.Release("a"))
		if len(w.View().Nodes) != 0 {
			t.Error("the node is still there")
		}
		_, err := w.beatWith("a", nil)
		wantCode(t, err, NodeUnknown) // the lease is void
		w.must(w.try(r))
		if n := w.node("a"); n.Schedule != Open || n.Epoch <= epoch {
			t.Errorf("%s in epoch %d, before %d", n.Schedule, n.Epoch, epoch)
		}
		w.must(w.Cordon("a"))
		w.must(w.Leave(t.Context(), "a", w.grants["a"].LeaseToken))
		w.must(w.Release("a")) // what is kept of a node that left
		wantCode(t, w.Release("a"), NodeUnknown)
	})
}

// PRG-24, PRG-32: a leader's epochs are above those of every earlier term, and nobody
// goes offline before nodes had time to find it.
func TestTakeover(t *testing.T) {
	inBubble(t, Config{Timing: Fast()}, func(t *testing.T, w *world) {
		w.register("a")
		w.live(10*time.Second, time.Second, "a")
		w.Takeover(3)
		if e := w.node("a").Epoch; e != 1 {
			t.Errorf("a node that is there has epoch %d", e)
		}
		r := describe("b")
		r.PrevEpoch = 2<<20 + 7
		w.must(w.try(r))
		if e := w.node("b").Epoch; e != 3<<20+1 {
			t.Errorf("epoch %d, want %d", e, 3<<20+1)
		}
		w.Takeover(2) // a term that is over
		w.register("c")
		if e := w.node("c").Epoch; e != 3<<20+1 {
			t.Errorf("epoch %d, want %d", e, 3<<20+1)
		}
		r = describe("d")
		r.PrevEpoch = 5 << 20
		w.must(w.try(r))
		if e := w.node("d").Epoch; e != 5<<20+1 {
			t.Errorf("epoch %d, want %d", e, 5<<20+1)
		}
		w.Takeover(1<<64 - 1) // does not leave the range that nodes may remember
		w.must(w.Release("d"))
		w.register("d")
		if e := w.node("d").Epoch; e != (1<<32-1)<<20+1 {
			t.Errorf("epoch %d", e)
		}
	})
	inBubble(t, Config{Timing: Fast(), RestartGrace: 20 * time.Second}, func(t *testing.T, w *world) {
		w.register("a")
		w.live(30*time.Second, time.Second, "a")
		w.Takeover(1)
		time.Sleep(20*time.Second - 1)
		w.want("a", Suspect)
		time.Sleep(time.Nanosecond)
		w.want("a", Offline)
		w.beat("a")
		if e := w.node("a").Epoch; e != 1<<20+1 { // a return is above the term too
			t.Errorf("epoch %d", e)
		}
	})
}

// PRG-74: one record per transition; one warning for all that went offline, with
// counts and ten names at most; an error when the guard trips.
func TestLog(t *testing.T) {
	var buf bytes.Buffer
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, Config{
			Timing: Fast(), GuardFraction: 1, RestartGrace: -1,
			Logger: slog.New(slog.NewJSONHandler(&buf, &slog.HandlerOptions{Level: slog.LevelDebug})),
		})
		w.register(many(12)...)
		w.live(5*time.Second, time.Second, many(12)...)
		time.Sleep(10 * time.Second)
		if v := w.View(); v.Offline != 12 {
			t.Errorf("%d offline", v.Offline)
		}
	})
	moves, warned := 0, false
	for line := range bytes.Lines(buf.Bytes()) {
		var rec map[string]any
		if err := json.Unmarshal(line, &rec); err != nil {
			t.Fatal(err)
		}
		if rec["to"] == "offline" {
			moves++
			if rec["level"] != "INFO" || rec["from"] != "suspect" || rec["reason"] != "silent" || rec["silence_ms"] != 3000.0 || rec["epoch"] != 1.0 || rec["node"] == nil {
				t.Errorf("record %v", rec)
			}
		}
		if ids, ok := rec["ids"].([]any); ok {
			warned = true
			if rec["level"] != "WARN" || rec["nodes"] != 12.0 || rec["offline"] != 12.0 || len(ids) != 10 {
				t.Errorf("warning %v", rec)
			}
		}
		if strings.Contains(string(line), "lease") {
			t.Errorf("a lease token may be in %s", line)
		}
	}
	if moves != 12 || !warned {
		t.Errorf("%d records of transitions, warned %t", moves, warned)
	}
}
