package nodeagent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/llorch/llorch/poolregistry"
	"github.com/llorch/llorch/poolregistry/internal/wirecode"
)

const (
	firstBackoff = time.Second
	lastBackoff  = time.Minute
	callTimeout  = 5 * time.Second
)

// backoff is the restart schedule: 1, 2, 4 … 60, 60 s give or take 10 %; spread
// is in [0,1).
func backoff(failures int, spread float64) time.Duration {
	d := lastBackoff
	if failures < 6 {
		d = firstBackoff << failures
	}
	return time.Duration(float64(d) * (0.9 + 0.2*spread))
}

// register tries until it gets a lease or ctx ends.
func (a *Agent) register(ctx context.Context) (poolregistry.Grant, error) {
	for failures := 0; ; failures++ {
		grant, err := a.tryRegister(ctx)
		a.count(func(s *Stats) { s.Registrations[outcomeOf(err)]++ })
		if err == nil {
			a.adopt(ctx, grant)
			return grant, nil
		}
		if ctx.Err() != nil {
			return grant, context.Cause(ctx)
		}
		select {
		case <-ctx.Done():
			return grant, context.Cause(ctx)
		case <-time.After(a.wait(ctx, err, failures)):
		}
	}
}

// wait says when to try again. What will not get better by itself is tried once
// a minute; an id that is taken, when its holder would be offline.
func (a *Agent) wait(ctx context.Context, err error, failures int) time.Duration {
	level, wait := slog.LevelWarn, backoff(failures, a.rand())
	e := refusalOf(err)
	switch e.Code {
	case poolregistry.InvalidNode, poolregistry.AddressNotAllowed:
		level, wait = slog.LevelError, backoff(6, a.rand())
	case poolregistry.NodeIDTaken:
		level = slog.LevelError
		if wait = backoff(6, a.rand()); e.RetryAfter > 0 {
			wait = min(wait, e.RetryAfter+time.Duration(float64(firstBackoff)*a.rand()))
		}
	}
	a.cfg.Logger.LogAttrs(ctx, level, "register node", slog.String("result", outcomeOf(err)),
		slog.Any("error", err), slog.Int64("retry_in_ms", wait.Milliseconds()))
	return wait
}

func (a *Agent) tryRegister(ctx context.Context) (poolregistry.Grant, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	reg, err := a.describe(ctx)
	if err != nil {
		return poolregistry.Grant{}, err
	}
	if a.lease.NodeID != reg.NodeID {
		if a.lease.NodeID != "" {
			a.cfg.Logger.LogAttrs(ctx, slog.LevelWarn, "the lease file is of another node: ignored")
		}
		a.lease = lease{NodeID: reg.NodeID}
	}
	reg.InstanceID, reg.LeaseToken, reg.PrevEpoch = a.instance, a.lease.Token, a.lease.Epoch
	reg.InProcess, reg.Schedule = a.inside, a.wish
	a.asked = time.Now()
	return a.reg.Register(ctx, reg)
}

// describe calls the hook; a panic is an error.
func (a *Agent) describe(ctx context.Context) (reg poolregistry.Registration, err error) {
	defer func() {
		if recover() != nil {
			err = errors.New("describe node: panic")
		}
	}()
	if reg, err = a.cfg.Describe(ctx); err != nil {
		return reg, fmt.Errorf("describe node: %w", err)
	}
	return reg, nil
}

// adopt takes a granted lease over.
func (a *Agent) adopt(ctx context.Context, g poolregistry.Grant) {
	if g.LeaseToken != a.lease.Token {
		a.seq = 0
	}
	a.lease.Token, a.lease.Epoch, a.lease.InstanceID, a.lease.granted = g.LeaseToken, min(g.Epoch, highestEpoch), a.instance, true
	a.slim = false
	a.saveLease(ctx)
	a.mu.Lock()
	a.phase, a.acked, a.timeout = Online, a.asked, millis(g.TimeoutMS)
	a.mu.Unlock()
	a.cfg.Logger.LogAttrs(ctx, slog.LevelInfo, "node registered",
		slog.String("node", string(g.NodeID)), slog.Uint64("epoch", g.Epoch))
}

func millis(ms int64) time.Duration {
	return time.Duration(min(max(ms, 0), int64(time.Hour/time.Millisecond))) * time.Millisecond
}

// outcomeOf is the closed set of results for counters and logs.
func outcomeOf(err error) string {
	if err == nil {
		return "success"
	}
	return cmp.Or(wirecode.Find(string(refusalOf(err).Code)).Outcome, "error")
}

// refusalOf returns the registry's refusal in err, or an empty one.
func refusalOf(err error) *poolregistry.Error {
	if e, ok := errors.AsType[*poolregistry.Error](err); ok {
		return e
	}
	return &poolregistry.Error{}
}
