package nodeagent

import (
	"context"
	"log/slog"
	"slices"
	"time"

	"github.com/llorch/llorch/poolregistry"
	"github.com/llorch/llorch/poolregistry/internal/wirecode"
)

// Bounds of what a registry may ask for.
const (
	leastInterval = 100 * time.Millisecond
	mostInterval  = 5 * time.Minute
	nudgeGap      = 50 * time.Millisecond
)

func clampInterval(ms int64) time.Duration {
	return min(max(millis(ms), leastInterval), mostInterval)
}

// attemptTimeout and retryGap leave room for about eight attempts between a due
// beat and the end of the lease.
func attemptTimeout(interval time.Duration) time.Duration {
	return min(5*time.Second, max(100*time.Millisecond, interval/5))
}

func retryGap(interval time.Duration) time.Duration {
	return max(20*time.Millisecond, interval/20)
}

// pulse is the beat loop of one lease: when the next beat is due.
type pulse struct {
	interval time.Duration
	due      time.Time // when to send next
	sent     time.Time // when the last attempt began
	mono     time.Time // the last look at both clocks
	wall     time.Time
	told     time.Time // when the log last heard of beats that fail; zero = they do not
}

// tellAgain is how often the log hears that beats still fail.
const tellAgain = 5 * time.Minute

// tell logs that beats began to fail, still do, or are taken again (err nil).
func (a *Agent) tell(ctx context.Context, p *pulse, err error) {
	switch now := time.Now(); {
	case err == nil && !p.told.IsZero():
		p.told = time.Time{}
		a.cfg.Logger.LogAttrs(ctx, slog.LevelInfo, "heartbeats are accepted again")
	case err != nil && (p.told.IsZero() || now.Sub(p.told) >= tellAgain):
		p.told = now
		a.cfg.Logger.LogAttrs(ctx, slog.LevelWarn, "heartbeats fail; the node will be offline until they are accepted",
			slog.String("result", outcomeOf(err)), slog.Any("error", err))
	}
}

// beat sends beats under one grant. It returns true if the node has to register
// again, else the reason to end.
func (a *Agent) beat(ctx context.Context, grant poolregistry.Grant) (again bool, err error) {
	now := time.Now()
	p := &pulse{interval: clampInterval(grant.HeartbeatIntervalMS), mono: now, wall: a.wall().Round(0)}
	p.due = now.Add(p.interval)
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		// Looking once a second is how a machine that slept is noticed: its timers
		// stood still, its wall clock did not.
		timer.Reset(min(max(0, time.Until(p.due)), time.Second))
		select {
		case <-ctx.Done():
			return false, context.Cause(ctx)
		case <-a.nudges:
			if at := p.sent.Add(nudgeGap); at.Before(p.due) {
				p.due = at
			}
		case <-timer.C:
		}
		if p.slept(a.wall()) {
			p.due = time.Now()
		}
		if time.Now().Before(p.due) {
			continue
		}
		if again, err := a.attempt(ctx, p); again || err != nil {
			return again, err
		}
	}
}

// slept reports whether the wall clock ran more than one interval ahead of the
// timers since the last look.
func (p *pulse) slept(wall time.Time) bool {
	now := time.Now()
	wall = wall.Round(0)
	step := wall.Sub(p.wall) - now.Sub(p.mono)
	p.mono, p.wall = now, wall
	return step > p.interval
}

// attempt sends one beat and sets when the next is due.
func (a *Agent) attempt(ctx context.Context, p *pulse) (again bool, err error) {
	b := a.content(ctx, p.interval)
	a.seq++
	b.NodeID, b.LeaseToken, b.Seq = a.lease.NodeID, a.lease.Token, a.seq
	b.Timestamp = a.wall().UTC().Truncate(time.Millisecond)
	b.UptimeMS = time.Since(a.begun).Milliseconds()
	b.Events, b.Schedule = slices.Clone(a.events.queue), a.wish
	if a.slim {
		b.Pools = withoutModels(b.Pools)
	}

	p.sent = time.Now()
	try, cancel := context.WithTimeout(ctx, attemptTimeout(p.interval))
	reply, err := a.reg.Beat(try, b)
	cancel()
	if ctx.Err() != nil {
		return false, context.Cause(ctx)
	}
	a.count(func(s *Stats) { s.Beats[outcomeOf(err)]++ })
	if err != nil {
		return a.failed(ctx, p, err)
	}
	a.tell(ctx, p, nil)
	p.interval = clampInterval(reply.NextHeartbeatMS)
	p.due = p.sent.Add(p.interval)
	a.events.acknowledge(b.Events)
	a.accept(ctx, reply, p.sent)
	return a.wantsAgain(ctx, p, reply), ctx.Err()
}

// accept takes the answer to an acknowledged beat over.
func (a *Agent) accept(ctx context.Context, reply poolregistry.BeatReply, sent time.Time) {
	a.mu.Lock()
	a.phase, a.acked, a.timeout, a.active = Online, sent, millis(reply.TimeoutMS), reply.Active
	a.mu.Unlock()
	switch reply.Schedule {
	case poolregistry.Open, poolregistry.Cordoned, poolregistry.Draining, poolregistry.Drained:
		a.wish = reply.Schedule
	}
	if epoch := min(reply.Epoch, highestEpoch); epoch > a.lease.Epoch {
		a.lease.Epoch = epoch
		a.saveLease(ctx)
	}
	if a.cfg.OnReply != nil {
		defer func() {
			if recover() != nil {
				a.cfg.Logger.LogAttrs(ctx, slog.LevelError, "OnReply panicked")
			}
		}()
		a.cfg.OnReply(reply)
	}
}

// wantsAgain reports whether the registry asks for a new registration. The same
// unknown pools are a reason only once: describing and reporting then disagree.
func (a *Agent) wantsAgain(ctx context.Context, p *pulse, reply poolregistry.BeatReply) bool {
	switch {
	case !reply.Reregister:
		a.warned = nil
		return false
	case len(reply.UnknownPools) > 0 && slices.Equal(reply.UnknownPools, a.warned):
		return false
	}
	a.warned = slices.Clone(reply.UnknownPools)
	return a.pause(ctx, p)
}

// pause spreads the registrations of many nodes that lost their lease together.
func (a *Agent) pause(ctx context.Context, p *pulse) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(time.Duration(a.rand() * float64(min(time.Second, p.interval)))):
		return true
	}
}

// failed decides what a refused or unanswered beat means.
func (a *Agent) failed(ctx context.Context, p *pulse, err error) (again bool, _ error) {
	e := refusalOf(err)
	a.cfg.Logger.LogAttrs(ctx, slog.LevelDebug, "beat", slog.String("result", outcomeOf(err)), slog.Any("error", err))
	now := time.Now()
	switch e.Code {
	case poolregistry.LeaseFenced:
		return false, err
	case poolregistry.NodeUnknown, poolregistry.LeaseInvalid, poolregistry.Forbidden:
		a.set(Registering)
		return a.pause(ctx, p), context.Cause(ctx)
	case wirecode.TooLarge:
		a.shrink(ctx, p, err)
	case poolregistry.InvalidBeat, poolregistry.TooManyBeats: // life was noted, content was not
		a.mu.Lock()
		a.acked = p.sent
		a.mu.Unlock()
		a.cfg.Logger.LogAttrs(ctx, slog.LevelWarn, "heartbeat refused", slog.String("result", outcomeOf(err)), slog.Any("error", err))
		p.due = p.sent.Add(p.interval) // the same content would be refused again
		if e.Code == poolregistry.TooManyBeats {
			p.due = now.Add(min(max(e.RetryAfter, retryGap(p.interval)), p.interval))
		}
	default:
		p.due = now.Add(retryGap(p.interval))
		a.tell(ctx, p, err)
	}
	return false, nil
}

// shrink makes beats smaller: without its longest part, which the registry then
// keeps as it was registered. Where that is not enough nothing is: the same is
// sent once an interval.
func (a *Agent) shrink(ctx context.Context, p *pulse, err error) {
	if a.slim {
		p.due = p.sent.Add(p.interval)
		a.tell(ctx, p, err)
		return
	}
	a.slim = true
	p.due = time.Now().Add(retryGap(p.interval))
	a.cfg.Logger.LogAttrs(ctx, slog.LevelWarn, "heartbeats are too large: they say nothing of models on disk until the node registers again")
}

// withoutModels returns pools that leave their models unchanged.
func withoutModels(pools []poolregistry.Pool) []poolregistry.Pool {
	out := slices.Clone(pools)
	for i := range out {
		out[i].ModelsAvailable = nil
	}
	return out
}
