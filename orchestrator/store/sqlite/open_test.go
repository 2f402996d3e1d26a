package sqlite_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/llorch/llorch/orchestrator/store"
	"github.com/llorch/llorch/orchestrator/store/sqlite"
)

// begin opens a store and its term; the store is closed with the test.
func begin(t testing.TB, path string) (*sqlite.Store, store.Epoch) {
	t.Helper()
	s := open(t, path)
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("Close() = %v", err)
		}
	})
	l, err := s.Lead(t.Context(), store.LeaseRequest{Holder: "test"})
	if err != nil {
		t.Fatalf("Lead() = %v", err)
	}
	return s, l.Epoch
}

// submit stores tasks that must be new.
func submit(t testing.TB, s *sqlite.Store, e store.Epoch, batch ...store.NewTask) {
	t.Helper()
	out, err := s.Submit(t.Context(), e, batch)
	if err != nil {
		t.Fatalf("Submit() = %v", err)
	}
	for i, a := range out {
		if a.Err != nil || a.Duplicate != nil {
			t.Fatalf("Submit: item %d = %+v, want it stored", i, a)
		}
	}
}

// refuses fails unless Open answers with the wanted error.
func refuses(t *testing.T, path string, want error) {
	t.Helper()
	s, err := sqlite.Open(t.Context(), sqlite.Config{Path: path})
	if err == nil {
		_ = s.Close()
	}
	if !errors.Is(err, want) {
		t.Errorf("Open() = %v, want %v", err, want)
	}
}

// edit changes the file behind the store's back.
func edit(t *testing.T, path, text string) {
	t.Helper()
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.ExecContext(t.Context(), text); err != nil {
		t.Fatalf("edit: %v", err)
	}
}

// TestModes is ORC-650: nobody else can read the files or replace them.
func TestModes(t *testing.T) {
	path := fresh(t)
	s, e := begin(t, path)
	submit(t, s, e, crashTask(1))
	want := map[string]fs.FileMode{".": 0o700, "tasks.db": 0o600, "tasks.db-wal": 0o600, "tasks.db-shm": 0o600, "tasks.db.lock": 0o600}
	for name, mode := range want {
		info, err := os.Stat(filepath.Join(filepath.Dir(path), name))
		if err != nil || info.Mode().Perm() != mode {
			t.Errorf("%s has mode %v, %v, want %v", name, info.Mode().Perm(), err, mode)
		}
	}
}

func TestModesAreTightened(t *testing.T) {
	path := fresh(t)
	if err := open(t, path).Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	begin(t, path)
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("file has mode %v, %v, want 0600", info.Mode().Perm(), err)
	}
	shared := filepath.Join(t.TempDir(), "shared")
	if err := os.Mkdir(shared, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(shared, 0o777); err != nil {
		t.Fatal(err)
	}
	refuses(t, filepath.Join(shared, "tasks.db"), fs.ErrPermission)
}

func TestOpenRefuses(t *testing.T) {
	refuses(t, "", store.ErrInvalid)
	dir := filepath.Join(t.TempDir(), "data")
	for name, content := range map[string]string{"garbage": strings.Repeat("no database ", 500), "short": "x"} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		refuses(t, path, store.ErrCorrupt)
		if left, err := os.ReadFile(path); err != nil || string(left) != content {
			t.Errorf("%s: Open changed a file that it refused, %v", name, err)
		}
	}
	foreign := filepath.Join(dir, "foreign")
	edit(t, foreign, "CREATE TABLE note (text TEXT)")
	refuses(t, foreign, store.ErrInvalid)
	if err := os.Mkdir(filepath.Join(dir, "folder"), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := sqlite.Open(t.Context(), sqlite.Config{Path: filepath.Join(dir, "folder")}); err == nil {
		t.Error("Open of a folder succeeded")
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := sqlite.Open(ended, sqlite.Config{Path: filepath.Join(dir, "new")}); !errors.Is(err, context.Canceled) {
		t.Errorf("Open with an ended context = %v, want context.Canceled", err)
	}
	begin(t, filepath.Join(dir, "new")) // the refused open kept no lock
}

// TestInUse is ORC-650 and ORC-707: one owner at a time.
func TestInUse(t *testing.T) {
	path := fresh(t)
	s := open(t, path)
	refuses(t, path, store.ErrInUse)
	if err := s.Close(); err != nil {
		t.Fatalf("Close() = %v", err)
	}
	begin(t, path)
}

func TestOddPath(t *testing.T) {
	path := filepath.Join(t.TempDir(), "d ?&#%41;", "täsks?mode=memory#.db")
	s, e := begin(t, path)
	submit(t, s, e, crashTask(1))
	if info, err := os.Stat(path); err != nil || info.Size() == 0 {
		t.Errorf("Stat() = %v, want the file at the path that was asked for", err)
	}
}

// TestSchemaTooNew is ORC-653.
func TestSchemaTooNew(t *testing.T) {
	path := fresh(t)
	if err := open(t, path).Close(); err != nil {
		t.Fatal(err)
	}
	edit(t, path, "INSERT INTO migration VALUES (3, 'later', 'x', 0)")
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	refuses(t, path, store.ErrSchemaTooNew)
	if after, err := os.ReadFile(path); err != nil || !bytes.Equal(before, after) {
		t.Errorf("Open changed a file that it refused, %v", err)
	}
	edit(t, path, "DELETE FROM migration WHERE number = 3")
	begin(t, path)
}

// TestMetaTooNew is ORC-642 and ORC-653: meta of a later version is not read as if it were ours.
func TestMetaTooNew(t *testing.T) {
	path := fresh(t)
	s := open(t, path)
	l, err := s.Lead(t.Context(), store.LeaseRequest{})
	if err != nil {
		t.Fatal(err)
	}
	newer := crashTask(2)
	newer.Record.Meta.V = store.MetaVersion + 1
	out, err := s.Submit(t.Context(), l.Epoch, []store.NewTask{crashTask(1), newer})
	if err != nil || out[0].Err != nil || !errors.Is(out[1].Err, store.ErrInvalid) {
		t.Errorf("Submit() = %+v, %v, want the second refused", out, err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	edit(t, path, "UPDATE task SET meta = json_set(meta, '$.v', 2)")
	s, _ = begin(t, path)
	if _, err := s.Task(t.Context(), crashID(1)); !errors.Is(err, store.ErrSchemaTooNew) {
		t.Errorf("Task() = %v, want ErrSchemaTooNew", err)
	}
}

// TestMigrationDiffers is ORC-653: the recorded digest must be ours.
func TestMigrationDiffers(t *testing.T) {
	path := fresh(t)
	if err := open(t, path).Close(); err != nil {
		t.Fatal(err)
	}
	edit(t, path, "UPDATE migration SET sha256 = 'x'")
	refuses(t, path, store.ErrCorrupt)
}

// TestMigrationsUnchanged holds the digests of the steps: a change of the schema is a new step.
func TestMigrationsUnchanged(t *testing.T) {
	want := map[string]string{"0001_tasks.sql": schemaDigest1, "0002_outputs.sql": schemaDigest2}
	files, err := os.ReadDir("migrations")
	if err != nil || len(files) != len(want) {
		t.Fatalf("%d migrations, %v, want %d", len(files), err, len(want))
	}
	for _, f := range files {
		text, err := os.ReadFile(filepath.Join("migrations", f.Name()))
		if err != nil {
			t.Fatal(err)
		}
		sum := sha256.Sum256(text)
		if got := hex.EncodeToString(sum[:]); got != want[f.Name()] {
			t.Errorf("%s has digest %s, want %s", f.Name(), got, want[f.Name()])
		}
	}
}

const (
	schemaDigest1 = "d137fef88a8cada31cb027b650873274bdbed0ebdfc1d3e9dfefe7631673d0f1"
	schemaDigest2 = "3a73cb07c314cfbbb5e5d590614bba6af8453b9dd4c607d7aa176588cac68281"
)

// TestSQLiteFloor is ORC-650: engines with the reset fault are refused.
func TestSQLiteFloor(t *testing.T) {
	for version, ok := range map[string]bool{
		"3.53.4": true, "3.51.3": true, "3.52.1": true, "4.0.0": true,
		"3.52.0": false, "3.51.2": false, "3.7.17": false, "2.99.99": false, "": false, "x.y.z": false, "3": false,
	} {
		if err := sqlite.CheckVersion(version); ok != (err == nil) {
			t.Errorf("checkVersion(%q) = %v, accepted %t", version, err, ok)
		}
	}
}

// TestLibcPinned is ORC-650: the C library is exactly the one that the engine was made with.
func TestLibcPinned(t *testing.T) {
	text, err := os.ReadFile("go.mod")
	if err != nil {
		t.Fatal(err)
	}
	for _, module := range []string{"modernc.org/sqlite v1.60.1", "modernc.org/libc v1.77.1"} {
		if !regexp.MustCompile(`(?m)^\t` + regexp.QuoteMeta(module) + `( // indirect)?$`).Match(text) {
			t.Errorf("go.mod does not name %s", module)
		}
	}
}
