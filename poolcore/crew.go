package poolcore

import (
	"context"
	"time"

	"github.com/llorch/llorch/poolcore/engine"
	"github.com/llorch/llorch/poolregistry"
)

// crew carries out what the loops decide. Its methods are safe for concurrent use;
// the loops' tests bring their own.
type crew interface {
	// stage proves, without disturbing anything, that c can run: its model is there
	// and verified, and the preflight finds no fault. inPlace: devices, port and
	// memory that pool c.ID holds now count as free.
	stage(ctx context.Context, c PoolConfig, k engine.Kind, inPlace bool) *failure
	// spawn starts a worker or leaves nothing behind. It waits up to 10 s for the
	// memory of a predecessor in the same place.
	spawn(ctx context.Context, c PoolConfig, k engine.Kind, at int, gen uint64) (*worker, *failure)
	// wait blocks until the worker's group is gone and reaped, and says why it went.
	wait(w *worker) failure
	probe(ctx context.Context, w *worker) probe
	// stop ends a worker; false: it survives SIGKILL.
	stop(w *worker, grace time.Duration) bool
	// announce writes the worker's handoff file, or removes it. Errors are logged.
	announce(w *worker, c PoolConfig, on bool)
	// journal makes a reload's phase durable before it returns; nil removes it.
	journal(pool poolregistry.PoolID, j *reloadJournal) error
	// purge removes what r names; the pool's engines are gone if r.engine.
	purge(ctx context.Context, pool poolregistry.PoolID, r purgeWork) error
}

// probe is one answer of a worker.
type probe struct {
	failed  bool // no answer, or not one of this kind of engine
	ready   bool
	foreign bool     // it answers under another name, or another process does
	crowded bool     // it refuses for want of capacity: alive, and says nothing else
	detail  string   // the engine's word for its state
	slots   int      // 0: not told
	busy    *int     // slots in use by the engine's own report; nil: not told
	grew    bool     // log, bytes read, counters or memory advanced since the last probe
	version string   // of the engine; "": not told
	fault   *failure // ends the worker: mask_violation, partial_offload, version_mismatch
}

// reloadJournal is what a restart of the program needs to complete a reload.
type reloadJournal struct {
	Pool  string     `json:"pool"`
	From  PoolConfig `json:"from"`
	To    PoolConfig `json:"to"`
	Phase string     `json:"phase"` // alongside, draining, switching, rollback
}

// purgeWork is what a purge removes.
type purgeWork struct {
	engine bool     // logs, private directories and caches of the pool's engines
	models []string // from the catalogue
	caches bool     // partial downloads and temporary files
	force  bool     // also models that other pools use
}

// adopted is an engine that an earlier run of the program left alive. Whether it
// is what its record says is still to be proved by a probe.
type adopted struct {
	cfg  PoolConfig
	kind engine.Kind
	at   int
	w    *worker
}
