// Package nvml is a gpuinfo.Provider that asks NVIDIA's management library instead
// of running nvidia-smi: snapshots within milliseconds, exact memory of MIG slices,
// processes, and faults as they happen.
//
// libnvidia-ml.so.1 is loaded by the first call of a method, never by importing this
// package, and on a machine without it the answer is gpuinfo.NoTool. It needs cgo to
// build; a program that is built without cgo gets a provider that always answers
// NoTool. The usual arrangement is gpuinfo.First(nvml, gpuinfo.Auto(...)).
//
// # Hanging drivers
//
// A call into a hung driver cannot be ended. All calls run on one goroutine with a
// thread of its own; callers stop waiting after Config.Timeout, and until the call
// returns every answer is gpuinfo.DriverHung at once. So at most one thread hangs.
//
// # Trust
//
// The library runs inside this process. With an empty Config.Library the dynamic
// loader finds it, which obeys LD_LIBRARY_PATH: whoever controls that variable or
// the loader's folders controls the process anyway.
package nvml

import (
	"cmp"
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/llorch/llorch/gpuinfo"
)

// Config configures [New]; the zero value is right for most machines.
type Config struct {
	// Library is the absolute path of libnvidia-ml.so.1; empty: the loader finds it.
	Library string
	// Timeout limits how long a caller waits; 0 is 5 s, other values are clamped to
	// 100 ms–30 s.
	Timeout time.Duration
	// Root is where /proc and /sys are read for machines whose GPU shares the memory
	// of the host; nil is os.DirFS("/").
	Root fs.FS
	// Logger gets what the library answered to a failed call, at debug level; nil discards.
	Logger *slog.Logger
}

func (cfg *Config) complete() error {
	if cfg.Library != "" && !filepath.IsAbs(cfg.Library) {
		return errors.New("gpuinfo/nvml: Library is not an absolute path")
	}
	cfg.Timeout = min(max(cmp.Or(cfg.Timeout, 5*time.Second), 100*time.Millisecond), 30*time.Second)
	if cfg.Root == nil {
		cfg.Root = os.DirFS("/")
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	return nil
}

// Name is "nvml".
func (p *Provider) Name() string { return "nvml" }

// Snapshot asks the library. Its errors are the context's and gpuinfo.ErrClosed.
func (p *Provider) Snapshot(ctx context.Context) (gpuinfo.Snapshot, error) {
	start := time.Now()
	s, err := p.take(ctx)
	if err != nil {
		return gpuinfo.Snapshot{}, err
	}
	s.Provider, s.At, s.Took = p.Name(), start.UTC().Round(0), time.Since(start).Round(time.Millisecond)
	return s, nil
}
