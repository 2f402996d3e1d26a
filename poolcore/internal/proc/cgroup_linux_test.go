package proc_test

import (
	"os"
	"path/filepath"
	"strconv"
	"testing"

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
			if n := proc.KillCgroups(dir, func(name string) bool { return name != how }); n != 3 {
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
