//go:build !linux || !cgo

package nvml

import (
	"context"
	"iter"
	"runtime"
	"sync/atomic"

	"github.com/llorch/llorch/gpuinfo"
)

// Provider stands in for the real one in programs that were built without cgo. It is
// safe for concurrent use.
type Provider struct{ closed atomic.Bool }

// New returns a provider that always says why there is no answer.
func New(cfg Config) (*Provider, error) {
	if err := cfg.complete(); err != nil {
		return nil, err
	}
	return &Provider{}, nil
}

func (p *Provider) take(ctx context.Context) (gpuinfo.Snapshot, error) {
	switch {
	case ctx.Err() != nil:
		return gpuinfo.Snapshot{}, ctx.Err()
	case p.closed.Load():
		return gpuinfo.Snapshot{}, gpuinfo.ErrClosed
	case runtime.GOOS != "linux":
		return gpuinfo.Snapshot{Reason: gpuinfo.NoDevice, Detail: "GPU discovery works on Linux only"}, nil
	}
	return gpuinfo.Snapshot{Reason: gpuinfo.NoTool, Detail: "built without cgo"}, nil
}

// Processes answers gpuinfo.ErrUnsupported.
func (p *Provider) Processes(ctx context.Context) ([]gpuinfo.Process, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return nil, gpuinfo.ErrUnsupported
}

// Events answers gpuinfo.ErrUnsupported.
func (p *Provider) Events(context.Context) iter.Seq2[gpuinfo.Event, error] {
	return func(yield func(gpuinfo.Event, error) bool) { yield(gpuinfo.Event{}, gpuinfo.ErrUnsupported) }
}

// Close makes every later Snapshot answer gpuinfo.ErrClosed.
func (p *Provider) Close() error {
	p.closed.Store(true)
	return nil
}
