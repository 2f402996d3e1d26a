// Package nodeagent is the node's side of a registry: it registers, beats,
// registers again when it must, and leaves.
//
// Losing the lease stops nothing: engines stay loaded and running work goes on.
// The schedule that an operator wants comes with every answer and is repeated in
// beats and registrations, so that a registry without memory learns it again.
// Only a newer incarnation of the same node id ends Run, with
// poolregistry.LeaseFenced.
package nodeagent

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/llorch/llorch/inputvalidation"
	"github.com/llorch/llorch/poolregistry"
	"github.com/llorch/llorch/poolregistry/internal/instance"
)

// A Registrar is the registry as an agent sees it. *poolregistry.Registry is
// one, for a node in the same process.
type Registrar interface {
	Register(context.Context, poolregistry.Registration) (poolregistry.Grant, error)
	Beat(context.Context, poolregistry.Beat) (poolregistry.BeatReply, error)
	Leave(ctx context.Context, id poolregistry.NodeID, leaseToken string) error
}

var _ Registrar = (*poolregistry.Registry)(nil)

// A Config makes an [Agent].
type Config struct {
	// Orchestrators are the base URLs of the registry's replicas, tried in order,
	// the last good one first. Either these or Registrar are required.
	Orchestrators []string
	Registrar     Registrar
	// Token returns the bearer token for Orchestrators; it is asked for every
	// request, so that rotation needs no restart.
	Token func() string
	HTTP  *http.Client // for Orchestrators; nil = one with connection reuse. Redirects are never followed

	// Describe says who the node is: id, address, region, labels, version,
	// capabilities, pools. The agent adds instance, lease and epoch. Its context ends
	// after 5 s, and nothing is sent until it returns. Required.
	Describe func(context.Context) (poolregistry.Registration, error)
	// Snapshot returns how the node is: pools, GPUs and failures not reported
	// yet. It gets a quarter of the beat interval; if it is late, fails or panics
	// the last one is sent, as stale. A failure event without id gets the next one; one
	// whose id is not above the newest queued is dropped. Nil = only life.
	Snapshot func(context.Context) (poolregistry.Beat, error)
	// OnReply sees every answer, on the agent's goroutine: what the scheduler has
	// running here, the schedule that an operator wants, and how long a drain has
	// left. It must not block.
	OnReply func(poolregistry.BeatReply)

	// StateDir holds lease.json, so that a restarted node takes its id over at
	// once. Nil = no file: after a crash the id is free when the node is offline.
	StateDir *inputvalidation.Tree
	Logger   *slog.Logger // nil = none
}

// State says how the agent stands with the registry.
type State string

// The states of an agent.
const (
	Registering State = "registering"
	Online      State = "online"
	Lost        State = "lost"       // the registry must count the node as offline by now
	Superseded  State = "superseded" // a newer incarnation holds the node id
)

// Stats are counters of an agent. Outcomes are success, unauthorized, invalid,
// unknown, fenced, replayed, limited, error.
type Stats struct {
	Registrations   map[string]uint64 // by outcome
	Beats           map[string]uint64 // by outcome
	SnapshotsLate   uint64
	SnapshotsFailed uint64 // errors and panics
	EventsDropped   uint64 // oldest ones, because 64 were waiting
}

// An Agent keeps one node registered. Its methods are safe for concurrent use.
type Agent struct {
	cfg      Config
	reg      Registrar
	inside   bool                    // the registry is in this process
	file     inputvalidation.RelPath // of the lease, in StateDir
	instance string
	nudges   chan struct{}
	running  atomic.Bool

	// For tests of this package: the wall clock and the random spread in [0,1).
	wall func() time.Time
	rand func() float64

	// Owned by the goroutine of Run.
	lease  lease
	snap   snapshotter
	events events
	seq    uint64
	begun  time.Time
	slim   bool                  // under this lease beats leave out the models on disk
	asked  time.Time             // when the newest registration was sent
	warned []poolregistry.PoolID // unknown pools that led to a registration
	// wish is the schedule of the last reply. A registry that lost its memory learns
	// it from here. It is not in the lease file: while this node is down its
	// registry remembers, and an operator may open the node meanwhile.
	wish poolregistry.Schedule

	mu      sync.Mutex // guards what follows
	phase   State
	acked   time.Time // when the last acknowledged beat was sent
	timeout time.Duration
	active  map[poolregistry.PoolID]int
	stats   Stats
}

// New returns an Agent. It does no I/O. The error joins all faults of cfg.
func New(cfg Config) (*Agent, error) {
	var errs []error
	if (cfg.Registrar == nil) == (len(cfg.Orchestrators) == 0) {
		errs = append(errs, errors.New("nodeagent: either Orchestrators or Registrar is required"))
	}
	if cfg.Describe == nil {
		errs = append(errs, errors.New("nodeagent: Describe is required"))
	}
	cfg.Logger = cmp.Or(cfg.Logger, slog.New(slog.DiscardHandler))
	file, err := inputvalidation.ParseRelPath("lease", leaseFile)
	errs = append(errs, err)
	a := &Agent{
		cfg: cfg, file: file, reg: cfg.Registrar, inside: cfg.Registrar != nil, instance: instance.New(),
		nudges: make(chan struct{}, 1), wall: time.Now, rand: rand.Float64, phase: Registering,
		stats: Stats{Registrations: map[string]uint64{}, Beats: map[string]uint64{}},
	}
	if !a.inside && len(cfg.Orchestrators) > 0 {
		c, err := newClient(cfg)
		errs = append(errs, err)
		a.reg = c
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	a.snap.take = cfg.Snapshot
	return a, nil
}

// Nudge sends an extra beat now, because something changed. Nudges within 50 ms
// become one. It never blocks.
func (a *Agent) Nudge() {
	select {
	case a.nudges <- struct{}{}:
	default:
	}
}

// Active returns how many requests the scheduler had running in a pool when it
// answered the last beat.
func (a *Agent) Active(pool poolregistry.PoolID) int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.active[pool]
}

// State returns how the agent stands with the registry now.
func (a *Agent) State() State {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.phase == Online && time.Since(a.acked) >= a.timeout {
		return Lost
	}
	return a.phase
}

// Stats returns a copy of the counters.
func (a *Agent) Stats() Stats {
	a.mu.Lock()
	defer a.mu.Unlock()
	st := a.stats
	st.Registrations, st.Beats = maps.Clone(st.Registrations), maps.Clone(st.Beats)
	return st
}

func (a *Agent) set(s State) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.phase = s
}

// count changes a counter under the lock.
func (a *Agent) count(change func(*Stats)) {
	a.mu.Lock()
	defer a.mu.Unlock()
	change(&a.stats)
}

// Run registers and beats until ctx ends, then leaves within 5 s. It returns the
// cause of ctx, or poolregistry.LeaseFenced if a newer incarnation of this node
// id is alive. A second call is an error.
func (a *Agent) Run(ctx context.Context) error {
	if a.running.Swap(true) {
		return errors.New("nodeagent: Run was called before")
	}
	a.begun = time.Now()
	a.lease = a.loadLease(ctx)
	err := a.serve(ctx)
	a.snap.stop()
	if errors.Is(err, poolregistry.LeaseFenced) {
		a.set(Superseded)
		a.cfg.Logger.LogAttrs(ctx, slog.LevelError, "a newer incarnation of this node is alive: this one stops beating",
			slog.String("node", string(a.lease.NodeID)))
		return err
	}
	a.leave(ctx)
	return context.Cause(ctx)
}

// serve alternates between registering and beating.
func (a *Agent) serve(ctx context.Context) error {
	for {
		grant, err := a.register(ctx)
		if err != nil {
			return err
		}
		a.Nudge() // the first beat is sent at once
		again, err := a.beat(ctx, grant)
		if !again {
			return err
		}
	}
}

// leave gives the lease back; the file goes only when that was acknowledged.
func (a *Agent) leave(ctx context.Context) {
	if a.lease.Token == "" || !a.lease.granted {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	for range 2 {
		try, done := context.WithTimeout(ctx, 2500*time.Millisecond)
		err := a.reg.Leave(try, a.lease.NodeID, a.lease.Token)
		done()
		switch {
		case err == nil:
			a.removeLease(ctx)
			return
		case errors.Is(err, poolregistry.NodeUnknown):
			return // the file keeps the epoch for the next time
		}
		a.cfg.Logger.LogAttrs(ctx, slog.LevelWarn, "leave registry", slog.String("result", outcomeOf(err)), slog.Any("error", err))
	}
}
