package handoff_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	. "github.com/llorch/llorch/poolcore/handoff"
)

// watched is a directory under watch inside a synctest bubble.
type watched struct {
	dir    string
	mu     sync.Mutex // guards what follows
	events []Event
	errs   []error
	at     []time.Time
	bound  map[string]Binding
	stop   func()
}

// watch starts a watcher; take returns what happened since the last call.
func watch(ctx context.Context, cfg WatchConfig) *watched {
	ctx, cancel := context.WithCancel(ctx)
	w := &watched{dir: cfg.Dir, bound: map[string]Binding{}}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for e, err := range Watch(ctx, cfg) {
			w.mu.Lock()
			if w.at = append(w.at, time.Now()); err != nil {
				w.errs = append(w.errs, err)
			} else {
				w.events = append(w.events, e)
			}
			switch key := string(e.Binding.Pool) + "/" + e.Binding.Replica; e.Kind {
			case Bound, Rebound:
				w.bound[key] = e.Binding
			case Unbound:
				delete(w.bound, key)
			}
			w.mu.Unlock()
		}
	}()
	w.stop = func() { cancel(); <-done }
	synctest.Wait()
	return w
}

// after lets n intervals of one second pass and returns what they brought.
func (w *watched) after(n int) []string {
	time.Sleep(time.Duration(n) * time.Second)
	synctest.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	var out []string
	for _, e := range w.events {
		s := string(e.Kind) + " " + e.File
		switch e.Kind {
		case Bound, Rebound:
			s += " " + e.Binding.EngineVersion
		case Rejected, Stalled:
			s += " " + string(e.Err.Code)
		case Duplicate:
			s += " < " + e.Winner
		}
		out = append(out, s)
	}
	w.events = nil
	return out
}

func (w *watched) expect(t testing.TB, n int, want ...string) {
	t.Helper()
	if got := w.after(n); !slices.Equal(got, want) {
		t.Errorf("after %d ticks: %q, want %q", n, got, want)
	}
}

// put writes short.json's form for a place, with a version that tells it apart.
func put(t testing.TB, dir, name, pool, replica, version string, mod int) {
	t.Helper()
	data := edit(t, map[string]any{"pool_id": pool, "replica_id": replica, "engine_version": version})
	raw(t, dir, name, data, mod)
}

func raw(t testing.TB, dir, name string, data []byte, mod int) {
	t.Helper()
	path := filepath.Join(dir, name)
	_ = os.Remove(path)
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	stamp(t, path, mod)
}

func stamp(t testing.TB, path string, mod int) {
	t.Helper()
	at := time.Unix(int64(mod), 0)
	if err := os.Chtimes(path, at, at); err != nil {
		t.Fatal(err)
	}
}

// TestWatch (PCO-51): the directory is made; same content is nothing, changed
// content one rebind, removal one unbind (TestHandoffRemovalUnbinds).
func TestWatch(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "b")
	synctest.Test(t, func(t *testing.T) {
		w := watch(t.Context(), WatchConfig{Dir: dir})
		defer w.stop()
		fi, err := os.Stat(dir)
		if err != nil || fi.Mode().Perm() != 0o700 {
			t.Fatalf("directory: %v, %v", fi, err)
		}
		put(t, dir, "x.json", "p", "r0", "1", 1)
		put(t, dir, "notes.txt", "p", "r1", "1", 1)
		put(t, dir, ".hidden.json", "p", "r2", "1", 1)
		w.expect(t, 1, "bound x.json 1")
		put(t, dir, "x.json", "p", "r0", "1", 2)
		w.expect(t, 3)
		put(t, dir, "x.json", "p", "r0", "2", 2) // same time, other content
		w.expect(t, 3, "rebound x.json 2")
		put(t, dir, "x.json", "p", "r9", "2", 3)
		w.expect(t, 1, "unbound x.json", "bound x.json 2")
		if err := os.Remove(filepath.Join(dir, "x.json")); err != nil {
			t.Fatal(err)
		}
		w.expect(t, 3, "unbound x.json")
		if len(w.bound) != 0 {
			t.Errorf("still bound: %v", w.bound)
		}
	})
}

// TestHandoffRemovalUnbinds (trap; PCO-51): what is remembered is the content that
// was bound, not only the path.
func TestHandoffRemovalUnbinds(t *testing.T) {
	dir := t.TempDir()
	put(t, dir, "x.json", "p", "r0", "1", 1)
	put(t, dir, "y.json", "p", "r1", "1", 1)
	synctest.Test(t, func(t *testing.T) {
		w := watch(t.Context(), WatchConfig{Dir: dir})
		defer w.stop()
		w.expect(t, 0, "bound x.json 1", "bound y.json 1")
		_ = os.Remove(filepath.Join(dir, "x.json"))
		time.Sleep(time.Second)
		synctest.Wait()
		if e := w.events; len(e) != 1 || e[0].Kind != Unbound || e[0].Binding.Replica != "r0" || e[0].Binding.EngineVersion != "1" || e[0].Binding.URL == "" {
			t.Fatalf("events %+v", e)
		}
		w.events = nil
		put(t, dir, "x.json", "p", "r0", "1", 1) // the same content again is new again
		w.expect(t, 1, "bound x.json 1")
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
		w.expect(t, 1, "unbound x.json", "unbound y.json")
		put(t, dir, "x.json", "p", "r0", "3", 1) // into the directory that was made again
		w.expect(t, 1, "bound x.json 3")
	})
}

// TestHandoffPartialFile (trap; PCO-51): half a file is tried again in silence,
// reported at the third tick, once, and still tried; what was bound stays.
func TestHandoffPartialFile(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		w := watch(t.Context(), WatchConfig{Dir: dir})
		defer w.stop()
		full := edit(t, map[string]any{"pool_id": "p", "replica_id": "r0", "engine_version": "1"})
		raw(t, dir, "x.json", full[:len(full)/2], 1)
		w.expect(t, 2)
		raw(t, dir, "x.json", full, 1)
		w.expect(t, 1, "bound x.json 1")
		for n := range 5 {
			raw(t, dir, "x.json", full[:n*5], 2)
			if n == 2 {
				w.expect(t, 1, "stalled x.json HANDOFF_UNREADABLE")
			} else {
				w.expect(t, 1)
			}
		}
		if len(w.bound) != 1 {
			t.Errorf("half a file unbound: %v", w.bound)
		}
		raw(t, dir, "x.json", full, 3)
		w.expect(t, 2) // the same content: nothing
		raw(t, dir, "x.json", full[:9], 3)
		w.expect(t, 3, "stalled x.json HANDOFF_UNREADABLE") // a new streak
		_ = os.Remove(filepath.Join(dir, "x.json"))
		w.expect(t, 1, "unbound x.json")
	})
}

// TestRejectedOncePerContent (PCO-52): file name and code, once; a good earlier
// content stays in force.
func TestRejectedOncePerContent(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		w := watch(t.Context(), WatchConfig{Dir: dir})
		defer w.stop()
		put(t, dir, "x.json", "p", "r0", "1", 1)
		w.expect(t, 1, "bound x.json 1")
		raw(t, dir, "x.json", edit(t, map[string]any{"url": "http://10.0.0.1:8001"}), 2)
		w.expect(t, 4, "rejected x.json ADDRESS_NOT_ALLOWED")
		raw(t, dir, "x.json", edit(t, map[string]any{"slots": 4097}), 2)
		w.expect(t, 4, "rejected x.json HANDOFF_INVALID")
		raw(t, dir, "x.json", edit(t, map[string]any{"slots": 4098}), 2)
		w.expect(t, 4, "rejected x.json HANDOFF_INVALID")
		if b := w.bound["p/r0"]; b.EngineVersion != "1" {
			t.Errorf("bound %+v", w.bound)
		}
		raw(t, dir, "bad\x1b\n.json", edit(t, map[string]any{"slots": -1}), 2)
		w.expect(t, 2, `rejected bad\x1b\n.json HANDOFF_REFUSED`)
	})
}

// TestDuplicate (PCO-51): the newer file wins, then the larger name, with one
// warning; when the winner goes the loser takes its place.
func TestDuplicate(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		w := watch(t.Context(), WatchConfig{Dir: dir})
		defer w.stop()
		put(t, dir, "a.json", "p", "r0", "a", 5)
		put(t, dir, "b.json", "p", "r0", "b", 5)
		w.expect(t, 3, "duplicate a.json < b.json", "bound b.json b")
		stamp(t, filepath.Join(dir, "a.json"), 6)
		w.expect(t, 3, "duplicate b.json < a.json", "rebound a.json a")
		_ = os.Remove(filepath.Join(dir, "a.json"))
		w.expect(t, 3, "rebound b.json b")
		put(t, dir, "c.json", "p", "r0", "b", 9) // equal content under another name
		w.expect(t, 3, "duplicate b.json < c.json")
	})
}

// TestAutoDelete (PCO-51): the watcher removes what it handed out and remembers
// that it did; only another content changes the binding.
func TestAutoDelete(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		w := watch(t.Context(), WatchConfig{Dir: dir, AutoDelete: true})
		defer w.stop()
		left := func(want int) {
			t.Helper()
			entries, _ := os.ReadDir(dir)
			if len(entries) != want {
				t.Errorf("directory holds %v, want %d", entries, want)
			}
		}
		put(t, dir, "x.json", "p", "r0", "1", 5)
		w.expect(t, 4, "bound x.json 1")
		left(0)
		put(t, dir, "x.json", "p", "r0", "1", 6)
		w.expect(t, 4)
		left(0)
		put(t, dir, "x.json", "p", "r0", "2", 2) // older by its clock, and still what stands there now
		w.expect(t, 4, "rebound x.json 2")
		left(0)
		put(t, dir, "w.json", "p", "r0", "0", 1)
		w.expect(t, 4, "duplicate w.json < x.json")
		left(1)
		put(t, dir, "y.json", "p", "r0", "3", 9)
		w.expect(t, 4, "duplicate w.json < y.json", "rebound y.json 3")
		left(1)
	})
}

// TestAutoDeleteLosesNothing: content that replaces the file while its old binding
// is handed out is bound next.
func TestAutoDeleteLosesNothing(t *testing.T) {
	dir := t.TempDir()
	put(t, dir, "x.json", "p", "r0", "1", 5)
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		var got []string
		for e, err := range Watch(ctx, WatchConfig{Dir: dir, AutoDelete: true}) {
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, string(e.Kind)+" "+e.Binding.EngineVersion)
			switch e.Binding.EngineVersion {
			case "1":
				put(t, dir, "x.json", "p", "r0", "2", 6)
			case "2":
				cancel()
			}
		}
		if want := []string{"bound 1", "rebound 2"}; !slices.Equal(got, want) {
			t.Errorf("%q, want %q", got, want)
		}
	})
}

// TestRenameToEvent (spec 7): an event comes within one interval of the rename, at
// each interval that can be set.
func TestRenameToEvent(t *testing.T) {
	for _, interval := range []time.Duration{0, 100 * time.Millisecond, 10 * time.Second} {
		root, dir := openDir(t)
		synctest.Test(t, func(t *testing.T) {
			w := watch(t.Context(), WatchConfig{Dir: dir, Interval: interval})
			defer w.stop()
			limit := map[bool]time.Duration{true: time.Second, false: interval}[interval == 0]
			time.Sleep(limit/2 + time.Millisecond)
			if err := Write(root, version(1)); err != nil {
				t.Fatal(err)
			}
			written := time.Now()
			time.Sleep(limit)
			synctest.Wait()
			if len(w.at) != 1 || w.at[0].Sub(written) > limit || w.at[0].Sub(written) <= 0 {
				t.Errorf("interval %v: events at %v after %v", interval, w.at, written)
			}
		})
	}
}

// TestWatchConfig: faults end it at once, with the field.
func TestWatchConfig(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel() // a configuration that passes ends here
	for name, cfg := range map[string]WatchConfig{
		"dir": {Dir: "relative"}, "interval": {Dir: "/x", Interval: 99 * time.Millisecond}, "interval ": {Dir: "/x", Interval: 11 * time.Second},
	} {
		n := 0
		for e, err := range Watch(ctx, cfg) {
			n++
			if fault, ok := errors.AsType[*Error](err); !ok || fault.Field != strings.TrimSpace(name) || e.Kind != "" {
				t.Errorf("%s: %+v, %v", name, e, err)
			}
		}
		if n != 1 {
			t.Errorf("%s: %d events", name, n)
		}
	}
}

// TestUnreadableDirectory: it is told once per trouble, keeps what is bound and
// is tried again.
func TestUnreadableDirectory(t *testing.T) {
	parent := t.TempDir()
	dir, away := filepath.Join(parent, "d"), filepath.Join(parent, "away")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	put(t, dir, "x.json", "p", "r0", "1", 1)
	synctest.Test(t, func(t *testing.T) {
		w := watch(t.Context(), WatchConfig{Dir: dir})
		defer w.stop()
		w.expect(t, 0, "bound x.json 1")
		for want := 1; want <= 2; want++ {
			if err := errors.Join(os.Rename(dir, away), os.WriteFile(dir, nil, 0o600)); err != nil {
				t.Fatal(err)
			}
			w.expect(t, 5)
			if len(w.errs) != want || len(w.bound) != 1 {
				t.Errorf("errors %v, bound %v", w.errs, w.bound)
			}
			if err := errors.Join(os.Remove(dir), os.Rename(away, dir)); err != nil {
				t.Fatal(err)
			}
			w.expect(t, 2)
		}
	})
}

func ExampleWatch() {
	dir, _ := os.MkdirTemp("", "handoff")
	defer os.RemoveAll(dir)
	root, _ := os.OpenRoot(dir)
	defer root.Close()
	_ = Write(root, File{PoolID: "pool-0", ReplicaID: "r0", Engine: "llamacpp", EngineVersion: "b6123", URL: "http://127.0.0.1:8001", SlotsTotal: 4, SlotsFree: 4})
	for e, err := range Watch(context.Background(), WatchConfig{Dir: dir}) {
		fmt.Println(e.Kind, e.File, e.Binding.URL, e.Binding.SlotsTotal, err)
		break
	}
	// Output: bound pool-0-r0.json http://127.0.0.1:8001 4 <nil>
}
