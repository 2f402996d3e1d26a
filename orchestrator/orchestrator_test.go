package orchestrator_test

import (
	"context"
	"encoding/json"
	"errors"
	"iter"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/llorch/llorch/orchestrator"
	"github.com/llorch/llorch/orchestrator/observe"
	"github.com/llorch/llorch/orchestrator/placement"
	"github.com/llorch/llorch/orchestrator/queue"
	"github.com/llorch/llorch/orchestrator/store"
	"github.com/llorch/llorch/orchestrator/taskapi"
	"github.com/llorch/llorch/orchestrator/worker"
	"github.com/llorch/llorch/orchestrator/worker/workertest"
)

// pools is a list of workers that a test changes.
type pools struct {
	mu      sync.Mutex
	list    []*placement.Worker
	changed chan struct{}
}

func newPools(engines ...*workertest.Engine) *pools {
	p := &pools{changed: make(chan struct{})}
	for i, e := range engines {
		p.list = append(p.list, &placement.Worker{
			Key: placement.Key{Node: "n", Pool: "p", Worker: string(rune('a' + i))}, Epoch: 1, URL: e.URL, Engine: "llamacpp",
			Models: []string{"sim-8b"}, SlotsTotal: 2, CtxMax: 8192, Online: true, Ready: true,
		})
	}
	return p
}

func (p *pools) set(list ...*placement.Worker) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.list = list
	close(p.changed)
	p.changed = make(chan struct{})
}

func (p *pools) Watch(ctx context.Context) iter.Seq[[]*placement.Worker] {
	return func(yield func([]*placement.Worker) bool) {
		for {
			p.mu.Lock()
			list, changed := p.list, p.changed
			p.mu.Unlock()
			if !yield(list) {
				return
			}
			select {
			case <-changed:
			case <-ctx.Done():
				return
			}
		}
	}
}

// seen keeps what the observer heard.
type seen struct {
	mu     sync.Mutex
	events []observe.Event
}

func (s *seen) Observe(e observe.Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.events = append(s.events, e)
}

// count waits until nothing moves any more, since the observer hears of an end
// after the reader: call it on the bubble's own goroutine.
func count[E observe.Event](s *seen) (n int, last E) {
	synctest.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range s.events {
		if x, ok := e.(E); ok {
			n, last = n+1, x
		}
	}
	return n, last
}

// bench is an orchestrator inside a bubble with engines on in-memory pipes.
type bench struct {
	*orchestrator.Orchestrator
	t       *testing.T
	net     *workertest.Net
	engines []*workertest.Engine
	pools   *pools
	seen    *seen
	stop    func() error
}

var me = orchestrator.Principal{User: "me", Roles: orchestrator.RoleUser}

// inBubble runs test in virtual time with an orchestrator and engines.
func inBubble(t *testing.T, cfg orchestrator.Config, engines []workertest.Config, test func(t *testing.T, b *bench)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { test(t, begin(t, cfg, engines)) })
}

// begin starts an orchestrator and engines for the rest of a test in a bubble. What
// cfg holds must have been made inside it.
func begin(t *testing.T, cfg orchestrator.Config, engines []workertest.Config) *bench {
	b := &bench{t: t, net: new(workertest.Net), seen: new(seen)}
	for _, c := range engines {
		b.engines = append(b.engines, b.net.Start(c))
	}
	b.pools = newPools(b.engines...)
	t.Cleanup(func() { // also after a failure: what still ticks would tick for ever
		if err := b.stop(); err != nil {
			t.Errorf("Run = %v", err)
		}
		for _, e := range b.engines {
			e.Close()
		}
	})
	b.start(cfg)
	return b
}

func (b *bench) start(cfg orchestrator.Config) {
	b.t.Helper()
	d, err := worker.NewDialer(worker.Config{Dial: b.net.Dial})
	if err != nil {
		b.t.Fatal(err)
	}
	if cfg.Pools == nil {
		cfg.Pools = b.pools
	}
	cfg.Workers, cfg.Observer = d, b.seen
	b.Orchestrator, err = orchestrator.New(cfg)
	if err != nil {
		b.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- b.Run(ctx) }()
	b.stop = sync.OnceValue(func() error {
		cancel()
		err := <-done
		d.Close()
		return err
	})
	synctest.Wait()
	if err := b.Ready(); err != nil {
		b.t.Fatalf("Ready = %v", err)
	}
}

func (b *bench) submit(s orchestrator.Spec) orchestrator.Accepted {
	b.t.Helper()
	acc, err := b.Submit(b.t.Context(), me, fill(s))
	if err != nil {
		b.t.Fatalf("Submit: %v", err)
	}
	return acc
}

func fill(s orchestrator.Spec) orchestrator.Spec {
	if s.Model == "" {
		s.Model = "sim-8b"
	}
	if s.Prompt == "" {
		s.Prompt = "Why is the sky blue?"
	}
	if s.MaxTokens == 0 {
		s.MaxTokens = 20
	}
	return s
}

// read returns all events after an id.
func (b *bench) read(id orchestrator.TaskID, after uint64) []orchestrator.Event {
	b.t.Helper()
	var out []orchestrator.Event
	for e, err := range b.Events(b.t.Context(), me, id, after) {
		if err != nil {
			b.t.Fatalf("Events: %v", err)
		}
		out = append(out, e)
	}
	return out
}

func types(events []orchestrator.Event) string {
	var out []string
	for _, e := range events {
		if n := len(out); n == 0 || out[n-1] != e.Type {
			out = append(out, e.Type)
		}
	}
	return strings.Join(out, " ")
}

func code(t *testing.T, events []orchestrator.Event) taskapi.Code {
	t.Helper()
	last := events[len(events)-1]
	if last.Type != orchestrator.EventError {
		return ""
	}
	var e taskapi.ErrorEvent
	if err := json.Unmarshal(last.Data, &e); err != nil {
		t.Fatal(err)
	}
	return e.Code
}

func text(t *testing.T, events []orchestrator.Event) string {
	t.Helper()
	var out strings.Builder
	for _, e := range events {
		if e.Type == orchestrator.EventToken {
			var tok taskapi.Token
			if err := json.Unmarshal(e.Data, &tok); err != nil {
				t.Fatal(err)
			}
			out.WriteString(tok.T)
		}
	}
	return out.String()
}

func gapless(t *testing.T, events []orchestrator.Event, first uint64) {
	t.Helper()
	for i, e := range events {
		if e.ID != first+uint64(i) {
			t.Fatalf("event %d has id %d, want %d: ids must be gapless", i, e.ID, first+uint64(i))
		}
	}
}

// checkIdle holds I4: no slot is held when nothing runs.
func (b *bench) checkIdle() {
	b.t.Helper()
	synctest.Wait()
	if got := b.Active("n"); len(got) != 0 {
		b.t.Errorf("slots still held: %v", got)
	}
}

// TestBubbleTask: a task goes from Submit to its end, in order, and can be read
// again from every id (ORC-100, ORC-500, ORC-502).
func TestBubbleTask(t *testing.T) {
	inBubble(t, orchestrator.Config{}, []workertest.Config{{}}, func(t *testing.T, b *bench) {
		acc := b.submit(orchestrator.Spec{})
		all := b.read(acc.ID, 0)
		gapless(t, all, 1)
		if got := types(all); got != "started token end" {
			t.Fatalf("events = %s, want started token end", got)
		}
		var end taskapi.End
		if err := json.Unmarshal(all[len(all)-1].Data, &end); err != nil || end.TokensOut != 20 || end.FinishReason != "length" || end.Usage != taskapi.UsageReported {
			t.Errorf("end = %s, %v", all[len(all)-1].Data, err)
		}
		for after := range uint64(len(all)) {
			if got := b.read(acc.ID, after); !slices.EqualFunc(got, all[after:], func(x, y orchestrator.Event) bool { return x.ID == y.ID && string(x.Data) == string(y.Data) }) {
				t.Fatalf("resumed after %d: %d events, want %d", after, len(got), len(all)-int(after))
			}
		}
		task, err := b.Task(t.Context(), me, acc.ID)
		if err != nil || task.Status != "completed" || task.Outcome.TokensOut != 20 || task.WorkerID != "a" {
			t.Errorf("Task = %+v, %v", task, err)
		}
		if n, f := count[observe.Finished](b.seen); n != 1 || f.Code != "" {
			t.Errorf("%d ends, last %+v", n, f)
		}
		why, err := b.Explain(t.Context(), me, acc.ID)
		if err != nil || why.Winner != "n/p/a" {
			t.Errorf("Explain = %+v, %v", why, err)
		}
		b.checkIdle()
	})
}

// TestBubbleTokensLive: a reader has each token when the engine made it, not at
// the end (TestStreamsWhileGenerating).
func TestBubbleTokensLive(t *testing.T) {
	inBubble(t, orchestrator.Config{}, []workertest.Config{{}}, func(t *testing.T, b *bench) {
		acc := b.submit(orchestrator.Spec{})
		at := map[time.Time]bool{}
		for e, err := range b.Events(t.Context(), me, acc.ID, 0) {
			if err != nil {
				t.Fatal(err)
			}
			if e.Type == orchestrator.EventToken {
				at[time.Now()] = true
			}
		}
		if len(at) != 20 {
			t.Errorf("20 tokens arrived at %d instants, want 20", len(at))
		}
	})
}

// TestBubbleDeadWorkerBeforeFirstByte: a worker that dies before the first token
// costs the client nothing (ORC-403).
func TestBubbleDeadWorkerBeforeFirstByte(t *testing.T) {
	for _, fault := range []string{"refuse", "reset", "status:500", "status:503", "status:429"} {
		f, err := workertest.ParseFault(fault)
		if err != nil {
			t.Fatal(err)
		}
		inBubble(t, orchestrator.Config{}, []workertest.Config{{Faults: []workertest.Fault{f}}, {}}, func(t *testing.T, b *bench) {
			acc := b.submit(orchestrator.Spec{})
			all := b.read(acc.ID, 0)
			gapless(t, all, 1)
			if got := types(all); got != "started token end" {
				t.Errorf("%s: events = %s, want started token end; last %s", fault, got, all[len(all)-1].Data)
			}
			if n, _ := count[observe.Retried](b.seen); n != 1 {
				t.Errorf("%s: %d retries, want 1", fault, n)
			}
			b.checkIdle()
		})
	}
}

// TestBubbleMidStream: after the first token a lost worker is a retriable
// WORKER_RESET, never a second attempt (ORC-406).
func TestBubbleMidStream(t *testing.T) {
	for fault, want := range map[string]taskapi.Code{"reset@token=5": taskapi.WorkerReset, "truncate@token=5": taskapi.WorkerReset, "stall@token=5": taskapi.DecodeTimeout} {
		f, err := workertest.ParseFault(fault)
		if err != nil {
			t.Fatal(err)
		}
		inBubble(t, orchestrator.Config{}, []workertest.Config{{Faults: []workertest.Fault{f}}, {Faults: []workertest.Fault{f}}}, func(t *testing.T, b *bench) {
			acc := b.submit(orchestrator.Spec{})
			all := b.read(acc.ID, 0)
			gapless(t, all, 1)
			if got := code(t, all); got != want {
				t.Errorf("%s: code = %q, want %s", fault, got, want)
			}
			if !strings.Contains(string(all[len(all)-1].Data), `"retriable":true`) {
				t.Errorf("%s: not retriable: %s", fault, all[len(all)-1].Data)
			}
			if n, _ := count[observe.Placed](b.seen); n != 1 {
				t.Errorf("%s: %d attempts, want 1: a token was published", fault, n)
			}
			b.checkIdle()
		})
	}
}

// TestBubbleNodeOffline: when the node of a running attempt is offline, a task
// without a token runs elsewhere, a streaming one ends typed.
func TestBubbleNodeOffline(t *testing.T) {
	slow := workertest.Config{Preset: "slow"}
	inBubble(t, orchestrator.Config{}, []workertest.Config{slow, {}}, func(t *testing.T, b *bench) {
		other := b.pools.list[1]
		b.pools.set(b.pools.list[0])
		synctest.Wait()
		acc := b.submit(orchestrator.Spec{})
		b.pools.set(other)
		all := b.read(acc.ID, 0)
		if got := types(all); got != "started token end" {
			t.Errorf("events = %s, want started token end", got)
		}
		if task, _ := b.Task(t.Context(), me, acc.ID); task.WorkerID != "b" || task.Attempt != 2 {
			t.Errorf("ended on %s, attempt %d, want b, 2", task.WorkerID, task.Attempt)
		}
		b.checkIdle()
	})
}

// TestCancelReachesWorker: a cancel stops the engine's work within 200 ms and no
// token follows the answer (ORC-560).
func TestCancelReachesWorker(t *testing.T) {
	inBubble(t, orchestrator.Config{}, []workertest.Config{{Tokens: 5000}}, func(t *testing.T, b *bench) {
		acc := b.submit(orchestrator.Spec{MaxTokens: 5000})
		var got []orchestrator.Event
		var cancelled time.Time
		for e, err := range b.Events(t.Context(), me, acc.ID, 0) {
			if err != nil {
				t.Fatal(err)
			}
			if got = append(got, e); len(got) == 10 {
				if err := b.Cancel(t.Context(), me, acc.ID); err != nil {
					t.Fatalf("Cancel = %v", err)
				}
				cancelled = time.Now()
			}
			if !cancelled.IsZero() && e.Type == orchestrator.EventToken && e.ID > got[9].ID+1 {
				t.Errorf("a token after the cancel was answered")
			}
		}
		if c := code(t, got); c != taskapi.Cancelled {
			t.Errorf("code = %q, want CANCELLED", c)
		}
		ctx, stop := context.WithTimeout(t.Context(), 200*time.Millisecond)
		defer stop()
		if err := b.engines[0].Wait(ctx, func(s workertest.Stats) bool { return s.Running == 0 }); err != nil {
			t.Errorf("the engine still works 200 ms after the cancel: %+v", b.engines[0].Stats())
		}
		if err := b.Cancel(t.Context(), me, acc.ID); err != nil {
			t.Errorf("second Cancel = %v, want nil", err)
		}
		b.checkIdle()
	})
}

// TestBubbleDisconnect: without readers a task is cancelled after the grace,
// unless it asked to be kept or a reader came back (ORC-505).
func TestBubbleDisconnect(t *testing.T) {
	for _, c := range []struct {
		name   string
		keep   bool
		back   bool
		cancel bool
	}{{"gone", false, false, true}, {"kept", true, false, false}, {"back", false, true, false}} {
		inBubble(t, orchestrator.Config{}, []workertest.Config{{Tokens: 1000}}, func(t *testing.T, b *bench) {
			acc := b.submit(orchestrator.Spec{MaxTokens: 1000, Keep: c.keep})
			for e := range b.Events(t.Context(), me, acc.ID, 0) {
				if e.ID == 5 {
					break
				}
			}
			if c.back {
				time.Sleep(4 * time.Second)
				gapless(t, b.read(acc.ID, 5), 6)
			}
			time.Sleep(time.Minute)
			task, err := b.Task(t.Context(), me, acc.ID)
			if err != nil || (task.Status == "cancelled") != c.cancel {
				t.Errorf("%s: status %s, %v; cancelled wanted: %v", c.name, task.Status, err, c.cancel)
			}
			b.checkIdle()
		})
	}
}

// TestBubbleQueue: a full house queues in order, a full queue refuses, and every
// accepted task ends (ORC-200, ORC-201, I10, I15).
func TestBubbleQueue(t *testing.T) {
	inBubble(t, orchestrator.Config{Queue: queue.Config{Capacity: 5}}, []workertest.Config{{}}, func(t *testing.T, b *bench) {
		var ids []orchestrator.TaskID
		for i := range 7 { // two slots, five places
			acc := b.submit(orchestrator.Spec{})
			ids = append(ids, acc.ID)
			if want := map[bool]string{true: "dispatched", false: "queued"}[i < 2]; acc.Status != want || acc.Position != max(0, i-2) {
				t.Errorf("task %d: %s at %d, want %s at %d", i, acc.Status, acc.Position, want, max(0, i-2))
			}
		}
		_, err := b.Submit(t.Context(), me, fill(orchestrator.Spec{}))
		e, ok := errors.AsType[*taskapi.Error](err)
		if !ok || e.Code != taskapi.QueueFull || !e.Retriable || e.RetryAfter <= 0 || e.Details["policy_label"] != "reject" {
			t.Fatalf("Submit into a full queue = %#v", err)
		}
		why, err := b.Explain(t.Context(), me, ids[6])
		if err != nil || why.Reason != "fair_share" || why.Words == "" {
			t.Errorf("Explain of a waiting task = %+v, %v", why, err)
		}
		var started []time.Duration
		for _, id := range ids {
			all := b.read(id, 0)
			if c := code(t, all); c != "" {
				t.Errorf("a task ended with %s", c)
			}
			task, _ := b.Task(t.Context(), me, id)
			started = append(started, task.Started.Sub(task.Created))
		}
		if !slices.IsSorted(started) {
			t.Errorf("starts are not in the order of arrival: %v", started)
		}
		b.checkIdle()
	})
}

// TestNoImmortalTask: engines that hang at every point end their tasks in time (ORC-571).
func TestNoImmortalTask(t *testing.T) {
	for _, fault := range []string{"slow-headers:1h", "stall", "stall@token=3", "trickle", "endless", "ignore-cancel"} {
		f, err := workertest.ParseFault(fault)
		if err != nil {
			t.Fatal(err)
		}
		cfg := orchestrator.Config{Timing: orchestrator.Timing{Interactive: time.Minute}}
		inBubble(t, cfg, []workertest.Config{{Faults: []workertest.Fault{f}, Tokens: 100}}, func(t *testing.T, b *bench) {
			began := time.Now()
			acc := b.submit(orchestrator.Spec{MaxTokens: 100})
			all := b.read(acc.ID, 0)
			if took := time.Since(began); took > time.Minute+6*time.Second {
				t.Errorf("%s: ended after %v with %q", fault, took, code(t, all))
			}
			b.checkIdle()
		})
	}
}

// TestBubbleDeadline: a deadline in the past is refused, one that comes while
// waiting or running ends the task (ORC-251, ORC-570).
func TestBubbleDeadline(t *testing.T) {
	inBubble(t, orchestrator.Config{}, []workertest.Config{{Tokens: 1000}}, func(t *testing.T, b *bench) {
		_, err := b.Submit(t.Context(), me, fill(orchestrator.Spec{Deadline: time.Now().Add(-time.Second)}))
		if !errors.Is(err, taskapi.DeadlineUnmet) {
			t.Errorf("Submit past its deadline = %v", err)
		}
		for range 3 { // two run, one waits
			acc := b.submit(orchestrator.Spec{MaxTokens: 1000, Deadline: time.Now().Add(2 * time.Second)})
			t.Cleanup(func() {})
			defer func() {
				if c := code(t, b.read(acc.ID, 0)); c != taskapi.DeadlineUnmet {
					t.Errorf("code = %q, want DEADLINE_UNMET", c)
				}
			}()
		}
		time.Sleep(3 * time.Second)
		b.checkIdle()
	})
}

// TestBubbleForeign: another person's task is as unknown as none (ORC-765).
func TestBubbleForeign(t *testing.T) {
	inBubble(t, orchestrator.Config{}, []workertest.Config{{}}, func(t *testing.T, b *bench) {
		acc := b.submit(orchestrator.Spec{})
		b.read(acc.ID, 0)
		you := orchestrator.Principal{User: "you", Roles: orchestrator.RoleUser}
		if _, err := b.Task(t.Context(), you, acc.ID); !errors.Is(err, taskapi.NotFound) {
			t.Errorf("Task = %v, want NOT_FOUND", err)
		}
		if err := b.Cancel(t.Context(), you, acc.ID); !errors.Is(err, taskapi.NotFound) {
			t.Errorf("Cancel = %v, want NOT_FOUND", err)
		}
		for _, err := range b.Events(t.Context(), you, acc.ID, 0) {
			if !errors.Is(err, taskapi.NotFound) {
				t.Errorf("Events = %v, want NOT_FOUND", err)
			}
		}
		for task := range b.Tasks(t.Context(), you, orchestrator.Filter{}) {
			t.Errorf("Tasks shows %v", task.ID)
		}
		op := orchestrator.Principal{User: "op", Roles: orchestrator.RoleUser | orchestrator.RoleOperator}
		if _, err := b.Task(t.Context(), op, acc.ID); err != nil {
			t.Errorf("an operator's Task = %v", err)
		}
		for _, err := range b.Events(t.Context(), op, acc.ID, 0) {
			if !errors.Is(err, taskapi.NotFound) {
				t.Errorf("an operator reads content: %v", err)
			}
		}
	})
}

// durable is the memory store with the manners of a durable one: it outlives
// the orchestrator that uses it.
type durable struct{ *store.Memory }

func (durable) Durable() bool { return true }

// TestBubbleRestart: what was accepted ends exactly once across a restart, in
// the old order; what streamed is WORKER_RESET; what ended can be read again
// (G1, ORC-654, ORC-508).
func TestBubbleRestart(t *testing.T) {
	seal := [][]byte{[]byte("0123456789abcdef0123456789abcdef")}
	cfg := orchestrator.Config{Store: durable{store.NewMemory()}, SealKeys: seal, Timing: orchestrator.Timing{Drain: -1}}
	inBubble(t, cfg, []workertest.Config{{Tokens: 200}}, func(t *testing.T, b *bench) {
		ended := b.submit(orchestrator.Spec{})
		before := b.read(ended.ID, 0)
		var ids []orchestrator.TaskID
		for range 6 {
			ids = append(ids, b.submit(orchestrator.Spec{MaxTokens: 200, Keep: true}).ID)
		}
		for e := range b.Events(t.Context(), me, ids[0], 0) { // the first one streams
			if e.ID == 4 {
				break
			}
		}
		if err := b.stop(); err != nil {
			t.Fatal(err)
		}
		if _, err := b.Submit(t.Context(), me, fill(orchestrator.Spec{})); !errors.Is(err, taskapi.ShuttingDown) {
			t.Errorf("Submit after the end = %v, want SHUTTING_DOWN", err)
		}
		b.start(cfg)
		if after := b.read(ended.ID, 0); len(after) != len(before) || string(after[3].Data) != string(before[3].Data) {
			t.Errorf("an ended task reads %d events after the restart, want %d", len(after), len(before))
		}
		if c := code(t, b.read(ids[0], 0)); c != taskapi.WorkerReset {
			t.Errorf("the streaming task ended with %q, want WORKER_RESET", c)
		}
		for _, id := range ids[1:] {
			all := b.read(id, 0)
			gapless(t, all, 1)
			if c := code(t, all); c != "" && c != taskapi.WorkerReset {
				t.Errorf("a waiting task ended with %q", c)
			}
		}
		for _, id := range ids[2:] { // these never streamed before the stop
			if task, err := b.Task(t.Context(), me, id); err != nil || task.Status != "completed" {
				t.Errorf("task = %s, %v, want completed", task.Status, err)
			}
		}
	})
}

// TestBubbleEphemeral: a /v1 call relays the engine's own bytes and leaves a
// record, but promises nothing (ORC-104, ORC-443).
func TestBubbleEphemeral(t *testing.T) {
	inBubble(t, orchestrator.Config{}, []workertest.Config{{}}, func(t *testing.T, b *bench) {
		raw := []byte(`{"model":"sim-8b","messages":[{"role":"user","content":"hi"}],"max_tokens":7,"stream":true}`)
		acc, err := b.Submit(t.Context(), me, orchestrator.Spec{Kind: worker.Chat, Model: "sim-8b", Raw: raw, Stream: true, MaxTokens: 7, Ephemeral: true})
		if err != nil {
			t.Fatal(err)
		}
		all := b.read(acc.ID, 0)
		if got := types(all); got != "started frame end" {
			t.Fatalf("events = %s, want started frame end", got)
		}
		for _, e := range all[1 : len(all)-1] {
			if !json.Valid(e.Data) || !strings.Contains(string(e.Data), "chat.completion.chunk") {
				t.Errorf("a frame is not the engine's: %s", e.Data)
			}
		}
		synctest.Wait()
		task, err := b.Task(t.Context(), me, acc.ID)
		if err != nil || task.Status != "completed" || task.Outcome.TokensOut != 7 {
			t.Errorf("Task = %s %+v, %v", task.Status, task.Outcome, err)
		}
	})
}

// TestBubbleIdempotent: the same request under one key is one task (ORC-246).
func TestBubbleIdempotent(t *testing.T) {
	inBubble(t, orchestrator.Config{}, []workertest.Config{{}}, func(t *testing.T, b *bench) {
		first := b.submit(orchestrator.Spec{Key: "k"})
		again := b.submit(orchestrator.Spec{Key: "k"})
		if !again.Duplicate || again.ID != first.ID {
			t.Errorf("again = %+v, want a duplicate of %v", again, first.ID)
		}
		if _, err := b.Submit(t.Context(), me, fill(orchestrator.Spec{Key: "k", Prompt: "other"})); !errors.Is(err, taskapi.Conflict) {
			t.Errorf("other content = %v, want CONFLICT", err)
		}
		b.read(first.ID, 0)
		if n, _ := count[observe.Placed](b.seen); n != 1 {
			t.Errorf("%d attempts, want 1", n)
		}
	})
}

// TestNoInventedOutput: without a worker there is an error, never a token.
func TestNoInventedOutput(t *testing.T) {
	inBubble(t, orchestrator.Config{}, nil, func(t *testing.T, b *bench) {
		if _, err := b.Submit(t.Context(), me, fill(orchestrator.Spec{Prompt: "pool-unavailable"})); !errors.Is(err, taskapi.PoolUnavailable) {
			t.Errorf("Submit = %v, want POOL_UNAVAILABLE", err)
		}
	})
	inBubble(t, orchestrator.Config{}, []workertest.Config{{}}, func(t *testing.T, b *bench) {
		if _, err := b.Submit(t.Context(), me, fill(orchestrator.Spec{Model: "gpt-9"})); !errors.Is(err, taskapi.ModelNotFound) {
			t.Errorf("Submit = %v, want MODEL_NOT_FOUND", err)
		}
	})
}

func TestConfigFaultsTogether(t *testing.T) {
	_, err := orchestrator.New(orchestrator.Config{Store: durable{store.NewMemory()}, Queue: queue.Config{Capacity: -9}, Timing: orchestrator.Timing{Idle: -1}})
	for _, want := range []string{"Pools: required", "SealKeys", "capacity", "Idle"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("New = %v, want a fault about %s", err, want)
		}
	}
	if !errors.Is(err, orchestrator.ErrNoSealKey) {
		t.Errorf("New = %v, want ErrNoSealKey", err)
	}
}

// TestModelNameAsAsked: a client reads the name that it asked for, not the
// worker's own, and no other byte changes.
func TestModelNameAsAsked(t *testing.T) {
	for in, want := range map[string]string{
		`{"id":"x","model":"p-r0-abc","choices":[]}`:        `{"id":"x","model":"a\"b","choices":[]}`,
		`{"model": "p-r0-abc", "choices":[]}`:               `{"model": "a\"b", "choices":[]}`,
		`{"choices":[{"text":"\"model\":\"p-r0-abc\""}]}`:   `{"choices":[{"text":"\"model\":\"p-r0-abc\""}]}`,
		`{"model":"other","choices":[{"text":"p-r0-abc"}]}`: `{"model":"other","choices":[{"text":"p-r0-abc"}]}`,
	} {
		if got := orchestrator.AsAsked([]byte(in), "p-r0-abc", `a"b`); string(got) != want {
			t.Errorf("AsAsked(%s) = %s, want %s", in, got, want)
		}
	}
	if got := orchestrator.AsAsked([]byte(`{"model":""}`), "", "m"); string(got) != `{"model":""}` {
		t.Errorf("without a worker's own name the frame changed: %s", got)
	}
}
