package sched_test

import (
	"fmt"
	"reflect"
	"testing"
	"time"

	"github.com/llorch/llorch/orchestrator/internal/exec"
	"github.com/llorch/llorch/orchestrator/internal/sched"
	"github.com/llorch/llorch/orchestrator/placement"
	"github.com/llorch/llorch/orchestrator/queue"
)

// TestMapsShrink: 10,000 tasks with requirements of their own, which ended in
// every way, leave nothing in the core (G8).
func TestMapsShrink(t *testing.T) {
	c := newCore(t, engine("a", 8))
	for i := 1; i <= 10_000; i++ {
		at := sched.Instant(i)
		need := placement.Request{Model: "m", Place: placement.Constraints{Avoid: []string{fmt.Sprint(i)}}}
		c.Step(at, sched.Submit{Task: sched.Task{ID: id(i), Need: need, Total: total}})
		if i%4 == 0 {
			c.Step(at, sched.Withdrawn{ID: id(i)})
			continue
		}
		c.Step(at, sched.Persisted{ID: id(i)})
		switch i % 4 {
		case 1:
			c.Step(at, sched.Finished{ID: id(i), Attempt: 1})
		case 2:
			c.Step(at, sched.Cancel{ID: id(i), Reason: sched.Client})
			c.Step(at, sched.Finished{ID: id(i), Attempt: 1, Result: sched.Result{Class: exec.Reset}})
		case 3:
			c.Step(at, sched.Finished{ID: id(i), Attempt: 1, Result: sched.Result{Class: exec.Rejected}})
		}
	}
	if tasks, keys, timers, held := c.Held(); tasks+keys+timers+held != 0 {
		t.Errorf("left over: %d tasks, %d keys, %d timers, %d reservations", tasks, keys, timers, held)
	}
}

// TestKeyText: requirements that differ in anything but the task's own figures have
// different keys (ORC-214).
func TestKeyText(t *testing.T) {
	own := map[string]bool{"Prompt": true, "Expected": true, "Affinity": true, "Tried": true}
	seen := map[string]string{sched.KeyText(placement.Request{}): "nothing"}
	add := func(name string, r placement.Request) {
		text := sched.KeyText(r)
		if other, ok := seen[text]; ok != own[name] {
			t.Errorf("%s set: the key is that of %q, own figure %v", name, other, own[name])
		}
		seen[text] = name
	}
	each := func(of func(*placement.Request) any) {
		n := reflect.TypeOf(of(new(placement.Request))).Elem()
		for i := range n.NumField() {
			var r placement.Request
			if n.Field(i).Name == "Place" {
				continue
			}
			fill(t, reflect.ValueOf(of(&r)).Elem().Field(i))
			add(n.Field(i).Name, r)
		}
	}
	each(func(r *placement.Request) any { return r })
	each(func(r *placement.Request) any { return &r.Place })
	add("empty Regions", placement.Request{Regions: []string{}})
	add("empty Mask", placement.Request{Place: placement.Constraints{Mask: []string{}}})
	add("two models", placement.Request{Model: "x1:y"})
	add("model and engine", placement.Request{Model: "x", Engine: "y"})
}

// fill sets a member to something that is not its zero value.
func fill(t *testing.T, v reflect.Value) {
	switch v.Kind() {
	case reflect.String:
		v.SetString("x")
	case reflect.Int:
		v.SetInt(7)
	case reflect.Uint64:
		v.SetUint(9)
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
	case reflect.Array:
		v.Index(0).SetUint(1)
	case reflect.Struct:
		v.Field(0).SetString("x")
	default:
		t.Fatalf("no value for a %s", v.Kind())
	}
}

// TestKeysByLength: tasks that differ only in the length of their prompts have a few
// keys, and yet each goes only where it fits; one that does not fit is refused, and
// one that has to wait for a large worker holds nobody up (ORC-214, ORC-241).
func TestKeysByLength(t *testing.T) {
	small, large := engine("a", 1), engine("b", 1)
	small.CtxMax, large.CtxMax = 5000, 8192
	tb := newTable(t, sched.Config{Queue: queue.Config{Capacity: 1000}}, small, large)
	long := func(tokens int) func(*sched.Task) { return func(t *sched.Task) { t.Need.Ctx = tokens } }
	if a, _ := find[sched.Assign](tb.submit(1, long(5001))); a.Worker == nil || a.Worker.Key != large.Key {
		t.Fatalf("5,001 tokens went to %v", a.Worker)
	}
	if n := count[sched.Assign](tb.submit(2, long(5001))); n != 0 {
		t.Fatal("5,001 tokens went to a worker of 5,000")
	}
	if e, _ := tb.core.Why(id(2)); e.Reason != "slot" && e.Reason != "backoff" {
		t.Errorf("it waits for %s", e.Reason)
	}
	if a, _ := find[sched.Assign](tb.submit(3, long(5000))); a.Worker == nil || a.Worker.Key != small.Key {
		t.Errorf("5,000 tokens went to %v, want the small worker", a.Worker)
	}
	if r, ok := find[sched.Reject](tb.submit(4, long(8193))); !ok || r.Code != "CONTEXT_TOO_LARGE" {
		t.Errorf("8,193 tokens: %+v", r)
	}
	tb.finish(1, 1, exec.OK)
	if n := count[sched.Assign](tb.fx) + count[sched.Assign](tb.wait(time.Second)); n != 1 {
		t.Errorf("%d tasks started on the large worker, want the one that waited", n)
	}
	for i := range 500 {
		tb.submit(10+i, long(1+i*16))
	}
	if _, keys, _, _ := tb.core.Held(); keys > 2*50 {
		t.Errorf("%d entries of keys for 500 lengths", keys)
	}
}
