package poolregistry_test

import (
	"errors"
	"testing"
	"time"

	. "github.com/llorch/llorch/poolregistry"
)

func other(id NodeID, instance int, token string) Registration {
	r := describe(id)
	r.InstanceID, r.LeaseToken = uuid(instance), token
	return r
}

// PRG-21: who may replace whom.
func TestTakeoverRules(t *testing.T) {
	const asked = NodeID("a")
	for _, c := range []struct {
		name    string
		offline bool
		reg     func(w *world) Registration
		taken   bool
	}{
		{"T1 with the lease token, live", false, func(w *world) Registration { return other(asked, 2, w.grants[asked].LeaseToken) }, false},
		{"T1 with the lease token, by another principal", false, func(w *world) Registration {
			r := other(asked, 2, w.grants[asked].LeaseToken)
			r.Principal = "rotated"
			return r
		}, false},
		{"T2 without token, offline", true, func(*world) Registration { return other(asked, 2, "") }, false},
		{"T2 with a stale token, offline", true, func(*world) Registration { return other(asked, 2, "stale") }, false},
		{"T4 without token, live", false, func(*world) Registration { return other(asked, 2, "") }, true},
		{"T4 with a stale token, live", false, func(*world) Registration { return other(asked, 2, "stale") }, true},
		{"T4 the same instance without token, live", false, func(*world) Registration { return describe(asked) }, true},
		{"T5 by another principal, live", false, func(*world) Registration { r := other(asked, 2, ""); r.Principal = "p2"; return r }, true},
		{"T5 by another principal, offline", true, func(*world) Registration { r := other(asked, 2, ""); r.Principal = "p2"; return r }, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			inBubble(t, Config{}, func(t *testing.T, w *world) {
				w.register(asked)
				w.live(30*time.Second, 10*time.Second, asked)
				before := w.grants[asked]
				if c.offline {
					time.Sleep(time.Minute)
				}
				err := w.try(c.reg(w))
				if c.taken {
					e := wantCode(t, err, NodeIDTaken)
					if e.RetryAfter <= 0 || len(e.Fields) != 0 {
						t.Errorf("refusal = %+v", e)
					}
					return
				}
				w.must(err)
				after := w.grants[asked]
				if after.Epoch <= before.Epoch || after.LeaseToken == before.LeaseToken {
					t.Errorf("grant epoch %d after %d, token changed: %t", after.Epoch, before.Epoch, after.LeaseToken != before.LeaseToken)
				}
				w.want(asked, Registering)
				_, err = w.Beat(t.Context(), Beat{NodeID: asked, LeaseToken: before.LeaseToken, Seq: 99})
				wantCode(t, err, LeaseFenced)
			})
		})
	}
}

// PRG-21: T4 says when the id would be free, and then it is.
func TestTakenSaysWhen(t *testing.T) {
	inBubble(t, Config{}, func(t *testing.T, w *world) {
		w.register("a")
		w.live(30*time.Second, 10*time.Second, "a")
		time.Sleep(7 * time.Second)
		e := wantCode(t, w.try(other("a", 2, "")), NodeIDTaken)
		time.Sleep(e.RetryAfter - time.Millisecond)
		wantCode(t, w.try(other("a", 2, "")), NodeIDTaken)
		time.Sleep(time.Millisecond)
		w.must(w.try(other("a", 2, "")))
	})
}

// A registration whose answer got lost can be repeated while no beat was sent.
func TestLostGrantIsRepeated(t *testing.T) {
	inBubble(t, Config{}, func(t *testing.T, w *world) {
		w.register("a")
		first := w.grants["a"]
		wantCode(t, w.try(other("a", 2, "")), NodeIDTaken)
		w.register("a")
		if second := w.grants["a"]; second.Epoch <= first.Epoch || second.LeaseToken == first.LeaseToken {
			t.Errorf("epochs %d, %d", first.Epoch, second.Epoch)
		}
		w.beat("a")
		wantCode(t, w.try(describe("a")), NodeIDTaken)
	})
}

// PRG-17: the same incarnation may register as often as it likes.
func TestReregisterDropsOldPools(t *testing.T) {
	inBubble(t, Config{}, func(t *testing.T, w *world) {
		r := describe("a")
		r.Pools = []Pool{{ID: "gone"}, {ID: "p0"}}
		w.must(w.try(r))
		w.beat("a")
		before := w.node("a")
		grant := w.grants["a"]
		time.Sleep(time.Second)
		r.LeaseToken = grant.LeaseToken
		r.Pools = []Pool{{ID: "p0"}, {ID: "p1"}}
		w.must(w.try(r))
		after := w.node("a")
		if again := w.grants["a"]; again.Epoch != grant.Epoch || again.LeaseToken != grant.LeaseToken {
			t.Error("epoch or token changed")
		}
		if !after.RegisteredAt.Equal(before.RegisteredAt) || after.Liveness != Online {
			t.Errorf("registered_at %v, was %v; %s", after.RegisteredAt, before.RegisteredAt, after.Liveness)
		}
		if _, ok := after.Pool("gone"); ok {
			t.Error("a pool that was not registered again is still there")
		}
		if p, ok := after.Pool("p0"); !ok || !p.Ready {
			t.Errorf("p0 lost its content: %+v", p)
		}
		if p, ok := after.Pool("p1"); !ok || p.Ready {
			t.Errorf("p1 = %+v", p)
		}
	})
}

// PRG-24: an epoch never falls, whoever forgets what.
func TestLowerEpochNeverWins(t *testing.T) {
	inBubble(t, Config{}, func(t *testing.T, w *world) {
		r := describe("a")
		r.PrevEpoch = 1000
		w.must(w.try(r))
		r = other("a", 2, w.grants["a"].LeaseToken)
		r.PrevEpoch = 3 // restored from an old image
		w.must(w.try(r))
		if e := w.grants["a"].Epoch; e != 1002 {
			t.Errorf("epoch = %d, want 1002", e)
		}
		w.must(w.Leave(t.Context(), "a", w.grants["a"].LeaseToken))
		w.must(w.try(describe("a")))
		if e := w.grants["a"].Epoch; e <= 1002 {
			t.Errorf("epoch after leaving = %d, want above 1002", e)
		}
		// A claimed epoch at the end of the range cannot push others out of it.
		r = describe("liar")
		r.PrevEpoch = 1<<52 - 1
		w.must(w.try(r))
		w.must(w.Leave(t.Context(), "liar", w.grants["liar"].LeaseToken))
		w.must(w.try(describe("b")))
		if e := w.grants["b"].Epoch; e > 1<<49 {
			t.Errorf("epoch of another node = %d", e)
		}
	})
}

// PRG-23: of two copies of one image one wins, and the other is told once.
func TestClonedImagesOneWinner(t *testing.T) {
	inBubble(t, Config{}, func(t *testing.T, w *world) {
		w.register("a")
		w.beat("a")
		loser := w.grants["a"]
		w.must(w.try(other("a", 2, loser.LeaseToken)))
		if !w.node("a").ConflictSince.IsZero() {
			t.Error("a restart looks like a conflict")
		}
		// A late copy of an old beat proves nothing.
		_, err := w.Beat(t.Context(), Beat{NodeID: "a", LeaseToken: loser.LeaseToken, Seq: 1})
		wantCode(t, err, LeaseFenced)
		if n := w.Stats().Conflicts; n != 0 {
			t.Errorf("conflicts = %d", n)
		}
		_, err = w.Beat(t.Context(), Beat{NodeID: "a", LeaseToken: loser.LeaseToken, Seq: 2})
		wantCode(t, err, LeaseFenced)
		if n := w.Stats().Conflicts; n != 1 || w.node("a").ConflictSince.IsZero() {
			t.Errorf("conflicts = %d, since %v", n, w.node("a").ConflictSince)
		}
		wantCode(t, w.Leave(t.Context(), "a", loser.LeaseToken), LeaseFenced)
		wantCode(t, w.try(other("a", 1, loser.LeaseToken)), NodeIDTaken)
		w.seqs["a"] = 0
		w.live(10*time.Minute-10*time.Second, 10*time.Second, "a")
		if w.node("a").ConflictSince.IsZero() {
			t.Error("the conflict is forgotten too early")
		}
		w.live(20*time.Second, 10*time.Second, "a")
		if !w.node("a").ConflictSince.IsZero() {
			t.Error("the conflict is shown for more than ten minutes")
		}
	})
}

// PRG-40: a replayed beat refreshes nothing; gaps are fine.
func TestReplay(t *testing.T) {
	inBubble(t, Config{}, func(t *testing.T, w *world) {
		w.register("a")
		seq := func(n uint64) error {
			_, err := w.beatWith("a", func(b *Beat) { b.Seq = n })
			return err
		}
		w.must(seq(5))
		time.Sleep(14 * time.Second)
		for _, n := range []uint64{5, 4, 1, 0} {
			wantCode(t, seq(n), BeatReplayed)
		}
		time.Sleep(time.Second)
		w.want("a", Suspect)
		w.must(seq(500))
		w.want("a", Online)
	})
}

// PRG-42: a beat that is refused for its content still proves life.
func TestRefusedContentStillLives(t *testing.T) {
	inBubble(t, Config{}, func(t *testing.T, w *world) {
		w.register("a")
		w.beat("a")
		for range 6 {
			time.Sleep(10 * time.Second)
			_, err := w.beatWith("a", func(b *Beat) { b.Pools[0].ID = "no good" })
			e := wantCode(t, err, InvalidBeat)
			if len(e.Fields) != 1 || e.Fields[0] != "pools[0].pool_id: charset" {
				t.Errorf("fields = %q", e.Fields)
			}
			w.want("a", Online)
			if p, _ := w.node("a").Pool("p0"); !p.Ready {
				t.Error("the content before is gone")
			}
		}
	})
	inBubble(t, Config{}, func(t *testing.T, w *world) {
		w.register("a")
		var err error
		for range 8 {
			_, err = w.beatWith("a", nil)
			w.must(err)
		}
		_, err = w.beatWith("a", func(b *Beat) { b.Pools = nil })
		e := wantCode(t, err, TooManyBeats)
		if e.RetryAfter <= 0 || e.RetryAfter > 2500*ms {
			t.Errorf("retry after %v", e.RetryAfter)
		}
		if p, _ := w.node("a").Pool("p0"); !p.Ready {
			t.Error("content of a limited beat was taken")
		}
		time.Sleep(e.RetryAfter)
		w.beat("a")
	})
}

// PRG-33: what the data plane sees.
func TestBusyIsNotDead(t *testing.T) {
	inBubble(t, Config{}, func(t *testing.T, w *world) {
		w.register("a")
		w.live(30*time.Second, 10*time.Second, "a")
		w.beat("a")
		for range 29 { // no beat gets through, tokens do
			time.Sleep(10 * time.Second)
			w.Progress("a")
			if l := w.node("a").Liveness; l == Offline {
				t.Fatal("a node that delivers tokens is offline")
			}
			if ok, _ := w.node("a").Placeable(); ok && time.Since(w.node("a").LastHeartbeat()) > 15*time.Second {
				t.Error("progress made a silent node placeable")
			}
		}
		time.Sleep(10 * time.Second)
		w.Progress("a")
		w.want("a", Offline) // 300 s after the last beat it ends
	})
	inBubble(t, Config{}, func(t *testing.T, w *world) {
		w.register("a")
		w.live(30*time.Second, 10*time.Second, "a")
		w.beat("a")
		w.Refused("a")
		w.want("a", Suspect)
		if n := w.node("a"); n.Reason != "refused" {
			t.Errorf("reason %q", n.Reason)
		}
		w.beat("a")
		w.want("a", Online)
		w.Refused("nobody")
		w.Progress("nobody")
	})
}

// PRG-9: a full registry refuses newcomers and serves the others.
func TestNodeLimit(t *testing.T) {
	inBubble(t, Config{Limits: Limits{Nodes: 2}}, func(t *testing.T, w *world) {
		w.register("a", "b")
		if e := wantCode(t, w.try(describe("c")), NodeLimit); e.RetryAfter <= 0 {
			t.Error("no retry after")
		}
		w.beat("a", "b")
		w.must(w.Leave(t.Context(), "b", w.grants["b"].LeaseToken))
		w.register("c")
	})
}

func TestLeave(t *testing.T) {
	inBubble(t, Config{}, func(t *testing.T, w *world) {
		w.register("a")
		wantCode(t, w.Leave(t.Context(), "b", "x"), NodeUnknown)
		wantCode(t, w.Leave(t.Context(), "a", "x"), LeaseInvalid)
		wantCode(t, w.Leave(t.Context(), "a", ""), LeaseInvalid)
		w.must(w.Leave(t.Context(), "a", w.grants["a"].LeaseToken))
		if len(w.View().Nodes) != 0 {
			t.Error("the node is still there")
		}
		_, err := w.beatWith("a", nil)
		wantCode(t, err, NodeUnknown)
	})
}

// The table: an offline node is forgotten after ForgetAfter, or never.
func TestForget(t *testing.T) {
	inBubble(t, Config{}, func(t *testing.T, w *world) {
		w.register("a")
		w.live(30*time.Second, 10*time.Second, "a")
		w.beat("a")
		time.Sleep(30*time.Second + time.Hour - 1)
		w.want("a", Offline)
		time.Sleep(time.Nanosecond)
		if _, ok := w.View().Node("a"); ok {
			t.Error("not forgotten after an hour")
		}
	})
	inBubble(t, Config{ForgetAfter: -1}, func(t *testing.T, w *world) {
		w.register("a")
		w.live(30*time.Second, 10*time.Second, "a")
		time.Sleep(24 * time.Hour)
		w.want("a", Offline)
	})
}

func TestErrorMatchesByCode(t *testing.T) {
	err := errors.Join(errors.New("x"), &Error{Code: NodeUnknown})
	if !errors.Is(err, NodeUnknown) || errors.Is(err, LeaseInvalid) {
		t.Error("errors.Is does not compare codes")
	}
}
