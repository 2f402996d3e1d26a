package sched_test

import (
	"strings"
	"testing"
	"time"

	"github.com/llorch/llorch/orchestrator/internal/exec"
	"github.com/llorch/llorch/orchestrator/internal/sched"
	"github.com/llorch/llorch/orchestrator/placement"
)

// TestWhyPending: each thing that a task can wait for has one reason and one
// sentence, and where another worker would help, what it would take (ORC-310).
func TestWhyPending(t *testing.T) {
	full := func(tb *table) { // one slot, taken
		tb.submit(100)
	}
	for _, c := range []struct {
		reason, words string
		without       string // filter of the counterfactual; "" = none is asked for
		workers       []*placement.Worker
		make          func(tb *table)
	}{
		{
			"persisting", "The task is being stored.", "",
			[]*placement.Worker{engine("a", 1)},
			func(tb *table) { tb.submit(1, func(t *sched.Task) { t.Ephemeral = false }) },
		},
		{
			"backoff", "The last attempt failed; the next one follows after a pause.", "",
			[]*placement.Worker{engine("a", 1)},
			func(tb *table) { tb.submit(1); tb.finish(1, 1, exec.Overload) },
		},
		{
			"quota", "The tenant has all the slots that its quota allows; the task starts when one of its tasks ends.", "",
			[]*placement.Worker{engine("a", 2)},
			func(tb *table) {
				tb.step(sched.Tenant{ID: tenantA, Rules: sched.Rules{MaxRunning: 1, Wait: true}})
				tb.submit(2, of(tenantA))
				tb.submit(1, of(tenantA))
			},
		},
		{
			"slot", "Every slot of the workers that serve the model is taken; the task starts when one is free.", "slots",
			[]*placement.Worker{engine("a", 1)},
			func(tb *table) { full(tb); tb.submit(1) },
		},
		{
			"fair_share", "Every slot for it is taken, and other tasks go first: they came earlier, have a higher class, or their tenant had less so far.", "slots",
			[]*placement.Worker{engine("a", 1)},
			func(tb *table) { full(tb); tb.submit(2); tb.submit(1) },
		},
		{
			"model_loading", "The model is being loaded: 6 of 8 MiB.", "",
			[]*placement.Worker{disk("n", "a", "", "m")},
			func(tb *table) {
				tb.submit(1)
				tb.step(sched.Loading{Worker: disk("n", "a", "").Key, Model: "m", Bytes: 6 << 20, Total: 8 << 20})
			},
		},
		{
			"vram", "No worker that could load the model has the memory for it now.", "memory",
			[]*placement.Worker{tight()},
			func(tb *table) { tb.submit(1) },
		},
		{
			"quarantine", "The workers that serve the model failed calls; they are tried again after a pause.", "quarantine",
			[]*placement.Worker{engine("a", 1)},
			func(tb *table) { tb.submit(2); tb.finish(2, 1, exec.Connect); tb.submit(1) },
		},
		{
			"no_worker:ready", "", "ready",
			[]*placement.Worker{unready()},
			func(tb *table) { tb.submit(1) },
		},
		{
			"no_worker:empty", "No worker is registered.", "", nil,
			func(tb *table) { tb.submit(1) },
		},
	} {
		tb := newTable(t, sched.Config{Hold: time.Minute}, c.workers...)
		c.make(tb)
		e, ok := tb.core.Why(id(1))
		if !ok || e.Reason != c.reason || e.Words == "" || c.words != "" && e.Words != c.words || e.Winner != "" {
			t.Errorf("%s: held %v, reason %q: %q", c.reason, ok, e.Reason, e.Words)
		}
		if c.without != "" && (len(e.Without) == 0 || e.Without[0].Filter != c.without || e.Without[0].Workers == 0) {
			t.Errorf("%s: counterfactual %+v, want one without %s", c.reason, e.Without, c.without)
		}
		p, ok := tb.core.Pending(id(1))
		if !ok || p.Reason != c.reason || p.StartIn < 0 || c.reason == "fair_share" && (p.Ahead != 1 || p.StartIn == 0) {
			t.Errorf("%s: Pending = %+v, %v", c.reason, p, ok)
		}
		if strings.Contains(e.Words, "memory") != (c.reason == "vram") {
			t.Errorf("%s: %q: only lack of memory is called so", c.reason, e.Words)
		}
	}
}

// tight has too little free memory for its model on disk, but enough in all.
func tight() *placement.Worker {
	w := disk("n", "a", "", "m")
	w.OnDisk[0] = placement.OnDisk{Model: "m", Need: 6 << 30, Fits: -1}
	w.VRAMTotal, w.VRAMFree = 8<<30, 2<<30
	return w
}

func unready() *placement.Worker {
	w := engine("a", 1)
	w.Ready, w.Why = false, "starting"
	return w
}
