package examples_test

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/llorch/llorch/orchestrator"
	"github.com/llorch/llorch/orchestrator/queue"
	"github.com/llorch/llorch/orchestrator/store"
	"github.com/llorch/llorch/orchestrator/store/sqlite"
	"github.com/llorch/llorch/orchestrator/worker/workertest"
)

var sealKey = bytes.Repeat([]byte{7}, 32)

// fill stores n queued tasks with sealed bodies, as an earlier run left them; the
// id of the i-th ends with i.
func fill(t *testing.T, path string, n int) {
	t.Helper()
	st := openStore(t, path)
	defer st.Close()
	lease, err := st.Lead(t.Context(), store.LeaseRequest{Holder: "earlier"})
	if err != nil {
		t.Fatal(err)
	}
	key, keyID, err := orchestrator.NewSubjectKeys(st, [][]byte{sealKey}).Key(t.Context(), "somebody")
	if err != nil {
		t.Fatal(err)
	}
	seal := sealer(t, key, keyID)
	const batch = 1000
	for from := 0; from < n; from += batch {
		tasks := make([]store.NewTask, 0, batch)
		for i := from; i < min(n, from+batch); i++ {
			rec := store.Record{Subject: store.SubjectRef{9}, Class: "interactive", Model: "sim-8b", Meta: store.Meta{Kind: "completion", MaxTokens: 2, Expected: 2, PromptTokens: 3, PromptLen: 11}}
			binary.BigEndian.PutUint64(rec.ID[8:], uint64(i))
			rec.ID[0] = 1
			tasks = append(tasks, store.NewTask{Record: rec, Body: seal(rec)})
		}
		done, err := st.Submit(t.Context(), lease.Epoch, tasks)
		if err != nil || done[0].Err != nil {
			t.Fatal(err, done)
		}
	}
}

// sealer seals bodies as the orchestrator's format of boxes says.
func sealer(t *testing.T, key [32]byte, keyID string) func(store.Record) []byte {
	t.Helper()
	block, err := aes.NewCipher(key[:])
	if err != nil {
		t.Fatal(err)
	}
	gcm, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := hex.DecodeString(keyID)
	if err != nil {
		t.Fatal(err)
	}
	return func(rec store.Record) []byte {
		box := append([]byte{1}, raw...)
		return gcm.Seal(box, nil, []byte(`{"kind":"completion","prompt":"hello queue","params":{}}`), fmt.Appendf(nil, "llorch box v1|%x|%x|body", rec.ID[:], rec.Subject[:]))
	}
}

func openStore(t *testing.T, path string) *sqlite.Store {
	t.Helper()
	st, err := sqlite.Open(t.Context(), sqlite.Config{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	return st
}

// arrivals is when, and in which order, tasks reach an engine.
type arrivals struct {
	mu    sync.Mutex
	order []string // task ids
	any   chan struct{}
	at    time.Time // of the first
}

func (a *arrivals) note(e workertest.Event) {
	if e.Event != "arrived" {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.order) == 0 {
		a.at = time.Now()
		close(a.any)
	}
	a.order = append(a.order, e.Key[:max(0, strings.LastIndexByte(e.Key, '-'))])
}

// slowPages is a store whose second page of live tasks comes only when a task of
// the first one has reached an engine.
type slowPages struct {
	store.Store
	t     *testing.T
	pages int
	first <-chan struct{}
}

func (s *slowPages) Tasks(ctx context.Context, f store.Filter) ([]store.Record, error) {
	if f.Oldest {
		if s.pages++; s.pages == 2 {
			select {
			case <-s.first:
			case <-time.After(20 * time.Second):
				s.t.Error("nothing is scheduled while the second page is read")
			}
		}
	}
	return s.Store.Tasks(ctx, f)
}

// TestRecoveryOfBigQueue: an orchestrator on a database with many waiting tasks
// starts to work when it has read the first page, in the old order, with bodies that
// open, and loses none (ORC-654, 643). With LLORCH_NIGHTLY=1 there are 1,000,000;
// here 20,000, two pages.
func TestRecoveryOfBigQueue(t *testing.T) {
	t.Parallel()
	n := 20_000
	if nightly() {
		n = 1_000_000
	}
	path := filepath.Join(t.TempDir(), "tasks.db")
	began := time.Now()
	fill(t, path, n)
	t.Logf("%d tasks stored in %v", n, time.Since(began).Round(time.Millisecond))
	takeUp(t, path, true)
	left := takeUp(t, path, false)
	if left < n/2 || left >= n {
		t.Errorf("%d of %d tasks are left", left, n)
	}
}

// takeUp runs an orchestrator over the database until it admits tasks and an engine
// has worked; it returns how many tasks wait then.
func takeUp(t *testing.T, path string, slow bool) (left int) {
	t.Helper()
	got := &arrivals{any: make(chan struct{})}
	sim := workertest.Start(workertest.Config{Slots: 4, Preset: "zero", Trace: got.note})
	defer sim.Close()
	began, busy := time.Now(), cpuTime(t)
	db := openStore(t, path)
	defer db.Close()
	opened := time.Since(began)
	var st store.Store = db
	if slow {
		st = &slowPages{Store: db, t: t, first: got.any}
	}
	orc, err := orchestrator.New(orchestrator.Config{
		Pools: orchestrator.StaticPool("default", sim.URL), Store: st, SealKeys: [][]byte{sealKey},
		Queue: queue.Config{Capacity: queue.Unbounded, Bytes: -1}, Timing: orchestrator.Timing{Drain: time.Second},
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- orc.Run(ctx) }()
	within(t, 15*time.Minute, "tasks are admitted", func() bool { return orc.Ready() == nil || len(done) > 0 })
	ready, burnt := time.Since(began), cpuTime(t)-busy
	within(t, time.Minute, "an engine has worked", func() bool { got.mu.Lock(); defer got.mu.Unlock(); return len(got.order) >= 100 })
	runtime.GC()
	var mem runtime.MemStats
	runtime.ReadMemStats(&mem)
	cancel()
	if err := <-done; err != nil {
		t.Errorf("Run = %v", err)
	}
	got.mu.Lock()
	defer got.mu.Unlock()
	t.Logf("store opened %v, first task at an engine %v, ready %v (%v of processor time) after the start; %d MB in use; %d tasks worked on", opened.Round(time.Millisecond), got.at.Sub(began).Round(time.Millisecond),
		ready.Round(time.Millisecond), burnt.Round(time.Millisecond), mem.HeapInuse>>20, len(got.order))
	for i := 64; i < len(got.order); i++ { // a few at a time may overtake each other
		if got.order[i] < got.order[i-64] {
			t.Fatalf("task %s came after %s", got.order[i], got.order[i-8])
		}
	}
	return count(t, db)
}

// cpuTime is what this process has used so far; it tells more than the clock does
// on a busy machine.
func cpuTime(t *testing.T) time.Duration {
	t.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// count counts the waiting tasks of a store; all others are completed.
func count(t *testing.T, db *sqlite.Store) (queued int) {
	t.Helper()
	f := store.Filter{Oldest: true, Limit: store.MaxPage}
	for {
		page, err := db.Tasks(t.Context(), f)
		if err != nil {
			t.Fatal(err)
		}
		for _, rec := range page {
			switch rec.State {
			case store.Queued:
				queued++
			case store.Completed:
			default:
				t.Fatalf("a task is %v: %+v", rec.State, rec.Outcome)
			}
		}
		if len(page) < f.Limit {
			return queued
		}
		f.After = page[len(page)-1].Seq
	}
}
