//go:build linux

package gpuinfo_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/llorch/llorch/gpuinfo"
)

// fakeSMI writes a script that stands in for the tool; $DIR is its folder.
func fakeSMI(t *testing.T, body string, timeout time.Duration) (gpuinfo.Provider, string) {
	t.Helper()
	dir := t.TempDir()
	path := filepath.Join(dir, "nvidia-smi")
	if err := os.WriteFile(path, []byte("#!/bin/sh\nDIR="+dir+"\n"+body+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	return gpuinfo.NewSMIUnchecked(gpuinfo.AutoConfig{SMIPath: path, Timeout: timeout, MaxOutput: 4096}), dir
}

func snapshot(t *testing.T, p gpuinfo.Provider) gpuinfo.Snapshot {
	t.Helper()
	s, err := p.Snapshot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// gone waits until the process whose id a script left in file has vanished.
func gone(t *testing.T, file string) {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil {
		t.Fatal(err)
	}
	deadline := time.Now().Add(5 * time.Second)
	for time.Now().Before(deadline) {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil || strings.Contains(string(stat), ") Z ") {
			return // orphans are reaped by init, which a container may lack
		}
		runtime.Gosched()
	}
	t.Errorf("process %d still runs", pid)
}

func TestToolAnswers(t *testing.T) {
	p, dir := fakeSMI(t, `env | sort > $DIR/env; pwd > $DIR/cwd; printf '%s\n' "$@" > $DIR/args
echo "0, GPU-12340000-0000-1111-2222-333333333333, 00000000:01:00.0, 24576, 512, 23821, 243, 8.6, 550.54.14, [N/A], 41, 0, [N/A], None, RTX"`, 0)
	t.Setenv("LLORCH_SECRET", "do-not-inherit")
	s := snapshot(t, p)
	if s.Reason != gpuinfo.OK || s.Driver != "550.54.14" || s.Provider != "nvidia-smi" || s.At.IsZero() {
		t.Errorf("snapshot = %+v", s)
	}
	env, _ := os.ReadFile(filepath.Join(dir, "env"))
	if strings.Contains(string(env), "LLORCH") || !strings.Contains(string(env), "LC_ALL=C") {
		t.Errorf("GPU-7: environment of the tool:\n%s", env)
	}
	if cwd, _ := os.ReadFile(filepath.Join(dir, "cwd")); string(cwd) != "/\n" {
		t.Errorf("GPU-7: cwd = %q", cwd)
	}
	args, _ := os.ReadFile(filepath.Join(dir, "args"))
	if got := strings.Count(string(args), ","); got != gpuinfo.FieldCount()-1+2 {
		t.Errorf("GPU-9: %d commas in the arguments:\n%s", got, args)
	}
}

// TestTrap_FieldNotValid (GPU-9): old drivers do not know every field.
func TestTrap_FieldNotValid(t *testing.T) {
	p, dir := fakeSMI(t, `echo x >> $DIR/calls
case "$1" in
*gpu_recovery_action*) echo 'Field "gpu_recovery_action" is not a valid field to query.'; exit 2;;
*compute_cap*) echo 'Field "compute_cap" is not a valid field to query.'; exit 2;;
esac
echo "0, GPU-12340000-0000-1111-2222-333333333333, 00000000:01:00.0, 24576, 512, 23821, 243, 470.1, [N/A], 41, 0, [N/A], RTX"`, 0)
	s := snapshot(t, p)
	if s.Reason != gpuinfo.OK || s.Devices[0].Name != "RTX" || s.Devices[0].Compute != (gpuinfo.Capability{}) {
		t.Fatalf("snapshot = %+v", s)
	}
	snapshot(t, p)
	if calls, _ := os.ReadFile(filepath.Join(dir, "calls")); len(calls) != 2*4 {
		t.Errorf("%d calls, want 3 to find the fields and 1 with the fields found", len(calls)/2)
	}
}

func TestFieldFallbackEndsWithBasicSet(t *testing.T) {
	p, _ := fakeSMI(t, `case "$1" in
*memory.reserved*) echo 'Field "" is not a valid field to query.'; exit 2;;
esac
echo "0, GPU-12340000-0000-1111-2222-333333333333, 00000000:01:00.0, 24576, 512, 23821, 470.1, RTX"`, 0)
	if s := snapshot(t, p); s.Reason != gpuinfo.OK || s.Devices[0].Name != "RTX" {
		t.Errorf("snapshot = %+v", s)
	}
	p, dir := fakeSMI(t, `echo x >> $DIR/calls; echo 'Field "uuid" is not a valid field to query.'; exit 2`, 0)
	if s := snapshot(t, p); s.Reason != gpuinfo.Failed {
		t.Errorf("Reason = %s, want failed", s.Reason)
	}
	if calls, _ := os.ReadFile(filepath.Join(dir, "calls")); len(calls) > 2*6 {
		t.Errorf("%d calls: the fallback does not end", len(calls)/2)
	}
}

// gaveUp reports whether the tool was too slow. On a machine that is busy its end may
// be seen so late that it looks like a hung driver.
func gaveUp(s gpuinfo.Snapshot) bool {
	return s.Reason == gpuinfo.Timeout || s.Reason == gpuinfo.DriverHung
}

// TestTrap_HungDriver (GPU-8): a tool that does not answer costs the time limit, and
// takes its children with it.
func TestTrap_HungDriver(t *testing.T) {
	p, dir := fakeSMI(t, `trap '' TERM INT HUP; sleep 1000 & echo $! > $DIR/child; echo $$ > $DIR/self; wait; sleep 1000`, 300*time.Millisecond)
	start := time.Now()
	s := snapshot(t, p)
	if took := time.Since(start); took > 2*time.Second {
		t.Errorf("took %v", took)
	}
	if !gaveUp(s) {
		t.Errorf("Reason = %s, want timeout", s.Reason)
	}
	gone(t, filepath.Join(dir, "self"))
	gone(t, filepath.Join(dir, "child"))
}

func TestCancelledCallerGetsAnError(t *testing.T) {
	p, _ := fakeSMI(t, `sleep 1000`, 30*time.Second)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := p.Snapshot(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("err = %v, want the caller's deadline", err)
	}
}

func TestTooMuchOutput(t *testing.T) {
	for _, where := range []string{"", " >&2"} {
		p, dir := fakeSMI(t, `echo $$ > $DIR/self; exec yes "0, GPU-1, a, b, c, d, e"`+where, 30*time.Second)
		if s := snapshot(t, p); s.Reason != gpuinfo.ParseFailed {
			t.Errorf("Reason = %s, want parse_failed", s.Reason)
		}
		gone(t, filepath.Join(dir, "self"))
	}
}

// TestChildOfTheToolIsKilled: the tool ends, a child of it holds our pipe.
func TestChildOfTheToolIsKilled(t *testing.T) {
	p, dir := fakeSMI(t, `sleep 1000 & echo $! > $DIR/child; exit 9`, 10*time.Second)
	start := time.Now()
	if s := snapshot(t, p); s.Reason != gpuinfo.NoDriver {
		t.Errorf("Reason = %s, want no_driver", s.Reason)
	}
	if took := time.Since(start); took > 3*time.Second {
		t.Errorf("took %v: waited for the pipe", took)
	}
	gone(t, filepath.Join(dir, "child"))
}

// TestNoDescriptorLeak: files and goroutines are flat over many calls.
func TestNoDescriptorLeak(t *testing.T) {
	p, _ := fakeSMI(t, `exit 6`, 0)
	snapshot(t, p)
	count := func() int {
		entries, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(entries)
	}
	before := count()
	for range 20 {
		snapshot(t, p)
	}
	if after := count(); after > before+2 {
		t.Errorf("%d descriptors, %d before", after, before)
	}
}

// TestToolIsTrusted (GPU-6): what is not root's own file is not started.
func TestToolIsTrusted(t *testing.T) {
	dir := t.TempDir()
	writable := filepath.Join(dir, "writable")
	if err := os.WriteFile(writable, []byte("#!/bin/sh\ntouch "+dir+"/ran\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(writable, 0o777); err != nil {
		t.Fatal(err)
	}
	fifo := filepath.Join(dir, "fifo")
	if err := syscall.Mkfifo(fifo, 0o755); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]gpuinfo.Reason{
		"nvidia-smi": gpuinfo.Failed, dir + "/missing": gpuinfo.NoTool, dir: gpuinfo.Failed, writable: gpuinfo.Failed, fifo: gpuinfo.Failed,
	} {
		s, err := gpuinfo.Auto(gpuinfo.AutoConfig{SMIPath: path}).Snapshot(t.Context())
		if err != nil || s.Reason != want {
			t.Errorf("SMIPath %s: %s, %v; want %s", path, s.Reason, err, want)
		}
		if strings.Contains(s.Detail, dir) {
			t.Errorf("GPU-2: Detail names a path: %s", s.Detail)
		}
	}
	if _, err := os.Stat(dir + "/ran"); err == nil {
		t.Error("an untrusted file was started")
	}
}

func TestDisabledStartsNothing(t *testing.T) {
	s := snapshot(t, gpuinfo.Auto(gpuinfo.AutoConfig{Disable: true}))
	if s.Reason != gpuinfo.Disabled {
		t.Errorf("Reason = %s", s.Reason)
	}
}
