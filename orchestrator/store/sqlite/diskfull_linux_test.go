package sqlite_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/llorch/llorch/orchestrator/store"
)

// TestRealDiskFull is the disk-full test of ORC-655 on a file system that is
// full: what was acknowledged stays, what does not fit is refused as
// ErrUnavailable, and with room again the same store goes on.
func TestRealDiskFull(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "small")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=3m,mode=700"); err != nil {
		t.Skipf("NOT TESTED: a full disk needs the right to mount a file system: %v", err)
	}
	defer func() {
		if err := syscall.Unmount(dir, 0); err != nil {
			t.Errorf("unmount: %v", err)
		}
	}()
	path := filepath.Join(dir, "tasks.db")
	s := open(t, path)
	defer s.Close()
	l, err := s.Lead(t.Context(), store.LeaseRequest{})
	if err != nil {
		t.Fatal(err)
	}
	ballast := filepath.Join(dir, "ballast")
	if err := os.WriteFile(ballast, make([]byte, 2<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	stored := 0
	for ; err == nil && stored < 1000; stored++ {
		q := crashTask(stored)
		q.Body = []byte(strings.Repeat("x", 20_000))
		_, err = s.Submit(t.Context(), l.Epoch, []store.NewTask{q})
	}
	stored--
	if stored < 5 || !errors.Is(err, store.ErrUnavailable) && !errors.Is(err, store.ErrUnknown) {
		t.Fatalf("after %d tasks Submit = %v, want ErrUnavailable from a full disk", stored, err)
	}
	for n := range stored {
		if _, err := s.Task(t.Context(), crashID(n)); err != nil {
			t.Errorf("Task(%d) on a full disk = %v, want it as acknowledged", n, err)
		}
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	out, err := s.Submit(t.Context(), l.Epoch, []store.NewTask{crashTask(stored), crashTask(5000)})
	if err != nil || errors.Join(out[0].Err, out[1].Err) != nil {
		t.Errorf("Submit with room again = %+v, %v", out, err)
	}
	if err := s.Close(); err != nil {
		t.Fatalf("Close() = %v", err)
	}
	s = open(t, path)
	defer s.Close()
	page, err := s.Tasks(t.Context(), store.Filter{Limit: store.MaxPage})
	if err != nil || len(page) != stored+2 {
		t.Errorf("store holds %d tasks, %v, want %d", len(page), err, stored+2)
	}
}
