package sqlite_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/llorch/llorch/orchestrator/store"
)

// crashed returns the path of a copy of a store as a crash would leave it: the
// file, and the log of the writes since the last checkpoint.
func crashed(t *testing.T) string {
	t.Helper()
	path := fresh(t)
	s := open(t, path)
	l, err := s.Lead(t.Context(), store.LeaseRequest{})
	if err != nil {
		t.Fatal(err)
	}
	batch := make([]store.NewTask, 1000)
	for i := range batch {
		batch[i] = crashTask(i)
	}
	submit(t, s, l.Epoch, batch...)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s, e := begin(t, path)
	submit(t, s, e, crashTask(2000))
	copied := fresh(t)
	if err := os.Mkdir(filepath.Dir(copied), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, suffix := range []string{"", "-wal"} {
		content, err := os.ReadFile(path + suffix)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(copied+suffix, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return copied
}

// TestCheckAfterCrash is ORC-650: a store that was not closed is checked in the
// background, and a sound one works on.
func TestCheckAfterCrash(t *testing.T) {
	s, e := begin(t, crashed(t))
	s.Joined()
	submit(t, s, e, crashTask(3000))
	for _, n := range []int{0, 999, 2000, 3000} {
		if _, err := s.Task(t.Context(), crashID(n)); err != nil {
			t.Errorf("Task(%d) = %v", n, err)
		}
	}
}

// TestDamageIsFound is ORC-650: damage ends the store's work and is not repaired.
func TestDamageIsFound(t *testing.T) {
	path := crashed(t)
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	const page = 4096
	if _, err := f.WriteAt(make([]byte, 4*page), info.Size()/2/page*page); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	s := open(t, path)
	defer s.Close()
	s.Joined()
	if _, err := s.Task(t.Context(), crashID(1)); !errors.Is(err, store.ErrCorrupt) {
		t.Errorf("Task() of a damaged store = %v, want ErrCorrupt", err)
	}
	if _, err := s.Lead(t.Context(), store.LeaseRequest{}); !errors.Is(err, store.ErrCorrupt) {
		t.Errorf("Lead() of a damaged store = %v, want ErrCorrupt", err)
	}
}

// TestBrokenRow: a row that this package can not have written is reported, not guessed at.
func TestBrokenRow(t *testing.T) {
	for what, change := range map[string]string{
		"id":      "UPDATE task SET id = x'00' WHERE seq = 1",
		"subject": "UPDATE task SET subject = x'' WHERE seq = 1",
		"hash":    "UPDATE task SET body_hash = x'0011' WHERE seq = 1",
		"meta":    "UPDATE task SET meta = 'secret' WHERE seq = 1",
		"outcome": "UPDATE task SET outcome = '[' WHERE seq = 1",
	} {
		path := fresh(t)
		s := open(t, path)
		l, err := s.Lead(t.Context(), store.LeaseRequest{})
		if err != nil {
			t.Fatal(err)
		}
		submit(t, s, l.Epoch, crashTask(1))
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		edit(t, path, change)
		s, _ = begin(t, path)
		if _, err := s.Tasks(t.Context(), store.Filter{}); !errors.Is(err, store.ErrCorrupt) || strings.Contains(err.Error(), "secret") {
			t.Errorf("Tasks() over a broken %s = %v, want ErrCorrupt without the content", what, err)
		}
	}
}

// TestBadRowFailsAlone is ORC-641 and ORC-650: an item at which the engine fails
// is undone and refused; its neighbours in the batch and in the commit are stored.
func TestBadRowFailsAlone(t *testing.T) {
	path := fresh(t)
	s := open(t, path)
	l, err := s.Lead(t.Context(), store.LeaseRequest{})
	if err != nil {
		t.Fatal(err)
	}
	submit(t, s, l.Epoch, crashTask(1), crashTask(2), crashTask(3))
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	edit(t, path, "UPDATE task SET outcome = '[' WHERE seq = 2; CREATE TRIGGER t BEFORE INSERT ON body WHEN substr(new.sealed, 1, 1) = x'35' BEGIN SELECT raise(FAIL, 'x'); END")
	s, e := begin(t, path)
	var ends []store.Completion
	for n := range 4 {
		ends = append(ends, store.Completion{ID: crashID(n), State: store.Failed})
	}
	out, err := s.Complete(t.Context(), e, ends)
	if err != nil || len(out) != 4 {
		t.Fatalf("Complete() = %v, %v", out, err)
	}
	for n, want := range []error{store.ErrNotFound, nil, store.ErrCorrupt, nil} {
		if !errors.Is(out[n], want) {
			t.Errorf("answer for task %d = %v, want %v", n, out[n], want)
		}
	}
	stored, err := s.Submit(t.Context(), e, []store.NewTask{crashTask(4), crashTask(5), crashTask(6)})
	if err != nil || len(stored) != 3 {
		t.Fatalf("Submit() = %v, %v", stored, err)
	}
	for i, want := range []error{nil, store.ErrUnavailable, nil} {
		if !errors.Is(stored[i].Err, want) {
			t.Errorf("answer for task %d = %v, want %v", 4+i, stored[i].Err, want)
		}
	}
	for n, want := range map[int]error{4: nil, 5: store.ErrNotFound, 6: nil} {
		if _, err := s.Task(t.Context(), crashID(n)); !errors.Is(err, want) {
			t.Errorf("Task(%d) = %v, want %v", n, err, want)
		}
	}
	for n, want := range map[int]store.State{1: store.Failed, 3: store.Failed} {
		if r, err := s.Task(t.Context(), crashID(n)); err != nil || r.State != want {
			t.Errorf("Task(%d) = %s, %v, want %s", n, r.State, err, want)
		}
	}
}
