package fetch

import (
	"fmt"
	"math"
	"sync"
	"time"
)

// The phases of a fetch, in their order. Download reports downloading, verifying
// and failed; the others are for its caller.
const (
	PhaseResolving   = "resolving"
	PhaseDownloading = "downloading"
	PhaseVerifying   = "verifying" // what is on the disk is hashed
	PhaseCommitting  = "committing"
	PhaseDone        = "done"
	PhaseFailed      = "failed"
)

// Progress is how far a fetch is. BytesDone falls only when a file has to be
// brought again from its start.
type Progress struct {
	Op         string  `json:"op"`   // the operation; set by the caller of Download
	File       string  `json:"file"` // that moved last
	Phase      string  `json:"phase"`
	BytesDone  int64   `json:"bytes_done"`  // of all files
	BytesTotal int64   `json:"bytes_total"` // -1 = not known
	Received   int64   `json:"-"`           // bytes that arrived in this download, those in vain included
	Pct        float64 `json:"pct"`         // 0 to 100; 0 while the total is not known
	Rate       float64 `json:"rate"`        // bytes per second that arrive, over the last seconds
	ETAMS      int64   `json:"eta_ms"`      // -1 = not known
	Human      string  `json:"human"`       // one line for people
}

const (
	reportEvery = 100 * time.Millisecond
	// rateSpan is the time after which old speed counts a third.
	rateSpan = 5 * time.Second
)

// tracker adds up what the files of one download report. Its caller hears of it
// one call at a time, at most every reportEvery but for changes of the phase.
type tracker struct {
	report func(Progress)

	mu      sync.Mutex
	now     Progress
	last    time.Time // of the last report
	sampled time.Time // of the last sample of the rate
	fresh   int64     // bytes that arrived since
}

// newTracker starts at the sum of the sizes.
func newTracker(files []File, report func(Progress)) *tracker {
	t := &tracker{report: report, sampled: time.Now(), now: Progress{Phase: PhaseDownloading, ETAMS: -1}}
	for _, f := range files {
		if f.Size < 0 || t.now.BytesTotal < 0 {
			t.now.BytesTotal = -1
			continue
		}
		t.now.BytesTotal += f.Size
	}
	return t
}

// moved adds n bytes of a file; a negative n takes back what has to come again.
// Bytes that are only verified were on the disk already: they did not arrive.
func (t *tracker) moved(file, phase string, n int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := time.Now()
	t.now.BytesDone += n
	if phase == PhaseDownloading && n > 0 {
		t.fresh += n
		t.now.Received += n
	}
	changed := phase != t.now.Phase
	t.now.File, t.now.Phase = file, phase
	if t.report == nil || !changed && n >= 0 && now.Sub(t.last) < reportEvery {
		return
	}
	t.last = now
	t.sample(now)
	t.report(t.now)
}

// resized corrects the total when a file turns out to have another size.
func (t *tracker) resized(from, to int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if from < 0 || to < 0 || t.now.BytesTotal < 0 {
		t.now.BytesTotal = -1
		return
	}
	t.now.BytesTotal += to - from
}

// phase reports a phase of the whole download.
func (t *tracker) phase(phase string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.now.Phase, t.now.File = phase, ""
	if t.report != nil {
		t.sample(time.Now())
		t.report(t.now)
	}
}

// sample brings rate, percentage and text up to date.
func (t *tracker) sample(now time.Time) {
	if span := now.Sub(t.sampled); span >= reportEvery {
		speed := float64(t.fresh) / span.Seconds()
		old := math.Exp(-span.Seconds() / rateSpan.Seconds())
		if t.now.Rate == 0 {
			old = 0
		}
		t.now.Rate = old*t.now.Rate + (1-old)*speed
		t.sampled, t.fresh = now, 0
	}
	t.now = t.now.finished()
}

// finished fills the fields that follow from the others.
func (p Progress) finished() Progress {
	p.Pct, p.ETAMS = 0, -1
	if p.BytesTotal < 0 {
		p.Human = size(p.BytesDone) + ", " + size(int64(p.Rate)) + "/s"
		return p
	}
	p.Pct = 100
	if p.BytesTotal > 0 {
		p.Pct = min(100, 100*float64(p.BytesDone)/float64(p.BytesTotal))
	}
	p.Human = fmt.Sprintf("%s of %s (%.0f %%)", size(p.BytesDone), size(p.BytesTotal), math.Floor(p.Pct))
	left := max(0, p.BytesTotal-p.BytesDone)
	if left == 0 {
		p.ETAMS = 0
	} else if eta := float64(left) / p.Rate; p.Rate > 0 && eta < 1e9 {
		p.ETAMS = int64(1000 * eta)
		p.Human += fmt.Sprintf(", %s/s, %s left", size(int64(p.Rate)), (time.Duration(math.Ceil(eta)) * time.Second).String())
	}
	return p
}

// size writes a number of bytes in decimal units.
func size(n int64) string {
	bytes := float64(n)
	switch {
	case bytes >= 1e12:
		return fmt.Sprintf("%.2f TB", bytes/1e12)
	case bytes >= 1e9:
		return fmt.Sprintf("%.2f GB", bytes/1e9)
	case bytes >= 1e6:
		return fmt.Sprintf("%.1f MB", bytes/1e6)
	}
	return fmt.Sprintf("%.0f kB", math.Ceil(bytes/1e3))
}
