package catalog_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/llorch/llorch/poolcore/catalog"
)

const insideVar = "LLORCH_TEST_PRIVATE_MOUNTS"

// A disk that is full in the middle of a copy is told from other faults, leaves
// nothing behind, and does not harm what is there. The test runs itself in a mount
// namespace of its own, so that the small file system goes with the process.
func TestDiskFull(t *testing.T) {
	if os.Getenv(insideVar) == "" {
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestDiskFull$", "-test.v")
		cmd.Env = append(os.Environ(), insideVar+"=1")
		cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
		out, err := cmd.CombinedOutput()
		if len(out) == 0 && err != nil {
			t.Skipf("no private mounts here (%v): ENOSPC is not tried", err)
		}
		if err != nil {
			t.Fatalf("%v:\n%s", err, out)
		}
		t.Logf("%s", out)
		return
	}
	small := filepath.Join(t.TempDir(), "small")
	must(t, os.Mkdir(small, 0o700))
	if err := syscall.Mount("tmpfs", small, "tmpfs", 0, "size=8m"); err != nil {
		t.Skipf("a small file system cannot be mounted here (%v): ENOSPC is not tried", err)
	}
	t.Cleanup(func() { must(t, syscall.Unmount(small, 0)) })
	dir := filepath.Join(small, "models")
	c := open(t, catalog.Config{Dir: dir})
	m := add(t, c, ref, tiny(1))
	_, err := c.Put(t.Context(), catalog.Put{Ref: "hf:acme/big", From: write(t, "big.safetensors", safetensors(16<<20))})
	wantCode(t, "Put(16 MB on 8 MB)", err, catalog.InsufficientDisk)
	if n := partials(t, dir); n != 0 {
		t.Errorf("%d staged directories are left", n)
	}
	must(t, second(c.Ready(t.Context(), ref)))
	// Not even an index fits any more: the old one stands, on the disk and for readers.
	filler, err := os.Create(filepath.Join(small, "filler"))
	must(t, err)
	for err == nil {
		_, err = filler.Write(make([]byte, 4096))
	}
	must(t, filler.Close())
	if err := c.SetState(m.ID, catalog.Retired, m.AddedAt); err == nil {
		t.Error("SetState on a full disk was acknowledged")
	}
	must(t, second(c.Ready(t.Context(), ref)))
	must(t, c.Close())
	must(t, second(open(t, catalog.Config{Dir: dir}).Ready(t.Context(), ref)))
}
