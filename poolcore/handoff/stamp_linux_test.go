package handoff_test

import (
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	. "github.com/llorch/llorch/poolcore/handoff"
)

// century is longer than the time between the clock of a bubble and the files of
// today: every change is an old one then.
const century = 100 * 365 * 24 * time.Hour

// tickOver returns when a file that is written now is told from one that was
// written before.
func tickOver(t *testing.T) {
	t.Helper()
	name := filepath.Join(t.TempDir(), "clock")
	var first time.Time
	for {
		if err := os.WriteFile(name, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		fi, err := os.Stat(name)
		if err != nil {
			t.Fatal(err)
		}
		if first.IsZero() {
			first = fi.ModTime()
		} else if fi.ModTime().After(first) {
			return
		}
	}
}

// TestUnchangedFilesAreNotRead (PCO-51): a file that nobody wrote to is not read
// again, one that was written to just now is.
func TestUnchangedFilesAreNotRead(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "p-r0.json"), []byte(`{"pool_id":"/"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if again, err := Reread(WatchConfig{Dir: dir}); err != nil || !again {
		t.Errorf("a file of this moment: read again %v, %v", again, err)
	}
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(century)
		if again, err := Reread(WatchConfig{Dir: dir}); err != nil || again {
			t.Errorf("an old file: read again %v, %v", again, err)
		}
	})
}

// TestSameSizeSameTime (PCO-51): a content of the same size that claims to be as old
// as the last one is seen, in place and by rename.
func TestSameSizeSameTime(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "p-r0.json")
	put := func(port string, rename bool) {
		t.Helper()
		tickOver(t)
		to := name
		if rename {
			to += ".new"
		}
		text := `{"pool_id":"p","replica_id":"r0","engine":"e","url":"http://127.0.0.1:` + port + `"}`
		if err := os.WriteFile(to, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		past := time.Unix(1, 0)
		if err := os.Chtimes(to, past, past); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(to, name); err != nil {
			t.Fatal(err)
		}
	}
	put("8001", false)
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(century)
		w := watch(t.Context(), WatchConfig{Dir: dir})
		defer w.stop()
		w.after(2)
		for i, rename := range []bool{false, true, false} {
			put("800"+string(rune('2'+i)), rename)
			got := w.after(2)
			if len(got) != 1 || w.bound["p/r0"].URL != "http://127.0.0.1:800"+string(rune('2'+i)) {
				t.Errorf("%d: %v, %+v", i, got, w.bound)
			}
		}
	})
}
