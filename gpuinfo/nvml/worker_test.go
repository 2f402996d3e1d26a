//go:build linux && cgo

package nvml_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	gonvml "github.com/NVIDIA/go-nvml/pkg/nvml"
	"github.com/llorch/llorch/gpuinfo"
	"github.com/llorch/llorch/gpuinfo/gpuinfotest"
	"github.com/llorch/llorch/gpuinfo/nvml"
)

// TestRetry (GPU-20): nothing is loaded before the first call, a failure is asked
// again after 10 s and not before, and success needs no second start.
func TestRetry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := h100()
		l.init = gonvml.ERROR_DRIVER_NOT_LOADED
		p := open(t, l, nvml.Config{})
		if l.inits != 0 {
			t.Error("New starts the library")
		}
		for range 5 {
			if s := snapshot(t, p); s.Reason != gpuinfo.NoDriver {
				t.Errorf("reason %s", s.Reason)
			}
		}
		time.Sleep(10*time.Second - time.Nanosecond)
		snapshot(t, p)
		if l.inits != 1 {
			t.Errorf("started %d times within 10 s", l.inits)
		}
		l.init = gonvml.SUCCESS
		time.Sleep(time.Nanosecond)
		if s := snapshot(t, p); s.Reason != gpuinfo.OK || l.inits != 2 {
			t.Errorf("after 10 s: %s, started %d times", s.Reason, l.inits)
		}
		time.Sleep(time.Hour)
		if snapshot(t, p); l.inits != 2 {
			t.Error("a library that works is started again")
		}
		l.count = gonvml.ERROR_DRIVER_NOT_LOADED // unloaded below us
		if s := snapshot(t, p); s.Reason != gpuinfo.NoDriver || l.downs != 1 {
			t.Errorf("driver gone: %s, shut down %d times", s.Reason, l.downs)
		}
		l.count = gonvml.SUCCESS
		time.Sleep(10 * time.Second)
		if s := snapshot(t, p); s.Reason != gpuinfo.OK || l.inits != 3 {
			t.Errorf("driver back: %s, started %d times", s.Reason, l.inits)
		}
		if err := p.Close(); err != nil || l.downs != 2 {
			t.Errorf("Close = %v, shut down %d times", err, l.downs)
		}
	})
}

// TestHang (GPU-22): a call longer than the time limit makes every answer
// DriverHung, at once, until it returns; there is one goroutine for all calls.
func TestHang(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := h100()
		l.block = make(chan struct{})
		p := open(t, l, nvml.Config{})
		start := time.Now()
		if s := snapshot(t, p); s.Reason != gpuinfo.DriverHung || time.Since(start) != 5*time.Second || s.Took != 5*time.Second {
			t.Errorf("%s after %v", s.Reason, time.Since(start))
		}
		time.Sleep(time.Second)
		start = time.Now()
		if s := snapshot(t, p); s.Reason != gpuinfo.DriverHung || time.Since(start) != 0 || s.Detail != "the driver has not answered for 6000 ms" {
			t.Errorf("%s %q after %v", s.Reason, s.Detail, time.Since(start))
		}
		if _, err := p.Processes(t.Context()); err == nil {
			t.Error("Processes of a hung driver went well")
		}
		close(locked(l, func() chan struct{} { b := l.block; l.block = nil; return b }))
		synctest.Wait()
		if s := snapshot(t, p); s.Reason != gpuinfo.OK {
			t.Errorf("after the hang: %s %s", s.Reason, s.Detail)
		}
	})
}

// TestHangWithWaiters (GPU-22): callers that queue behind a hanging call, and those
// whose context ends, are let go in time; Close does not wait for ever.
func TestHangWithWaiters(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := h100()
		l.block = make(chan struct{})
		p := open(t, l, nvml.Config{Timeout: time.Second})
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() {
				if s := snapshot(t, p); s.Reason != gpuinfo.DriverHung && s.Reason != gpuinfo.Timeout {
					t.Errorf("reason %s", s.Reason)
				}
			})
		}
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		if _, err := p.Snapshot(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("err = %v", err)
		}
		start := time.Now()
		wg.Wait()
		if took := time.Since(start); took > time.Second {
			t.Errorf("callers waited %v", took)
		}
		start = time.Now()
		if err := p.Close(); err != nil || time.Since(start) != time.Second {
			t.Errorf("Close = %v after %v", err, time.Since(start))
		}
		if _, err := p.Snapshot(t.Context()); !errors.Is(err, gpuinfo.ErrClosed) {
			t.Errorf("after Close: %v", err)
		}
		close(l.block)
	})
}

// TestTrap_NVMLInitCrash: a symbol that an old library lacks is looked up and never
// called; a machine without the library has an answer (GPU-22, GPU-20).
func TestTrap_NVMLInitCrash(t *testing.T) {
	symbols := []string{
		"nvmlSystemGetDriverVersion", "nvmlDeviceGetUUID", "nvmlDeviceGetName", "nvmlDeviceGetPciInfo_v3", "nvmlDeviceGetCudaComputeCapability",
		"nvmlDeviceGetMemoryInfo", "nvmlDeviceGetMemoryInfo_v2", "nvmlDeviceGetAddressingMode", "nvmlDeviceGetTemperature", "nvmlDeviceGetUtilizationRates",
		"nvmlDeviceGetTotalEccErrors", "nvmlDeviceGetFieldValues", "nvmlDeviceGetMigMode", "nvmlDeviceGetMaxMigDeviceCount", "nvmlDeviceGetMigDeviceHandleByIndex",
		"nvmlDeviceGetGpuInstanceId", "nvmlDeviceGetComputeInstanceId", "nvmlDeviceGetAttributes_v2", "nvmlSystemGetProcessName",
		"nvmlDeviceGetComputeRunningProcesses", "nvmlEventSetCreate", "nvmlEventSetWait_v2", "nvmlEventSetFree", "nvmlDeviceRegisterEvents", "nvmlDeviceGetSupportedEventTypes",
	}
	for _, missing := range append(symbols, "all") {
		l := h100()
		l.LookupSymbolFunc = func(symbol string) error {
			if !slices.Contains(symbols, symbol) && !strings.HasPrefix(symbol, "nvmlDeviceGetComputeRunningProcesses") {
				t.Errorf("an unlisted symbol is used: %s", symbol)
			}
			if symbol == missing || missing == "all" {
				return errors.New("undefined symbol")
			}
			return nil
		}
		l.forget(missing)
		p := open(t, l, nvml.Config{})
		s := snapshot(t, p)
		if err := gpuinfotest.CheckSnapshot(s); err != nil {
			t.Errorf("without %s: %v", missing, err)
		}
		if missing != "all" && len(s.Devices) != 2 {
			t.Errorf("without %s: %+v", missing, s)
		}
		if _, err := p.Processes(t.Context()); err != nil && !errors.Is(err, gpuinfo.ErrUnsupported) {
			t.Errorf("without %s: Processes: %v", missing, err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		for range p.Events(ctx) {
			t.Error("an event")
		}
	}
	p, err := nvml.New(nvml.Config{Library: "/nonexistent/libnvidia-ml.so.1"})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if s := snapshot(t, p); s.Reason != gpuinfo.NoTool || s.Detail != "libnvidia-ml was not found" {
		t.Errorf("without a library: %+v", s)
	}
}

// TestConfig: faults of the configuration are found by New.
func TestConfig(t *testing.T) {
	if _, err := nvml.New(nvml.Config{Library: "libnvidia-ml.so.1"}); err == nil || strings.Contains(err.Error(), "libnvidia-ml.so") {
		t.Errorf("relative path: %v", err)
	}
}
