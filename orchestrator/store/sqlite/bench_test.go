package sqlite_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/llorch/llorch/orchestrator/store"
)

// benchTask is a task with a body of a short chat.
func benchTask(n int) store.NewTask {
	q := crashTask(n)
	q.Record.Class, q.Record.Model = "interactive", "llama-3.1-8b"
	q.Body = make([]byte, 1024)
	return q
}

// syncTimes returns how long the disk takes to sync a page, sorted.
func syncTimes(b *testing.B) []time.Duration {
	b.Helper()
	f, err := os.Create(filepath.Join(b.TempDir(), "sync"))
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	page := make([]byte, 4096)
	times := make([]time.Duration, 300)
	for i := range times {
		if _, err := f.WriteAt(page, int64(i%64)*4096); err != nil {
			b.Fatal(err)
		}
		began := time.Now()
		if err := datasync(f); err != nil {
			b.Fatal(err)
		}
		times[i] = time.Since(began)
	}
	slices.Sort(times)
	return times
}

func micros(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1e3 }

// BenchmarkStoreSubmit stores durable tasks; p50 and p99 are of one call, sync is
// the disk's own time for one page in the same run.
func BenchmarkStoreSubmit(b *testing.B) {
	for _, callers := range []int{1, 64} {
		b.Run(fmt.Sprintf("callers=%d", callers), func(b *testing.B) {
			s, e := begin(b, fresh(b))
			sync50 := syncTimes(b)[150]
			times := make([]time.Duration, b.N)
			var (
				next atomic.Int64
				wg   sync.WaitGroup
			)
			b.ResetTimer()
			for range callers {
				wg.Go(func() {
					for n := int(next.Add(1)) - 1; n < b.N; n = int(next.Add(1)) - 1 {
						began := time.Now()
						if _, err := s.Submit(b.Context(), e, []store.NewTask{benchTask(n)}); err != nil {
							b.Errorf("Submit() = %v", err)
							return
						}
						times[n] = time.Since(began)
					}
				})
			}
			wg.Wait()
			b.StopTimer()
			slices.Sort(times)
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "tasks/s")
			b.ReportMetric(micros(times[b.N/2]), "p50-µs")
			b.ReportMetric(micros(times[b.N*99/100]), "p99-µs")
			b.ReportMetric(micros(sync50), "sync-µs")
			b.ReportMetric(1e6/micros(sync50), "syncs/s")
		})
	}
}

// BenchmarkCycle takes durable tasks through submit, start, mark and complete, with 64 callers.
func BenchmarkCycle(b *testing.B) {
	s, e := begin(b, fresh(b))
	var (
		next atomic.Int64
		wg   sync.WaitGroup
	)
	b.ResetTimer()
	for range 64 {
		wg.Go(func() {
			for n := int(next.Add(1)) - 1; n < b.N; n = int(next.Add(1)) - 1 {
				if err := carry(b.Context(), s, e, n, func(string, int) {}); err != nil {
					b.Errorf("carry() = %v", err)
					return
				}
			}
		})
	}
	wg.Wait()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "cycles/s")
}

// BenchmarkRecover100k opens a store and reads its 100,000 queued tasks in pages
// (ORC-654), beside as many ended ones.
func BenchmarkRecover100k(b *testing.B) { benchRecover(b, 100_000, 2) }

// BenchmarkRecover1M is that of 1,000,000 queued tasks; making them takes a minute.
func BenchmarkRecover1M(b *testing.B) {
	if os.Getenv("LLORCH_NIGHTLY") != "1" {
		b.Skip("set LLORCH_NIGHTLY=1")
	}
	benchRecover(b, 1_000_000, 1)
}

// benchRecover stores queued tasks, one in every so many tasks, and reads them.
func benchRecover(b *testing.B, queued, every int) {
	path := fresh(b)
	s := open(b, path)
	l, err := s.Lead(b.Context(), store.LeaseRequest{})
	if err != nil {
		b.Fatal(err)
	}
	for batch := range slices.Chunk(numbers(queued*every), 1000) {
		tasks := make([]store.NewTask, len(batch))
		for i, n := range batch {
			tasks[i] = benchTask(n)
			if n%every != 0 {
				tasks[i].Final = &store.Completion{State: store.Failed}
			}
		}
		submit(b, s, l.Epoch, tasks...)
	}
	if err := s.Close(); err != nil {
		b.Fatal(err)
	}
	var first time.Duration
	for b.Loop() {
		began := time.Now()
		s := open(b, path)
		f := store.Filter{Oldest: true, Limit: store.MaxPage, States: []store.State{store.Queued, store.Running, store.Cancelling}}
		count := 0
		for {
			page, err := s.Tasks(b.Context(), f)
			if err != nil {
				b.Fatal(err)
			}
			if count == 0 {
				first += time.Since(began)
			}
			count += len(page)
			if len(page) < f.Limit {
				break
			}
			f.After = page[len(page)-1].Seq
		}
		if count != queued {
			b.Fatalf("recovered %d tasks", count)
		}
		if err := s.Close(); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(first.Milliseconds())/float64(b.N), "first-page-ms")
}

func numbers(n int) []int {
	all := make([]int, n)
	for i := range all {
		all[i] = i
	}
	return all
}

// BenchmarkErase erases a person with 1,000 ended tasks from a store with 100,000
// of others, 1 KiB of output each: most of it is the rewriting of the file.
func BenchmarkErase(b *testing.B) {
	s, e := begin(b, fresh(b))
	put := func(first, count int, who store.SubjectRef) {
		for batch := range slices.Chunk(numbers(count), 1000) {
			tasks := make([]store.NewTask, len(batch))
			for i, n := range batch {
				tasks[i] = benchTask(first + n)
				tasks[i].Record.Subject, tasks[i].Final = who, &store.Completion{State: store.Completed, Output: tasks[i].Body}
			}
			submit(b, s, e, tasks...)
		}
	}
	put(0, 100_000, store.SubjectRef{1})
	next := 100_000
	for b.Loop() {
		b.StopTimer()
		put(next, 1000, store.SubjectRef{2})
		next += 1000
		b.StartTimer()
		if got, err := s.Erase(b.Context(), e, store.SubjectRef{2}); err != nil || got.Tasks != 1000 {
			b.Fatalf("Erase() = %+v, %v", got, err)
		}
	}
}
