package audit_test

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"strings"
	"syscall"
	"testing"
	"testing/fstest"
	"testing/synctest"
	"time"

	"github.com/llorch/llorch/audit"
	"github.com/llorch/llorch/audit/internal/faultfs"
)

// asMap shows the files of a fault file system to Verify.
func asMap(fsys *faultfs.FS) fstest.MapFS {
	out := make(fstest.MapFS)
	for name, b := range fsys.Snapshot() {
		out[name] = &fstest.MapFile{Data: b, Mode: 0o600}
	}
	return out
}

// stored returns the records of a fault file system by id, in the order of the
// chain as Verify would read it, without what a failed file holds beyond its
// seal.
func stored(t testing.TB, fsys *faultfs.FS) map[string]audit.Record {
	t.Helper()
	out := make(map[string]audit.Record)
	for name, f := range asMap(fsys) {
		if !strings.HasSuffix(name, ".audit") {
			continue
		}
		for l := range strings.Lines(string(f.Data)) {
			if r, err := audit.ParseRecord([]byte(l)); err == nil && strings.HasSuffix(l, "\n") {
				out[r.ID] = r
			}
		}
	}
	return out
}

// gapSum adds up the gap records by reason.
func gapSum(t testing.TB, fsys *faultfs.FS) map[string]uint64 {
	t.Helper()
	out := make(map[string]uint64)
	for _, r := range stored(t, fsys) {
		if r.Event.Type == "audit.gap" {
			var g struct{ Dropped uint64 }
			if err := json.Unmarshal(r.Event.Data.(json.RawMessage), &g); err != nil {
				t.Fatal(err)
			}
			out[r.Event.Reason] += g.Dropped
		}
	}
	return out
}

// failing makes every step fail that has one of the ops and, unless it is "",
// the name.
func failing(err error, name string, ops ...string) func(faultfs.Step) *faultfs.Fault {
	return func(s faultfs.Step) *faultfs.Fault {
		for _, op := range ops {
			if s.Op == op && (name == "" || s.Name == name) {
				return &faultfs.Fault{Err: err}
			}
		}
		return nil
	}
}

func TestOverflowBecomesGapRecord(t *testing.T) { // AUD-16, AUD-24, AUD-25, G2
	memory(t, func(c *audit.Config) { c.QueueEvents = 20; c.RefuseWhenFull = true }, func(t *testing.T, l *audit.Log, fsys *faultfs.FS) {
		hold := make(chan struct{})
		block(fsys, hold)
		var dropped, refused int
		if _, err := l.Emit(t.Context(), audit.Event{Data: note{}}); err != nil {
			t.Fatal(err)
		}
		synctest.Wait() // the writer is in its sync
		for range 30 {
			switch _, err := l.Emit(t.Context(), audit.Event{Data: note{}}); {
			case errors.Is(err, audit.ErrDropped):
				dropped++
			case err != nil:
				t.Error(err)
			}
		}
		for range 10 {
			switch _, err := l.Emit(t.Context(), audit.Event{Data: alarm{}}); {
			case errors.Is(err, audit.ErrQueueFull):
				refused++
			case err != nil:
				t.Error(err)
			}
		}
		if dropped != 10 || refused != 8 { // 20 places, and 2 more for critical events
			t.Errorf("dropped %d, refused %d", dropped, refused)
		}
		close(hold)
		mustClose(t, l)
		got := gapSum(t, fsys)
		if got["queue_full"] != 10 || got["refused"] != 8 {
			t.Errorf("gaps = %v", got)
		}
		if rep := check(t, asMap(fsys)); !rep.OK {
			t.Error(rep.Findings)
		}
	})
}

// block makes the next sync of a log file wait until hold is closed.
func block(fsys *faultfs.FS, hold chan struct{}) {
	fsys.BeforeSync(func(name string) {
		if strings.HasSuffix(name, ".audit") {
			<-hold
		}
	})
}

func TestCriticalWaitsForRoom(t *testing.T) { // AUD-24: bounded by MaxWait, by ctx, by Close
	memory(t, func(c *audit.Config) { c.QueueEvents = 16; c.MaxWait = 3 * time.Second }, func(t *testing.T, l *audit.Log, fsys *faultfs.FS) {
		hold := make(chan struct{})
		block(fsys, hold)
		for range 40 {
			_, _ = l.Emit(t.Context(), audit.Event{Data: note{}})
			synctest.Wait()
		}
		if _, err := l.Emit(t.Context(), audit.Event{Data: alarm{}}); err != nil { // the reserve
			t.Error(err)
		}
		start := time.Now()
		if _, err := l.Emit(t.Context(), audit.Event{Data: alarm{}}); !errors.Is(err, audit.ErrQueueFull) || time.Since(start) != 3*time.Second {
			t.Errorf("Emit() = %v after %v", err, time.Since(start))
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		start = time.Now()
		if _, err := l.Emit(ctx, audit.Event{Data: alarm{}}); !errors.Is(err, audit.ErrQueueFull) || time.Since(start) != time.Second {
			t.Errorf("Emit() = %v after %v", err, time.Since(start))
		}
		entered := make(chan error, 1)
		go func() {
			_, err := l.Emit(t.Context(), audit.Event{Data: alarm{}})
			entered <- err
		}()
		synctest.Wait()
		close(hold)
		if err := <-entered; err != nil {
			t.Errorf("Emit() with room = %v", err)
		}
	})
}

func TestCloseCountsWaiting(t *testing.T) { // AUD-16 shutdown, AUD-27
	memory(t, func(c *audit.Config) { c.QueueEvents = 16; c.MaxWait = time.Minute }, func(t *testing.T, l *audit.Log, fsys *faultfs.FS) {
		hold := make(chan struct{})
		block(fsys, hold)
		for range 17 {
			_, _ = l.Emit(t.Context(), audit.Event{Data: note{}})
			synctest.Wait()
		}
		_, _ = l.Emit(t.Context(), audit.Event{Data: alarm{}})
		waiting := make(chan error, 1)
		go func() {
			_, err := l.Emit(t.Context(), audit.Event{Data: alarm{}})
			waiting <- err
		}()
		synctest.Wait()
		go func() {
			time.Sleep(time.Second)
			close(hold)
		}()
		mustClose(t, l)
		if err := <-waiting; !errors.Is(err, audit.ErrClosed) {
			t.Errorf("Emit() = %v", err)
		}
		if got := gapSum(t, fsys); got["shutdown"] != 1 {
			t.Errorf("gaps = %v", got)
		}
		if rep := check(t, asMap(fsys)); !rep.OK || rep.UncleanRuns != 0 {
			t.Errorf("report = %+v", rep)
		}
	})
}

func TestCloseGivesUp(t *testing.T) { // AUD-27: ctx ends first
	synctest.Test(t, func(t *testing.T) {
		fsys := faultfs.New()
		l := reopen(t, fsys, nil)
		hold := make(chan struct{})
		block(fsys, hold)
		for range 5 {
			_, _ = l.Emit(t.Context(), audit.Event{Data: note{}})
			synctest.Wait()
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := l.Close(ctx); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "5 events") {
			t.Errorf("Close() = %v", err)
		}
		close(hold)
		synctest.Wait()
		fsys.BeforeSync(nil)
		l = reopen(t, fsys, nil)
		mustClose(t, l)
		if rep := check(t, asMap(fsys)); !rep.OK || rep.UncleanRuns != 1 {
			t.Errorf("report = %+v", rep)
		}
	})
}

func TestFsyncFailureNeverRetriedOnSameFD(t *testing.T) { // AUD-22
	memory(t, nil, func(t *testing.T, l *audit.Log, fsys *faultfs.FS) {
		first := mustAppend(t, l, audit.Event{Data: note{N: 1}})
		old := time.Now().Format("2006-01-02") + ".audit"
		syncs, failed := 0, false
		fsys.Hook(func(s faultfs.Step) *faultfs.Fault {
			if s.Name != old || s.Op != "sync" && s.Op != "write" && s.Op != "truncate" {
				return nil
			}
			if failed {
				t.Errorf("%s on the failed file", s.Op)
			}
			if s.Op == "sync" {
				syncs++
				failed = true
				return &faultfs.Fault{Err: syscall.EIO}
			}
			return nil
		})
		second := mustAppend(t, l, audit.Event{Data: note{N: 2}}) // the caller notices nothing
		if second.Seq != first.Seq+2 || syncs != 1 {
			t.Errorf("Seq = %d after %d, %d syncs", second.Seq, first.Seq, syncs)
		}
		if err := l.Healthy(); err != nil {
			t.Errorf("Healthy() = %v after recovery", err)
		}
		fsys.Hook(nil)
		mustClose(t, l)
		if rep := check(t, asMap(fsys)); !rep.OK || rep.Files != 2 {
			t.Errorf("report = %+v", rep)
		}
		l = reopen(t, fsys, nil)
		mustClose(t, l)
		if rep := check(t, asMap(fsys)); !rep.OK {
			t.Errorf("after restart: %v", rep.Findings)
		}
	})
}

func TestDiskFailsAndRecovers(t *testing.T) { // AUD-22, AUD-23; trap: health stays green
	memory(t, nil, func(t *testing.T, l *audit.Log, fsys *faultfs.FS) {
		for _, cause := range []error{syscall.ENOSPC, syscall.EIO} {
			fsys.Hook(failing(cause, "", "write", "sync", "create"))
			_, err := l.Append(t.Context(), audit.Event{Data: note{}})
			if !errors.Is(err, audit.ErrUnavailable) {
				t.Fatalf("Append() = %v", err)
			}
			if err := l.Healthy(); !errors.Is(err, cause) {
				t.Errorf("Healthy() = %v, want %v", err, cause)
			}
			if err := l.Flush(t.Context()); !errors.Is(err, audit.ErrUnavailable) {
				t.Errorf("Flush() = %v", err)
			}
			_, err = l.Emit(t.Context(), audit.Event{Data: note{}})
			if !errors.Is(err, audit.ErrDropped) || !errors.Is(err, audit.ErrUnavailable) {
				t.Errorf("routine Emit() = %v", err)
			}
			start := time.Now()
			_, err = l.Emit(t.Context(), audit.Event{Data: alarm{}})
			if !errors.Is(err, audit.ErrUnavailable) || time.Since(start) != 100*time.Millisecond {
				t.Errorf("critical Emit() = %v after %v", err, time.Since(start))
			}
			fsys.Hook(nil)
			time.Sleep(2 * time.Second)
			synctest.Wait()
			if err := l.Healthy(); err != nil {
				t.Errorf("Healthy() = %v after recovery", err)
			}
			mustAppend(t, l, audit.Event{Data: alarm{N: 7}})
		}
		mustClose(t, l)
		if got := gapSum(t, fsys); got["io_error"] != 4 {
			t.Errorf("gaps = %v", got)
		}
		if rep := check(t, asMap(fsys)); !rep.OK || rep.UncleanRuns != 0 {
			t.Errorf("report = %+v", rep)
		}
	})
}

func TestQueuedWaitersAreTold(t *testing.T) { // AUD-23: also those whose event the writer never took
	memory(t, nil, func(t *testing.T, l *audit.Log, fsys *faultfs.FS) {
		hold := make(chan struct{})
		block(fsys, hold)
		results := make(chan error, 2)
		for range 2 {
			go func() {
				_, err := l.Append(t.Context(), audit.Event{Data: alarm{}})
				results <- err
			}()
			synctest.Wait() // the first is in its sync, the second in the queue
		}
		fsys.Hook(failing(syscall.EIO, "", "write", "sync", "create"))
		close(hold)
		for range 2 {
			if err := <-results; !errors.Is(err, audit.ErrUnavailable) {
				t.Errorf("Append() = %v", err)
			}
		}
		fsys.Hook(nil)
		fsys.BeforeSync(nil)
		time.Sleep(3 * time.Second)
		mustClose(t, l)
		if rep := check(t, asMap(fsys)); !rep.OK || rep.Records != 5 { // both were recorded later
			t.Errorf("report = %+v", rep)
		}
	})
}

func TestShortWriteIsCutOff(t *testing.T) { // AUD-22; trap TestTornLineNotGlued
	memory(t, nil, func(t *testing.T, l *audit.Log, fsys *faultfs.FS) {
		once := true
		fsys.Hook(func(s faultfs.Step) *faultfs.Fault {
			if s.Op == "write" && once {
				once = false
				return &faultfs.Fault{Err: syscall.ENOSPC, Short: 77}
			}
			return nil
		})
		mustAppend(t, l, audit.Event{Data: note{}})
		mustClose(t, l)
		if rep := check(t, asMap(fsys)); !rep.OK || rep.Files != 1 || rep.Records != 3 {
			t.Errorf("report = %+v", rep)
		}
	})
}

func TestLogMessagesHoldNoContent(t *testing.T) { // AUD-78
	var out strings.Builder
	memory(t, func(c *audit.Config) { c.Logger = slog.New(slog.NewTextHandler(&out, nil)) }, func(t *testing.T, l *audit.Log, fsys *faultfs.FS) {
		fsys.Hook(failing(syscall.EIO, "", "write", "sync", "create"))
		_, _ = l.Append(t.Context(), audit.Event{Data: note{Text: "canary"}})
		fsys.Hook(nil)
		time.Sleep(2 * time.Second)
		mustAppend(t, l, audit.Event{Data: note{Text: "canary"}})
		mustClose(t, l)
	})
	got := out.String()
	for _, want := range []string{"audit opened", "audit failed", "audit recovered", "audit rotated"} {
		if !strings.Contains(got, want) {
			t.Errorf("log lacks %q:\n%s", want, got)
		}
	}
	if strings.Contains(got, "canary") {
		t.Errorf("log holds content:\n%s", got)
	}
}
