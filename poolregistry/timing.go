package poolregistry

import (
	"cmp"
	"errors"
	"time"
)

// Timing says how often nodes beat and how long they may be silent.
type Timing struct {
	Beat         time.Duration // 100 ms to 5 min; 0 = 10 s
	SuspectAfter time.Duration // at least 1.2 Beat; 0 = 1.5 Beat
	OfflineAfter time.Duration // at least 2 Beat, above SuspectAfter, at most 1 h; 0 = 3 Beat
	MaxBeatRate  int           // beats per second that all nodes together may send; 0 = 10 000
}

// Default returns beats every 10 s, suspect after 15 s, offline after 30 s.
func Default() Timing { return Timing{Beat: 10 * time.Second}.filled() }

// Fast returns beats every second, suspect after 1.5 s, offline after 3 s.
func Fast() Timing { return Timing{Beat: time.Second}.filled() }

func (t Timing) filled() Timing {
	t.Beat = cmp.Or(t.Beat, 10*time.Second)
	t.SuspectAfter = cmp.Or(t.SuspectAfter, t.Beat+t.Beat/2)
	t.OfflineAfter = cmp.Or(t.OfflineAfter, 3*t.Beat)
	t.MaxBeatRate = cmp.Or(t.MaxBeatRate, 10_000)
	return t
}

// Validate reports every field that is out of its range, after unset fields got
// their defaults.
func (t Timing) Validate() error {
	t = t.filled()
	var errs faults
	errs.add(t.Beat < 100*time.Millisecond || t.Beat > 5*time.Minute, "timing.beat: must be 100ms to 5m")
	errs.add(t.SuspectAfter < t.Beat+t.Beat/5, "timing.suspect_after: must be at least 1.2 beats")
	errs.add(t.OfflineAfter < 2*t.Beat, "timing.offline_after: must be at least 2 beats")
	errs.add(t.OfflineAfter <= t.SuspectAfter, "timing.offline_after: must be above suspect_after")
	errs.add(t.OfflineAfter > time.Hour, "timing.offline_after: must be at most 1h")
	errs.add(t.MaxBeatRate < 0, "timing.max_beat_rate: must not be negative")
	return errors.Join(errs...)
}

// tick is the period of the detection timer.
func (t Timing) tick() time.Duration {
	return min(max(t.Beat/4, 50*time.Millisecond), time.Second)
}

// scaled returns how long a node may be silent that was granted a beat interval
// of granted: both limits grow with an interval above Beat, so that a node that
// was told to beat slowly is not late.
func (t Timing) scaled(granted time.Duration) (suspect, offline time.Duration) {
	if granted <= t.Beat {
		return t.SuspectAfter, t.OfflineAfter
	}
	f := float64(granted) / float64(t.Beat)
	return time.Duration(f * float64(t.SuspectAfter)), time.Duration(f * float64(t.OfflineAfter))
}

// interval is the beat interval that live nodes get, before it is spread.
func (t Timing) interval(live int) time.Duration {
	return max(t.Beat, time.Duration(float64(live)/float64(t.MaxBeatRate)*float64(time.Second)))
}
