package sched_test

import (
	"fmt"
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
