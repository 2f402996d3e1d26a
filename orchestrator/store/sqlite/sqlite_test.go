package sqlite_test

import (
	"database/sql"
	"errors"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/llorch/llorch/orchestrator/store"
	"github.com/llorch/llorch/orchestrator/store/sqlite"
	"github.com/llorch/llorch/orchestrator/store/storetest"
)

// open opens the store at path and fails the test if it can not.
func open(t testing.TB, path string) *sqlite.Store {
	t.Helper()
	s, err := sqlite.Open(t.Context(), sqlite.Config{Path: path})
	if err != nil {
		t.Fatalf("Open() = %v", err)
	}
	return s
}

// fresh returns the path of a store that does not exist yet.
func fresh(t testing.TB) string { return filepath.Join(t.TempDir(), "data", "tasks.db") }

// TestStore is ORC-655 for SQLite, with durability and group commit.
func TestStore(t *testing.T) {
	var paths sync.Map // *sqlite.Store to its path
	at := func(s *sqlite.Store, path string) store.Store {
		paths.Store(store.Store(s), path)
		return s
	}
	storetest.Run(t,
		func(t testing.TB) store.Store { path := fresh(t); return at(open(t, path), path) },
		storetest.Caps{
			Durable: true,
			Reopen: func(t testing.TB, s store.Store) store.Store {
				t.Helper()
				if err := s.Close(); err != nil {
					t.Errorf("Close() = %v", err)
				}
				path, _ := paths.Load(s)
				return at(open(t, path.(string)), path.(string))
			},
			Away: func(t testing.TB, s store.Store) func() {
				path, _ := paths.Load(s)
				return occupy(t, s.(*sqlite.Store), path.(string))
			},
			Slow: func(t testing.TB, perCommit time.Duration) store.Store {
				s, err := sqlite.OpenSlow(t.Context(), sqlite.Config{Path: fresh(t)}, perCommit)
				if err != nil {
					t.Fatalf("Open() = %v", err)
				}
				return s
			},
		})
}

// occupy has another connection hold the file until back is called.
func occupy(t testing.TB, s *sqlite.Store, path string) (back func()) {
	t.Helper()
	if err := s.Impatient(); err != nil {
		t.Fatal(err)
	}
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	c, err := db.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.ExecContext(t.Context(), "BEGIN IMMEDIATE"); err != nil {
		t.Fatal(err)
	}
	return func() {
		if err := errors.Join(c.Close(), db.Close()); err != nil {
			t.Errorf("Close() = %v", err)
		}
	}
}
