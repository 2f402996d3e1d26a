package orchestrator_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/llorch/llorch/inputvalidation"
	"github.com/llorch/llorch/orchestrator"
	"github.com/llorch/llorch/orchestrator/observe"
	"github.com/llorch/llorch/orchestrator/taskapi"
	"github.com/llorch/llorch/orchestrator/worker/workertest"
	"github.com/llorch/llorch/poolregistry"
	"github.com/llorch/llorch/poolregistry/nodeapi"
	"github.com/llorch/llorch/poolregistry/poolclient"
)

// TestMetricsAreConflated (ORC-501): at most one metrics event a second, none while
// a reader lags or the log is half full, and each one left out is counted. Tokens
// are never left out.
func TestMetricsAreConflated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := orchestrator.NewStream(orchestrator.Streams{Bytes: 1 << 20, Events: 100, Lag: 3})
		offer := func(want bool, why string) {
			t.Helper()
			before := s.Last()
			if dropped := s.Offer([]byte("{}")); dropped == want {
				t.Errorf("%s: left out %v", why, dropped)
			}
			if taken := s.Last() > before; taken != want {
				t.Errorf("%s: taken %v", why, taken)
			}
		}
		if s.Offer([]byte("{}")) || s.Last() != 0 {
			t.Error("an event for nobody is counted or kept")
		}
		c, _ := s.Subscribe(0)
		read := func() {
			for c.Behind() > 0 {
				if _, err := c.Read(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
		}
		offer(true, "the first")
		offer(false, "a second one at once")
		time.Sleep(time.Second)
		offer(true, "one second later")
		for range 4 {
			if _, err := s.Append(t.Context(), orchestrator.EventToken, []byte("x")); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(time.Second)
		offer(false, "the reader lags")
		read()
		offer(true, "it has caught up")
		for range 60 {
			if _, err := s.Append(t.Context(), orchestrator.EventToken, []byte("x")); err != nil {
				t.Fatal(err)
			}
		}
		read()
		time.Sleep(time.Second)
		offer(false, "the log is more than half full")
		s.Mute()
		if s.Offer([]byte("{}")) {
			t.Error("an event after an acknowledged cancel is counted")
		}
	})
}

// TestStuckReaders (ORC-504): when every reader has been behind a full log for 30 s,
// the task counts as disconnected.
func TestStuckReaders(t *testing.T) {
	inBubble(t, orchestrator.Config{Streams: orchestrator.Streams{Events: 20}}, []workertest.Config{{Tokens: 200}}, func(t *testing.T, b *bench) {
		acc, began := b.submit(orchestrator.Spec{MaxTokens: 200}), time.Now()
		for range b.Events(t.Context(), me, acc.ID, 0) {
			time.Sleep(45 * time.Second) // the reader takes one event and then no more
			break
		}
		synctest.Wait()
		task, err := b.Task(t.Context(), me, acc.ID)
		if err != nil || task.Status != "cancelled" || task.CancelReason != "disconnect" {
			t.Fatalf("after the reader slept: %s %s, %v; want cancelled, disconnect", task.Status, task.CancelReason, err)
		}
		if ran := task.Finished.Sub(began); ran < 30*time.Second || ran > 40*time.Second {
			t.Errorf("it ended after %v, want 30 s", ran)
		}
	})
}

// TestWaitingTasksAreTold (ORC-253, ORC-500): the reader of a waiting task hears how it
// stands, with a new prediction each time.
func TestWaitingTasksAreTold(t *testing.T) {
	inBubble(t, orchestrator.Config{}, []workertest.Config{{Tokens: 400}}, func(t *testing.T, b *bench) {
		var last orchestrator.Accepted
		for range 6 { // two run at once
			last = b.submit(orchestrator.Spec{MaxTokens: 400, Keep: true})
		}
		var heard []taskapi.Metrics
		for _, ev := range b.read(last.ID, 0) {
			if ev.Type == orchestrator.EventMetrics {
				var m taskapi.Metrics
				if err := json.Unmarshal(ev.Data, &m); err != nil {
					t.Fatal(err)
				}
				heard = append(heard, m)
			}
		}
		if len(heard) < 2 || heard[0].QueueDepth == nil || *heard[0].QueueDepth != 3 || heard[0].PredictedStartMS == nil || *heard[0].PredictedStartMS == 0 {
			t.Fatalf("a task with three ahead heard %+v", heard)
		}
		if n, last := count[observe.Started](b.seen); n != 6 || last.Worker.Node != "n" || last.Attempt != 1 {
			t.Errorf("%d tasks were sent, the last %+v", n, last)
		}
		if end := heard[len(heard)-1]; *end.QueueDepth >= 3 || end.Phase != "queued" {
			t.Errorf("the last metrics of a waiting task: %+v", end)
		}
	})
}

// TestDepthIsTold (ORC-890): observers hear how long the oldest task has waited.
func TestDepthIsTold(t *testing.T) {
	inBubble(t, orchestrator.Config{}, []workertest.Config{{Tokens: 2000}}, func(t *testing.T, b *bench) {
		for range 3 { // two run at once
			b.submit(orchestrator.Spec{MaxTokens: 2000, Keep: true})
		}
		time.Sleep(11 * time.Second)
		if _, q := count[observe.Queue](b.seen); q.OldestInteractive < 5*time.Second || q.OldestBatch != 0 {
			t.Errorf("told %+v while a task has waited for 11 s", q)
		}
	})
}

// TestHTTPCommands: every command reaches its route with its parameters, the answer
// names the node, and refusals become codes of this wire (ORC-760).
func TestHTTPCommands(t *testing.T) {
	var mu sync.Mutex
	var asked []string
	node := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		asked = append(asked, r.Method+" "+r.URL.Path)
		mu.Unlock()
		w.Header().Set("Content-Type", "application/json")
		switch r.URL.Path {
		case "/pools/busy/drain":
			w.WriteHeader(http.StatusConflict)
			w.Write([]byte(`{"success":false,"error":{"code":"POOL_BUSY"}}`))
		case "/pools/none/drain":
			w.WriteHeader(http.StatusNotFound)
		default:
			w.WriteHeader(http.StatusAccepted)
			json.NewEncoder(w).Encode(nodeapi.Operation{ID: "op-7", Kind: "drain", State: "running", PoolID: "chat", Progress: &nodeapi.Progress{BytesDone: 3, BytesTotal: 9}})
		}
	}))
	defer node.Close()
	policy := poolregistry.AddressPolicy{Allow: []inputvalidation.AddrKind{inputvalidation.AddrLoopback}}
	reg, err := poolregistry.New(poolregistry.Config{Address: policy, PublishEvery: -1})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := reg.Register(t.Context(), poolregistry.Registration{NodeID: "gpu-1", InstanceID: firstLife, Address: node.URL, Pools: []poolregistry.Pool{{ID: "chat"}}}); err != nil {
		t.Fatal(err)
	}
	ctl, err := orchestrator.HTTPControl(reg, poolclient.Config{Token: func() string { return "node-token-0123456789abcdef01234567" }, Address: policy})
	if err != nil {
		t.Fatal(err)
	}
	key := poolregistry.PoolKey{Node: "gpu-1", Pool: "chat"}
	for do, route := range map[string]string{
		"drain": "POST /pools/chat/drain", "reload": "POST /pools/chat/reload", "restart": "POST /pools/chat/restart", "purge": "POST /pools/chat/purge",
		"verify": "POST /models/m.gguf/verify",
	} {
		op, err := ctl.Do(t.Context(), key, orchestrator.Command{Do: do, Model: "m.gguf"})
		if err != nil || op.ID != "gpu-1/op-7" || op.State != "running" || op.Bytes != 3 || op.Total != 9 || op.Pool != key || op.Ended() {
			t.Errorf("%s = %+v, %v", do, op, err)
		}
		mu.Lock()
		if got := asked[len(asked)-1]; got != route {
			t.Errorf("%s asked %s, want %s", do, got, route)
		}
		mu.Unlock()
	}
	if op, err := ctl.Operation(t.Context(), "gpu-1/op-7"); err != nil || op.ID != "gpu-1/op-7" {
		t.Errorf("Operation = %+v, %v", op, err)
	}
	for pool, want := range map[poolregistry.PoolKey]taskapi.Code{
		{Node: "gpu-1", Pool: "busy"}: taskapi.OperationRunning, {Node: "gpu-1", Pool: "none"}: taskapi.PoolNotFound, {Node: "gone", Pool: "chat"}: taskapi.PoolNotFound,
	} {
		if _, err := ctl.Do(t.Context(), pool, orchestrator.Command{Do: "drain"}); !errors.Is(err, want) {
			t.Errorf("drain of %v = %v, want %s", pool, err, want)
		}
	}
	if _, err := ctl.Do(t.Context(), key, orchestrator.Command{Do: "dance"}); !errors.Is(err, taskapi.InvalidParams) {
		t.Errorf("an unknown command = %v", err)
	}
	for _, id := range []string{"op-7", "gone/op-7"} {
		if _, err := ctl.Operation(context.Background(), id); !errors.Is(err, taskapi.NotFound) {
			t.Errorf("Operation(%q) = %v", id, err)
		}
	}
}
