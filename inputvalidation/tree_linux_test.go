package inputvalidation_test

import (
	"os"
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
	}
}
