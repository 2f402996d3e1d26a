package fetch_test

import (
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
)

// TestDiskFull proves that a full disk is INSUFFICIENT_DISK and keeps what came:
// in a name space of its own, on a file system of 1 MiB (PCO-64).
func TestDiskFull(t *testing.T) {
	if dir := os.Getenv("LLORCH_TEST_DIR"); dir != "" {
		if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=1m"); err != nil {
			t.Skip("no mount here: ", err)
		}
		child(t)
		entries, err := os.ReadDir(dir)
		if err != nil || len(entries) != 2 {
			t.Errorf("left %v, %v", entries, err)
		}
		return
	}
	h := newHub(t, map[string][]byte{model: content(1, 4<<20)})
	cmd := childCommand("TestDiskFull", t.TempDir(), realHub(t, h))
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWNS | syscall.CLONE_NEWUSER,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
	}
	out, err := cmd.CombinedOutput()
	if _, ran := err.(*exec.ExitError); err != nil && !ran {
		t.Skip("no name spaces here: ", err)
	}
	switch text := string(out); {
	case strings.Contains(text, "no mount here"):
		t.Skip(text)
	case err != nil || !strings.Contains(text, "ended download model: INSUFFICIENT_DISK"):
		t.Errorf("%v\n%s", err, text)
	}
}
