package decisionlog_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/llorch/llorch/orchestrator/decisionlog"
	"github.com/llorch/llorch/orchestrator/internal/sched"
	"github.com/llorch/llorch/orchestrator/placement"
	"github.com/llorch/llorch/orchestrator/queue"
)

var update = flag.Bool("update", false, "write the golden segments")

// TestSegmentFormat: first line, steps, digest; every line is JSON; mode 0600
// (ORC-130, ORC-131).
func TestSegmentFormat(t *testing.T) {
	dir := t.TempDir()
	var name, sum string
	w, stop := open(t, decisionlog.Config{Dir: dir, Replica: "here", Sealed: func(n, s string) { name, sum = n, s }})
	newWorld(t, w, 2).live(50)
	stop()
	names, all := files(t, dir)
	if len(names) != 1 || filepath.Base(names[0]) != "decisions-1-1.ndjson" || name != "decisions-1-1.ndjson" {
		t.Fatalf("segments %v, sealed %q", names, name)
	}
	if info, err := os.Stat(names[0]); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v, want 0600", info.Mode(), err)
	}
	ls := lines(all)
	var first, last map[string]json.RawMessage
	if err := errors.Join(json.Unmarshal(ls[0], &first), json.Unmarshal(ls[len(ls)-1], &last)); err != nil {
		t.Fatal(err)
	}
	for _, k := range []string{"format", "core", "replica", "epoch", "origin", "seed", "policy", "policy_sha256", "config", "state"} {
		if first[k] == nil {
			t.Errorf("the first line has no %s", k)
		}
	}
	before := sha256.Sum256(all[:len(all)-len(ls[len(ls)-1])])
	if want := hex.EncodeToString(before[:]); string(last["sha256"]) != `"`+want+`"` && string(last["sha256"]) != want || sum != want {
		t.Errorf("last line %s, told %s, want %s", ls[len(ls)-1], sum, want)
	}
	for i, l := range ls[1 : len(ls)-1] {
		var step struct {
			At *int64
			Ev map[string]json.RawMessage
			Fx []json.RawMessage
		}
		if err := json.Unmarshal(l, &step); err != nil || step.At == nil || len(step.Ev) != 1 {
			t.Errorf("line %d: %s, %v", i+2, l, err)
		}
	}
}

// TestReplay: a log played back gives the same effects, and every decision is
// counted (ORC-132, I14).
func TestReplay(t *testing.T) {
	all := record(t, 4, 3000)
	got, err := decisionlog.Replay(t.Context(), bytes.NewReader(all))
	want := bytes.Count(all, []byte(`{"assign":`))
	if err != nil || got.Segments != 1 || got.Unsealed != 0 || got.Decisions != want || got.Steps != len(lines(all))-2 || want < 500 {
		t.Errorf("Replay = %+v, %v, want %d decisions", got, err, want)
	}
}

// TestDiverged: the first effect that differs is named, with its line and task.
func TestDiverged(t *testing.T) {
	ls := lines(record(t, 3, 200))
	at := slices.IndexFunc(ls, func(l []byte) bool {
		return bytes.Contains(l, []byte(`"Worker":{"node":"node-2"`)) && bytes.Contains(l, []byte("assign"))
	})
	ls[at] = bytes.Replace(ls[at], []byte(`"Worker":{"node":"node-2"`), []byte(`"Worker":{"node":"node-0"`), 1)
	got, err := decisionlog.Replay(t.Context(), bytes.NewReader(bytes.Join(ls, nil)))
	d, ok := errors.AsType[*decisionlog.Diverged](err)
	if !ok || d.Line != at+1 || len(d.Task) != 32 || !strings.Contains(d.Want, "node-0") || !strings.Contains(d.Got, "node-2") || got.Steps != at-1 {
		t.Errorf("Replay = %+v, %+v, want Diverged at line %d", got, err, at+1)
	}
}

// TestFlipped: a changed byte anywhere in the log is found.
func TestFlipped(t *testing.T) {
	all := record(t, 2, 40)
	for i := 0; i < len(all); i += 13 {
		b := bytes.Clone(all)
		b[i] ^= 1
		rep, err := decisionlog.Replay(t.Context(), bytes.NewReader(b))
		if err == nil && rep.Unsealed == 0 && !rep.Torn {
			t.Fatalf("byte %d flipped (%q): nothing was found", i, all[max(0, i-20):min(len(all), i+20)])
		}
	}
}

// TestRotation: segments follow each other by size; each begins with the last
// state of the one before (ORC-131, ORC-132). A segment exchanged for another breaks
// the chain.
func TestRotation(t *testing.T) {
	dir := t.TempDir()
	sealed := 0
	w, stop := open(t, decisionlog.Config{Dir: dir, MaxBytes: 64 << 10, Ring: 8, Sealed: func(string, string) { sealed++ }})
	x := newWorld(t, w, 3)
	for range 600 {
		x.live(1)
		settle(t, w)
	}
	stop()
	names, all := files(t, dir)
	got, err := decisionlog.Replay(t.Context(), bytes.NewReader(all))
	if err != nil || len(names) < 3 || got.Chained != len(names)-1 || got.Segments != len(names) || sealed != len(names) || got.Gaps != 0 {
		t.Errorf("%d segments, %d sealed: Replay = %+v, %v", len(names), sealed, got, err)
	}
	second, err := os.ReadFile(names[1])
	if err != nil {
		t.Fatal(err)
	}
	forged := bytes.Replace(second, []byte(`"Dupes":0`), []byte(`"Dupes":9`), 1)
	first, _ := os.ReadFile(names[0])
	_, err = decisionlog.Replay(t.Context(), bytes.NewReader(slices.Concat(first, forged)))
	if d, ok := errors.AsType[*decisionlog.Diverged](err); !ok || d.Task != "" {
		t.Errorf("a segment with another first state: %v, want Diverged", err)
	}
}

// settle waits until the writer has taken everything.
func settle(t *testing.T, w *decisionlog.Writer) {
	t.Helper()
	for decisionlog.Waiting(w) > 0 {
		if t.Context().Err() != nil {
			return
		}
	}
}

// TestRotationByAge: after an hour the next step begins a new segment; segments
// older than Keep go (ORC-131).
func TestRotationByAge(t *testing.T) {
	dir := t.TempDir()
	old := filepath.Join(dir, "decisions-1-7.ndjson")
	if err := errors.Join(os.WriteFile(old, []byte("{}\n"), 0o600), os.Chtimes(old, time.Time{}, time.Unix(0, 0))); err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		w, stop := open(t, decisionlog.Config{Dir: dir})
		x := newWorld(t, w, 1)
		x.live(5)
		time.Sleep(time.Hour + time.Minute)
		x.live(5)
		stop()
	})
	names, all := files(t, dir)
	if len(names) != 2 || !strings.HasSuffix(names[0], "1-8.ndjson") || !strings.HasSuffix(names[1], "1-9.ndjson") {
		t.Errorf("segments %v, want two after the removed one", names)
	}
	if got, err := decisionlog.Replay(t.Context(), bytes.NewReader(all)); err != nil || got.Chained != 1 {
		t.Errorf("Replay = %+v, %v", got, err)
	}
}

// TestOverflow: a full ring never blocks the loop; what is lost stands in the log
// as a gap, and a new segment heals it (ORC-131, ORC-132).
func TestOverflow(t *testing.T) {
	dir := t.TempDir()
	w, err := decisionlog.NewWriter(decisionlog.Config{Dir: dir, Ring: 16})
	if err != nil {
		t.Fatal(err)
	}
	x := newWorld(t, w, 2)
	x.live(100) // nobody reads
	lost := w.Lost()
	if lost == 0 {
		t.Fatal("a ring of 16 took everything")
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx) }()
	settle(t, w)
	for range 100 {
		x.live(1)
		settle(t, w)
	}
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	_, all := files(t, dir)
	got, err := decisionlog.Replay(t.Context(), bytes.NewReader(all))
	if err != nil || got.Gaps != 1 || got.Lost != w.Lost() || got.Segments != 2 || got.Chained != 0 || got.Steps < 100 {
		t.Errorf("Replay = %+v, %v, want one gap of %d steps between two segments", got, err, w.Lost())
	}
}

// TestTornTail: the torn last line of a crash is cut, and the next first line says
// so; a crash loses nothing before it (ORC-131).
func TestTornTail(t *testing.T) {
	all := record(t, 2, 60)
	ls := lines(all)
	crashed := bytes.Join(ls[:len(ls)-3], nil)
	torn := ls[len(ls)-3][:7]
	got, err := decisionlog.Replay(t.Context(), bytes.NewReader(slices.Concat(crashed, torn)))
	if err != nil || !got.Torn || got.Unsealed != 1 || got.Steps != len(ls)-4 {
		t.Errorf("Replay of a torn log = %+v, %v", got, err)
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "decisions-1-1.ndjson"), slices.Concat(crashed, torn), 0o600); err != nil {
		t.Fatal(err)
	}
	w, stop := open(t, decisionlog.Config{Dir: dir})
	newWorld(t, w, 2).live(10)
	stop()
	names, both := files(t, dir)
	if cut := fmt.Sprintf(`"cut":[{"segment":"decisions-1-1.ndjson","bytes":%d}]`, len(torn)); len(names) != 2 || !bytes.Contains(both, []byte(cut)) {
		t.Errorf("segments %v do not say %s", names, cut)
	}
	if got, err := decisionlog.Replay(t.Context(), bytes.NewReader(both)); err != nil || got.Torn || got.Unsealed != 1 || got.Segments != 2 {
		t.Errorf("Replay = %+v, %v", got, err)
	}
}

// TestForeignLogs: other cores and missing scorers are told apart from damage.
func TestForeignLogs(t *testing.T) {
	all := record(t, 2, 10)
	replay := func(from, to string) error {
		_, err := decisionlog.Replay(t.Context(), bytes.NewReader(bytes.Replace(all, []byte(from), []byte(to), 1)))
		return err
	}
	if err := replay(fmt.Sprintf(`"core":%d`, sched.Version), `"core":999`); !errors.Is(err, decisionlog.ErrCoreVersion) {
		t.Errorf("another core: %v, want ErrCoreVersion", err)
	}
	if err := replay(`"policy":{`, `"policy":{"strategy":"x",`); !errors.Is(err, decisionlog.ErrBroken) {
		t.Errorf("another policy than its hash: %v, want ErrBroken", err)
	}
	if err := replay(`{"at":`, `{"sha256":"00","at":`); !errors.Is(err, decisionlog.ErrBroken) {
		t.Errorf("another digest: %v, want ErrBroken", err)
	}
	alt := placement.Policy{Strategy: "predicted", Scorers: []placement.Scored{{Name: "mine", Weight: 1}}}
	if _, err := decisionlog.Diff(t.Context(), bytes.NewReader(all), alt); !errors.Is(err, decisionlog.ErrScorerMissing) {
		t.Errorf("an unknown scorer: %v, want ErrScorerMissing", err)
	}
	p := decisionlog.Player{Scorers: map[string]placement.Scorer{"mine": func(placement.Request, *placement.Worker) int64 { panic("not today") }}}
	if rep, err := p.Diff(t.Context(), bytes.NewReader(all), alt); err != nil || rep.Steps == 0 {
		t.Errorf("a known scorer that panics: %+v, %v, want the recorded decisions to go on", rep, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := decisionlog.Replay(ctx, bytes.NewReader(all)); !errors.Is(err, context.Canceled) {
		t.Errorf("an ended context: %v", err)
	}
}

// TestDiff: the same policy differs nowhere; another one is shown with both score
// tables, on the recorded state (ORC-133).
func TestDiff(t *testing.T) {
	all := record(t, 4, 800)
	same, err := decisionlog.Diff(t.Context(), bytes.NewReader(all), placement.Policy{})
	if err != nil || same.Differ != 0 || same.Decisions == 0 {
		t.Errorf("the same policy: %+v, %v", same, err)
	}
	other, err := decisionlog.Diff(t.Context(), bytes.NewReader(all), placement.Policy{Strategy: "most-vram-free"})
	if err != nil || other.Differ == 0 || other.Decisions != same.Decisions || len(other.Differences) != min(1000, other.Differ) {
		t.Fatalf("most-vram-free: %d of %d differ, %v", other.Differ, other.Decisions, err)
	}
	for _, d := range other.Differences {
		if d.Recorded.Winner == d.Other.Winner || len(d.Recorded.Scores) == 0 || len(d.Other.Scores) == 0 || len(d.Task) != 32 || d.Recorded.Generation != d.Other.Generation {
			t.Fatalf("difference %+v", d)
		}
	}
}

// TestExplanation: a decision that memory has dropped is found in the log (ORC-310).
func TestExplanation(t *testing.T) {
	dir := t.TempDir()
	w, stop := open(t, decisionlog.Config{Dir: dir, MaxBytes: 32 << 10})
	x := newWorld(t, w, 2)
	var want sched.Assign
	for range 300 {
		x.live(1)
		settle(t, w)
		if want.Worker == nil && len(x.runs) > 0 {
			want = x.runs[0]
		}
	}
	stop()
	got, ok, err := w.Explanation(t.Context(), want.ID)
	if err != nil || !ok || got.Winner == "" || !strings.HasPrefix(got.DecisionID, hex.EncodeToString(want.ID[:])) {
		t.Errorf("Explanation = %+v, %v, %v", got, ok, err)
	}
	if _, ok, err := w.Explanation(t.Context(), id(1<<30)); ok || err != nil {
		t.Errorf("Explanation of an unknown task: %v, %v", ok, err)
	}
}

// TestDiskFails: a directory that goes away ends nothing; the steps are counted.
func TestDiskFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "log")
		w, stop := open(t, decisionlog.Config{Dir: dir})
		synctest.Wait()
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
		x := newWorld(t, w, 1)
		x.live(20)
		synctest.Wait()
		if w.Lost() == 0 {
			t.Error("nothing counts as lost without a directory")
		}
		time.Sleep(2 * time.Second)
		x.live(20)
		stop()
	})
	early, err := decisionlog.NewWriter(decisionlog.Config{Dir: "unused", Ring: 1})
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		early.Record(nil, 1, sched.Tick{}, nil)
	}
	if early.Lost() != 0 || decisionlog.Waiting(early) != 0 {
		t.Error("steps before Begin are recorded")
	}
	var none *decisionlog.Writer
	none.Begin(nil, 1, time.Time{})
	none.Record(nil, 1, sched.Tick{}, nil)
	if none.Lost() != 0 {
		t.Error("a nil writer lost something")
	}
	if err := (decisionlog.Config{MaxBytes: -1, Keep: -2, Ring: -1}).Validate(); err == nil || len(strings.Split(err.Error(), "\n")) != 4 {
		t.Errorf("Validate = %v, want four faults", err)
	}
}

// TestFusedMultiplyAdd: golden segments replay to the last byte, whatever the
// processor: no float decides (ORC-120, ORC-132; G6).
func TestFusedMultiplyAdd(t *testing.T) {
	golden := filepath.Join("testdata", "golden.ndjson")
	if *update {
		if err := os.WriteFile(golden, record(t, 3, 60), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	all, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	got, err := decisionlog.Replay(t.Context(), bytes.NewReader(all))
	if err != nil || got.Unsealed != 0 || got.Decisions < 10 {
		t.Errorf("Replay = %+v, %v", got, err)
	}
	if again := record(t, 3, 60); !bytes.Equal(again, all) {
		t.Error("the same events give another log than the golden one: if that is meant, raise sched.Version and run with -update")
	}
}

// FuzzDecisionLog: no log makes Replay or Diff panic.
func FuzzDecisionLog(f *testing.F) {
	all := record(f, 2, 15)
	f.Add(all)
	f.Add(all[:len(all)/2])
	f.Add(bytes.Replace(all, []byte(`"Phase":`), []byte(`"Phase":1`), 1))
	f.Add([]byte("{\"gap\":1}\n"))
	f.Add([]byte("{\"format\":1,\"core\":1,\"state\":{}}\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		_, _ = decisionlog.Diff(t.Context(), bytes.NewReader(b), placement.Policy{Strategy: "most-vram-free"})
	})
}

// BenchmarkReplay: decisions per second (goal ≥ 20,000).
func BenchmarkReplay(b *testing.B) {
	all := record(b, 8, 20_000)
	b.SetBytes(int64(len(all)))
	n := 0
	for b.Loop() {
		rep, err := decisionlog.Replay(b.Context(), bytes.NewReader(all))
		if err != nil {
			b.Fatal(err)
		}
		n += rep.Decisions
	}
	b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "decisions/s")
}

func ExampleReplay() {
	log, err := os.Open("testdata/golden.ndjson") // or cat decisions-*.ndjson
	if err != nil {
		fmt.Println(err)
		return
	}
	defer log.Close()
	rep, err := decisionlog.Replay(context.Background(), log)
	fmt.Println(rep.Segments, "segment,", rep.Decisions > 0, err)
	// Output: 1 segment, true <nil>
}

// BenchmarkBegin: what the loop pays for a new segment, by tasks in the core.
func BenchmarkBegin(b *testing.B) {
	for _, n := range []int{100, 10_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			core, err := sched.New(sched.Config{Queue: queue.Config{Capacity: queue.Unbounded}})
			if err != nil {
				b.Fatal(err)
			}
			core.Step(1, sched.Workers{List: []*placement.Worker{{Key: placement.Key{Node: "n"}, Models: []string{"m"}, Online: true, Ready: true}}})
			for i := range n {
				core.Step(2, sched.Submit{Task: sched.Task{ID: id(i + 1), Need: placement.Request{Model: "m"}, Total: time.Minute}})
			}
			for b.Loop() {
				core.Snapshot()
			}
		})
	}
}
