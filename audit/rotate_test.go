package audit_test

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/llorch/llorch/audit"
	"github.com/llorch/llorch/audit/internal/faultfs"
)

func TestDayRotation(t *testing.T) { // AUD-37, AUD-38, AUD-28
	memory(t, nil, func(t *testing.T, l *audit.Log, fsys *faultfs.FS) { // the bubble begins at midnight
		mustAppend(t, l, audit.Event{Data: note{}})
		time.Sleep(24 * time.Hour) // idle
		synctest.Wait()
		all := fsys.Snapshot()
		if all["2000-01-02.audit"] == nil || all["2000-01-01.audit.sha256"] == nil {
			t.Errorf("no rotation at midnight: %d files", len(all))
		}
		time.Sleep(24*time.Hour - time.Nanosecond)
		mustAppend(t, l, audit.Event{Data: note{}})
		mustClose(t, l)
		time.Sleep(48 * time.Hour)
		l = reopen(t, fsys, nil)
		mustAppend(t, l, audit.Event{Data: note{}})
		mustClose(t, l)
		rep := check(t, asMap(fsys))
		if !rep.OK || rep.Files != 3 || rep.UncleanRuns != 0 {
			t.Errorf("report = %+v", rep)
		}
	})
}

func TestFileOrderNumeric(t *testing.T) { // AUD-17
	memory(t, func(c *audit.Config) { c.RotateBytes = 64 << 10 }, func(t *testing.T, l *audit.Log, fsys *faultfs.FS) {
		text := strings.Repeat("a", 1000)
		list := make([]string, 64)
		for i := range list {
			list[i] = text
		}
		for range 50 {
			mustAppend(t, l, audit.Event{Data: note{List: list, Text: text}})
		}
		mustClose(t, l)
		rep := check(t, asMap(fsys))
		if !rep.OK || rep.Files < 12 {
			t.Errorf("report = %+v", rep)
		}
		for name := range fsys.Snapshot() {
			if strings.HasSuffix(name, ".audit") && len(fsys.Snapshot()[name]) > 64<<10 {
				t.Errorf("%s has %d bytes", name, len(fsys.Snapshot()[name]))
			}
		}
	})
}

func TestClockStepBack(t *testing.T) { // AUD-28, trap systemd#17833
	var disk map[string][]byte
	var late audit.Receipt
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(31 * 24 * time.Hour)
		fsys := faultfs.New()
		l := reopen(t, fsys, nil)
		late = mustAppend(t, l, audit.Event{Data: note{}})
		mustClose(t, l)
		disk = fsys.Snapshot()
	})
	synctest.Test(t, func(t *testing.T) { // a month earlier
		fsys := faultfs.New()
		for name, b := range disk {
			fsys.Put(name, b)
		}
		l := reopen(t, fsys, nil)
		rc := mustAppend(t, l, audit.Event{Data: note{}})
		mustClose(t, l)
		if !rc.At.Equal(late.At) {
			t.Errorf("At = %v, want %v", rc.At, late.At)
		}
		if r := stored(t, fsys)[rc.ID]; !strings.Contains(string(r.Raw), `"clk":2678400000,`) {
			t.Errorf("no clk in %s", r.Raw)
		}
		if rep := check(t, asMap(fsys)); !rep.OK || rep.Files != 1 {
			t.Errorf("report = %+v", rep)
		}
	})
}

func TestRestartAtFullFile(t *testing.T) { // G2: the numbers of a run hold when its first record is audit.rotated
	memory(t, func(c *audit.Config) { c.RotateBytes = 64 << 10 }, func(t *testing.T, l *audit.Log, fsys *faultfs.FS) {
		mustClose(t, l)
		for i := range 400 { // two records a run, so that either of them fills a file at times
			l := reopen(t, fsys, func(c *audit.Config) { c.RotateBytes, c.Version = 64<<10, strings.Repeat("v", 1+i*37%900) })
			mustClose(t, l)
		}
		if rep := check(t, asMap(fsys)); !rep.OK || rep.Files < 4 {
			t.Errorf("report = %+v", rep)
		}
		first := false
		for _, r := range stored(t, fsys) {
			first = first || r.Event.Type == "audit.rotated" && r.Emit == 1
		}
		if !first {
			t.Error("no run began with audit.rotated: the test proves nothing")
		}
	})
}
