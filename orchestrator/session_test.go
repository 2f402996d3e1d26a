package orchestrator_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/llorch/llorch/orchestrator"
	"github.com/llorch/llorch/orchestrator/placement"
	"github.com/llorch/llorch/orchestrator/store"
	"github.com/llorch/llorch/orchestrator/taskapi"
	"github.com/llorch/llorch/orchestrator/worker/workertest"
	"pgregory.net/rapid"
)

var other = orchestrator.Principal{User: "somebody", Roles: orchestrator.RoleUser}

func (b *bench) session(id string) orchestrator.Session {
	b.t.Helper()
	s, err := b.Session(b.t.Context(), me, id)
	if err != nil {
		b.t.Fatalf("Session(%s): %v", id, err)
	}
	return s
}

func (b *bench) take(id string, budget, need int) orchestrator.SessionUse {
	b.t.Helper()
	u, err := orchestrator.TakeSession(b.Orchestrator, me, id, budget, need)
	if err != nil {
		b.t.Fatalf("take a turn of %s: %v", id, err)
	}
	return u
}

func (b *bench) noSession(id string) {
	b.t.Helper()
	if s, err := b.Session(b.t.Context(), me, id); !errors.Is(err, taskapi.SessionNotFound) {
		b.t.Errorf("Session(%s) = %+v, %v, want SESSION_NOT_FOUND", id, s, err)
	}
}

// TestGetCreatesNoSession: reading, touching and ending make nothing, and what is
// another person's is as if it were not there (ORC-540, ORC-765).
func TestGetCreatesNoSession(t *testing.T) {
	inBubble(t, orchestrator.Config{}, nil, func(t *testing.T, b *bench) {
		for range 2 {
			b.noSession("s")
			if err := b.TouchSession(t.Context(), me, "s"); !errors.Is(err, taskapi.SessionNotFound) {
				t.Errorf("TouchSession = %v, want SESSION_NOT_FOUND", err)
			}
			if err := b.EndSession(t.Context(), me, "s"); err != nil {
				t.Errorf("EndSession of what is not there = %v, want nil", err)
			}
		}
		if n := orchestrator.CountSessions(b.Orchestrator); n != 0 {
			t.Fatalf("%d sessions were made by reading", n)
		}
		if _, err := b.OpenSession(t.Context(), me, "s", 0); err != nil {
			t.Fatal(err)
		}
		if _, err := b.Session(t.Context(), other, "s"); !errors.Is(err, taskapi.SessionNotFound) {
			t.Errorf("somebody else's session = %v, want SESSION_NOT_FOUND", err)
		}
		if err := b.EndSession(t.Context(), other, "s"); err != nil {
			t.Errorf("EndSession of a foreign one = %v, want nil", err)
		}
		b.session("s")
		if _, err := b.Session(t.Context(), orchestrator.Principal{User: "me"}, "s"); !errors.Is(err, taskapi.Forbidden) {
			t.Errorf("without a role = %v, want FORBIDDEN", err)
		}
	})
}

// TestSessionOpen: a session is made by its first task or by OpenSession, which
// answers with the one that exists; a bad name or budget is refused by field (ORC-540).
func TestSessionOpen(t *testing.T) {
	inBubble(t, orchestrator.Config{}, nil, func(t *testing.T, b *bench) {
		s, err := b.OpenSession(t.Context(), me, "", 0)
		if err != nil || len(s.ID) < 16 || s.TTLLeft != 10*time.Minute || s.Turns != 0 || s.Budget != 0 {
			t.Fatalf("OpenSession = %+v, %v", s, err)
		}
		b.take("s", 100, 30)
		s, err = b.OpenSession(t.Context(), me, "s", 7)
		if err != nil || s.Turns != 1 || s.Budget != 100 || s.BudgetLeft != 70 {
			t.Errorf("OpenSession of one that exists = %+v, %v, want turn 1 and 70 of 100", s, err)
		}
		for _, tt := range []struct {
			id     string
			budget int
			field  string
		}{{"a/b", 0, "session_id"}, {"s\x00", 0, "session_id"}, {"t", -1, "budget.tokens"}} {
			_, err := b.OpenSession(t.Context(), me, tt.id, tt.budget)
			if e, ok := errors.AsType[*taskapi.Error](err); !ok || e.Code != taskapi.InvalidParams || e.Details["field"] != tt.field {
				t.Errorf("OpenSession(%q, %d) = %v, want INVALID_PARAMS for %s", tt.id, tt.budget, err, tt.field)
			}
		}
		if err := b.EndSession(t.Context(), me, "s"); err != nil {
			t.Fatal(err)
		}
		b.noSession("s")
	})
}

// TestAbandonedStateExpires: a session lives for ten minutes after its last use,
// submit, end or touch; one whose task never ends is not kept for ever (ORC-540).
func TestAbandonedStateExpires(t *testing.T) {
	inBubble(t, orchestrator.Config{}, nil, func(t *testing.T, b *bench) {
		u := b.take("s", 0, 0)
		wait := func(d time.Duration) {
			time.Sleep(d)
			synctest.Wait()
		}
		wait(9 * time.Minute)
		u.Settle(1)
		wait(9 * time.Minute)
		if got := b.session("s").TTLLeft; got != time.Minute {
			t.Errorf("9 min after the end %s are left, want 1 min", got)
		}
		if err := b.TouchSession(t.Context(), me, "s"); err != nil {
			t.Fatal(err)
		}
		wait(10*time.Minute - time.Millisecond)
		b.session("s")
		wait(time.Millisecond)
		b.noSession("s")
		b.take("lost", 0, 0)
		wait(39 * time.Minute)
		b.session("lost")
		wait(time.Minute + 10*time.Second)
		b.noSession("lost")
		if n := orchestrator.CountSessions(b.Orchestrator); n != 0 {
			t.Errorf("%d sessions are still in memory", n)
		}
	})
}

// TestSessionTurns: after eight turns the count begins anew and the context is
// another one, or the ninth is refused (ORC-540).
func TestSessionTurns(t *testing.T) {
	inBubble(t, orchestrator.Config{}, []workertest.Config{{}}, func(t *testing.T, b *bench) {
		first := b.take("s", 0, 0)
		key := placement.Key{Node: "n", Pool: "p", Worker: "a"}
		if err := orchestrator.PlacedSession(b.Orchestrator, me, "s", key); err != nil {
			t.Fatal(err)
		}
		if s := b.session("s"); s.Worker != "n/p/a" || !s.Warm {
			t.Errorf("session = %+v, want warm at n/p/a", s)
		}
		for range 7 {
			if u := b.take("s", 0, 0); u.Ref != first.Ref {
				t.Fatal("the turns of one context have two references")
			}
		}
		ninth := b.take("s", 0, 0)
		if s := b.session("s"); s.Turns != 1 || s.Warm || s.Worker != "" || ninth.Ref == first.Ref {
			t.Errorf("after 9 turns session = %+v, want one turn of a new context", s)
		}
		b.pools.set()
		synctest.Wait()
		if err := orchestrator.PlacedSession(b.Orchestrator, me, "s", key); err != nil {
			t.Fatal(err)
		}
		if s := b.session("s"); s.Warm || s.Worker != "n/p/a" {
			t.Errorf("its worker is gone: session = %+v, want not warm", s)
		}
	})
	inBubble(t, orchestrator.Config{Sessions: orchestrator.Sessions{Full: "reject", Turns: 2}}, nil, func(t *testing.T, b *bench) {
		b.take("s", 0, 0)
		refused := b.take("s", 0, 0)
		if _, err := orchestrator.TakeSession(b.Orchestrator, me, "s", 0, 0); !errors.Is(err, taskapi.SessionLimit) {
			t.Errorf("third turn = %v, want SESSION_LIMIT", err)
		}
		refused.Cancel() // a task that another check refused was no turn
		refused.Cancel()
		if got := b.session("s").Turns; got != 1 {
			t.Errorf("%d turns, want 1", got)
		}
		b.take("s", 0, 0)
		b.take("new", 0, 0).Cancel()
		b.noSession("new")
	})
}

// TestSessionBound: there are never more sessions than Max; who was idle the
// longest goes, not who has a task (ORC-540).
func TestSessionBound(t *testing.T) {
	inBubble(t, orchestrator.Config{Sessions: orchestrator.Sessions{Max: 3}}, nil, func(t *testing.T, b *bench) {
		b.take("busy", 0, 0)
		for i := range 5 {
			b.take(fmt.Sprintf("s%d", i), 0, 0).Settle(1)
		}
		if n := orchestrator.CountSessions(b.Orchestrator); n != 3 {
			t.Errorf("%d sessions, want 3", n)
		}
		b.session("busy")
		b.session("s4")
		b.noSession("s2")
	})
	for _, bad := range []orchestrator.Sessions{{TTL: -1}, {Turns: -1}, {Max: -1}, {Full: "forget"}} {
		if _, err := orchestrator.New(orchestrator.Config{Pools: newPools(), Sessions: bad}); err == nil {
			t.Errorf("New with %+v = nil, want an error", bad)
		}
	}
}

// TestSessionBudgetRaceConcurrentSafe: of many tasks at once exactly as many are let
// in as the budget has room for; what they did not need is given back (ORC-541).
func TestSessionBudgetRaceConcurrentSafe(t *testing.T) {
	inBubble(t, orchestrator.Config{Sessions: orchestrator.Sessions{Turns: 1000}}, nil, func(t *testing.T, b *bench) {
		if _, err := b.OpenSession(t.Context(), me, "s", 105); err != nil {
			t.Fatal(err)
		}
		var got sync.WaitGroup
		var in, out atomic.Int64
		uses := make(chan orchestrator.SessionUse, 64)
		for range 64 {
			got.Go(func() {
				u, err := orchestrator.TakeSession(b.Orchestrator, me, "s", 0, 10)
				switch {
				case err == nil:
					in.Add(1)
					uses <- u
				case errors.Is(err, taskapi.BudgetExceeded):
					out.Add(1)
				default:
					t.Error(err)
				}
			})
		}
		got.Wait()
		if in.Load() != 10 || out.Load() != 54 {
			t.Fatalf("%d tasks were let in and %d refused, want 10 and 54", in.Load(), out.Load())
		}
		if left := b.session("s").BudgetLeft; left != 5 {
			t.Errorf("%d tokens are left, want 5", left)
		}
		close(uses)
		for u := range uses {
			got.Go(func() { u.Settle(7); u.Settle(7) }) // twice counts once
		}
		got.Wait()
		if left := b.session("s").BudgetLeft; left != 35 {
			t.Errorf("%d tokens are left after the ends, want 35", left)
		}
		u := b.take("s", 0, 35)
		u.Settle(50)
		if s := b.session("s"); s.BudgetLeft != 0 {
			t.Errorf("after more than was reserved %d are left, want 0", s.BudgetLeft)
		}
		if _, err := orchestrator.TakeSession(b.Orchestrator, me, "s", 0, 1); !errors.Is(err, taskapi.BudgetExceeded) {
			t.Errorf("one token more = %v, want BUDGET_EXCEEDED", err)
		}
	})
}

// TestSessionBudgetSurvives: a budget outlives the process, what was reserved counts
// as spent, and neither the end nor an erasure leaves a document (ORC-541, ORC-841).
func TestSessionBudgetSurvives(t *testing.T) {
	mem := store.NewMemory()
	key := orchestrator.Config{Store: mem, SealKeys: [][]byte{make([]byte, 32)}}
	docs := func() (n int) {
		for _, err := range mem.Docs(t.Context(), store.KindSession, "") {
			if err != nil {
				t.Fatal(err)
			}
			n++
		}
		return n
	}
	inBubble(t, key, nil, func(t *testing.T, b *bench) {
		b.take("s", 100, 40)
		b.take("s", 0, 20).Settle(5)
		b.take("ended", 100, 1)
		b.take("free", 0, 9)
		if err := b.EndSession(t.Context(), me, "ended"); err != nil || docs() != 1 {
			t.Fatalf("EndSession = %v, then %d documents, want 1", err, docs())
		}
		if err := b.stop(); err != nil {
			t.Fatal(err)
		}
		b.start(key)
		if s := b.session("s"); s.Budget != 100 || s.BudgetLeft != 55 {
			t.Errorf("after a restart session = %+v, want 55 of 100", s)
		}
		b.noSession("ended")
		u := b.take("s", 0, 50)
		if _, err := b.Erase(t.Context(), me, "", ""); err != nil {
			t.Fatal(err)
		}
		b.noSession("s")
		u.Settle(3)
		if n := docs(); n != 0 {
			t.Errorf("%d documents after the erasure, want 0", n)
		}
		b.take("s", 9, 9)
		time.Sleep(41 * time.Minute)
		synctest.Wait()
		if n := docs(); n != 0 {
			t.Errorf("%d documents after the session's time, want 0", n)
		}
	})
}

// TestSessionModel: whatever the order of turns, ends and refusals, the budget that
// is left is what the tasks left of it (ORC-541).
func TestSessionModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		o, err := orchestrator.New(orchestrator.Config{Pools: newPools(), Sessions: orchestrator.Sessions{Turns: 1 << 20}})
		if err != nil {
			rt.Fatal(err)
		}
		budget, spent, held := rapid.IntRange(1, 100).Draw(rt, "budget"), 0, 0
		type use struct {
			orchestrator.SessionUse
			need int
		}
		var live []use
		for range rapid.IntRange(1, 40).Draw(rt, "steps") {
			if len(live) > 0 && rapid.Bool().Draw(rt, "ends") {
				i := rapid.IntRange(0, len(live)-1).Draw(rt, "which")
				u := live[i]
				live = append(live[:i], live[i+1:]...)
				held -= u.need
				if rapid.Bool().Draw(rt, "refused") && len(live) > 0 {
					u.Cancel()
					continue
				}
				n := rapid.IntRange(0, 2*u.need).Draw(rt, "tokens")
				spent += n
				u.Settle(n)
				continue
			}
			need := rapid.IntRange(0, 40).Draw(rt, "need")
			u, err := orchestrator.TakeSession(o, me, "s", budget, need)
			fits := need <= max(0, budget-spent-held)
			if fits != (err == nil) || err != nil && !errors.Is(err, taskapi.BudgetExceeded) {
				rt.Fatalf("take(%d) with %d of %d spent and %d held = %v", need, spent, budget, held, err)
			}
			if err == nil {
				held += need
				live = append(live, use{u, need})
				if want := max(0, budget-spent-held); u.BudgetLeft != want {
					rt.Fatalf("BudgetLeft = %d, want %d", u.BudgetLeft, want)
				}
			}
		}
	})
}

// TestSessionOfTasks: the tasks of a session take turns and budget, their real tokens
// are settled, the worker of the last turn is known, and a refusal costs nothing
// (ORC-540, 541, 305).
func TestSessionOfTasks(t *testing.T) {
	inBubble(t, orchestrator.Config{}, []workertest.Config{{}, {}}, func(t *testing.T, b *bench) {
		in := func(s orchestrator.Spec) orchestrator.Spec {
			s.Session, s.Budget, s.MaxTokens = "s", 200, 20
			return s
		}
		acc := b.submit(in(orchestrator.Spec{}))
		held := 200 - acc.BudgetLeft
		if held < 20 || held > 60 || b.session("s").BudgetLeft != acc.BudgetLeft {
			t.Errorf("a task of 20 tokens and a short prompt holds %d of the budget", held)
		}
		if got := b.submit(orchestrator.Spec{}).BudgetLeft; got != -1 {
			t.Errorf("BudgetLeft without a session = %d, want -1", got)
		}
		b.read(acc.ID, 0)
		synctest.Wait()
		task, err := b.Task(t.Context(), me, acc.ID)
		if err != nil {
			t.Fatal(err)
		}
		used := task.Outcome.TokensIn + task.Outcome.TokensOut
		s := b.session("s")
		if s.BudgetLeft != 200-used || s.Turns != 1 || !s.Warm || s.Worker != task.Worker {
			t.Errorf("after a task that used %d tokens at %s session = %+v", used, task.Worker, s)
		}
		for range 3 { // the same worker, though the other one is free as well
			again := b.submit(in(orchestrator.Spec{}))
			b.read(again.ID, 0)
			if task, err := b.Task(t.Context(), me, again.ID); err != nil || task.Worker != s.Worker {
				t.Errorf("a later turn ran at %s, %v, want %s", task.Worker, err, s.Worker)
			}
		}
		synctest.Wait()
		before := b.session("s")
		if _, err := b.Submit(t.Context(), me, fill(in(orchestrator.Spec{Model: "none"}))); !errors.Is(err, taskapi.ModelNotFound) {
			t.Fatalf("Submit for no model = %v, want MODEL_NOT_FOUND", err)
		}
		if after := b.session("s"); after.Turns != before.Turns || after.BudgetLeft != before.BudgetLeft {
			t.Errorf("a refused task changed the session from %+v to %+v", before, after)
		}
		big := in(orchestrator.Spec{})
		big.MaxTokens = 250
		if _, err := b.Submit(t.Context(), me, fill(big)); !errors.Is(err, taskapi.BudgetExceeded) {
			t.Errorf("more than the budget = %v, want BUDGET_EXCEEDED", err)
		}
		if err := b.EndSession(t.Context(), me, "s"); err != nil {
			t.Fatal(err)
		}
		running := b.submit(in(orchestrator.Spec{}))
		if err := b.EndSession(t.Context(), me, "s"); err != nil {
			t.Fatal(err)
		}
		if got := types(b.read(running.ID, 0)); got != "started token end" { // the end of a session cancels nothing
			t.Errorf("a task of a session that was ended: %s", got)
		}
		synctest.Wait()
		b.noSession("s")
	})
}

// paperless is a store whose documents fail as planted under "doc".
type paperless struct{ *faulty }

func (p paperless) PutDoc(ctx context.Context, d store.Doc, expect store.Version) (store.Version, error) {
	if d.Kind != store.KindSession && d.Kind != store.KindModel {
		return p.faulty.PutDoc(ctx, d, expect)
	}
	return planted(p.faulty, "doc", func() (store.Version, error) { return p.faulty.PutDoc(ctx, d, expect) })
}

// TestBudgetIsDurableFirst: what can not be stored is neither reserved nor promised; an
// unknown outcome is looked up and does not count twice (ORC-541, 640).
func TestBudgetIsDurableFirst(t *testing.T) {
	disk := paperless{&faulty{Memory: store.NewMemory()}}
	inBubble(t, orchestrator.Config{Store: disk, SealKeys: [][]byte{make([]byte, 32)}}, nil, func(t *testing.T, b *bench) {
		b.take("s", 100, 10)
		disk.plant("doc", store.ErrUnavailable, 2) // also what gives the tokens back
		if _, err := orchestrator.TakeSession(b.Orchestrator, me, "s", 0, 10); !errors.Is(err, taskapi.StoreUnavailable) {
			t.Errorf("a turn without a store = %v, want STORE_UNAVAILABLE", err)
		}
		if s := b.session("s"); s.BudgetLeft != 90 || s.Turns != 1 {
			t.Errorf("session = %+v, want one turn and 90 left", s)
		}
		disk.plant("doc", store.ErrUnavailable, 1)
		if _, err := b.OpenSession(t.Context(), me, "new", 5); !errors.Is(err, taskapi.StoreUnavailable) {
			t.Errorf("OpenSession without a store = %v, want STORE_UNAVAILABLE", err)
		}
		b.noSession("new")
		disk.plant("doc", store.ErrUnknown, 1)
		b.take("s", 0, 30)
		if left := b.session("s").BudgetLeft; left != 60 || disk.left() != 0 {
			t.Errorf("after an unknown outcome %d are left, want 60", left)
		}
		disk.plant("doc", store.ErrUnavailable, 1)
		if _, err := b.PutModel(t.Context(), op, orchestrator.Model{ID: "m"}); !errors.Is(err, taskapi.StoreUnavailable) {
			t.Errorf("PutModel without a store = %v, want STORE_UNAVAILABLE", err)
		}
		if list, err := b.Catalog(t.Context()); err != nil || len(list) != 0 {
			t.Errorf("Catalog = %v, %v, want nothing that is not stored", list, err)
		}
	})
}

// TestRetiredOverRestart: what waited for a retired model ends after a restart as
// well, at the deadline (ORC-600).
func TestRetiredOverRestart(t *testing.T) {
	cfg := orchestrator.Config{Store: durable{store.NewMemory()}, SealKeys: [][]byte{make([]byte, 32)}, Timing: orchestrator.Timing{Drain: -1}}
	inBubble(t, cfg, []workertest.Config{{}}, func(t *testing.T, b *bench) {
		b.put(orchestrator.Model{ID: "sim-8b"})
		away := *b.pools.list[0]
		away.Draining = true
		b.pools.set(&away)
		synctest.Wait()
		acc := b.submit(orchestrator.Spec{Keep: true})
		if _, err := b.SetModelState(t.Context(), op, "sim-8b", taskapi.ModelRetired, time.Minute); err != nil {
			t.Fatal(err)
		}
		if err := b.stop(); err != nil {
			t.Fatal(err)
		}
		b.start(cfg)
		began := time.Now()
		if got, took := code(t, b.read(acc.ID, 0)), time.Since(began); got != taskapi.ModelDeprecated || took > time.Minute {
			t.Errorf("ended with %q after %s, want MODEL_DEPRECATED at the deadline", got, took)
		}
	})
}
