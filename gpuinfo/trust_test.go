//go:build linux

package gpuinfo_test

import (
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"

	"github.com/llorch/llorch/gpuinfo"
)

// TestTrustedPaths is GPU-6's list, in its order.
func TestTrustedPaths(t *testing.T) {
	order := []string{
		"/usr/bin", "/usr/local/bin", "/usr/lib/wsl/lib", "/usr/local/nvidia/bin", "/run/nvidia/driver/usr/bin",
		"/run/current-system/sw/bin", "/opt/bin",
	}
	there := map[string]gpuinfo.Reason{}
	for _, dir := range slices.Backward(order) {
		path := dir + "/nvidia-smi"
		there[path] = gpuinfo.OK
		if got, why := gpuinfo.FindTool(there); got != path || why != gpuinfo.OK {
			t.Errorf("the first trusted path is %q (%s), want %q", got, why, path)
		}
	}
	there["/usr/bin/nvidia-smi"] = gpuinfo.Failed // it exists and is not trusted: passing it over would hide that
	if got, why := gpuinfo.FindTool(there); got != "" || why != gpuinfo.Failed {
		t.Errorf("an untrusted first path: %q, %s", got, why)
	}
	if got, why := gpuinfo.FindTool(nil); got != "" || why != gpuinfo.NoTool {
		t.Errorf("no path: %q, %s", got, why)
	}
}

// TestPATHIsNotSearched: GPU-6; a planted tool is not started.
func TestPATHIsNotSearched(t *testing.T) {
	dir := t.TempDir()
	planted := filepath.Join(dir, "nvidia-smi")
	if err := os.WriteFile(planted, []byte("#!/bin/sh\ntouch "+dir+"/ran\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir)
	snapshot(t, gpuinfo.Auto(gpuinfo.AutoConfig{Root: tree(t, "no_sys")}))
	snapshot(t, gpuinfo.Auto(gpuinfo.AutoConfig{SMIPath: "nvidia-smi", Root: tree(t, "no_sys")}))
	if _, err := os.Stat(dir + "/ran"); err == nil {
		t.Error("a tool planted in PATH was started")
	}
}

// TestOwnerOfTool is GPU-6's rule for owners: root, or the overflow user where only
// that can be root.
func TestOwnerOfTool(t *testing.T) {
	const whole, podman = "         0          0 4294967295\n", "0 1000 1\n1 100000 65536\n"
	for _, c := range []struct {
		self     int
		uidMap   string
		writable bool
		want     bool
	}{
		{0, podman, false, true},
		{1000, podman, false, true},
		{0, podman, true, false},
		{65534, podman, false, false},
		{0, whole, false, false},
		{1000, whole, false, false},
		{1000, "", false, false},
	} {
		if got := gpuinfo.OwnerMayBeRoot(c.self, c.uidMap, c.writable); got != c.want {
			t.Errorf("OwnerMayBeRoot(%d, %q, writable %v) = %v", c.self, c.uidMap, c.writable, got)
		}
	}
	link := filepath.Join(t.TempDir(), "nvidia-smi")
	if err := os.Symlink("/bin/sh", link); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(link)
	if err != nil {
		t.Fatal(err)
	}
	if info.Sys().(*syscall.Stat_t).Uid != 0 {
		t.Skip("no file of root is at hand")
	}
	if why, ok := gpuinfo.TrustPath(link); !ok {
		t.Errorf("a link to a file of root: %s", why)
	}
	if os.Getuid() != 0 {
		return // only root can give files away
	}
	foreign := filepath.Join(t.TempDir(), "nvidia-smi")
	if err := os.WriteFile(foreign, []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(foreign, 1000, 0); err != nil {
		t.Skip("this root may not give files away")
	}
	if why, ok := gpuinfo.TrustPath(foreign); ok || why != gpuinfo.Failed {
		t.Errorf("a file of another user: %s, %v", why, ok)
	}
}

// TestToolEnvironment: GPU-7's fixed variables and nothing else.
func TestToolEnvironment(t *testing.T) {
	base := []string{"PATH=/usr/bin:/bin", "LC_ALL=C", "LANG=C"}
	if got := gpuinfo.SMIEnv("/usr/bin/nvidia-smi"); !slices.Equal(got, base) {
		t.Errorf("environment = %q", got)
	}
	if got := gpuinfo.SMIEnv("/usr/local/nvidia/bin/nvidia-smi"); !slices.Equal(got, append(base, "LD_LIBRARY_PATH=/usr/local/nvidia/lib64")) {
		t.Errorf("environment = %q", got)
	}
}
