package gpuinfo

import (
	"context"
	"errors"
	"iter"
	"slices"
	"time"
)

// First returns a provider that answers with the first of ps whose Reason is OK, and
// otherwise with the answer that tells most: a driver that hangs before one that is
// missing, a failed tool before no tool. Members are asked in their order, and nil
// ones are left out. First(nvml, Auto(…)) is the usual chain.
//
// It also implements [ProcessLister] and [EventSource]: the first member that can
// answer does, and without one the answer is [ErrUnsupported].
func First(ps ...Provider) Provider {
	return first(slices.DeleteFunc(slices.Clone(ps), func(p Provider) bool { return p == nil }))
}

type first []Provider

var (
	_ ProcessLister = first(nil)
	_ EventSource   = first(nil)
)

func (f first) Name() string { return "first" }

// Snapshot skips members that are closed; its own error is theirs when all are.
func (f first) Snapshot(ctx context.Context) (Snapshot, error) {
	if err := ctx.Err(); err != nil {
		return Snapshot{}, err
	}
	best := Snapshot{Reason: NoDevice, Detail: "no provider is configured", Provider: f.Name(), At: time.Now().UTC()}
	var closed error
	answered := false
	for _, p := range f {
		s, err := p.Snapshot(ctx)
		switch ended := ctx.Err(); {
		case ended != nil && (err != nil || s.Reason != OK):
			return Snapshot{}, ended
		case err != nil:
			closed = err
		case s.Reason == OK:
			return s, nil
		case !answered || tellsMore(s.Reason, best.Reason):
			best, answered = s, true
		}
	}
	if closed != nil && !answered {
		return Snapshot{}, closed
	}
	return best, nil
}

// Processes returns the answer of the first member that can tell.
func (f first) Processes(ctx context.Context) ([]Process, error) {
	for _, p := range f {
		if list, err := processesOf(ctx, p); !errors.Is(err, ErrUnsupported) {
			return list, err
		}
	}
	return nil, ErrUnsupported
}

// Events yields what the first member that hears of faults yields.
func (f first) Events(ctx context.Context) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		for _, p := range f {
			able := true
			for e, err := range eventsOf(ctx, p) {
				if able = !errors.Is(err, ErrUnsupported); !able || !yield(e, err) {
					break
				}
			}
			if able {
				return
			}
		}
		noEvents(yield)
	}
}

// processesOf passes the call to p if it can answer.
func processesOf(ctx context.Context, p Provider) ([]Process, error) {
	if l, ok := p.(ProcessLister); ok {
		return l.Processes(ctx)
	}
	return nil, ErrUnsupported
}

// eventsOf passes the call to p if it can answer.
func eventsOf(ctx context.Context, p Provider) iter.Seq2[Event, error] {
	if s, ok := p.(EventSource); ok {
		return s.Events(ctx)
	}
	return noEvents
}
