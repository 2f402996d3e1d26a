package sched_test

import (
	"fmt"
	"reflect"
	"testing"

	"github.com/llorch/llorch/orchestrator/internal/exec"
	"github.com/llorch/llorch/orchestrator/internal/sched"
	"github.com/llorch/llorch/orchestrator/placement"
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
