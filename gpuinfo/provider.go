package gpuinfo

import (
	"cmp"
	"context"
	"errors"
	"io/fs"
	"iter"
	"log/slog"
	"os"
	"time"
)

// Provider takes snapshots. Snapshot's error means only that ctx ended or that the
// provider was closed ([ErrClosed]); everything else is a [Reason]. Implementations are safe for concurrent use and return a
// value that the caller may change.
type Provider interface {
	// Name is a short constant word for logs.
	Name() string
	Snapshot(ctx context.Context) (Snapshot, error)
}

// ProcessLister is implemented by providers that know who uses the devices.
type ProcessLister interface {
	// Processes returns who uses which device or slice. ErrUnsupported: this
	// machine does not tell.
	Processes(ctx context.Context) ([]Process, error)
}

// EventSource is implemented by providers that hear of faults as they happen.
type EventSource interface {
	// Events yields faults until ctx ends or the loop is left. An error ends the
	// sequence; ErrUnsupported: this machine does not tell.
	Events(ctx context.Context) iter.Seq2[Event, error]
}

// Event is a fault that a driver reported.
type Event struct {
	BusID, UUID string
	XID         int    // NVIDIA's code; 0: none
	Action      Action // what the event itself demands; "": look XID up
	At          time.Time
}

// Errors of providers.
var (
	ErrClosed      = errors.New("gpuinfo: provider is closed")
	ErrUnsupported = errors.New("gpuinfo: not supported by this provider")
)

// AutoConfig configures [Auto]; the zero value is right for most machines.
type AutoConfig struct {
	// SMIPath is the absolute path of nvidia-smi. Empty: the first trusted path
	// that exists. Either way the file must be regular, owned by root and not
	// writable by group or others.
	SMIPath string
	// Timeout limits one snapshot; 0 is 5 s, other values are clamped to 100 ms–30 s.
	Timeout time.Duration
	// MaxOutput limits what the tool may print; 0 is 1 MiB, clamped to 4 KiB–64 MiB.
	MaxOutput int
	// Root is where the files of the kernel are read: sys, proc and usr/share/libdrm;
	// nil is os.DirFS("/").
	Root fs.FS
	// APUs are PCI device ids of AMD processors with graphics, beyond those that this
	// package knows: their memory is a part of the host's.
	APUs []uint16
	// Disable makes every snapshot say Disabled and starts nothing.
	Disable bool
	// Logger gets raw tool output at debug level, quoted and cut to 1 KiB; nil discards.
	Logger *slog.Logger
}

// complete returns c with defaults and limits.
func (c AutoConfig) complete() AutoConfig {
	c.Timeout = min(max(cmp.Or(c.Timeout, 5*time.Second), 100*time.Millisecond), 30*time.Second)
	c.MaxOutput = min(max(cmp.Or(c.MaxOutput, 1<<20), 4<<10), 64<<20)
	if c.Root == nil {
		c.Root = os.DirFS("/")
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}

// Static returns a provider that always gives s, for tests and for machines whose
// inventory is known. An empty Reason is filled in from the devices.
func Static(s Snapshot) Provider {
	s = s.clone()
	if s.Reason == "" {
		if s.Reason = OK; !s.anyUsable() {
			s.Reason, s.Detail = NoDevice, cmp.Or(s.Detail, "no usable device is listed")
		}
	}
	s.Provider = cmp.Or(s.Provider, "static")
	return staticProvider{s}
}

type staticProvider struct{ s Snapshot }

func (p staticProvider) Name() string { return "static" }

func (p staticProvider) Snapshot(ctx context.Context) (Snapshot, error) {
	if err := ctx.Err(); err != nil {
		return Snapshot{}, err
	}
	s := p.s.clone()
	s.At = cmp.Or(s.At, time.Now().UTC())
	return s, nil
}
