package audit_test

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/llorch/llorch/audit"
	"github.com/llorch/llorch/audit/internal/faultfs"
)

const firstFile = "2000-01-01.audit" // a bubble begins on that day

// copied returns a new disk with the files of fsys, changed.
func copied(fsys *faultfs.FS, change func(map[string][]byte)) *faultfs.FS {
	files := fsys.Snapshot()
	change(files)
	out := faultfs.New()
	for name, b := range files {
		out.Put(name, b)
	}
	return out
}

func TestTornTailGoesToQuarantine(t *testing.T) { // AUD-32, AUD-16; trap TestTornLineNotGlued
	synctest.Test(t, func(t *testing.T) {
		fsys := faultfs.New()
		l := reopen(t, fsys, nil)
		mustAppend(t, l, audit.Event{Data: note{}})
		mustClose(t, l)
		size := len(fsys.Snapshot()[firstFile])
		garbage := []byte("{\"actor\":{}}\n{\"actor\":{\"ki")
		disk := copied(fsys, func(f map[string][]byte) { f[firstFile] = append(f[firstFile], garbage...) })
		l = reopen(t, disk, nil)
		mustAppend(t, l, audit.Event{Data: note{}})
		mustClose(t, l)
		if rep := check(t, asMap(disk)); !rep.OK {
			t.Error(rep.Findings)
		}
		kept := disk.Snapshot()[fmt.Sprintf("quarantine/%s.%d.torn", firstFile, size)]
		if !bytes.Equal(kept, garbage) {
			t.Errorf("quarantine holds %q", kept)
		}
		if got := gapSum(t, disk); got["torn_tail"] != 2 {
			t.Errorf("gaps = %v", got)
		}
		told := false
		for _, r := range stored(t, disk) {
			told = told || r.Event.Type == "audit.started" && strings.Contains(string(r.Raw), `"prev_clean":false,`) &&
				strings.Contains(string(r.Raw), fmt.Sprintf(`"torn":{"bytes":%d,"file":"%s","offset":%d,`, len(garbage), firstFile, size))
		}
		if !told {
			t.Error("audit.started does not tell of the torn tail")
		}
	})
}

func TestTamperedLogIsNotOpened(t *testing.T) { // AUD-33, TestTruncatedTailFound
	synctest.Test(t, func(t *testing.T) {
		fsys := faultfs.New()
		l := reopen(t, fsys, func(c *audit.Config) { c.RotateBytes = 64 << 10 })
		for range 30 {
			mustAppend(t, l, audit.Event{Data: note{Text: strings.Repeat("t", 1000), List: []string{strings.Repeat("t", 250), strings.Repeat("u", 250)}}})
		}
		for range 20 {
			mustAppend(t, l, audit.Event{Data: note{Text: strings.Repeat("t", 1000), List: []string{strings.Repeat("t", 250), strings.Repeat("u", 250)}}})
		}
		mustClose(t, l)
		second := "2000-01-01-1.audit"
		for what, change := range map[string]func(map[string][]byte){
			"flipped byte": func(f map[string][]byte) { f[second][500] ^= 1 },
			"cut line": func(f map[string][]byte) {
				f[second] = f[second][:bytes.LastIndexByte(f[second][:len(f[second])-1], '\n')+1]
			},
			"empty":          func(f map[string][]byte) { f[second] = nil },
			"newest removed": func(f map[string][]byte) { delete(f, second) },
			"oldest removed": func(f map[string][]byte) { delete(f, firstFile) },
			"all removed":    func(f map[string][]byte) { delete(f, firstFile); delete(f, second) },
			"oldest cut":     func(f map[string][]byte) { f[firstFile] = f[firstFile][:1000] },
		} {
			disk := copied(fsys, change)
			before := disk.Snapshot()
			_, err := audit.OpenFS(t.Context(), config("/memory"), disk)
			te, ok := errors.AsType[*audit.TamperError](err)
			if !ok || len(te.Report.Findings) != 1 {
				t.Errorf("%s: Open() = %v", what, err)
			}
			for name, b := range disk.Snapshot() {
				if !bytes.Equal(b, before[name]) {
					t.Errorf("%s: %s was changed", what, name)
				}
			}
		}
	})
}

func TestManifestIsRebuilt(t *testing.T) { // AUD-15
	synctest.Test(t, func(t *testing.T) {
		fsys := faultfs.New()
		l := reopen(t, fsys, nil)
		mustAppend(t, l, audit.Event{Data: note{}})
		time.Sleep(24 * time.Hour)
		mustAppend(t, l, audit.Event{Data: note{}})
		time.Sleep(24 * time.Hour)
		mustClose(t, l)
		origin := check(t, asMap(fsys)).Origin
		for what, change := range map[string]func(map[string][]byte){
			"removed":   func(f map[string][]byte) { delete(f, "manifest.json") },
			"malformed": func(f map[string][]byte) { f["manifest.json"] = []byte("{") },
		} {
			disk := copied(fsys, change)
			l := reopen(t, disk, nil)
			mustClose(t, l)
			if rep := check(t, asMap(disk)); !rep.OK || rep.Files != 3 || rep.Origin != origin {
				t.Errorf("%s: %+v", what, rep)
			}
		}
	})
}

func TestHeadStaysFresh(t *testing.T) { // the evidence against a cut end is at most a second old
	memory(t, nil, func(t *testing.T, l *audit.Log, fsys *faultfs.FS) {
		mustAppend(t, l, audit.Event{Data: note{}})
		time.Sleep(1100 * time.Millisecond)
		synctest.Wait()
		disk := copied(fsys, func(f map[string][]byte) {
			f[firstFile] = f[firstFile][:bytes.LastIndexByte(f[firstFile][:len(f[firstFile])-1], '\n')+1]
		})
		rep := check(t, asMap(disk))
		if rep.OK || rep.Findings[0].Kind != audit.Truncated || rep.Findings[0].Seq != 1 || rep.Findings[0].Line != 2 {
			t.Errorf("report = %+v", rep)
		}
		saves := 0
		fsys.Hook(func(s faultfs.Step) *faultfs.Fault {
			if s.Op == "rename" {
				saves++
			}
			return nil
		})
		for range 100 {
			mustAppend(t, l, audit.Event{Data: note{}})
			time.Sleep(50 * time.Millisecond)
		}
		synctest.Wait()
		if saves < 3 || saves > 5 {
			t.Errorf("%d manifests in 5 s of activity", saves)
		}
	})
}

func TestRolloverSyncsOldFile(t *testing.T) { // AUD-38; trap yugabyte-db#3490
	memory(t, func(c *audit.Config) { c.Flush = audit.FlushBatched }, func(t *testing.T, l *audit.Log, fsys *faultfs.FS) {
		time.Sleep(24*time.Hour - 10*time.Millisecond)
		if _, err := l.Emit(t.Context(), audit.Event{Data: note{}}); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		var order []string
		fsys.Hook(func(s faultfs.Step) *faultfs.Fault {
			if s.Op == "sync" || s.Op == "create" {
				order = append(order, s.Op+" "+s.Name)
			}
			return nil
		})
		time.Sleep(20 * time.Millisecond)
		synctest.Wait()
		fsys.Hook(nil)
		if len(order) < 3 || order[0] != "sync "+firstFile || order[1] != "create 2000-01-02.audit" {
			t.Errorf("order = %v", order)
		}
	})
}

func TestManifestFailureIsHealth(t *testing.T) { // AUD-77
	memory(t, nil, func(t *testing.T, l *audit.Log, fsys *faultfs.FS) {
		fsys.Hook(failing(syscall.EIO, "", "rename"))
		mustAppend(t, l, audit.Event{Data: note{}})
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if err := l.Healthy(); !errors.Is(err, syscall.EIO) {
			t.Errorf("Healthy() = %v", err)
		}
		mustAppend(t, l, audit.Event{Data: note{}}) // harms no record
		fsys.Hook(nil)
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if err := l.Healthy(); err != nil {
			t.Errorf("Healthy() = %v", err)
		}
	})
}
