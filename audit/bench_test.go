package audit_test

import (
	"fmt"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/llorch/llorch/audit"
	"github.com/llorch/llorch/audit/internal/faultfs"
)

// bareSync measures how many writes of one line, each synced, the disk under
// dir does in a second.
func bareSync(b *testing.B, dir string) float64 {
	f, err := os.Create(dir + "/bare")
	if err != nil {
		b.Fatal(err)
	}
	line := make([]byte, 400)
	const n = 200
	start := time.Now()
	for i := range int64(n) {
		if _, err := f.WriteAt(line, i*int64(len(line))); err != nil {
			b.Fatal(err)
		}
		if err := f.Sync(); err != nil {
			b.Fatal(err)
		}
	}
	rate := n / time.Since(start).Seconds()
	if err := f.Close(); err != nil {
		b.Fatal(err)
	}
	return rate
}

// BenchmarkAppend is durable appends by several writers, beside bare write and
// fsync on the same disk in the same run.
func BenchmarkAppend(b *testing.B) {
	for _, writers := range []int{1, 64, 1000} {
		b.Run(fmt.Sprint(writers), func(b *testing.B) {
			dir := b.TempDir()
			c := config(dir + "/log")
			c.QueueEvents = 4096
			l := mustOpen(b, c)
			bare := bareSync(b, dir)
			b.ResetTimer()
			var wg sync.WaitGroup
			for w := range writers {
				wg.Go(func() {
					for i := w; i < b.N; i += writers {
						if _, err := l.Append(b.Context(), audit.Event{Data: note{N: int64(i), Text: "a text of a usual length"}}); err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			wg.Wait()
			b.StopTimer()
			rate := float64(b.N) / b.Elapsed().Seconds()
			b.ReportMetric(rate, "appends/s")
			b.ReportMetric(bare, "fsyncs/s")
			b.ReportMetric(rate/bare, "appends/fsync")
		})
	}
}

// BenchmarkEmit is what a caller pays who does not wait.
func BenchmarkEmit(b *testing.B) {
	for _, off := range []bool{false, true} {
		b.Run(fmt.Sprintf("disabled=%v", off), func(b *testing.B) {
			var l *audit.Log
			if !off {
				c := config("/memory")
				c.Flush, c.QueueEvents, c.QueueBytes = audit.FlushBatched, 1<<20, 1<<32
				var err error
				if l, err = audit.OpenFS(b.Context(), c, faultfs.New()); err != nil {
					b.Fatal(err)
				}
			}
			data := &note{N: 1, Text: "a text of a usual length"}
			b.ReportAllocs()
			for b.Loop() {
				if _, err := l.Emit(b.Context(), audit.Event{Data: data}); err != nil {
					b.Fatal(err)
				}
			}
			b.StopTimer()
			if err := l.Close(b.Context()); err != nil {
				b.Fatal(err)
			}
		})
	}
}

// BenchmarkVerify is lines of about 430 bytes, per core.
func BenchmarkVerify(b *testing.B) {
	dir := b.TempDir() + "/log"
	c := config(dir)
	c.Flush, c.QueueEvents, c.QueueBytes = audit.FlushBatched, 1<<20, 1<<32
	l := mustOpen(b, c)
	const n = 100_000
	for i := range int64(n) {
		if _, err := l.Emit(b.Context(), audit.Event{Data: note{N: i, Text: "a text of a usual length"}}); err != nil {
			b.Fatal(err)
		}
	}
	mustClose(b, l)
	for b.Loop() {
		rep, err := audit.Verify(b.Context(), os.DirFS(dir), audit.VerifyOptions{Workers: 1})
		if err != nil || !rep.OK {
			b.Fatal(rep, err)
		}
		b.SetBytes(rep.Bytes)
	}
	b.ReportMetric(n*float64(b.N)/b.Elapsed().Seconds(), "lines/s")
}
