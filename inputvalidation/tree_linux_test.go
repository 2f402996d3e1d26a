package inputvalidation_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"github.com/llorch/llorch/inputvalidation"
)

// VAL-27: the kernel's own file systems are no roots.
func TestOpenTreeKernelFS(t *testing.T) {
	for _, dir := range []string{"/proc", "/proc/self", "/sys"} {
		if _, err := os.Stat(dir); err != nil {
			continue
		}
		_, err := inputvalidation.OpenTree(dir, inputvalidation.TreeConfig{})
		wantRule(t, "OpenTree("+dir+")", err, inputvalidation.RuleOutside)
	}
}

// VAL-29: a directory of another file system is refused unless allowed.
func TestTreeCrossDevice(t *testing.T) {
	if _, err := os.Stat("/proc/version"); err != nil {
		t.Skip("no procfs here")
	}
	for _, follow := range []bool{false, true} {
		one := openTree(t, "/", inputvalidation.TreeConfig{FollowWithin: follow})
		_, err := one.ReadFile(relPath(t, "proc/version"), 4096)
		wantRule(t, "ReadFile(proc/version)", err, inputvalidation.RuleOutside)
		all := openTree(t, "/", inputvalidation.TreeConfig{FollowWithin: follow, CrossDevice: true})
		if got, err := all.ReadFile(relPath(t, "proc/version"), 4096); len(got) == 0 || err != nil {
			t.Errorf("CrossDevice ReadFile(proc/version) = %q, %v", got, err)
		}
		_, err = one.Sub(relPath(t, "proc/sys"), false)
		wantRule(t, "Sub(proc/sys)", err, inputvalidation.RuleOutside)
		_, err = all.Sub(relPath(t, "proc/sys"), true) // VAL-27: not even then
		wantRule(t, "CrossDevice Sub(proc/sys)", err, inputvalidation.RuleOutside)
	}
}

// VAL-29, VAL-30: a listing reports the directory of another file system and
// goes on after it.
func TestTreeFilesCrossDevice(t *testing.T) {
	other := ""
	top, err := os.Stat("/dev")
	must(t, err)
	for _, name := range []string{"pts", "shm", "mqueue"} {
		fi, err := os.Stat(filepath.Join("/dev", name))
		if err == nil && fi.Sys().(*syscall.Stat_t).Dev != top.Sys().(*syscall.Stat_t).Dev {
			other = name
		}
	}
	if other == "" {
		t.Skip("no other file system below /dev")
	}
	refused := func(cfg inputvalidation.TreeConfig) bool {
		for f, err := range openTree(t, "/dev", cfg).Files(t.Context()) {
			if f.Path.String() == other {
				wantRule(t, "Files at "+other, err, inputvalidation.RuleOutside)
				return true
			}
		}
		return false
	}
	if !refused(inputvalidation.TreeConfig{}) {
		t.Errorf("/dev/%s is not reported", other)
	}
	if refused(inputvalidation.TreeConfig{CrossDevice: true}) {
		t.Errorf("/dev/%s is reported with CrossDevice", other)
	}
}

// VAL-2, VAL-30: a directory that may not be read is an error, and what stands
// beside it is listed.
func TestTreeFilesUnreadable(t *testing.T) {
	root := t.TempDir()
	plant(t, root, "a/f", "closed/f", "z")
	must(t, os.Chmod(filepath.Join(root, "closed"), 0))
	tree := openTree(t, root, inputvalidation.TreeConfig{})
	asNobody(t, func() {
		wantList(t, "Files", tree.Files(t.Context()), "a/f 0", "closed! permission", "z 0")
		_, _, err := tree.Open(relPath(t, "closed/f"))
		wantRule(t, "Open(closed/f)", err, "permission")
		if !errors.Is(err, fs.ErrPermission) || errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrExist) {
			t.Errorf("Open(closed/f) = %v, want exactly fs.ErrPermission", err)
		}
		_, err = tree.Sub(relPath(t, "closed"), true)
		wantRule(t, "Sub(closed)", err, "permission")
	})
}

// asNobody runs do on a thread that the file system does not take for root.
func asNobody(t *testing.T, do func()) {
	if os.Geteuid() != 0 {
		do()
		return
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
		if err := syscall.Setfsuid(65534); err != nil {
			t.Errorf("setfsuid: %v", err)
			return
		}
		do()
	}()
	<-done
}

// handles counts the open files and directories of this process.
func handles(t *testing.T) int {
	t.Helper()
	names, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Skip("no procfs here")
	}
	return len(names)
}

// VAL-31: nothing stays open, whatever the way out, and a deep path needs no
// more handles than a short one.
func TestTreeLeaksNoHandle(t *testing.T) {
	root := layout(t)
	plant(t, root, "a/b/c/1", "a/b/c/2", "n/x/-odd", strings.Repeat("d/", 40)+"f")
	for _, cfg := range []inputvalidation.TreeConfig{{}, {FollowWithin: true}, {MaxDepth: 3}, {MaxEntries: 5}} {
		tree := openTree(t, root, cfg)
		before := handles(t)
		for stop := range 30 {
			n := 0
			for range tree.Files(t.Context()) {
				if n++; n > stop {
					break
				}
			}
		}
		for _, path := range []string{"f", "none", "a/b/c/1", "a/b/none", "a/b/c/1/x", "link-dir/e/f", "fifo", "a/b"} {
			p := relPath(t, path)
			if f, _, err := tree.Open(p); err == nil {
				must(t, f.Close())
			}
			if f, err := tree.Create(p, 0o600); err == nil {
				must(t, f.Close())
			}
			if sub, err := tree.Sub(p, true); err == nil {
				must(t, sub.Close())
			}
			_, _ = tree.ReadFile(p, 1) // that these fail is what is tried here
			_ = tree.WriteFile(p, nil, 0o600)
			_ = tree.Remove(relPath(t, "none/no"))
		}
		if after := handles(t); after != before {
			t.Errorf("%+v: %d handles are open, before it were %d", cfg, after, before)
		}
		must(t, tree.Close())
	}
	tree := openTree(t, root, inputvalidation.TreeConfig{MaxDepth: 2048})
	before := handles(t)
	f, _, err := tree.Open(relPath(t, strings.Repeat("d/", 40)+"f"))
	must(t, err)
	defer f.Close()
	if after := handles(t); after != before+1 {
		t.Errorf("an open file holds %d handles, want 1", after-before)
	}
}
