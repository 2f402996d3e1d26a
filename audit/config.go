package audit

import (
	"errors"
	"log/slog"
	"regexp"
	"time"
)

// FlushMode says when written events are synced. The zero value is
// [FlushImmediate].
type FlushMode uint8

// The flush modes. Whatever the mode, nobody who waits for durability waits
// for a timer.
const (
	// FlushImmediate syncs every batch.
	FlushImmediate FlushMode = iota
	// FlushBatched syncs when BatchEvents events are unsynced or BatchDelay has
	// passed since the first of them.
	FlushBatched
	// FlushHybrid syncs a batch with a critical event at once, others as
	// FlushBatched does.
	FlushHybrid
)

// Config says where and how to log. Dir and Service are required unless
// Disabled is set; every other zero value is a sensible default.
type Config struct {
	// Dir is the directory of the log, made with mode 0700 if it is absent. One
	// Log owns it at a time.
	Dir string
	// Service is the name of the program that logs, ^[a-z0-9][a-z0-9._-]{0,63}$.
	Service string
	// Version is the program's own version, told in audit.started; "" = "unknown".
	Version string
	// Disabled gives a log without directory and goroutine that accepts
	// everything and keeps nothing.
	Disabled bool
	// Origin names this log among all logs, at most 255 bytes without spaces.
	// "" = "<hostname>/<service>/<8 hex digits>", made once and kept.
	Origin string
	// Types is what may be emitted: events.Types(), your own, or both.
	Types []TypeInfo

	Flush FlushMode
	// BatchEvents, 1 to 100,000, and BatchDelay, 1 ms to 1 min, bound what
	// FlushBatched and FlushHybrid leave unsynced. 0 = 100 and 1 s.
	BatchEvents int
	BatchDelay  time.Duration

	// QueueEvents, 16 to 1<<20, and QueueBytes, at least 64 KiB, bound what
	// waits for the disk. 0 = 1,000 and 10 MiB. Critical events have a tenth
	// more to themselves, and room for one line at least.
	QueueEvents int
	QueueBytes  int64
	// RefuseWhenFull makes a critical event without room fail at once with
	// ErrQueueFull. Otherwise it waits up to MaxWait, at most 1 min; 0 = 100 ms.
	RefuseWhenFull bool
	MaxWait        time.Duration

	// RotateBytes, 64 KiB to 4 GiB, starts a new file before a line that would
	// pass it. 0 = 100 MiB; -1 = a new file each day only.
	RotateBytes int64
	// MinFree is the free space in bytes below which routine events are
	// dropped. 0 = 64 MiB; -1 = none.
	MinFree int64

	// Logger gets the log's own troubles, never event content. nil = none.
	Logger *slog.Logger
}

var serviceName = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,63}$`)

// originText is printable ASCII without the space and the plus, which signed
// notes give a meaning.
var originText = regexp.MustCompile(`^[!-*,-~]{0,255}$`)

// settle fills in the defaults and reports all faults at once.
func (c *Config) settle() error {
	var faults []error
	check := func(ok bool, field, rule string) {
		if !ok {
			faults = append(faults, &FieldError{Field: field, Rule: rule})
		}
	}
	def(&c.BatchEvents, 100)
	def(&c.BatchDelay, time.Second)
	def(&c.QueueEvents, 1000)
	def(&c.QueueBytes, 10<<20)
	def(&c.MaxWait, 100*time.Millisecond)
	def(&c.RotateBytes, 100<<20)
	def(&c.MinFree, 64<<20)
	def(&c.Version, "unknown")
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	check(c.Dir != "", "Dir", "is required")
	check(serviceName.MatchString(c.Service), "Service", "must match "+serviceName.String())
	check(len(c.Version) <= maxText, "Version", "must have at most 1024 bytes")
	check(originText.MatchString(c.Origin), "Origin", "must match "+originText.String())
	check(c.Flush <= FlushHybrid, "Flush", "must be FlushImmediate, FlushBatched or FlushHybrid")
	check(within(c.BatchEvents, 1, 100_000), "BatchEvents", "must be 1 to 100000")
	check(within(c.BatchDelay, time.Millisecond, time.Minute), "BatchDelay", "must be 1 ms to 1 min")
	check(within(c.QueueEvents, 16, 1<<20), "QueueEvents", "must be 16 to 1048576")
	check(within(c.QueueBytes, 64<<10, 1<<40), "QueueBytes", "must be 64 KiB to 1 TiB")
	check(within(c.MaxWait, 0, time.Minute), "MaxWait", "must be 0 to 1 min")
	check(c.RotateBytes == -1 || within(c.RotateBytes, 64<<10, 4<<30), "RotateBytes", "must be -1 or 64 KiB to 4 GiB")
	check(c.MinFree >= -1, "MinFree", "must be -1 or more")
	return errors.Join(faults...)
}

func def[T comparable](v *T, d T) {
	var zero T
	if *v == zero {
		*v = d
	}
}

func within[T int | int64 | time.Duration](v, low, high T) bool { return low <= v && v <= high }
