package poolregistry

import (
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

func (l Limits) filled() Limits {
	for _, f := range []struct {
		v   *int
		def int
	}{{&l.Nodes, 10_000}, {&l.Pools, 64}, {&l.Workers, 64}, {&l.Models, 4096}, {&l.Events, 64}} {
		if *f.v == 0 {
			*f.v = f.def
		}
	}
	return l
}

func (c Config) filled() Config {
	c.Timing, c.Limits = c.Timing.filled(), c.Limits.filled()
	fill := func(d *time.Duration, def time.Duration) {
		if *d == 0 {
			*d = def
		}
	}
	fill(&c.RestartGrace, c.Timing.OfflineAfter)
	fill(&c.ForgetAfter, time.Hour)
	fill(&c.PublishEvery, 5*time.Millisecond)
	fill(&c.GuardMaxHold, 5*time.Minute)
	if c.GuardFloor == 0 {
		c.GuardFloor = 2
	}
	if c.GuardFraction == 0 {
		c.GuardFraction = 0.2
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}

// validate reports all faults of a filled Config together.
func (c Config) validate() error {
	errs := []error{c.Timing.Validate(), c.Address.validate()}
	bad := func(is bool, text string) {
		if is {
			errs = append(errs, errors.New(text))
		}
	}
	bad(c.Limits.Nodes < 1 || c.Limits.Nodes > 100_000, "limits.nodes: must be 1 to 100000")
	bad(min(c.Limits.Pools, c.Limits.Workers, c.Limits.Models, c.Limits.Events) < 1, "limits: must not be negative")
	bad(c.GuardFloor < 0, "guard_floor: must not be negative")
	bad(!(c.GuardFraction >= 0 && c.GuardFraction <= 1), "guard_fraction: must be 0 to 1")
	return errors.Join(errs...)
}
