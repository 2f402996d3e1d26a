package audit_test

import (
	"errors"
	"io/fs"
	"testing"
	"testing/synctest"
	"time"

	"github.com/llorch/llorch/audit"
	"github.com/llorch/llorch/audit/internal/faultfs"
)

func TestUnlinkedFileNoticed(t *testing.T) { // AUD-23; trap vault#31718
	for _, idle := range []bool{true, false} {
		memory(t, nil, func(t *testing.T, l *audit.Log, fsys *faultfs.FS) {
			name := time.Now().Format("2006-01-02") + ".audit"
			fsys.Delete(name)
			if idle {
				time.Sleep(6 * time.Second)
				synctest.Wait()
				if l.Healthy() == nil {
					t.Error("Healthy() = nil with a deleted file")
				}
			}
			rc := mustAppend(t, l, audit.Event{Data: note{}})
			if l.Healthy() == nil {
				t.Error("Healthy() = nil after a file was deleted")
			}
			found := false
			for _, r := range stored(t, fsys) {
				found = found || r.ID == rc.ID
			}
			rep := check(t, asMap(fsys))
			if !found || rep.OK || rep.Findings[0].Kind != audit.Missing || rep.Findings[0].File != name {
				t.Errorf("found %v, report %v", found, rep.Findings)
			}
		})
	}
}

func TestDiskLow(t *testing.T) { // AUD-26
	memory(t, func(c *audit.Config) { c.MinFree = 0 }, func(t *testing.T, l *audit.Log, fsys *faultfs.FS) {
		fsys.SetFree(1 << 20)
		time.Sleep(2 * time.Second)
		mustAppend(t, l, audit.Event{Data: alarm{}}) // activity, on which space is looked at
		if _, err := l.Emit(t.Context(), audit.Event{Data: note{}}); !errors.Is(err, audit.ErrDropped) {
			t.Errorf("Emit() = %v", err)
		}
		mustAppend(t, l, audit.Event{Data: alarm{}})
		if l.Healthy() == nil {
			t.Error("Healthy() = nil with little space")
		}
		fsys.SetFree(1 << 40)
		time.Sleep(2 * time.Second)
		mustAppend(t, l, audit.Event{Data: alarm{}})
		mustAppend(t, l, audit.Event{Data: note{}})
		fsys.Hook(failing(fs.ErrPermission, "", "free"))
		time.Sleep(2 * time.Second)
		mustAppend(t, l, audit.Event{Data: note{}})
		if err := l.Healthy(); !errors.Is(err, fs.ErrPermission) {
			t.Errorf("Healthy() = %v, want the failing check", err)
		}
		if got := gapSum(t, fsys); got["disk_low"] != 1 {
			t.Errorf("gaps = %v", got)
		}
	})
}
