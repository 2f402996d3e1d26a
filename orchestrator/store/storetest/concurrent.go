package storetest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/llorch/llorch/orchestrator/store"
)

// tally counts what clients were told about each task.
type tally struct {
	mu     sync.Mutex
	stored map[int]int    // answers that say "stored now"
	ends   map[int]int    // answers that say "ended now"
	code   map[int]string // of the end that won
}

// concurrentClients lets 32 clients fight over 40 tasks: each is stored once, and
// one of the ends that they ask for wins.
func concurrentClients(t testing.TB, s suite) {
	c := s.begin(t)
	const clients, tasks = 32, 40
	told := tally{stored: make(map[int]int), ends: make(map[int]int), code: make(map[int]string)}
	var wg sync.WaitGroup
	for k := range clients {
		wg.Go(func() {
			for i := range tasks {
				if err := c.contend((i+k)%tasks, fmt.Sprint("client ", k), &told); err != nil {
					t.Errorf("client %d: %v", k, err)
					return
				}
			}
		})
	}
	wg.Wait()
	for n := range tasks {
		if told.stored[n] != 1 || told.ends[n] != 1 || c.record(n).Outcome.Code != told.code[n] {
			t.Errorf("task %d was stored %d times and ended %d times, want once each", n, told.stored[n], told.ends[n])
		}
	}
	seen := make(map[uint64]bool)
	for _, r := range c.all() {
		if seen[r.Seq] {
			t.Errorf("seq %d twice", r.Seq)
		}
		seen[r.Seq] = true
	}
	if len(seen) != tasks {
		t.Errorf("store holds %d tasks, want %d", len(seen), tasks)
	}
}

// contend takes a task to an end of its own code, among others who do the same.
func (c *session) contend(n int, code string, told *tally) error {
	out, err := c.Submit(c.ctx, c.epoch, []store.NewTask{task(n)})
	if err != nil || out[0].Err != nil {
		return fmt.Errorf("submit failed: %w", errors.Join(err, answer(out, func(a store.Submitted) error { return a.Err })))
	}
	started, err := c.Start(c.ctx, c.epoch, []store.StartReq{{ID: id(n), Attempt: 1}})
	if err != nil || started[0].Err != nil && !errors.Is(started[0].Err, store.ErrTransition) {
		return fmt.Errorf("start failed: %w", errors.Join(err, answer(started, func(a store.Started) error { return a.Err })))
	}
	end := store.Completion{ID: id(n), Attempt: 1, State: store.Completed, Outcome: store.Outcome{Code: code}}
	ended, err := c.Complete(c.ctx, c.epoch, []store.Completion{end})
	if err != nil || ended[0] != nil && !errors.Is(ended[0], store.ErrTransition) {
		return fmt.Errorf("complete failed: %w", errors.Join(err, answer(ended, func(a error) error { return a })))
	}
	r, err := c.Task(c.ctx, id(n))
	if err != nil || !r.State.Terminal() {
		return fmt.Errorf("task %d is %q after its end: %v", n, r.State, err)
	}
	told.mu.Lock()
	defer told.mu.Unlock()
	if out[0].Duplicate == nil {
		told.stored[n]++
	}
	if ended[0] == nil {
		told.ends[n]++
		told.code[n] = code
	}
	return nil
}

// answer returns the error of the first answer, if there is an answer.
func answer[A any](answers []A, of func(A) error) error {
	if len(answers) == 0 {
		return nil
	}
	return of(answers[0])
}

// racingContext cancels contexts while their calls run: nil means stored, the
// context's error means not stored.
func racingContext(t testing.TB, s suite) {
	c := s.begin(t)
	const clients, rounds = 8, 40
	var wg sync.WaitGroup
	for k := range clients {
		wg.Go(func() {
			for i := range rounds {
				n := k*rounds + i
				ctx, cancel := context.WithCancel(c.ctx)
				cancelled := make(chan struct{})
				go func() { cancel(); close(cancelled) }()
				_, err := c.Submit(ctx, c.epoch, []store.NewTask{task(n)})
				<-cancelled
				_, found := c.Task(c.ctx, id(n))
				switch {
				case err == nil && found == nil, errors.Is(err, store.ErrUnknown):
				case errors.Is(err, context.Canceled) && errors.Is(found, store.ErrNotFound):
				default:
					t.Errorf("Submit = %v, but Task = %v", err, found)
				}
			}
		})
	}
	wg.Wait()
}

// groupCommit checks that callers share commits: when each commit takes 2 ms
// more, 64 callers reach at least ten times the rate of one.
func groupCommit(t testing.TB, s suite) {
	const (
		alone   = 50
		clients = 64
		each    = 25
		factor  = 10
	)
	delay := 2 * time.Millisecond
	if testing.Short() { // as under the race detector, where the processor is the limit
		delay *= 10
	}
	c := suite{open: func(t testing.TB) store.Store { return s.caps.Slow(t, delay) }, caps: s.caps}.begin(t)
	began := time.Now()
	for i := range alone {
		c.submit(task(i))
	}
	one := time.Since(began) / alone
	if one < delay {
		t.Fatalf("a commit took %v, but Caps.Slow was asked to add %v", one, delay)
	}
	limit := one * (clients * each / factor)
	ctx, cancel := context.WithTimeout(c.ctx, limit)
	defer cancel()
	var wg sync.WaitGroup
	for k := range clients {
		wg.Go(func() {
			for i := range each {
				if _, err := c.Submit(ctx, c.epoch, []store.NewTask{task(1000 + k*each + i)}); err != nil {
					t.Errorf("%d callers did not store %d tasks in %v, ten times the rate of one: %v", clients, clients*each, limit, err)
					return
				}
			}
		})
	}
	wg.Wait()
}
