package sched_test

import (
	"fmt"
	"math/bits"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/llorch/llorch/orchestrator/internal/exec"
	"github.com/llorch/llorch/orchestrator/internal/sched"
	"github.com/llorch/llorch/orchestrator/placement"
	"github.com/llorch/llorch/orchestrator/queue"
)

// hinted is a worker that says how fast it is: 10 ms a token, 20 ms before the first.
func hinted(slots int) *placement.Worker {
	return &placement.Worker{
		Key: placement.Key{Node: "n", Pool: "p", Worker: "w"}, Models: []string{"m"}, SlotsTotal: slots, Online: true, Ready: true,
		TokensPerS: 100_000, FirstToken: int64(20 * time.Millisecond),
	}
}

// usual is a task of 70 ms before the first token (100 × 0.5 + 20) and 500 ms after.
func usual(t *sched.Task) {
	t.Need.Prompt, t.Need.Expected, t.MaxTokens = 100, 50, 100
}

func by(due sched.Instant) func(*sched.Task) { return func(t *sched.Task) { t.Due = due } }

// TestFeasible: a task is refused exactly when its predicted end and two deviations
// are after its deadline, with the terms of that prediction (ORC-250, ORC-251).
func TestFeasible(t *testing.T) {
	batch := func(t *sched.Task) { t.Class = queue.Batch }
	tb := newTable(t, sched.Config{}, hinted(1))
	tb.submit(1, usual)
	for n := range 3 {
		tb.submit(2+n, usual)
	}
	r, ok := find[sched.Reject](tb.submit(9, usual, batch, by(tb.now+sched.Instant(100*time.Millisecond))))
	if !ok || r.Code != "DEADLINE_UNMET" {
		t.Fatalf("%v %+v, want DEADLINE_UNMET", ok, r)
	}
	d, ms := r.Details, time.Millisecond
	if d.Terms.Queue != 4*570*ms || d.Terms.Prefill != 70*ms || d.Terms.Decode != 500*ms || d.Terms.Load != 0 {
		t.Errorf("terms %+v", d.Terms)
	}
	// The deviation is half of each: of the own time 251 ms, of four in line twice that.
	if d.Terms.Band < 1120*ms || d.Terms.Band > 1130*ms {
		t.Errorf("band %v", d.Terms.Band)
	}
	if want := d.Terms.Queue + 570*ms + d.Terms.Band; d.EarliestFinish != want || d.Shortfall != want-100*ms {
		t.Errorf("earliest finish %v, shortfall %v, want %v", d.EarliestFinish, d.Shortfall, want)
	}
	if _, ok := find[sched.Reject](tb.submit(9, usual, batch, by(tb.now+sched.Instant(d.EarliestFinish)-1))); !ok {
		t.Errorf("a deadline one nanosecond too early was accepted")
	}
	a, ok := find[sched.Admit](tb.submit(9, usual, batch, by(tb.now+sched.Instant(d.EarliestFinish))))
	if !ok || a.StartIn != d.Terms.Queue || a.Band <= 0 {
		t.Errorf("at the earliest finish: %v %+v", ok, a)
	}
}

// TestFeasibleOptimistic: then only what fails even in the best case is refused;
// the same holds where the task would start at once; and of a worker of which
// nothing is known nothing is refused (ORC-250).
func TestFeasibleOptimistic(t *testing.T) {
	due := func(ms int64) sched.Instant { return sched.Instant(ms) * sched.Instant(time.Millisecond) }
	blind := hinted(1)
	blind.TokensPerS = 0
	for _, c := range []struct {
		name     string
		cfg      sched.Config
		worker   *placement.Worker
		busy     int
		due      int64
		accepted bool
	}{
		{"late in the best case", sched.Config{Optimistic: true}, hinted(1), 1, 400, false},
		{"in time in the best case", sched.Config{Optimistic: true}, hinted(1), 1, 500, true},
		{"not optimistic", sched.Config{}, hinted(1), 1, 500, false},
		{"at once, late in the best case", sched.Config{}, hinted(1), 0, 60, false},
		{"at once, in time in the best case", sched.Config{}, hinted(1), 0, 300, true},
		{"nothing is known", sched.Config{}, blind, 5, 1, true},
	} {
		tb := newTable(t, c.cfg, c.worker)
		for n := range c.busy {
			tb.submit(n, usual)
		}
		if _, ok := find[sched.Admit](tb.submit(9, usual, by(tb.now+due(c.due)))); ok != c.accepted {
			t.Errorf("%s: accepted %v, want %v", c.name, ok, c.accepted)
		}
	}
}

// TestFeasibleHarm: a task with an early deadline goes first, but not at the cost
// of one that was admitted before (ORC-212, ORC-250).
func TestFeasibleHarm(t *testing.T) {
	sec := func(s float64) func(*sched.Task) { return by(1 + sched.Instant(s*float64(time.Second))) }
	for _, c := range []struct {
		other    float64
		accepted bool
	}{{2.7, false}, {60, true}} {
		tb := newTable(t, sched.Config{}, hinted(1))
		tb.submit(1, usual)
		if _, ok := find[sched.Admit](tb.submit(2, usual, sec(c.other))); !ok {
			t.Fatal("the first one was refused")
		}
		var last []sched.Effect
		for n := 3; n < 5; n++ {
			last = tb.submit(n, usual, sec(2.5))
		}
		if _, ok := find[sched.Admit](last); ok != c.accepted {
			t.Errorf("beside a deadline of %v s: accepted %v, want %v", c.other, ok, c.accepted)
		}
	}
}

// TestLateInQueue: a task that waits ends as soon as even the best case is too
// late, by its timer (ORC-218).
func TestLateInQueue(t *testing.T) {
	tb := newTable(t, sched.Config{}, hinted(1))
	for n := range 40 { // learn: no deviation is left
		tb.submit(100+n, usual)
		tb.step(sched.Finished{ID: id(100 + n), Attempt: 1, Result: sched.Result{
			Class: exec.OK, TokensIn: 100, TokensOut: 50, First: 70 * time.Millisecond, Decode: 500 * time.Millisecond,
		}})
	}
	tb.submit(1, usual)
	due := tb.now + sched.Instant(2*time.Second)
	if _, ok := find[sched.Admit](tb.submit(2, usual, by(due))); !ok {
		t.Fatal("refused")
	}
	var ended sched.Instant
	tb.on = func(fx []sched.Effect) {
		if e, ok := find[sched.Terminal](fx); ok {
			ended = tb.now
			if e.ID != id(2) || e.Code != "DEADLINE_UNMET" {
				t.Errorf("%+v", e)
			}
		}
	}
	tb.wait(5 * time.Second)
	if early := due - ended; early < sched.Instant(500*time.Millisecond) || early > sched.Instant(600*time.Millisecond) {
		t.Errorf("it ended %v before its deadline, want about 570ms", time.Duration(early))
	}
}

// TestPredictedStart: the prediction is made anew while a task waits, follows the
// work ahead and the load of its model (ORC-253).
func TestPredictedStart(t *testing.T) {
	tb := newTable(t, sched.Config{}, hinted(2))
	for n := range 6 {
		tb.submit(n, usual)
	}
	p, _ := tb.core.Pending(id(5))
	if want := 4 * 570 * time.Millisecond / 2; p.StartIn != want || p.Band <= 0 || tb.core.Standings()[id(5)] != (sched.Standing{Ahead: p.Ahead, StartIn: want}) {
		t.Errorf("%+v, want %v", p, want)
	}
	tb.step(sched.Cancel{ID: id(3), Reason: sched.Client})
	if p, _ := tb.core.Pending(id(5)); p.StartIn != 3*570*time.Millisecond/2 {
		t.Errorf("after one left: %v", p.StartIn)
	}
	disk := hinted(1)
	disk.Models, disk.OnDisk, disk.VRAMTotal, disk.VRAMFree = nil, []placement.OnDisk{{Model: "m", Need: 4 << 30, Fits: 1}}, 8<<30, 8<<30
	tb = newTable(t, sched.Config{}, disk)
	a, ok := find[sched.Admit](tb.submit(1, usual))
	if want := 4096 * time.Millisecond; !ok || a.StartIn < want || a.StartIn > want+time.Second {
		t.Errorf("with a load of 4 GiB: %v %v", ok, a.StartIn)
	}
}

// TestRetryHints: who is refused is told when a place is likely free, between 250
// ms and a minute, and never all the same (ORC-254).
func TestRetryHints(t *testing.T) {
	for _, c := range []struct {
		expected  int
		low, high time.Duration
	}{{1, 225 * time.Millisecond, 275 * time.Millisecond}, {1, 0, time.Minute}, {100_000, time.Second, 66 * time.Second}} {
		tb := newTable(t, sched.Config{Queue: queue.Config{Capacity: 1}}, hinted(64))
		long := func(t *sched.Task) { t.Need.Expected = c.expected }
		for n := range 65 {
			tb.submit(1000+n, long)
		}
		seen := map[time.Duration]bool{}
		for n := range 200 {
			r, ok := find[sched.Reject](tb.submit(n, long))
			if !ok || r.Code != "QUEUE_FULL" {
				t.Fatalf("%v %+v", ok, r)
			}
			if r.After < c.low || r.After > c.high {
				t.Errorf("hint %v, want %v…%v", r.After, c.low, c.high)
			}
			seen[r.After] = true
		}
		if len(seen) < 100 {
			t.Errorf("200 refused tasks have only %d hints", len(seen))
		}
	}
}

// TestEstimator: the means and deviations are those of RFC 6298, and the first
// value replaces what was assumed (ORC-252).
func TestEstimator(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		values := rapid.SliceOfN(rapid.Int64Range(0, 1<<40), 1, 40).Draw(t, "values")
		mean, dev := values[0], values[0]/2
		for _, x := range values[1:] {
			off := x - mean
			if off < 0 {
				off = -off
			}
			dev += (off - dev) / 4
			mean += (x - mean) / 8
		}
		if m, d := sched.Smooth(values...); m != mean || d != dev || m < slices.Min(values) || m > slices.Max(values) {
			t.Fatalf("Smooth = %d ± %d, want %d ± %d", m, d, mean, dev)
		}
		x := rapid.Uint64().Draw(t, "x")
		r := sched.Isqrt(x)
		low, lo := bits.Mul64(r, r)
		high, hi := bits.Mul64(r+1, r+1)
		if low != 0 || lo > x || (high == 0 && hi <= x) {
			t.Fatalf("Isqrt(%d) = %d", x, r)
		}
	})
}

// TestLearning: speeds come from hints, then from what was seen; missing signals
// are named; the output from the request, the model's mean and deviation, or 256
// (ORC-252).
func TestLearning(t *testing.T) {
	w := hinted(4)
	w.TokensPerS, w.FirstToken = 0, 0
	tb := newTable(t, sched.Config{}, w)
	r := tb.core.Rates("m", w)
	if r.PrefillNS != 500_000 || r.DecodeNS != 40_000_000 || !slices.Equal(r.Missing, []string{"tokens_per_s", "first_token"}) {
		t.Errorf("nothing known: %+v", r)
	}
	out := func(expected, limit int) int64 {
		return tb.core.Output(sched.Task{Need: placement.Request{Model: "m", Expected: expected}, MaxTokens: limit})
	}
	for _, c := range [][3]int64{{0, 5000, 256}, {0, 100, 100}, {70, 100, 70}, {700, 100, 100}, {0, 0, 256}} {
		if got := out(int(c[0]), int(c[1])); got != c[2] {
			t.Errorf("output of %d said, at most %d: %d, want %d", c[0], c[1], got, c[2])
		}
	}
	if got := tb.core.BytesPerToken("m"); got != 3600 {
		t.Errorf("%d milli-bytes per token", got)
	}
	for n := range 60 {
		tb.submit(n, func(t *sched.Task) { t.Need.Prompt, t.Text = 1000, 2000 })
		tb.step(sched.Finished{ID: id(n), Attempt: 1, Result: sched.Result{TokensIn: 1000, TokensOut: 400, First: 100 * time.Millisecond, Decode: 2 * time.Second}})
	}
	r = tb.core.Rates("m", w)
	if r.PrefillNS != 100_000 || r.DecodeNS != 5_000_000 || len(r.Missing) != 0 {
		t.Errorf("after 60 runs: %+v", r)
	}
	if got := out(0, 5000); got < 400 || got > 402 {
		t.Errorf("output %d after 60 of 400", got)
	}
	if got := tb.core.BytesPerToken("m"); got != 2000 {
		t.Errorf("%d milli-bytes per token, want 2000", got)
	}
	if got := tb.core.Output(sched.Task{Need: placement.Request{Model: "m", Workload: "embedding"}}); got != 0 {
		t.Errorf("an embedding puts out %d tokens", got)
	}
}

// TestEstimatesBounded: no more than 4,096 classes and models are remembered,
// those that were seen last (ORC-252, G8).
func TestEstimatesBounded(t *testing.T) {
	w := hinted(1)
	w.Models = nil
	for n := range 5000 {
		w.Models = append(w.Models, fmt.Sprintf("m%04d", n))
	}
	tb := newTable(t, sched.Config{}, w)
	for n, m := range w.Models {
		tb.submit(n, func(t *sched.Task) { t.Need.Model = m })
		tb.step(sched.Finished{ID: id(n), Attempt: 1, Result: sched.Result{TokensIn: 10, TokensOut: 10, First: 1, Decode: 10}})
	}
	if speeds, shapes := tb.core.Learned(); speeds != 4096 || shapes != 4096 {
		t.Errorf("%d and %d entries", speeds, shapes)
	}
	if r := tb.core.Rates("m4999", w); r.DecodeNS != 1 {
		t.Errorf("the last one: %+v", r)
	}
	if r := tb.core.Rates("m0000", w); r.DecodeNS != 10_000_000 {
		t.Errorf("the first one is still known: %+v", r)
	}
}

// taught is a core that has learned something, and whose tenants are not equal.
func taught(t *testing.T) *sched.Core {
	tb := newTable(t, sched.Config{}, hinted(4))
	for n := range 9 {
		tb.submit(n, usual, func(t *sched.Task) { t.Tenant = queue.Tenant{byte(n % 2 * n)} })
		if n < 4 {
			tb.step(sched.Finished{ID: id(n), Attempt: 1, Result: sched.Result{TokensIn: 100, TokensOut: 40 + n, First: 70, Decode: 500}})
		}
	}
	return tb.core
}

// TestEstimatesOutliveRestart: speeds, shapes and what tenants had come back (ORC-654).
func TestEstimatesOutliveRestart(t *testing.T) {
	c := taught(t)
	text, err := c.Estimates()
	if err != nil {
		t.Fatal(err)
	}
	tb := newTable(t, sched.Config{}, hinted(4))
	if err := tb.core.LoadEstimates(text); err != nil {
		t.Fatal(err)
	}
	if again, _ := tb.core.Estimates(); string(again) != string(text) {
		t.Errorf("estimates after the restart\n%s\nbefore\n%s", again, text)
	}
	if a, b := tb.core.Rates("m", hinted(4)), c.Rates("m", hinted(4)); a.DecodeNS != b.DecodeNS || a.DecodeNS == 10_000_000 {
		t.Errorf("rates %+v, were %+v", a, b)
	}
	for _, bad := range []string{"", "[]", `{"learned":{"Speeds":[{"Key":{},"Value":{"Decode":{"Mean":-1,"Known":true}}}]}}`, `{"ledger":{"picks":9}}`} {
		if err := tb.core.LoadEstimates([]byte(bad)); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
	if again, _ := tb.core.Estimates(); string(again) != string(text) {
		t.Errorf("refused text changed the estimates")
	}
}

// FuzzEstimates: no text makes a core that panics when it works (ORC-654).
func FuzzEstimates(f *testing.F) {
	f.Add([]byte(`{"learned":{"Speeds":null,"Shapes":null},"ledger":{"now":0,"seq":0,"picks":4,"clocks":[0,0],"items":[],"tenants":[]}}`))
	f.Add([]byte(`{"learned":{"Shapes":[{"Key":"m","Value":{"Output":{"Mean":31536000000000000,"Dev":31536000000000000,"Known":true}}}]}}`))
	f.Add([]byte(`{"learned":{"Speeds":[{"Key":{"Model":"m","Digest":"","Node":"n","Pool":"p"},"Value":{"Decode":{"Mean":31536000000000000,"Dev":1,"Known":true}}}]}}`))
	f.Add([]byte(`{"ledger":{"clocks":[2305843009213693952,0],"tenants":[{"id":"00000000000000000000000000000000","weight":1000,"virtual":[2305843009213693952,0]}]}}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		tb := newTable(t, sched.Config{}, hinted(1))
		if tb.core.LoadEstimates(text) != nil {
			return
		}
		for n := range 6 {
			tb.submit(n, usual, by(tb.now+sched.Instant(time.Hour)))
			tb.core.Pending(id(n))
		}
		for n := range 6 {
			tb.step(sched.Finished{ID: id(n), Attempt: 1, Result: sched.Result{TokensIn: 1, TokensOut: 1 << 30, Decode: time.Hour}})
		}
	})
}
