package poolregistry

import (
	"cmp"
	"errors"
	"log/slog"
	"time"
)

// A Config makes a [Registry]. The zero Config is that of one machine or one
// private network: default timing, private addresses.
type Config struct {
	Timing  Timing
	Address AddressPolicy
	Limits  Limits

	// RestartGrace is how long after New no node goes offline; 0 = OfflineAfter,
	// negative = none.
	RestartGrace time.Duration
	// ForgetAfter is how long an offline node is remembered; 0 = 1 h, negative =
	// for ever.
	ForgetAfter time.Duration
	// PublishEvery bounds how often changed content is published; 0 = 5 ms,
	// negative = at once. Liveness and membership are always published at once.
	PublishEvery time.Duration

	// The guard trips when more nodes than GuardFloor, and more than GuardFraction
	// of those online before, are about to go offline together.
	GuardFloor    int           // 0 = 2
	GuardFraction float64       // 0 to 1; 0 = 0.2
	GuardMaxHold  time.Duration // 0 = 5 min, negative: only ReleaseGuard ends it

	// Active returns the work that the scheduler has on a node now; it is the
	// answer to every beat. It is called without a lock and may call back into
	// the registry; the map must not change afterwards. Nil = none.
	Active func(NodeID) map[PoolID]int

	Logger *slog.Logger // nil = none
}

// Limits bound what nodes may make the registry hold.
type Limits struct {
	Nodes   int // 0 = 10 000; at most 100 000
	Pools   int // per node; 0 = 64
	Workers int // per pool; 0 = 64
	Models  int // per pool; 0 = 4096
	Events  int // per beat; 0 = 64
}

func (c Config) filled() Config {
	c.Timing = c.Timing.filled()
	c.Limits.Nodes = cmp.Or(c.Limits.Nodes, 10_000)
	c.Limits.Pools = cmp.Or(c.Limits.Pools, 64)
	c.Limits.Workers = cmp.Or(c.Limits.Workers, 64)
	c.Limits.Models = cmp.Or(c.Limits.Models, 4096)
	c.Limits.Events = cmp.Or(c.Limits.Events, 64)
	c.RestartGrace = cmp.Or(c.RestartGrace, c.Timing.OfflineAfter)
	c.ForgetAfter = cmp.Or(c.ForgetAfter, time.Hour)
	c.PublishEvery = cmp.Or(c.PublishEvery, 5*time.Millisecond)
	c.GuardFloor = cmp.Or(c.GuardFloor, 2)
	c.GuardFraction = cmp.Or(c.GuardFraction, 0.2)
	c.GuardMaxHold = cmp.Or(c.GuardMaxHold, 5*time.Minute)
	c.Logger = cmp.Or(c.Logger, slog.New(slog.DiscardHandler))
	return c
}

// validate reports all faults of a filled Config together.
func (c Config) validate() error {
	errs := faults{c.Timing.Validate(), c.Address.validate()}
	errs.add(c.Limits.Nodes < 1 || c.Limits.Nodes > 100_000, "limits.nodes: must be 1 to 100000")
	errs.add(min(c.Limits.Pools, c.Limits.Workers, c.Limits.Models, c.Limits.Events) < 1, "limits: must not be negative")
	errs.add(c.GuardFloor < 0, "guard_floor: must not be negative")
	errs.add(!(c.GuardFraction >= 0 && c.GuardFraction <= 1), "guard_fraction: must be 0 to 1")
	return errors.Join(errs...)
}

// faults collects what is wrong with a configuration.
type faults []error

func (f *faults) add(is bool, text string) {
	if is {
		*f = append(*f, errors.New(text))
	}
}
