//go:build unix

package handoff_test

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	. "github.com/llorch/llorch/poolcore/handoff"
)

// refFile is the model of one file: what the last believed content of it said, and
// when it was written.
type refFile struct {
	there   bool
	place   string // "" when no content was believed yet
	version string
	mod     int
	bad     int  // ticks in a row in which it could not be read
	torn    bool // it cannot be read now
}

// watchMachine compares a watched directory with a reference that is written from
// the rules of PCO-51 alone.
type watchMachine struct {
	*watched
	clock int
	files map[string]*refFile
	bound map[string]string // place → version
}

var (
	modelNames  = []string{"a.json", "b.json", "c.json"}
	modelPlaces = []string{"p/r0", "p/r1"}
)

// TestHandoffWatcher is the model test of the watcher (PCO-50…52): random writes,
// rewrites, changes, deletions, partial files, duplicates, links, FIFOs, oversized,
// invalid and foreign files. After every tick: (1) what is bound is what the
// reference says, (2) the events are exactly the difference, so the same content
// brings none and a change brings one, (3) a torn file is told at its third tick
// and only then.
func TestHandoffWatcher(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		dir, err := os.MkdirTemp("", "handoff")
		if err != nil {
			t.Fatal(err)
		}
		defer os.RemoveAll(dir)
		rapid.SyncTest(t, func(t *rapid.T) {
			m := &watchMachine{watched: watch(t.Context(), WatchConfig{Dir: dir}), files: map[string]*refFile{}, bound: map[string]string{}}
			defer m.stop()
			t.Repeat(map[string]func(*rapid.T){
				"write":   m.write,
				"rewrite": m.rewrite,
				"delete":  m.remove,
				"partial": m.partial,
				"invalid": m.invalid,
				"refused": m.refused,
				"":        m.tick,
			})
		})
	})
}

func (m *watchMachine) file(t *rapid.T) (string, *refFile) {
	name := rapid.SampledFrom(modelNames).Draw(t, "name")
	if m.files[name] == nil {
		m.files[name] = &refFile{}
	}
	return name, m.files[name]
}

// fill replaces whatever stands under name by data, in one step.
func (m *watchMachine) fill(t *rapid.T, name string, data []byte, mod int) {
	path, temp := filepath.Join(m.dir, name), filepath.Join(m.dir, "temp")
	if fi, err := os.Lstat(path); err == nil && fi.IsDir() {
		_ = os.Remove(path)
	}
	if err := os.WriteFile(temp, data, 0o600); err != nil {
		t.Fatal(err)
	}
	at := time.Unix(int64(mod), 0)
	if err := errors.Join(os.Chtimes(temp, at, at), os.Rename(temp, path)); err != nil {
		t.Fatal(err)
	}
}

func content(place, version string) []byte {
	return fmt.Appendf(nil, `{"pool_id":%q,"replica_id":%q,"engine":"e","engine_version":%q,"http_endpoint":"http://127.0.0.1:8001"}`, place[:1], place[2:], version)
}

// write covers write, change, duplicate and "same content under another name".
func (m *watchMachine) write(t *rapid.T) {
	name, f := m.file(t)
	m.clock += rapid.IntRange(0, 1).Draw(t, "later") // equal times happen
	*f = refFile{
		there: true, place: rapid.SampledFrom(modelPlaces).Draw(t, "place"), version: fmt.Sprint(rapid.IntRange(1, 3).Draw(t, "version")), mod: m.clock,
	}
	m.fill(t, name, content(f.place, f.version), f.mod)
}

func (m *watchMachine) rewrite(t *rapid.T) {
	name, f := m.file(t)
	if !f.there || f.place == "" {
		t.Skip("nothing to write again")
	}
	m.clock++
	f.mod, f.torn, f.bad = m.clock, false, 0
	m.fill(t, name, content(f.place, f.version), f.mod)
}

func (m *watchMachine) remove(t *rapid.T) {
	name, f := m.file(t)
	_ = os.Remove(filepath.Join(m.dir, name))
	*f = refFile{}
}

func (m *watchMachine) partial(t *rapid.T) {
	name, f := m.file(t)
	full := content("p/r0", "9")
	m.fill(t, name, full[:rapid.IntRange(0, len(full)-1).Draw(t, "bytes")], m.clock)
	f.there, f.torn = true, true
}

func (m *watchMachine) invalid(t *rapid.T) {
	name, f := m.file(t)
	bad := rapid.SampledFrom([]string{`{}`, `[]`, `{"pool_id":"p","replica_id":"r0","engine":"e","url":"http://8.8.8.8:8001"}`}).Draw(t, "content")
	m.fill(t, name, []byte(bad), m.clock)
	f.there, f.torn, f.bad = true, false, 0
}

func (m *watchMachine) refused(t *rapid.T) {
	name, f := m.file(t)
	path := filepath.Join(m.dir, name)
	_ = os.Remove(path)
	good := content("p/r0", "8")
	var err error
	switch rapid.SampledFrom([]string{"link", "fifo", "directory", "oversize", "owner"}).Draw(t, "kind") {
	case "link":
		err = os.Symlink("/etc/hostname", path)
	case "fifo":
		err = syscall.Mkfifo(path, 0o600)
	case "directory":
		err = os.Mkdir(path, 0o700)
	case "oversize":
		err = os.WriteFile(path, append(good, make([]byte, MaxBytes)...), 0o600)
	case "owner":
		if os.Geteuid() != 0 {
			t.Skip("giving a file to somebody else needs root")
		}
		err = errors.Join(os.WriteFile(path, good, 0o600), os.Chown(path, 1, 1))
	}
	if err != nil {
		t.Fatal(err)
	}
	*f = refFile{there: true}
}

// expected is what the rules say is bound: of each place the newest believed
// content, then the larger name.
func (m *watchMachine) expected() map[string]string {
	out := map[string]string{}
	for _, place := range modelPlaces {
		best := ""
		for _, name := range modelNames { // in order: of equal times the larger name stays
			if f := m.files[name]; f != nil && f.place == place && (best == "" || f.mod >= m.files[best].mod) {
				best, out[place] = name, f.version
			}
		}
	}
	return out
}

func (m *watchMachine) tick(t *rapid.T) {
	events := m.after(0)
	if len(events) > 0 {
		t.Fatalf("events between ticks: %q", events)
	}
	var want []string
	for name, f := range m.files {
		if f.torn {
			if f.bad++; f.bad == 3 {
				want = append(want, "stalled "+name)
			}
		}
	}
	now := m.expected()
	for _, place := range modelPlaces {
		was, is := m.bound[place], now[place]
		switch {
		case was == is:
		case was == "":
			want = append(want, "bound "+place+" "+is)
		case is == "":
			want = append(want, "unbound "+place)
		default:
			want = append(want, "rebound "+place+" "+is)
		}
	}
	m.bound = now
	got := m.settled()
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Fatalf("events %q, want %q", got, want)
	}
	seen := map[string]string{}
	for place, b := range m.watched.bound {
		seen[place] = b.EngineVersion
	}
	if !maps.Equal(seen, now) {
		t.Fatalf("bound %v, want %v", seen, now)
	}
}

// settled lets one tick pass and returns its events but rejections and warnings.
func (m *watchMachine) settled() []string {
	m.watched.mu.Lock()
	m.events = nil
	m.watched.mu.Unlock()
	time.Sleep(time.Second)
	synctest.Wait()
	var out []string
	for _, e := range m.events {
		place := string(e.Binding.Pool) + "/" + e.Binding.Replica
		switch e.Kind {
		case Bound, Rebound:
			out = append(out, string(e.Kind)+" "+place+" "+e.Binding.EngineVersion)
		case Unbound:
			out = append(out, "unbound "+place)
		case Stalled:
			out = append(out, "stalled "+e.File)
		}
	}
	m.events = nil
	slices.Sort(out)
	return out
}
