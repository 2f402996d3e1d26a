package sqlite_test

import (
	"context"
	"errors"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/llorch/llorch/orchestrator/store"
	"github.com/llorch/llorch/orchestrator/store/sqlite"
)

// held opens a store whose commits wait until release is called.
func held(t *testing.T) (s *sqlite.Store, e store.Epoch, commits *atomic.Int32, release func()) {
	t.Helper()
	s, e = begin(t, fresh(t))
	gate := make(chan struct{})
	commits = new(atomic.Int32)
	s.BeforeCommit(func() error { commits.Add(1); <-gate; return nil })
	release = sync.OnceFunc(func() { close(gate) })
	t.Cleanup(release)
	return s, e, commits, release
}

// await spins until a condition holds that other goroutines bring about soon.
func await(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for began := time.Now(); !holds(); runtime.Gosched() {
		if time.Since(began) > 20*time.Second {
			t.Fatalf("%s did not come", what)
		}
	}
}

// TestGroupCommit is ORC-650: what waits shares one commit.
func TestGroupCommit(t *testing.T) {
	s, e, commits, release := held(t)
	var wg sync.WaitGroup
	put := func(n int) {
		wg.Go(func() {
			if _, err := s.Submit(t.Context(), e, []store.NewTask{crashTask(n)}); err != nil {
				t.Errorf("Submit(%d) = %v", n, err)
			}
		})
	}
	put(0)
	await(t, "the first commit", func() bool { return commits.Load() == 1 })
	for n := range 200 {
		put(1 + n)
	}
	await(t, "the queue", func() bool { return s.Waiting() == 200 })
	release()
	wg.Wait()
	if got := commits.Load(); got != 2 {
		t.Errorf("201 submits took %d commits, want 2", got)
	}
	if page, err := s.Tasks(t.Context(), store.Filter{Limit: 500}); err != nil || len(page) != 201 {
		t.Errorf("store holds %d tasks, %v, want 201", len(page), err)
	}
}

// TestWithdraw is ORC-645: a context that ends in the queue leaves nothing
// written, one that ends during the commit gets the true outcome.
func TestWithdraw(t *testing.T) {
	s, e, commits, release := held(t)
	during, cancelDuring := context.WithCancel(t.Context())
	queued, cancelQueued := context.WithCancel(t.Context())
	call := func(ctx context.Context, n int) chan error {
		done := make(chan error, 1)
		go func() {
			_, err := s.Submit(ctx, e, []store.NewTask{crashTask(n)})
			done <- err
		}()
		return done
	}
	first := call(during, 1)
	await(t, "the commit", func() bool { return commits.Load() == 1 })
	second := call(queued, 2)
	await(t, "the queue", func() bool { return s.Waiting() == 1 })
	cancelDuring()
	cancelQueued()
	if err := <-second; !errors.Is(err, context.Canceled) {
		t.Errorf("withdrawn Submit = %v, want context.Canceled", err)
	}
	release()
	if err := <-first; err != nil {
		t.Errorf("Submit whose context ended during its commit = %v, want nil", err)
	}
	for n, want := range map[int]error{1: nil, 2: store.ErrNotFound} {
		if _, err := s.Task(t.Context(), crashID(n)); !errors.Is(err, want) {
			t.Errorf("Task(%d) = %v, want %v", n, err, want)
		}
	}
}

// TestFencedInGroup: an old leader's write that shares a commit with the new
// leader's Lead and Submit is refused alone.
func TestFencedInGroup(t *testing.T) {
	s, e, commits, release := held(t)
	var wg sync.WaitGroup
	wg.Go(func() { _, _ = s.Submit(t.Context(), e, nil) })
	await(t, "the commit", func() bool { return commits.Load() == 1 })
	wg.Go(func() {
		if l, err := s.Lead(t.Context(), store.LeaseRequest{}); err != nil || l.Epoch != e+1 {
			t.Errorf("Lead() = %+v, %v", l, err)
		}
	})
	await(t, "the queue", func() bool { return s.Waiting() == 1 })
	for epoch, want := range map[store.Epoch]error{e: store.ErrFenced, e + 1: nil} {
		wg.Go(func() {
			if _, err := s.Submit(t.Context(), epoch, []store.NewTask{crashTask(int(epoch))}); !errors.Is(err, want) {
				t.Errorf("Submit in term %d = %v, want %v", epoch, err, want)
			}
		})
	}
	await(t, "the queue", func() bool { return s.Waiting() == 3 })
	release()
	wg.Wait()
	if page, err := s.Tasks(t.Context(), store.Filter{}); err != nil || len(page) != 1 || page[0].Epoch != e+1 {
		t.Errorf("store holds %d tasks, %v, want that of the new term", len(page), err)
	}
}

// TestUnknownOutcome is ORC-640: after a lost answer of COMMIT the caller
// repeats, and finds one task whether the commit took place or not.
func TestUnknownOutcome(t *testing.T) {
	for what, committed := range map[string]bool{"committed": true, "not committed": false} {
		t.Run(what, func(t *testing.T) {
			s, e := begin(t, fresh(t))
			s.BeforeCommit(func() error {
				if committed {
					if err := s.CommitNow(); err != nil {
						return err
					}
				}
				return errors.New("answer lost")
			})
			if _, err := s.Submit(t.Context(), e, []store.NewTask{crashTask(1)}); !errors.Is(err, store.ErrUnknown) {
				t.Errorf("Submit() = %v, want ErrUnknown", err)
			}
			if _, err := s.Lead(t.Context(), store.LeaseRequest{}); !errors.Is(err, store.ErrUnknown) {
				t.Errorf("Lead() = %v, want ErrUnknown", err)
			}
			s.BeforeCommit(nil)
			again, err := s.Submit(t.Context(), e, []store.NewTask{crashTask(1)})
			if err != nil || again[0].Err != nil || committed != (again[0].Duplicate != nil) {
				t.Errorf("repeated Submit() = %+v, %v, duplicate %t", again, err, committed)
			}
			if l, err := s.Lead(t.Context(), store.LeaseRequest{}); err != nil || l.Epoch <= e {
				t.Errorf("repeated Lead() = %+v, %v, want an epoch above %d", l, err, e)
			}
			if page, err := s.Tasks(t.Context(), store.Filter{}); err != nil || len(page) != 1 {
				t.Errorf("store holds %d tasks, %v, want one", len(page), err)
			}
		})
	}
}

// TestDiskFull: a write that does not fit fails alone and clearly, and the store
// goes on when there is room again.
func TestDiskFull(t *testing.T) {
	s, e := begin(t, fresh(t))
	submit(t, s, e, crashTask(1))
	if err := s.LimitPages(60); err != nil {
		t.Fatal(err)
	}
	large := crashTask(2)
	large.Body = make([]byte, 1<<20)
	if _, err := s.Submit(t.Context(), e, []store.NewTask{large}); !errors.Is(err, store.ErrUnavailable) {
		t.Fatalf("Submit to a full disk = %v, want ErrUnavailable", err)
	}
	submit(t, s, e, crashTask(3))
	if _, err := s.Task(t.Context(), crashID(2)); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("Task() of a refused task = %v, want ErrNotFound", err)
	}
	if err := s.LimitPages(1 << 20); err != nil {
		t.Fatal(err)
	}
	submit(t, s, e, large)
}

// TestDiskFullInGroup: neighbours in the same commit do not fail with the one that does not fit.
func TestDiskFullInGroup(t *testing.T) {
	s, e, commits, release := held(t)
	var wg sync.WaitGroup
	wg.Go(func() { _, _ = s.Submit(t.Context(), e, nil) })
	await(t, "the commit", func() bool { return commits.Load() == 1 })
	large := crashTask(100)
	large.Body = make([]byte, 8<<20)
	wg.Go(func() {
		if _, err := s.Submit(t.Context(), e, []store.NewTask{large}); !errors.Is(err, store.ErrUnavailable) {
			t.Errorf("Submit to a full disk = %v, want ErrUnavailable", err)
		}
	})
	for n := range 20 {
		wg.Go(func() {
			if out, err := s.Submit(t.Context(), e, []store.NewTask{crashTask(n)}); err != nil || out[0].Duplicate != nil {
				t.Errorf("Submit(%d) beside one that does not fit = %+v, %v", n, out, err)
			}
		})
	}
	await(t, "the queue", func() bool { return s.Waiting() == 21 })
	if err := s.LimitPages(200); err != nil { // the writer waits in its commit
		t.Fatal(err)
	}
	release()
	wg.Wait()
	if page, err := s.Tasks(t.Context(), store.Filter{}); err != nil || len(page) != 20 {
		t.Errorf("store holds %d tasks, %v, want 20", len(page), err)
	}
}

// TestLogStaysSmall: checkpoints keep the write-ahead log bounded, a clean close empties it.
func TestLogStaysSmall(t *testing.T) {
	path := fresh(t)
	s := open(t, path)
	l, err := s.Lead(t.Context(), store.LeaseRequest{})
	if err != nil {
		t.Fatal(err)
	}
	for round := range 40 {
		batch := make([]store.NewTask, 25)
		for i := range batch {
			batch[i] = crashTask(round*100 + i)
			batch[i].Body = []byte(strings.Repeat("x", 30_000))
		}
		submit(t, s, l.Epoch, batch...)
	}
	if info, err := os.Stat(path + "-wal"); err != nil || info.Size() > 16<<20 {
		t.Errorf("log has %d bytes after 30 MB of bodies, %v, want at most 16 MiB", info.Size(), err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path + "-wal"); err == nil && info.Size() > 0 {
		t.Errorf("log has %d bytes after a clean close", info.Size())
	}
}

// TestLiveIndex: recovery reads the live tasks by their own index, not the history.
func TestLiveIndex(t *testing.T) {
	s, _ := begin(t, fresh(t))
	live := []store.State{store.Queued, store.Running, store.Cancelling}
	for what, want := range map[string]struct {
		filter store.Filter
		plan   string
	}{
		"live":    {store.Filter{States: live, Oldest: true}, "task_live"},
		"tenant":  {store.Filter{Tenant: "a"}, "task_tenant"},
		"subject": {store.Filter{Subject: store.SubjectRef{1}}, "task_subject"},
	} {
		if plan, err := s.Plan(t.Context(), want.filter); err != nil || !strings.Contains(plan, want.plan) {
			t.Errorf("plan for %s = %q, %v, want %s", what, plan, err, want.plan)
		}
	}
}

// TestBodyIsGone is ORC-643: the sealed body leaves the file with the commit
// that ends its task; secure_delete overwrites it.
func TestBodyIsGone(t *testing.T) {
	path := fresh(t)
	s := open(t, path)
	l, err := s.Lead(t.Context(), store.LeaseRequest{})
	if err != nil {
		t.Fatal(err)
	}
	const marker = "marker-of-a-sealed-body"
	for n := range 3 {
		q := crashTask(n)
		q.Body = []byte(strings.Repeat(marker, 500))
		submit(t, s, l.Epoch, q)
	}
	ended, err := s.Complete(t.Context(), l.Epoch, []store.Completion{{ID: crashID(0), State: store.Failed}, {ID: crashID(1), State: store.Failed, Output: []byte("out")}})
	if err := errors.Join(append(ended, err)...); err != nil {
		t.Fatalf("Complete() = %v", err)
	}
	if _, err := s.Cancel(t.Context(), l.Epoch, []store.CancelReq{{ID: crashID(2)}}); err != nil {
		t.Fatalf("Cancel() = %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{path, path + "-wal"} {
		text, err := os.ReadFile(name)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
		if n := strings.Count(string(text), marker); n > 0 {
			t.Errorf("%s holds the body %d times after the end of its task", name[len(path):], n)
		}
	}
}
