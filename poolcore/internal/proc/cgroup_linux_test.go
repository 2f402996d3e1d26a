package proc_test

import (
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/llorch/llorch/poolcore/internal/proc"
)

// delegated makes a cgroup v2 folder of the test's own.
func delegated(t *testing.T) string {
	t.Helper()
	for _, mount := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/unified"} {
		if _, err := os.Stat(filepath.Join(mount, "cgroup.controllers")); err != nil {
			continue
		}
		dir := filepath.Join(mount, "llorch-test-"+strconv.Itoa(os.Getpid()))
		if os.Mkdir(dir, 0o755) == nil {
			t.Cleanup(func() {
				if err := os.Remove(dir); err != nil {
					t.Errorf("the folder is not empty: %v", err)
				}
			})
			return dir
		}
	}
	t.Skip("SKIPPED LOUDLY: no cgroup v2 folder can be made here, so nothing is proved about cgroups")
	return ""
}

// TestCgroupEndsEverybody (PCO-20, PCO-22): a worker that hides from group and tag
// is still in its cgroup.
func TestCgroupEndsEverybody(t *testing.T) {
	dir := delegated(t)
	for _, how := range []string{"stop", "crash", "restart"} {
		cg, err := proc.NewCgroup(dir, how)
		if err != nil {
			t.Fatal(err)
		}
		p := start(t, tag("cg-1"), func(s *proc.Spec) { s.Cgroup = cg }, "ignore-term", "child", "child-setsid")
		until(t, "three members", func() bool { return len(p.PIDs()) == 3 })
		switch how {
		case "stop":
			if !p.Stop(0) {
				t.Error("not stopped")
			}
		case "crash":
			_ = os.WriteFile(filepath.Join(dir, how, "cgroup.kill"), []byte("1"), 0)
		case "restart":
			if n := proc.KillCgroups(dir, proc.Unreaped, func(name string) bool { return name != how }); n != 3 {
				t.Errorf("KillCgroups = %d, want 3", n)
			}
		}
		<-p.Done()
		cg.Discard()
		if pids := living(tag("cg-1")); len(pids) > 0 || p.OOMKills() != 0 {
			t.Errorf("G2: %s: %v are left", how, pids)
		}
		if _, err := os.Stat(filepath.Join(dir, how)); err == nil {
			t.Errorf("%s: the folder is left", how)
		}
	}
	reapOrphans()
}

func TestCgroupNeedsCgroupFS(t *testing.T) {
	dir := t.TempDir()
	if cg, err := proc.NewCgroup(dir, "w"); err == nil {
		t.Errorf("NewCgroup in an ordinary directory = %v", cg)
	}
	if entries, _ := os.ReadDir(dir); len(entries) > 0 {
		t.Errorf("%v is left", entries)
	}
}

// TestUnkillableHoldsNobodyUp (PCO-27): somebody whom the kernel does not let go is
// given up in time; a start of the program does not wait for it for ever.
func TestUnkillableHoldsNobodyUp(t *testing.T) {
	dir := t.TempDir() // a folder in which a kill changes nothing
	if err := os.Mkdir(filepath.Join(dir, "stuck"), 0o700); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"cgroup.events": "populated 1\n", "cgroup.procs": "1\n", "cgroup.kill": ""} {
		if err := os.WriteFile(filepath.Join(dir, "stuck", name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if n := proc.KillCgroups(dir, 20*time.Millisecond, func(string) bool { return false }); n != 1 {
		t.Errorf("KillCgroups = %d, want 1", n)
	}
	if b, err := os.ReadFile(filepath.Join(dir, "stuck", "cgroup.kill")); err != nil || string(b) != "1" {
		t.Errorf("nobody tried: %q, %v", b, err)
	}
}
