package sched_test

import (
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/llorch/llorch/orchestrator/internal/exec"
	"github.com/llorch/llorch/orchestrator/internal/sched"
	"github.com/llorch/llorch/orchestrator/placement"
)

// in places an engine.
func in(country, group, name string) *placement.Worker {
	w := engine(name, 2)
	w.Node, w.Country, w.Group = name, country, group
	return w
}

func allow(regions ...string) func(*sched.Task) {
	return func(t *sched.Task) { t.Need.Regions = regions }
}

// TestAdmissionCodes: the code of a refusal says what binds first (ORC-247).
func TestAdmissionCodes(t *testing.T) {
	de, us := in("DE", "EU", "de"), in("US", "US", "us")
	us.Models = []string{"m", "us-only"}
	big := disk("disk", "d", "", "huge")
	big.Country, big.Group, big.VRAMTotal = "DE", "EU", 1<<30
	big.OnDisk[0].Need, big.OnDisk[0].Fits = 2<<30, 0
	slow := in("DE", "EU", "slow")
	slow.Pool, slow.Ready = "starting", false
	off := in("DE", "EU", "off")
	off.Pool, off.Online, off.Gone, off.Models = "off", false, true, []string{"lost"}
	all := []*placement.Worker{de, us, big, slow, off}
	for _, c := range []struct {
		name string
		task func(*sched.Task)
		code string
		want string // filter
	}{
		{"EU only", func(t *sched.Task) { t.Need.Model, t.Need.Regions = "us-only", []string{"EU"} }, "NO_EU_WORKER_AVAILABLE", "region"},
		{"a country", func(t *sched.Task) { t.Need.Model, t.Need.Regions = "us-only", []string{"FR"} }, "NO_REGION_WORKER_AVAILABLE", "region"},
		{"unknown pool", func(t *sched.Task) { t.Need.Place.Pool = "none" }, "INVALID_PARAMS", "pin"},
		{"unknown node", func(t *sched.Task) { t.Need.Place.Node = "none" }, "NODE_UNAVAILABLE", "node"},
		{"node offline", func(t *sched.Task) { t.Need.Place.Node, t.Need.Model = "off", "lost" }, "NODE_UNAVAILABLE", "online"},
		{"pool not ready", func(t *sched.Task) { t.Need.Place.Pool = "starting" }, "POOL_UNREADY", "ready"},
		{"model", model("none"), "MODEL_NOT_FOUND", "model"},
		{"model only on lost workers, which may come back", model("lost"), "", ""},
		{"memory", model("huge"), "INSUFFICIENT_VRAM", "vram"},
		{"avoided", func(t *sched.Task) { t.Need.Place.Avoid = []string{"p", "starting", "off"} }, "POOL_UNAVAILABLE", "avoid"},
		{"features", func(t *sched.Task) { t.Need.Place.Features = []string{"x"} }, "MODEL_INCOMPATIBLE", "features"},
	} {
		tb := newTable(t, sched.Config{}, all...)
		r, ok := find[sched.Reject](tb.submit(1, c.task))
		if ok != (c.code != "") || r.Code != c.code || r.Details.Filter != c.want {
			t.Errorf("%s: %v %s by %q, want %s by %q", c.name, ok, r.Code, r.Details.Filter, c.code, c.want)
		}
		if tasks, keys, _, _ := tb.core.Held(); ok && tasks+keys != 0 {
			t.Errorf("%s: the refusal left %d tasks and %d keys", c.name, tasks, keys)
		}
	}
}

// TestHoldWhenEmpty: without any worker a task is refused, or waits as long as the
// installation says, also while the first workers can not serve it (ORC-247).
func TestHoldWhenEmpty(t *testing.T) {
	tb := newTable(t, sched.Config{})
	if r, _ := find[sched.Reject](tb.submit(1)); r.Code != "POOL_UNAVAILABLE" || r.After < 900*time.Millisecond || r.After > 1100*time.Millisecond {
		t.Errorf("without Hold: %+v", r)
	}
	tb = newTable(t, sched.Config{Hold: 10 * time.Second})
	for n := 1; n <= 2; n++ {
		if tb.submit(n, model([]string{"", "m", "none"}[n])); count[sched.Admit](tb.fx) != 1 {
			t.Fatalf("with Hold: %v", tb.fx)
		}
	}
	tb.wait(5 * time.Second)
	other := engine("b", 1)
	other.Models = []string{"other"}
	if fx := tb.step(sched.Workers{List: []*placement.Worker{other}}); count[sched.Terminal](fx) != 0 {
		t.Fatalf("the first node that came ended a task: %v", fx)
	}
	fx := tb.step(sched.Workers{List: []*placement.Worker{engine("a", 1), other}})
	if a, ok := find[sched.Assign](fx); !ok || a.ID != id(1) {
		t.Fatalf("with its worker there: %v", fx)
	}
	fx = tb.wait(6 * time.Second)
	if end, ok := find[sched.Terminal](fx); !ok || end.ID != id(2) || end.Code != "MODEL_NOT_FOUND" {
		t.Errorf("after Hold: %v, want the one without a worker ended", fx)
	}
}

// TestNarrowing: other regions end what waits with the residency code, cancel what
// runs on a forbidden node, and leave the rest alone (ORC-844).
func TestNarrowing(t *testing.T) {
	tb := newTable(t, sched.Config{}, in("DE", "EU", "de"), in("US", "US", "us"))
	tb.submit(1, allow("US"))
	tb.submit(2, allow("DE"))
	tb.submit(3, allow("US"))
	tb.submit(4, allow("US")) // waits
	tb.submit(5, allow("EU", "US"))
	tb.submit(6) // waits, may go anywhere
	fx := tb.step(sched.Policy{Regions: []string{"EU"}})
	stopped, ended := 0, ""
	for _, f := range fx {
		switch f := f.(type) {
		case sched.StopRun:
			if stopped++; f.Reason != sched.Operator || f.ID != id(1) && f.ID != id(3) {
				t.Errorf("stopped %+v", f)
			}
		case sched.Terminal:
			if ended += f.Code; f.ID != id(4) {
				t.Errorf("ended %+v", f)
			}
		}
	}
	if stopped != 2 || ended != "NO_REGION_WORKER_AVAILABLE" || !slices.Contains(kinds(fx), "policy_changed") {
		t.Errorf("stopped %d, ended %q", stopped, ended)
	}
	tb.finish(1, 1, exec.Reset)
	tb.finish(3, 1, exec.Reset)
	if fx := tb.finish(2, 1, exec.OK); count[sched.Assign](fx) != 1 {
		t.Errorf("with a slot in the EU: %v, want task 6 there", fx)
	}
	if r, _ := find[sched.Reject](tb.submit(7, allow("US"))); r.Code != "NO_REGION_WORKER_AVAILABLE" {
		t.Errorf("a new task for the US: %v", tb.fx)
	}
}

// TestNeverOutside: whatever regions installation and tasks allow, whatever fails
// and changes: no attempt goes to a worker outside of both (G5, I8, ORC-844). The
// core panics if it would (Config.Strict).
func TestNeverOutside(t *testing.T) {
	places := [...][2]string{{"DE", "EU"}, {"FR", "EU"}, {"US", "US"}, {"JP", "ASIA"}, {"", "UNKNOWN"}, {"", "EU"}}
	lists := [][]string{nil, {"EU"}, {"DE"}, {"US", "FR"}, {"ASIA"}, {"EU", "US"}, {"UNKNOWN"}, {}}
	rapid.Check(t, func(rt *rapid.T) {
		var workers []*placement.Worker
		for i, n := range rapid.SliceOfN(rapid.IntRange(0, len(places)-1), 1, 6).Draw(rt, "places") {
			workers = append(workers, in(places[n][0], places[n][1], string(rune('a'+i))))
		}
		regions := rapid.SampledFrom(lists).Draw(rt, "installation")
		tb := newTable(t, sched.Config{Regions: regions}, workers...)
		tasks := map[int][]string{}
		var runs []sched.Assign
		check := func(fx []sched.Effect) {
			for _, f := range fx {
				a, ok := f.(sched.Assign)
				if !ok {
					continue
				}
				runs = append(runs, a)
				own := tasks[int(a.ID[15])]
				if !inside(a.Worker, regions) || !inside(a.Worker, own) {
					rt.Fatalf("a task for %v of %v went to %s %s", own, regions, a.Worker.Country, a.Worker.Group)
				}
			}
		}
		for n := range rapid.IntRange(5, 40).Draw(rt, "steps") {
			switch rapid.IntRange(0, 4).Draw(rt, "what") {
			case 0, 1:
				tasks[n+1] = rapid.SampledFrom(lists).Draw(rt, "task")
				check(tb.submit(n+1, allow(tasks[n+1]...)))
			case 2:
				if len(runs) > 0 {
					a := runs[0]
					runs = runs[1:]
					class := rapid.SampledFrom([]exec.Class{exec.OK, exec.Connect, exec.Overload}).Draw(rt, "class")
					check(tb.step(sched.Finished{ID: a.ID, Attempt: a.Attempt, Result: sched.Result{Class: class}}))
				}
			case 3:
				regions = rapid.SampledFrom(lists).Draw(rt, "regions")
				check(tb.step(sched.Policy{Regions: regions}))
			case 4:
				check(tb.wait(time.Duration(rapid.IntRange(1, 3000).Draw(rt, "ms")) * time.Millisecond))
			}
		}
	})
}

// inside is the rule itself, written a second time.
func inside(w *placement.Worker, regions []string) bool {
	if regions == nil {
		return true
	}
	known := func(r string) bool { return r != "" && r != "UNKNOWN" }
	return known(w.Country) && slices.Contains(regions, w.Country) || known(w.Group) && slices.Contains(regions, w.Group)
}
