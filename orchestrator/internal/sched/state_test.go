package sched_test

import (
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/llorch/llorch/orchestrator/internal/exec"
	"github.com/llorch/llorch/orchestrator/internal/sched"
	"github.com/llorch/llorch/orchestrator/placement"
	"github.com/llorch/llorch/orchestrator/queue"
)

// oneOfEach is every event of the closed list, with members filled.
func oneOfEach() []sched.Event {
	key := placement.Key{Node: "n", Pool: "p", Worker: "a"}
	task := sched.Task{
		ID: id(7), Tenant: queue.Tenant{1}, Subject: sched.Ref{2}, Session: sched.Ref{3}, Class: queue.Batch, Need: placement.Request{Model: "m", Regions: []string{"EU"}},
		MaxTokens: 9, Cost: 5, Bytes: 4, Due: 77, QueueFor: 3, Total: total, Ephemeral: true, Attempt: 1,
	}
	return []sched.Event{
		sched.Submit{Task: task},
		sched.Persisted{ID: id(1)},
		sched.Withdrawn{ID: id(1)},
		sched.Recovered{Task: task},
		sched.Workers{List: []*placement.Worker{engine("a", 2)}},
		sched.Finished{ID: id(1), Attempt: 2, Result: sched.Result{Class: exec.Reset, Emitted: true, TokensOut: 4, First: time.Second}},
		sched.Cancel{ID: id(1), Reason: sched.Client},
		sched.CancelAll{Subject: sched.Ref{4}, Reason: sched.Erasure},
		sched.Tenant{ID: queue.Tenant{1}, Rules: sched.Rules{Weight: 2, Wait: true}},
		sched.Policy{Policy: placement.Policy{Strategy: "predicted"}, Regions: []string{"EU"}},
		sched.Probed{Worker: key, OK: true},
		sched.Loading{Worker: key, Model: "m", Bytes: 1, Total: -1, Phase: "load"},
		sched.Progress{ID: id(1), Tokens: 3},
		sched.Tick{},
		sched.Refuse{Durable: true},
		sched.Cut{},
	}
}

// declared returns the types of the package with the given marker method.
func declared(t *testing.T, marker string) []string {
	t.Helper()
	paths, _ := filepath.Glob("*.go")
	var out []string
	for _, path := range paths {
		f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range f.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv != nil && fn.Name.Name == marker {
				out = append(out, strings.ToLower(fn.Recv.List[0].Type.(*ast.Ident).Name))
			}
		}
	}
	slices.Sort(out)
	return out
}

// TestEventEncoding: every event comes back from its tagged form; the lists of
// events and effects are those of the code (ORC-121).
func TestEventEncoding(t *testing.T) {
	var seen []string
	for _, e := range oneOfEach() {
		b, err := sched.AppendEvent(nil, e)
		if err != nil || !json.Valid(b) {
			t.Fatalf("AppendEvent(%T) = %s, %v", e, b, err)
		}
		back, err := sched.DecodeEvent(b)
		if err != nil || !reflect.DeepEqual(back, e) {
			t.Errorf("DecodeEvent(%s) = %+v, %v, want %+v", b, back, err, e)
		}
		seen = append(seen, strings.ToLower(reflect.TypeOf(e).Name()))
	}
	slices.Sort(seen)
	if want := declared(t, "event"); !slices.Equal(seen, want) || !slices.Equal(sched.EventNames(), want) {
		t.Errorf("tried the events %v, the table has %v, the code %v", seen, sched.EventNames(), want)
	}
	if want := declared(t, "effect"); !slices.Equal(sched.EffectNames(), want) {
		t.Errorf("the table of effects has %v, the code %v", sched.EffectNames(), want)
	}
	for _, bad := range []string{"", "{}", `{"x":{}}`, `{"submit":`, `{"submit":{]}`, `"tick"`, `{"settimer":{}}`} {
		if e, err := sched.DecodeEvent([]byte(bad)); err == nil {
			t.Errorf("DecodeEvent(%q) = %v, want an error", bad, e)
		}
	}
}

// TestEffectEncoding: Assign, Reject, Evict, Terminal and Load are written in
// full, the others by name (ORC-130).
func TestEffectEncoding(t *testing.T) {
	full := []sched.Effect{
		sched.Assign{ID: id(1), Attempt: 2, Worker: &placement.Worker{Key: placement.Key{Node: "n", Pool: "p", Worker: "a"}}, Why: placement.Explanation{Winner: "n/p/a"}},
		sched.Reject{ID: id(1), Code: "QUEUE_FULL", After: time.Second},
		sched.Evict{ID: id(1), Code: "QUEUE_FULL_DROP_LRU"},
		sched.Terminal{ID: id(1), Attempt: 1, Code: "WORKER_RESET", Class: exec.Reset},
		sched.Load{Worker: &placement.Worker{Key: placement.Key{Node: "n"}}, Model: "m", Evict: []string{"x"}},
	}
	for _, e := range full {
		b, err := sched.AppendEffect(nil, e)
		if err != nil {
			t.Fatal(err)
		}
		if back, err := sched.DecodeEffect(b); err != nil || !reflect.DeepEqual(back, e) {
			t.Errorf("DecodeEffect(%s) = %+v, %v, want %+v", b, back, err, e)
		}
	}
	for _, e := range []sched.Effect{sched.SetTimer{At: 3}, sched.StopRun{}, sched.Note{}} {
		b, _ := sched.AppendEffect(nil, e)
		if back, err := sched.DecodeEffect(b); back != nil || err != nil || b[0] != '"' {
			t.Errorf("%T is written as %s and read as %v, %v, want its name", e, b, back, err)
		}
	}
	if _, err := sched.DecodeEffect([]byte(`"made up"`)); err == nil {
		t.Error("an unknown effect was let through")
	}
}

// TestRestore: a restored core has the digest of the first one and does the same
// from then on, whatever happened before and after, chance included (ORC-122, ORC-124).
func TestRestore(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		g := &generator{t: t}
		cfg := g.config()
		a, err := sched.New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		for range rapid.IntRange(0, 60).Draw(t, "before") {
			g.see(a.Step(g.now, g.next()))
		}
		state, err := a.State()
		if err != nil {
			t.Fatal(err)
		}
		b, err := sched.Restore(cfg, state)
		if err != nil {
			t.Fatalf("Restore: %v\n%s", err, state)
		}
		if x, y := digest(t, a), digest(t, b); x != y {
			t.Fatalf("digest %x after Restore, want %x", y, x)
		}
		for range rapid.IntRange(1, 40).Draw(t, "after") {
			a.Why(g.any()) // questions leave no trace
			e := g.next()
			x, y := a.Step(g.now, e), b.Step(g.now, e)
			if x, y := show(x), show(y); x != y {
				t.Fatalf("%T: the restored core does\n%s, want\n%s", e, y, x)
			}
			g.see(x)
		}
		if x, y := digest(t, a), digest(t, b); x != y {
			t.Fatalf("digest %x at the end, want %x", y, x)
		}
	})
}

// show spells effects as the log does, and what the log only names.
func show(fx []sched.Effect) string {
	out := encode(fx)
	for _, f := range fx {
		switch f.(type) {
		case sched.Assign, sched.Load, sched.Probe:
		default:
			out = fmt.Appendf(out, "\n%+v", f)
		}
	}
	return string(out)
}

func digest(t *rapid.T, c *sched.Core) [32]byte {
	d, err := c.Digest()
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// FuzzRestore: no bytes make Restore, or a core that it gave out, panic.
func FuzzRestore(f *testing.F) {
	for n := range 4 {
		c, _ := sched.New(sched.Config{CancelAfter: cancelAfter})
		c.Step(1, sched.Workers{List: []*placement.Worker{engine("a", 1)}})
		for i := range n {
			c.Step(2, sched.Submit{Task: sched.Task{ID: id(i + 1), Need: placement.Request{Model: "m"}, Total: total, Ephemeral: i%2 == 0}})
		}
		b, _ := c.State()
		f.Add(b)
	}
	f.Add([]byte("{}"))
	f.Add([]byte(`{"Tasks":[{"Phase":4}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := sched.Restore(sched.Config{CancelAfter: cancelAfter}, b)
		if err != nil {
			return
		}
		for i, e := range oneOfEach() {
			c.Step(sched.Instant(1+i), e)
		}
		c.Step(1<<40, sched.Tick{})
	})
}

// TestRestoreHostile: a state whose numbers and words were exchanged is refused,
// or makes a core that goes on without a panic; so no damaged log ends a replay
// with one.
func TestRestoreHostile(t *testing.T) {
	number := regexp.MustCompile(`:-?[0-9]+`)
	word := regexp.MustCompile(`"[0-9a-zA-Z-]{1,32}"[,}\]]`)
	rapid.Check(t, func(t *rapid.T) {
		g := &generator{t: t}
		cfg := g.config()
		c, err := sched.New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		for range rapid.IntRange(1, 40).Draw(t, "before") {
			g.see(c.Step(g.now, g.next()))
		}
		state, err := c.State()
		if err != nil {
			t.Fatal(err)
		}
		for range rapid.IntRange(1, 3).Draw(t, "changes") {
			if at := number.FindAllIndex(state, -1); rapid.Bool().Draw(t, "a number") {
				x := at[rapid.IntRange(0, len(at)-1).Draw(t, "which")]
				with := rapid.SampledFrom([]string{":0", ":1", ":2", ":3", ":4", ":-1", ":7", ":255", ":9223372036854775807", ":-9223372036854775808"}).Draw(t, "with")
				state = slices.Concat(state[:x[0]], []byte(with), state[x[1]:])
			} else if at := word.FindAllIndex(state, -1); len(at) > 0 {
				x, y := at[rapid.IntRange(0, len(at)-1).Draw(t, "which")], at[rapid.IntRange(0, len(at)-1).Draw(t, "other")]
				state = slices.Concat(state[:x[0]], state[y[0]:y[1]-1], state[x[1]-1:])
			}
		}
		again, err := sched.Restore(cfg, state)
		if err != nil {
			return
		}
		for range 30 {
			g.see(again.Step(g.now, g.next()))
		}
	})
}
