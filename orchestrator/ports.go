package orchestrator

import (
	"context"
	"fmt"
	"iter"
	"log/slog"
	"time"

	"github.com/llorch/llorch/audit"
	"github.com/llorch/llorch/orchestrator/placement"
	"github.com/llorch/llorch/poolregistry"
)

// Pools says which workers there are.
type Pools interface {
	// Watch yields the newest list at once and again whenever it changed, until
	// ctx ends. A published Worker is never written again. A slow reader skips lists.
	Watch(ctx context.Context) iter.Seq[[]*placement.Worker]
}

// listener is implemented by sources that want to know which nodes a running call
// hears from. Heard must not block; it comes at most twice a second per call.
type listener interface{ Heard(node string) }

// heardEvery bounds how often one call says that its node lives.
const heardEvery = 500 * time.Millisecond

// PoolControl reaches the programs that run the workers.
type PoolControl interface {
	// Do begins a command. Every command is idempotent: given again while it runs
	// it answers with the same operation. Errors are *[taskapi.Error].
	Do(ctx context.Context, pool poolregistry.PoolKey, c Command) (Operation, error)
	// Operation returns how an operation stands.
	Operation(ctx context.Context, id string) (Operation, error)
	// Workers returns how to dial the workers of a pool. It is asked once per
	// worker, and again after a worker refused its credentials; the answer is
	// kept in memory only (ORC-411).
	Workers(ctx context.Context, pool poolregistry.PoolKey) ([]WorkerAccess, error)
}

// WorkerAccess is the address and credential of one worker. fmt, slog,
// encoding/json and encoding/xml leave the token out.
type WorkerAccess struct {
	Worker string
	URL    string
	Token  string `json:"-" xml:"-"` // "" = none
}

// Format writes the access without its token.
func (w WorkerAccess) Format(f fmt.State, _ rune) {
	fmt.Fprintf(f, "worker access{%q %q}", w.Worker, w.URL)
}

// LogValue returns the access without its token.
func (w WorkerAccess) LogValue() slog.Value { return slog.StringValue(fmt.Sprint(w)) }

// Recorder takes audit events. *audit.Log is one.
type Recorder interface {
	// Emit queues an event and never waits for the disk.
	Emit(ctx context.Context, e audit.Event) (audit.Ticket, error)
	// Append returns when the event is on stable storage.
	Append(ctx context.Context, e audit.Event) (audit.Receipt, error)
}

// Command is what a pool is asked to do.
type Command struct {
	Do     string        // preload, drain, undrain, reload, restart, purge, verify
	Model  string        // of reload, purge and verify
	Digest string        // of verify
	Within time.Duration // of drain; 0 = 30 s
	Force  bool
}

// Operation is a command that takes a while; it is polled.
type Operation struct {
	ID           string // node-qualified
	Pool         poolregistry.PoolKey
	Do           string
	State        string // queued, running, done, failed, cancelled
	Phase        string
	Bytes, Total int64  // progress; Total −1 = unknown
	Code         string // of a failed one
	Result       any    // of verify: pass, warn or fail
}
