package orchestrator_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/llorch/llorch/orchestrator"
	"github.com/llorch/llorch/orchestrator/observe"
	"github.com/llorch/llorch/orchestrator/placement"
	"github.com/llorch/llorch/orchestrator/queue"
	"github.com/llorch/llorch/orchestrator/taskapi"
	"github.com/llorch/llorch/orchestrator/worker/workertest"
)

// progress keeps what a test waits for: slots to place on, the start, and ends.
type progress struct {
	mu      sync.Mutex
	changed chan struct{}
	slots   int
	ends    int
	serving bool
}

// change applies f and wakes those who wait.
func (w *progress) change(f func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f()
	close(w.changed)
	w.changed = make(chan struct{})
}

func (w *progress) Observe(e observe.Event) {
	switch e := e.(type) {
	case observe.Loop:
		w.change(func() { w.slots = e.SlotsTotal })
	case observe.Finished:
		w.change(func() { w.ends++ })
	}
}

// Write takes log lines.
func (w *progress) Write(line []byte) (int, error) {
	if bytes.Contains(line, []byte(`"event":"serving"`)) {
		w.change(func() { w.serving = true })
	}
	return len(line), nil
}

// wait blocks until cond holds.
func (w *progress) wait(ctx context.Context, cond func() bool) error {
	for {
		w.mu.Lock()
		ok, changed := cond(), w.changed
		w.mu.Unlock()
		if ok {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// TestConcurrentSafe: 64 callers submit, read, list, explain and cancel at once
// against engines on loopback. Every task ends once, the stored state and the
// stream agree, and no slot is left.
func TestConcurrentSafe(t *testing.T) {
	const (
		callers = 64
		each    = 6
	)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var list []*placement.Worker
	for i := range 2 {
		e := workertest.Start(workertest.Config{Preset: "zero", Slots: 16, Tokens: 12})
		defer e.Close()
		w := fake(fmt.Sprint(i), 16)
		w.URL = e.URL
		list = append(list, w)
	}
	watch := &progress{changed: make(chan struct{})}
	o, err := orchestrator.New(orchestrator.Config{
		Pools: over(list...), Observer: watch, Logger: slog.New(slog.NewJSONHandler(watch, nil)), Queue: queue.Config{Capacity: queue.Unbounded},
	})
	if err != nil {
		t.Fatal(err)
	}
	runCtx, stop := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- o.Run(runCtx) }()
	if err := watch.wait(ctx, func() bool { return watch.slots == 32 && watch.serving }); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for caller := range callers {
		wg.Go(func() {
			who := orchestrator.Principal{User: fmt.Sprint("u", caller%8), Roles: orchestrator.RoleUser}
			for i := range each {
				life(ctx, t, o, who, (caller+i)%4)
			}
		})
	}
	wg.Wait()
	if err := watch.wait(ctx, func() bool { return watch.ends >= callers*each }); err != nil {
		t.Errorf("not every one of %d tasks ended: %v", callers*each, err)
	}
	if held := o.Active("n"); len(held) != 0 {
		t.Errorf("slots still held: %v", held)
	}
	stop()
	if err := <-done; err != nil {
		t.Errorf("Run = %v", err)
	}
}

// life is one task with one of four kinds of caller.
func life(ctx context.Context, t *testing.T, o *orchestrator.Orchestrator, who orchestrator.Principal, kind int) {
	acc, err := o.Submit(ctx, who, fill(orchestrator.Spec{MaxTokens: 12, Keep: true, Class: queue.Class(kind % 2)}))
	if err != nil {
		t.Errorf("Submit = %v", err)
		return
	}
	switch kind {
	case 0:
		if err := o.Cancel(ctx, who, acc.ID); err != nil {
			t.Errorf("Cancel = %v", err)
		}
	case 1:
		for _, err := range o.Tasks(ctx, who, orchestrator.Filter{Limit: 5}) {
			if err != nil {
				t.Errorf("Tasks = %v", err)
			}
		}
	case 2:
		if _, err := o.Explain(ctx, who, acc.ID); err != nil {
			t.Errorf("Explain = %v", err)
		}
	}
	var last orchestrator.Event
	n := uint64(0)
	for e, err := range o.Events(ctx, who, acc.ID, 0) {
		if n++; err != nil || e.ID != n {
			t.Errorf("event %d has id %d, %v", n, e.ID, err)
			return
		}
		last = e
	}
	task, err := o.Task(ctx, who, acc.ID)
	if err != nil || !task.State.Terminal() || (task.State == "completed") != (last.Type == orchestrator.EventEnd) {
		t.Errorf("the record says %s, the stream %s, %v", task.State, last.Type, err)
	}
	if c := task.Outcome.Code; c != "" && (kind != 0 || c != string(taskapi.Cancelled)) {
		t.Errorf("a task of kind %d ended with %q", kind, c)
	}
	stranger := orchestrator.Principal{User: "stranger", Roles: orchestrator.RoleUser}
	if _, err := o.Task(ctx, stranger, acc.ID); !errors.Is(err, taskapi.NotFound) {
		t.Errorf("a stranger's Task = %v", err)
	}
}
