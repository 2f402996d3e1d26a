//go:build linux

package gpuinfo_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/llorch/llorch/gpuinfo"
)

// TestToolExitCodes runs a process for each code of GPU-10.
func TestToolExitCodes(t *testing.T) {
	p, dir := fakeSMI(t, `cat $DIR/out; cat $DIR/err >&2; exit $(cat $DIR/code)`, 0)
	for _, c := range []struct {
		code     int
		out, err string
		want     gpuinfo.Reason
	}{
		{0, "", "", gpuinfo.NoDevice},
		{2, "", "Invalid combination of input arguments.", gpuinfo.Failed},
		{3, "", "", gpuinfo.Failed},
		{4, "", "Insufficient permissions", gpuinfo.Permission},
		{6, "No devices were found", "", gpuinfo.NoDevice},
		{9, "NVIDIA-SMI has failed because it could not communicate", "", gpuinfo.NoDriver},
		{12, "", "", gpuinfo.NoDriver},
		{13, "", "", gpuinfo.NoDriver},
		{15, "0, GPU-12340000-0000-1111-2222-333333333333, 00000000:01:00.0" + rtx3090Row, "Unable to determine the device handle", gpuinfo.OK},
		{18, "Failed to initialize NVML: Driver/library version mismatch", "", gpuinfo.DriverMismatch},
		{1, "Failed to initialize NVML: Driver/library Version Mismatch", "", gpuinfo.DriverMismatch},
		{126, "", "", gpuinfo.Failed},
		{255, "", "", gpuinfo.Failed},
	} {
		for name, text := range map[string]string{"out": c.out, "err": c.err, "code": fmt.Sprint(c.code)} {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if s := snapshot(t, p); s.Reason != c.want {
			t.Errorf("exit %d: Reason = %s (%s), want %s", c.code, s.Reason, s.Detail, c.want)
		}
	}
	p, _ = fakeSMI(t, `kill -SEGV $$`, 0)
	if s := snapshot(t, p); s.Reason != gpuinfo.Failed {
		t.Errorf("a tool that crashes: %s", s.Reason)
	}
	dir2 := t.TempDir()
	path := filepath.Join(dir2, "nvidia-smi")
	if err := os.WriteFile(path, []byte("not a program"), 0o755); err != nil {
		t.Fatal(err)
	}
	s := snapshot(t, gpuinfo.NewSMIUnchecked(gpuinfo.AutoConfig{SMIPath: path}))
	if s.Reason != gpuinfo.Failed || s.Detail != "nvidia-smi could not be started (errno 8)" {
		t.Errorf("not a program: %s %q", s.Reason, s.Detail)
	}
}

// TestToolClosesItsOutputEarly (GPU-8): the end of the output is not the end of the tool.
func TestToolClosesItsOutputEarly(t *testing.T) {
	row := `echo "0, GPU-12340000-0000-1111-2222-333333333333, 00000000:01:00.0` + rtx3090Row + `"`
	p, dir := fakeSMI(t, `echo $$ > $DIR/self; `+row+`; exec >&- 2>&-; sleep 1000`, 200*time.Millisecond)
	if s := snapshot(t, p); !gaveUp(s) {
		t.Errorf("Reason = %s, want timeout", s.Reason)
	}
	gone(t, filepath.Join(dir, "self"))
	p, _ = fakeSMI(t, row+`; exec >&- 2>&-; exit 0`, 0)
	if s := snapshot(t, p); s.Reason != gpuinfo.OK {
		t.Errorf("Reason = %s, want ok", s.Reason)
	}
}

// TestOutputKeptOpenByAnother (GPU-8, GPU-10): a process that left the tool's group
// and holds its output does not cost the rows that the tool had printed.
func TestOutputKeptOpenByAnother(t *testing.T) {
	if _, err := exec.LookPath("setsid"); err != nil {
		t.Skip("no setsid")
	}
	p, dir := fakeSMI(t, `echo "0, GPU-12340000-0000-1111-2222-333333333333, 00000000:01:00.0`+rtx3090Row+`"
export DIR; setsid sh -c 'echo $$ > $DIR/other.tmp; mv $DIR/other.tmp $DIR/other; exec sleep 1000' &
while [ ! -e $DIR/other ]; do :; done`, 0)
	s := snapshot(t, p)
	text, err := os.ReadFile(filepath.Join(dir, "other"))
	if err != nil {
		t.Fatal(err)
	}
	if pid, err := strconv.Atoi(strings.TrimSpace(string(text))); err != nil || syscall.Kill(pid, syscall.SIGKILL) != nil {
		t.Errorf("the other process %q is not there", text)
	}
	if s.Reason != gpuinfo.OK {
		t.Errorf("%s (%s), want ok", s.Reason, s.Detail)
	}
}

// TestOneToolAtATime (GPU-8): concurrent callers never run two children at once.
func TestOneToolAtATime(t *testing.T) {
	p, dir := fakeSMI(t, `mkdir $DIR/running || touch $DIR/overlap
echo x >> $DIR/calls
rmdir $DIR/running; exit 6`, 0)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if s, err := p.Snapshot(t.Context()); err != nil || s.Reason != gpuinfo.NoDevice {
				t.Errorf("%s, %v", s.Reason, err)
			}
		})
	}
	wg.Wait()
	if _, err := os.Stat(filepath.Join(dir, "overlap")); err == nil {
		t.Error("two children ran at once")
	}
	if calls, _ := os.ReadFile(filepath.Join(dir, "calls")); len(calls) != 2*8 {
		t.Errorf("%d calls, want 8", len(calls)/2)
	}
}

// TestCancellationKills (GPU-8): the group dies with the caller's patience.
func TestCancellationKills(t *testing.T) {
	p, dir := fakeSMI(t, `sleep 1000 & echo $! > $DIR/child.tmp; mv $DIR/child.tmp $DIR/child; echo $$ > $DIR/self.tmp; mv $DIR/self.tmp $DIR/self; wait`, 30*time.Second)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() {
		for ctx.Err() == nil {
			if _, err := os.Stat(filepath.Join(dir, "self")); err == nil {
				cancel()
			}
			runtime.Gosched()
		}
	}()
	start := time.Now()
	if _, err := p.Snapshot(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("err = %v, want the caller's", err)
	}
	if took := time.Since(start); took > 15*time.Second {
		t.Errorf("returned after %v", took)
	}
	gone(t, filepath.Join(dir, "self"))
	gone(t, filepath.Join(dir, "child"))
}

// TestNoGoroutineLeak: after timeouts, floods and failures the count is flat.
func TestNoGoroutineLeak(t *testing.T) {
	before := runtime.NumGoroutine()
	for _, body := range []string{"exec sleep 1000", "exec yes", "exit 6", "sleep 1000 & exit 9"} {
		p, _ := fakeSMI(t, body, 100*time.Millisecond)
		snapshot(t, p)
	}
	deadline := time.Now().Add(10 * time.Second)
	for runtime.NumGoroutine() > before {
		if time.Now().After(deadline) {
			t.Fatalf("%d goroutines, %d before", runtime.NumGoroutine(), before)
		}
		runtime.Gosched()
	}
}

// TestRawOutputOnlyAtDebug (GPU-2): the log gets it quoted and cut to 1 KiB, at debug only.
func TestRawOutputOnlyAtDebug(t *testing.T) {
	for _, level := range []slog.Level{slog.LevelDebug, slog.LevelInfo} {
		var log bytes.Buffer
		dir := t.TempDir()
		path := filepath.Join(dir, "nvidia-smi")
		script := "#!/bin/sh\nprintf '\\033[31mout-word\\n'; head -c 3000 /dev/zero | tr '\\0' z; printf 'err-word' >&2; exit 3\n"
		if err := os.WriteFile(path, []byte(script), 0o755); err != nil {
			t.Fatal(err)
		}
		p := gpuinfo.NewSMIUnchecked(gpuinfo.AutoConfig{SMIPath: path, Logger: slog.New(slog.NewJSONHandler(&log, &slog.HandlerOptions{Level: level}))})
		snapshot(t, p)
		text := log.String()
		if level == slog.LevelInfo {
			if text != "" {
				t.Errorf("logged above debug: %s", text)
			}
			continue
		}
		if !strings.Contains(text, "out-word") || !strings.Contains(text, "err-word") || strings.Contains(text, "\x1b") {
			t.Errorf("debug log = %q", text)
		}
		if n := strings.Count(text, "z"); n > 1024 || n < 900 {
			t.Errorf("%d bytes of padding logged, want 1 KiB in all", n)
		}
	}
}

// TestFieldsAfterDriverChange (GPU-9): a working set is kept until the driver changes.
func TestFieldsAfterDriverChange(t *testing.T) {
	p, dir := fakeSMI(t, `echo "$1" >> $DIR/calls
V=$(cat $DIR/version)
case "$V,$1" in
470*compute_cap*) echo 'Field "compute_cap" is not a valid field to query.'; exit 2;;
470*) echo "0, GPU-12340000-0000-1111-2222-333333333333, 00000000:01:00.0, 24576, 512, 23821, 243, $V, [N/A], 41, 0, [N/A], None, RTX";;
*compute_cap*) echo "0, GPU-12340000-0000-1111-2222-333333333333, 00000000:01:00.0, 24576, 512, 23821, 243, 8.6, $V, [N/A], 41, 0, [N/A], None, RTX";;
*) echo "0, GPU-12340000-0000-1111-2222-333333333333, 00000000:01:00.0, 24576, 512, 23821, 243, $V, [N/A], 41, 0, [N/A], None, RTX";;
esac`, 0)
	calls := func(version string) (gpuinfo.Snapshot, int) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, "version"), []byte(version), 0o600); err != nil {
			t.Fatal(err)
		}
		before, _ := os.ReadFile(filepath.Join(dir, "calls"))
		s := snapshot(t, p)
		after, _ := os.ReadFile(filepath.Join(dir, "calls"))
		return s, strings.Count(string(after[len(before):]), "\n")
	}
	for i, c := range []struct {
		version string
		calls   int
		known   bool // the compute capability
	}{{"470.1", 2, false}, {"470.1", 1, false}, {"550.1", 1, false}, {"550.1", 1, true}, {"550.1", 1, true}} {
		if s, n := calls(c.version); n != c.calls || s.Reason != gpuinfo.OK || s.Driver != c.version || s.Devices[0].Compute.AtLeast(8, 6) != c.known {
			t.Errorf("call %d with driver %s: %d calls of the tool, %+v; want %d, capability known: %v", i, c.version, n, s, c.calls, c.known)
		}
	}
}
