package nodeagent

import (
	"context"
	"errors"
	"time"

	"github.com/llorch/llorch/poolregistry"
)

// snapshotter calls the Snapshot hook without ever waiting for it for long. At
// most one call is under way.
type snapshotter struct {
	take   func(context.Context) (poolregistry.Beat, error)
	done   chan taken // nil = no call under way
	cancel context.CancelFunc
	last   taken // the newest good one
}

// taken is a finished call.
type taken struct {
	beat poolregistry.Beat
	at   time.Time // when it was asked for
	err  error
}

// content returns the content of the next beat.
func (a *Agent) content(ctx context.Context, interval time.Duration) poolregistry.Beat {
	if a.snap.take == nil {
		return poolregistry.Beat{}
	}
	late, failed := a.snap.refresh(ctx, interval/4, a.events.add)
	a.count(func(s *Stats) {
		s.EventsDropped = a.events.dropped
		if late {
			s.SnapshotsLate++
		}
		if failed {
			s.SnapshotsFailed++
		}
	})
	b := poolregistry.Beat{Pools: a.snap.last.beat.Pools, GPUs: a.snap.last.beat.GPUs}
	if late || failed {
		since := a.snap.last.at
		if since.IsZero() {
			since = a.begun // there is no content at all
		}
		b.StaleMS = max(1, time.Since(since).Milliseconds())
	}
	return b
}

// refresh waits up to budget for a new snapshot; one that was late before is
// only collected. It hands the failures of a good one to report.
func (s *snapshotter) refresh(ctx context.Context, budget time.Duration, report func([]poolregistry.Event)) (late, failed bool) {
	if s.done != nil { // still the last one
		select {
		case t := <-s.done:
			s.finish(t, report)
		default:
			return true, false
		}
	}
	s.begin(ctx, budget)
	timer := time.NewTimer(budget)
	defer timer.Stop()
	select {
	case t := <-s.done:
		s.finish(t, report)
		return false, t.err != nil
	case <-timer.C:
	case <-ctx.Done():
	}
	return true, false
}

func (s *snapshotter) begin(ctx context.Context, budget time.Duration) {
	ctx, s.cancel = context.WithTimeout(ctx, budget)
	done := make(chan taken, 1)
	s.done = done
	take, at := s.take, time.Now()
	go func() {
		t := taken{at: at, err: errors.New("snapshot: panic")}
		defer func() {
			_ = recover() // t still says so
			done <- t
		}()
		t.beat, t.err = take(ctx)
	}()
}

func (s *snapshotter) finish(t taken, report func([]poolregistry.Event)) {
	s.cancel()
	s.done, s.cancel = nil, nil
	if t.err == nil {
		s.last = t
		report(t.beat.Events)
	}
}

// stop ends a call that is under way. A hook that ignores its context is left
// behind; it can change nothing any more.
func (s *snapshotter) stop() {
	if s.cancel != nil {
		s.cancel()
	}
}

const maxEvents = 64

// events are the failures that no acknowledged beat has carried yet.
type events struct {
	queue   []poolregistry.Event
	newest  uint64
	dropped uint64
}

func (q *events) add(list []poolregistry.Event) {
	for _, e := range list {
		if e.ID == 0 {
			e.ID = q.newest + 1
		}
		if e.ID <= q.newest {
			continue
		}
		q.newest = e.ID
		q.queue = append(q.queue, e)
	}
	if n := len(q.queue) - maxEvents; n > 0 {
		q.queue = q.queue[n:]
		q.dropped += uint64(n)
	}
}

func (q *events) acknowledge(sent []poolregistry.Event) {
	for len(sent) > 0 && len(q.queue) > 0 && q.queue[0].ID <= sent[len(sent)-1].ID {
		q.queue = q.queue[1:]
	}
}
