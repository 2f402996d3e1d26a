package orchestrator_test

import (
	"encoding/json"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/llorch/llorch/orchestrator"
	"github.com/llorch/llorch/orchestrator/observe"
	"github.com/llorch/llorch/orchestrator/placement"
	"github.com/llorch/llorch/orchestrator/queue"
	"github.com/llorch/llorch/orchestrator/taskapi"
	"github.com/llorch/llorch/orchestrator/worker/workertest"
)

// TestPreview: all checks are shown with their answers, the decision and what waits
// before; nothing changes by it, however often it is asked (ORC-240, 309).
func TestPreview(t *testing.T) {
	cfg := orchestrator.Config{Sessions: orchestrator.Sessions{Full: "reject", Turns: 1}, Queue: queue.Config{Capacity: 3}}
	inBubble(t, cfg, []workertest.Config{{Slots: 2, Tokens: 500}}, func(t *testing.T, b *bench) {
		ask := func(s orchestrator.Spec) (out orchestrator.Preview, failed map[string]string) {
			t.Helper()
			var texts [2]string
			for i := range texts {
				var err error
				if out, err = b.Preview(t.Context(), me, fill(s)); err != nil {
					t.Fatal(err)
				}
				again := out
				again.Explanation.At = 0
				text, err := json.Marshal(again)
				if err != nil {
					t.Fatal(err)
				}
				texts[i] = string(text)
			}
			if texts[0] != texts[1] {
				t.Errorf("two previews differ:\n%s\n%s", texts[0], texts[1])
			}
			failed = make(map[string]string)
			for _, c := range out.Checks {
				if c.Code != "" {
					failed[c.Name] = c.Code
				}
			}
			return out, failed
		}
		got, failed := ask(orchestrator.Spec{Session: "s", Budget: 5000})
		if len(got.Checks) != 15 || len(failed) != 0 || got.Explanation.Winner != "n/p/a" || got.Position != 0 {
			t.Errorf("Preview = %+v, want 15 checks, worker a and nothing before it", got)
		}
		b.noSession("s")
		if _, failed := ask(orchestrator.Spec{Session: "s", Budget: 5}); failed["session"] != "BUDGET_EXCEEDED" {
			t.Errorf("a budget of 5 tokens fails %v, want session BUDGET_EXCEEDED", failed)
		}
		var ids []orchestrator.TaskID
		for range 5 { // two run, three wait: the queue is full
			ids = append(ids, b.submit(orchestrator.Spec{MaxTokens: 500, Keep: true}).ID)
		}
		b.take("full", 0, 0)
		b.put(orchestrator.Model{ID: "old", State: taskapi.ModelRetired})
		got, failed = ask(orchestrator.Spec{Session: "full"})
		if want := map[string]string{"session": "SESSION_LIMIT", "place": "QUEUE_FULL"}; !cmp.Equal(failed, want) || got.Position != 3 || got.Explanation.Filter != "slots" || got.StartIn <= 0 {
			t.Errorf("a full queue: %+v, failed %v, want %v and three before it", got, failed, want)
		}
		if _, failed := ask(orchestrator.Spec{Model: "old"}); failed["model"] != "MODEL_DEPRECATED" {
			t.Errorf("a retired model fails %v", failed)
		}
		got, failed = ask(orchestrator.Spec{Class: 9})
		if failed["shape"] != "INVALID_PARAMS" || len(got.Checks) != 4 || got.Explanation.Total != 0 {
			t.Errorf("a malformed request: %+v, want four checks and no decision", got)
		}
		if _, err := b.Preview(t.Context(), orchestrator.Principal{User: "me"}, fill(orchestrator.Spec{})); !errors.Is(err, taskapi.Forbidden) {
			t.Errorf("Preview without a role = %v, want FORBIDDEN", err)
		}
		if s := b.session("full"); s.Turns != 1 {
			t.Errorf("previews made %d turns", s.Turns-1)
		}
		for _, id := range ids {
			b.read(id, 0)
		}
		if n, _ := count[observe.Admitted](b.seen); n != 5 {
			t.Errorf("%d tasks were admitted, want 5", n)
		}
	})
}

// TestQueueState: an operator sees what waits by class and tenant (ORC-760).
func TestQueueState(t *testing.T) {
	inBubble(t, orchestrator.Config{}, []workertest.Config{{Slots: 2, Tokens: 500}}, func(t *testing.T, b *bench) {
		them := orchestrator.Principal{Tenant: "acme", User: "you", Roles: orchestrator.RoleUser}
		var ids []orchestrator.TaskID
		for range 3 {
			ids = append(ids, b.submit(orchestrator.Spec{MaxTokens: 500, Keep: true}).ID)
		}
		theirs, err := b.Submit(t.Context(), them, fill(orchestrator.Spec{Class: queue.Batch, Keep: true}))
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		got, err := b.Queue(t.Context(), op)
		if err != nil || got.Capacity != 100 || got.Waiting != 2 || got.Bytes == 0 || got.Oldest != time.Second || !cmp.Equal(got.Classes, map[string]int{"interactive": 1, "batch": 1}) {
			t.Errorf("Queue = %+v, %v", got, err)
		}
		stands := make(map[string][2]int)
		for _, x := range got.Tenants {
			stands[x.Tenant] = [2]int{x.Waiting, x.Running}
			if x.Weight != 1 {
				t.Errorf("weight of %s = %d, want 1", x.Tenant, x.Weight)
			}
		}
		if want := map[string][2]int{"default": {1, 2}, "acme": {1, 0}}; !cmp.Equal(stands, want) {
			t.Errorf("tenants = %v, want %v waiting and running", stands, want)
		}
		if _, err := b.Queue(t.Context(), me); !errors.Is(err, taskapi.Forbidden) {
			t.Errorf("Queue by a user = %v, want FORBIDDEN", err)
		}
		for _, id := range ids {
			b.read(id, 0)
		}
		for _, err := range b.Events(t.Context(), them, theirs.ID, 0) {
			if err != nil {
				t.Fatal(err)
			}
		}
		got, err = b.Queue(t.Context(), op)
		if err != nil || got.Waiting != 0 || got.Oldest != 0 || len(got.Tenants) != 2 || got.Tenants[0].TokensToday == 0 {
			t.Errorf("Queue after the ends = %+v, %v", got, err)
		}
	})
}

// TestSetPolicy: another policy holds from the next decision on; a faulty one is
// refused by its member (ORC-311).
func TestSetPolicy(t *testing.T) {
	inBubble(t, orchestrator.Config{}, []workertest.Config{{}}, func(t *testing.T, b *bench) {
		before := b.read(b.submit(orchestrator.Spec{}).ID, 0)
		policy := placement.Policy{Strategy: "round-robin"}
		if err := b.SetPolicy(t.Context(), op, policy); err != nil {
			t.Fatal(err)
		}
		acc := b.submit(orchestrator.Spec{})
		if why, err := b.Explain(t.Context(), me, acc.ID); err != nil || why.Strategy != "round-robin" || why.Policy != policy.Hash() {
			t.Errorf("Explain = %+v, %v, want round-robin", why, err)
		}
		if n, e := count[observe.PolicyChanged](b.seen); n != 1 || e.SHA256 != policy.Hash() {
			t.Errorf("%d changes were observed, last %+v", n, e)
		}
		for name, p := range map[string]placement.Policy{
			"strategy": {Strategy: "best"}, "tie_rule": {TieRule: "coin"}, "weights.load": {Weights: placement.Weights{Load: -1}},
			"scorers[0].name": {Scorers: []placement.Scored{{Name: "mine", Weight: 1}}},
		} {
			if err := b.SetPolicy(t.Context(), op, p); field(err) != name {
				t.Errorf("SetPolicy(%+v) = %v, want INVALID_PARAMS for %s", p, err, name)
			}
		}
		if err := b.SetPolicy(t.Context(), me, policy); !errors.Is(err, taskapi.Forbidden) {
			t.Errorf("SetPolicy by a user = %v, want FORBIDDEN", err)
		}
		if len(before) == 0 || types(b.read(acc.ID, 0)) != "started token end" {
			t.Error("a task did not end")
		}
	})
}
