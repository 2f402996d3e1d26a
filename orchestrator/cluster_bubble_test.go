package orchestrator_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/llorch/llorch/orchestrator"
	"github.com/llorch/llorch/orchestrator/queue"
	"github.com/llorch/llorch/orchestrator/store"
	"github.com/llorch/llorch/orchestrator/taskapi"
	"github.com/llorch/llorch/orchestrator/taskclient"
	"github.com/llorch/llorch/orchestrator/worker/workertest"
	"github.com/llorch/llorch/poolregistry"
	"github.com/llorch/llorch/poolregistry/nodeagent"
)

// agent runs the node agent of a machine with one engine; stop is its death.
func agent(t *testing.T, reg *poolregistry.Registry, id string, e *workertest.Engine) (stop func()) {
	t.Helper()
	pool := chat(e.URL)
	pool.Workers[0].ID = poolregistry.WorkerID("chat-r0-" + id)
	a, err := nodeagent.New(nodeagent.Config{
		Registrar: reg,
		Describe: func(context.Context) (poolregistry.Registration, error) {
			return poolregistry.Registration{NodeID: poolregistry.NodeID(id), InProcess: true, Pools: []poolregistry.Pool{pool}}, nil
		},
		Snapshot: func(context.Context) (poolregistry.Beat, error) {
			return poolregistry.Beat{Pools: []poolregistry.Pool{pool}}, nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil && !errors.Is(err, context.Canceled) {
			t.Errorf("agent %s: %v", id, err)
		}
	})
	t.Cleanup(stop)
	return stop
}

// TestBubbleWholeServer: registry, node agents with their beats, orchestrator,
// handlers, clients and engines in one bubble over pipes. Readers are slow, leave and
// come back, tasks are cancelled, an engine dies, the orchestrator is restarted on its
// store: every accepted task ends once, every reader has every event, and nothing is
// left running (G1, G2, ORC-102, 403, 502, 560).
func TestBubbleWholeServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var now atomic.Pointer[orchestrator.Orchestrator]
		reg := registry(t, func(id poolregistry.NodeID) map[poolregistry.PoolID]int { return now.Load().Active(id) })
		b := &bench{t: t, net: new(workertest.Net), seen: new(seen)}
		cfg := orchestrator.Config{
			Pools: orchestrator.FromRegistry(reg), Store: durable{store.NewMemory()}, SealKeys: [][]byte{sealKey(1)}, Queue: queue.Config{Capacity: 200},
			Timing: orchestrator.Timing{Drain: time.Second},
		}
		b.start(cfg)
		now.Store(b.Orchestrator)
		first, second := start(t, b.net, workertest.Config{Tokens: 40, Slots: 2}), start(t, b.net, workertest.Config{Tokens: 40, Slots: 2})
		agent(t, reg, "gpu-2", second)
		agent(t, reg, "gpu-1", first)
		time.Sleep(3 * time.Second)
		client, stop := b.serve()
		var ids []string
		for i := range 40 {
			acc, err := client.Submit(t.Context(), taskapi.Submit{
				Model: "sim-8b", Prompt: fmt.Sprint("question ", i), MaxTokens: 40, OnDisconnect: taskapi.DisconnectContinue, DeadlineMS: 120_000,
			})
			if err != nil {
				t.Fatal(err)
			}
			ids = append(ids, acc.TaskID)
		}
		var wg sync.WaitGroup
		for i, id := range ids {
			wg.Go(func() { followTask(t, client, i, id) })
		}
		time.Sleep(2 * time.Second)
		first.Close() // an engine dies under its streams; its node lives
		wg.Wait()
		stop()
		again := taskapi.Submit{Model: "sim-8b", Prompt: "once more", MaxTokens: 40, OnDisconnect: taskapi.DisconnectContinue}
		client, stop = b.serve()
		var last []string
		for range 12 {
			acc, err := client.Submit(t.Context(), again)
			if err != nil {
				t.Fatal(err)
			}
			last = append(last, acc.TaskID)
		}
		stop()
		if err := b.stop(); err != nil { // some run, most wait
			t.Errorf("Run = %v", err)
		}
		b.start(cfg)
		now.Store(b.Orchestrator)
		client, stop = b.serve()
		for _, id := range last {
			if _, err := client.Wait(t.Context(), id); err != nil && !errors.Is(err, taskapi.WorkerReset) {
				t.Errorf("after the restart: %v", err)
			}
		}
		ends := map[string]int{}
		for _, id := range append(ids, last...) {
			task, err := client.Task(t.Context(), id)
			if err != nil || task.Status != "completed" && task.Status != "failed" && task.Status != "cancelled" {
				t.Errorf("%s is %s, %v", id, task.Status, err)
			}
			ends[task.Status]++
		}
		if ends["completed"] < 36 || ends["cancelled"] < 8 || ends["failed"] > 8 {
			t.Errorf("ends: %v", ends)
		}
		t.Log(ends)
		stop()
		b.checkIdle()
		if err := b.stop(); err != nil {
			t.Errorf("Run = %v", err)
		}
	})
}

// followTask reads one task in one of four ways; events come once and in order.
func followTask(t *testing.T, client *taskclient.Client, i int, id string) {
	ctx, last, tokens, failed := t.Context(), uint64(0), 0, error(nil)
	read := func(most int) (ended bool) {
		for ev, err := range client.EventsAfter(ctx, id, last) {
			var e *taskapi.Error
			if err != nil && !errors.As(err, &e) {
				t.Errorf("task %d: %v", i, err)
				return true
			}
			if err != nil {
				failed = err
				return true
			}
			if ev.ID != last+1 {
				t.Errorf("task %d: event %d after %d", i, ev.ID, last)
			}
			if last = ev.ID; ev.Type == "token" {
				tokens++
			}
			if i%4 == 1 {
				time.Sleep(50 * time.Millisecond) // slower than the engine
			}
			if most--; most == 0 {
				return false
			}
			ended = ev.Type == "end" || ev.Type == "error"
		}
		return ended
	}
	switch i % 4 {
	case 2: // leaves, and comes back for the rest
		if !read(5) {
			time.Sleep(time.Second)
		}
	case 3: // gives up
		read(3)
		if err := client.Cancel(ctx, id); err != nil {
			t.Errorf("cancel of task %d: %v", i, err)
		}
	}
	read(0)
	task, err := client.Task(ctx, id)
	if err != nil || task.Status == "completed" && tokens != 40 || tokens > 40 {
		t.Errorf("task %d: %s with %d tokens, %v; %v", i, task.Status, tokens, failed, err)
	}
}
