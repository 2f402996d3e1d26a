package sqlite_test

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/llorch/llorch/orchestrator/store"
)

// TestBackup is ORC-650: a copy of a store in use is a whole store that nobody
// else can read; an existing file is never overwritten.
func TestBackup(t *testing.T) {
	s, e := begin(t, fresh(t))
	submit(t, s, e, crashTask(1), marked(2, store.SubjectRef{1}, "m"))
	copied := filepath.Join(t.TempDir(), "data", "copy ' %d.db")
	if err := os.Mkdir(filepath.Dir(copied), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := s.Backup(t.Context(), copied); err != nil {
		t.Fatalf("Backup() = %v", err)
	}
	info, err := os.Stat(copied)
	if err != nil || info.Mode().Perm() != 0o600 || info.Size() == 0 {
		t.Errorf("copy has mode %v and %d bytes, %v", info.Mode().Perm(), info.Size(), err)
	}
	submit(t, s, e, crashTask(3))
	if err := s.Backup(t.Context(), copied); !errors.Is(err, fs.ErrExist) {
		t.Errorf("Backup over a file = %v, want fs.ErrExist", err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Backup(ended, copied+"2"); !errors.Is(err, context.Canceled) {
		t.Errorf("Backup with an ended context = %v, want context.Canceled", err)
	}
	if _, err := os.Stat(copied + "2"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a refused backup left a file: %v", err)
	}
	if err := s.Backup(t.Context(), filepath.Join(filepath.Dir(copied), "none", "x")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Backup to a missing directory = %v, want fs.ErrNotExist", err)
	}
	b, e2 := begin(t, copied)
	for n, want := range map[int]error{1: nil, 2: nil, 3: store.ErrNotFound} {
		if _, err := b.Task(t.Context(), crashID(n)); !errors.Is(err, want) {
			t.Errorf("Task(%d) of the copy = %v, want %v", n, err, want)
		}
	}
	started, err := b.Start(t.Context(), e2, []store.StartReq{{ID: crashID(1), Attempt: 1}})
	if err != nil || string(started[0].Body) != string(crashTask(1).Body) {
		t.Errorf("Start() in the copy = %+v, %v, want the body", started, err)
	}
	if out, err := b.Output(t.Context(), crashID(2)); err != nil || len(out) == 0 {
		t.Errorf("Output() of the copy = %d bytes, %v", len(out), err)
	}
}

// TestRestoredDatabase: a copy that is put in the place of the store does not
// lead while nodes have seen later terms, until the operator forces it (ORC-707
// and the threat model); what the lost terms accepted is then fenced.
func TestRestoredDatabase(t *testing.T) {
	path := fresh(t)
	s, _ := begin(t, path)
	copied := path + ".copy"
	if err := s.Backup(t.Context(), copied); err != nil {
		t.Fatal(err)
	}
	var seen store.Epoch
	for range 3 {
		l, err := s.Lead(t.Context(), store.LeaseRequest{Seen: seen})
		if err != nil {
			t.Fatalf("Lead() = %v", err)
		}
		seen = l.Epoch
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(copied, path); err != nil {
		t.Fatal(err)
	}
	s = open(t, path)
	defer s.Close()
	if l, err := s.Lead(t.Context(), store.LeaseRequest{Seen: seen}); !errors.Is(err, store.ErrRestored) {
		t.Fatalf("Lead() of a restored store = %+v, %v, want ErrRestored", l, err)
	}
	if _, err := s.Submit(t.Context(), seen, []store.NewTask{crashTask(1)}); !errors.Is(err, store.ErrFenced) {
		t.Errorf("Submit in the lost term = %v, want ErrFenced", err)
	}
	l, err := s.Lead(t.Context(), store.LeaseRequest{Seen: seen, Force: true})
	if err != nil || l.Epoch <= seen {
		t.Fatalf("forced Lead() = %+v, %v, want an epoch above %d", l, err, seen)
	}
	submit(t, s, l.Epoch, crashTask(1))
	if _, err := s.Submit(t.Context(), seen, []store.NewTask{crashTask(2)}); !errors.Is(err, store.ErrFenced) {
		t.Errorf("Submit in the lost term = %v, want ErrFenced", err)
	}
}
