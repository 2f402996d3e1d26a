package exec_test

import (
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/llorch/llorch/orchestrator/internal/exec"
	"github.com/llorch/llorch/orchestrator/taskapi"
	"github.com/llorch/llorch/orchestrator/worker"
)

// TestNext holds the rules of ORC-403 over every input.
func TestNext(t *testing.T) {
	classes := []exec.Class{
		exec.Connect, exec.Overload, exec.Rejected, exec.Denied, exec.Server, exec.Reset, exec.Timeout, exec.Protocol, exec.Store, exec.Erased,
		exec.Unsupported, exec.Load, exec.Startup, "unheard",
	}
	final := []exec.Class{exec.Unsupported, exec.Rejected, exec.Denied, exec.Erased, "unheard"}
	rapid.Check(t, func(t *rapid.T) {
		a := exec.Attempt{
			N: rapid.IntRange(1, 8).Draw(t, "n"), Class: rapid.SampledFrom(classes).Draw(t, "class"),
			Emitted: rapid.Bool().Draw(t, "emitted"), Others: rapid.Bool().Draw(t, "others"),
			RetryAfter: time.Duration(rapid.IntRange(0, 5000).Draw(t, "after")) * time.Millisecond,
			Left:       time.Duration(rapid.IntRange(-1000, 10000).Draw(t, "left")) * time.Millisecond, Seed: rapid.Uint64().Draw(t, "seed"),
		}
		v := exec.Next(a)
		if v.Retry == (v.Code != "") {
			t.Fatalf("Next(%+v) = %+v: either a retry or a code", a, v)
		}
		if v.Retry && (a.Emitted || a.N >= exec.MaxAttempts || slices.Contains(final, a.Class) || v.After >= a.Left) {
			t.Fatalf("Next(%+v) = %+v: must not run again", a, v)
		}
		if !v.Retry && !a.Emitted && a.N < exec.MaxAttempts && !slices.Contains(final, a.Class) && a.Left > 6*time.Second {
			t.Fatalf("Next(%+v) = %+v: must run again", a, v)
		}
		if v.Retry && a.N == 1 && a.Others && a.Class != exec.Store && v.After != 0 {
			t.Fatalf("Next(%+v) = %+v: the first retry elsewhere is at once", a, v)
		}
		if v.Spent != (!v.Retry && !a.Emitted && !slices.Contains(final, a.Class)) {
			t.Fatalf("Next(%+v) = %+v: spent is an end for want of attempts or time", a, v)
		}
		if !v.Retry && taskapi.NewError(taskapi.Code(v.Code)).Code != taskapi.Code(v.Code) {
			t.Fatalf("code %s is not in the table of taskapi", v.Code)
		}
	})
}

// TestClassesAreWorkers keeps the pure copy of the class names in step.
func TestClassesAreWorkers(t *testing.T) {
	for c, w := range map[exec.Class]worker.Class{
		exec.Connect: worker.Connect, exec.Overload: worker.Overload, exec.Rejected: worker.Rejected, exec.Denied: worker.Denied,
		exec.Server: worker.Server, exec.Reset: worker.Reset, exec.Timeout: worker.Timeout, exec.Protocol: worker.Protocol,
	} {
		if string(c) != string(w) {
			t.Errorf("exec says %q, worker %q", c, w)
		}
	}
}
