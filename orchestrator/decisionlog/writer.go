package decisionlog

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"sync/atomic"
	"time"

	"github.com/llorch/llorch/orchestrator/internal/sched"
)

// Config tunes a Writer.
type Config struct {
	Dir      string                    // required; made with mode 0700 if it is absent
	MaxBytes int64                     // of a segment before the next one begins; 0 = 64 MiB
	MaxAge   time.Duration             // of a segment before the next one begins; 0 = 1 h
	Keep     time.Duration             // since a segment was written last; 0 = 7 days, −1 = for ever
	Ring     int                       // steps that may wait for the disk; 0 = 65,536
	Replica  string                    // who writes, for people
	Sealed   func(name, sha256 string) // nil: nobody; called for each segment that is whole and on disk
	Logger   *slog.Logger              // nil: slog.DiscardHandler
}

// Validate reports all faults at once.
func (c Config) Validate() error {
	var errs []error
	if c.Dir == "" {
		errs = append(errs, errors.New("decisionlog: Dir is required"))
	}
	if c.MaxBytes < 0 || c.MaxAge < 0 {
		errs = append(errs, errors.New("decisionlog: MaxBytes and MaxAge: want ≥ 0"))
	}
	if c.Keep < -1 {
		errs = append(errs, errors.New("decisionlog: Keep: want ≥ 0 or −1"))
	}
	if c.Ring < 0 || c.Ring > 1<<24 {
		errs = append(errs, errors.New("decisionlog: Ring: want 0…16,777,216"))
	}
	return errors.Join(errs...)
}

func (c Config) withDefaults() Config {
	or := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	or(&c.MaxAge, time.Hour)
	or(&c.Keep, 7*24*time.Hour)
	if c.MaxBytes == 0 {
		c.MaxBytes = 64 << 20
	}
	if c.Ring == 0 {
		c.Ring = 65_536
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}

// entry is one thing for the disk: a beginning, else a gap, else a step.
type entry struct {
	begin *beginning
	gap   uint64
	at    sched.Instant
	ev    sched.Event
	fx    []sched.Effect
}

// beginning is what the first line of a segment needs.
type beginning struct {
	config sched.Config
	state  *sched.State
	epoch  uint64
	start  time.Time
	chain  bool // it continues the segment before
}

// Writer writes segments. Begin and Record belong to the goroutine that owns the
// core and never block; Run does all I/O. The methods of a nil Writer do nothing.
type Writer struct {
	cfg  Config
	ring chan *entry
	want atomic.Bool   // Run asks for a new segment
	gaps atomic.Uint64 // steps that were lost

	// Owned by the goroutine of the core.
	begun bool
	epoch uint64
	start time.Time
	lost  uint64 // steps lost since the last one that was taken
}

// NewWriter returns a writer; nothing touches the disk before [Writer.Run].
func NewWriter(cfg Config) (*Writer, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	cfg = cfg.withDefaults()
	return &Writer{cfg: cfg, ring: make(chan *entry, cfg.Ring)}, nil
}

// OnSealed adds somebody who is told of each whole segment, beside Config.Sealed.
// Call it before [Writer.Run].
func (w *Writer) OnSealed(f func(name, sha256 string)) {
	before := w.cfg.Sealed
	w.cfg.Sealed = func(name, sum string) {
		if before != nil {
			before(name, sum)
		}
		f(name, sum)
	}
}

// Lost counts the steps that were not recorded, because the disk was too slow or
// failed. Safe for concurrent use.
func (w *Writer) Lost() uint64 {
	if w == nil {
		return 0
	}
	return w.gaps.Load()
}

// Begin starts a segment with the present state of c. Steps before it are not
// recorded: whatever changes c without a step, such as LoadEstimates, has to come
// first. epoch is that of the term, start the wall time of instant 0.
func (w *Writer) Begin(c *sched.Core, epoch uint64, start time.Time) {
	if w == nil {
		return
	}
	w.begun, w.epoch, w.start = true, epoch, start
	w.begin(c, false)
}

// Record notes a step that c has just done. fx is copied, the event and what the
// effects point to must not change afterwards. A full ring loses the step: it is
// counted, a gap is written and a new segment begins as soon as there is room.
func (w *Writer) Record(c *sched.Core, at sched.Instant, e sched.Event, fx []sched.Effect) {
	switch {
	case w == nil, !w.begun:
	case w.lost > 0 && cap(w.ring)-len(w.ring) >= min(2, cap(w.ring)): // only this goroutine adds
		w.lose()
		w.ring <- &entry{gap: w.lost}
		w.begin(c, false)
	case w.lost > 0 || len(w.ring) == cap(w.ring):
		w.lose()
	default:
		w.ring <- &entry{at: at, ev: e, fx: slices.Clone(fx)}
		if w.want.Load() && len(w.ring) < cap(w.ring) {
			w.begin(c, true)
		}
	}
}

func (w *Writer) lose() {
	w.lost++
	w.gaps.Add(1)
}

// begin hands the state over, if there is room.
func (w *Writer) begin(c *sched.Core, chain bool) {
	if len(w.ring) == cap(w.ring) {
		w.lost = max(1, w.lost)
		return
	}
	w.want.Store(false)
	w.lost = 0
	w.ring <- &entry{begin: &beginning{c.Config(), c.Snapshot(), w.epoch, w.start, chain}}
}

// Run writes what Record hands over until ctx ends and the ring is empty, seals the
// last segment and returns. It fails only if the directory can not be used; a
// write that fails later is logged, counted, and answered by a new segment.
func (w *Writer) Run(ctx context.Context) error {
	if err := os.MkdirAll(w.cfg.Dir, 0o700); err != nil {
		return fmt.Errorf("decisionlog: make directory: %w", err)
	}
	root, err := os.OpenRoot(w.cfg.Dir)
	if err != nil {
		return fmt.Errorf("decisionlog: open directory: %w", err)
	}
	defer root.Close()
	s := &segments{w: w, root: root}
	if s.cuts, err = mend(root); err != nil {
		return fmt.Errorf("decisionlog: mend: %w", err)
	}
	age := time.NewTicker(max(time.Millisecond, w.cfg.MaxAge/64))
	defer age.Stop()
	for {
		select {
		case e := <-w.ring:
			s.write(ctx, e)
			continue
		default:
		}
		s.flush(ctx) // the ring is empty: let readers see everything
		select {
		case e := <-w.ring:
			s.write(ctx, e)
		case <-age.C:
			s.aged()
		case <-ctx.Done():
			for len(w.ring) > 0 {
				s.write(ctx, <-w.ring)
			}
			s.seal(ctx)
			return nil
		}
	}
}
