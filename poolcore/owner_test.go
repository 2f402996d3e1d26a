package poolcore_test

import (
	"bufio"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
)

func startOwner(t *testing.T, dir string, faults ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, append([]string{"owner", dir}, faults...)...)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil || line != "ready <nil>\n" {
		t.Fatalf("the owner says %q, %v", line, err)
	}
	return cmd
}

// TestInterruptLeavesNothing: after Ctrl-C there is no process and no file.
func TestInterruptLeavesNothing(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "state")
	cmd := startOwner(t, dir, "grandchild", "grandchild-setsid")
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("the owner ended with %v", err)
	}
	if pids := processesIn(dir, "owned-"); len(pids) > 0 {
		t.Errorf("processes are left: %v", pids)
	}
	if names := leftFiles(dir); len(names) > 0 {
		t.Errorf("files are left: %v", names)
	}
}

// TestKilledOwnerTakesTheSimulatorAlong (PCO-20): an engine whose stdin we hold
// ends when we do, however that happens; what it left is cleared by the next owner.
func TestKilledOwnerTakesTheSimulatorAlong(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "state")
	cmd := startOwner(t, dir)
	if len(processesIn(dir, "owned-")) != 1 {
		t.Fatal("the engine does not run")
	}
	if err := cmd.Process.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	eventually(t, "the engine is gone", func() bool { return len(processesIn(dir, "owned-")) == 0 })
	again := startOwner(t, dir)
	if err := again.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if err := again.Wait(); err != nil {
		t.Errorf("the second owner ended with %v", err)
	}
	if names := leftFiles(dir); len(names) > 0 {
		t.Errorf("files are left: %v", names)
	}
}
