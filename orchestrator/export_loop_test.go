package orchestrator

import (
	"context"
	"strings"
	"time"

	"github.com/llorch/llorch/orchestrator/internal/sched"
)

// LoopOrder hands requests to a loop that does not run yet until one finds no
// place and gives up, then n facts, then runs it. It returns the order in which
// the core took them, s or f for each, and what the last request was told.
func LoopOrder(n int, give time.Duration) (order string, requests int, refused error) {
	core, err := sched.New(sched.Config{})
	if err != nil {
		return "", 0, err
	}
	var taken strings.Builder
	l := newLoop(core, nil, func(sched.Effect) {}, func(*sched.Core, time.Duration) {})
	l.record = func(_ *sched.Core, _ sched.Instant, e sched.Event, _ []sched.Effect) {
		kind := byte('f')
		if _, ok := e.(sched.Submit); ok {
			kind = 's'
		}
		taken.WriteByte(kind)
		if taken.Len() == requests+n {
			l.close()
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), give)
	defer cancel()
	for refused == nil {
		if refused = l.submit(ctx, sched.Submit{}); refused == nil {
			requests++
		}
	}
	for range n {
		l.offer(sched.Progress{})
	}
	if err := l.run(context.Background()); err != nil {
		return "", 0, err
	}
	return taken.String(), requests, refused
}
