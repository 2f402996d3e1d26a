package orchestrator_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/llorch/llorch/audit"
	"github.com/llorch/llorch/audit/events"
	"github.com/llorch/llorch/orchestrator"
	"github.com/llorch/llorch/orchestrator/observe"
	"github.com/llorch/llorch/orchestrator/store"
	"github.com/llorch/llorch/orchestrator/taskapi"
	"github.com/llorch/llorch/orchestrator/worker/workertest"
)

// panicky panics on the first event of one kind and counts what it heard later.
type panicky struct {
	mu    sync.Mutex
	after int
	done  bool
}

func (p *panicky) Observe(e observe.Event) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.done {
		p.after++
		return
	}
	if _, ok := e.(observe.FirstToken); ok {
		p.done = true
		panic("the observer is broken")
	}
}

// TestPanickingObserver: an observer that panics is switched off; the tasks, the
// audit log and the wide record go on (ORC-880).
func TestPanickingObserver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net, lines, broken, evidence := new(workertest.Net), new(records), new(panicky), new(recorder)
		e := start(t, net, workertest.Config{})
		o, _ := serve(t, orchestrator.Config{Pools: newPools(e), Workers: dialer(t, net), Observer: broken, Logger: lines.logger(), Recorder: evidence})
		for range 3 {
			acc, err := o.Submit(t.Context(), me, fill(orchestrator.Spec{}))
			if err != nil {
				t.Fatal(err)
			}
			if all, c := ends(t, o, acc.ID); c != "" || types(all) != "started token end" {
				t.Errorf("a task under a broken observer: %s, code %q", types(all), c)
			}
		}
		if broken.after != 0 || !broken.done {
			t.Errorf("the observer heard %d events after its panic, want 0", broken.after)
		}
		if n := strings.Count(lines.text(), `"event":"observer_off"`); n != 1 {
			t.Errorf("its end was logged %d times, want once", n)
		}
		synctest.Wait()
		if n := len(evidence.take()); n != 10 { // submitted, completed and executed of each, and one use of the model
			t.Errorf("%d audit events of 3 tasks, want 10", n)
		}
		if n := strings.Count(lines.text(), `"event":"task_finished"`); n != 3 {
			t.Errorf("%d ends were logged, want 3", n)
		}
	})
}

// recorder keeps audit events.
type recorder struct {
	mu     sync.Mutex
	events []audit.Event
	refuse error
}

func (r *recorder) Emit(_ context.Context, e audit.Event) (audit.Ticket, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.events = append(r.events, e)
	return audit.Ticket{}, r.refuse
}

func (r *recorder) Append(ctx context.Context, e audit.Event) (audit.Receipt, error) {
	_, err := r.Emit(ctx, e)
	return audit.Receipt{}, err
}

func (r *recorder) take() []audit.Event {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.events)
}

// secretPrompt is in no record, log line, error or metric.
const secretPrompt = "canary-prompt-5d1e"

// TestAuditRecords: who submitted what, and how it ended, without its text (G9).
func TestAuditRecords(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net, rec := new(workertest.Net), new(recorder)
		e := start(t, net, workertest.Config{})
		o, _ := serve(t, orchestrator.Config{Pools: newPools(e), Workers: dialer(t, net), Recorder: rec})
		who := orchestrator.Principal{Tenant: "acme", User: "eve", Roles: orchestrator.RoleUser, Fingerprint: "a1b2c3", Addr: "10.1.2.3"}
		acc, err := o.Submit(t.Context(), who, fill(orchestrator.Spec{Prompt: secretPrompt, Correlation: "corr-1"}))
		if err != nil {
			t.Fatal(err)
		}
		for range o.Events(t.Context(), who, acc.ID, 0) {
			continue
		}
		synctest.Wait()
		got := rec.take()
		if len(got) != 4 {
			t.Fatalf("%d records, want task.submitted, task.completed, data.inference_executed and data.model_accessed: %+v", len(got), got)
		}
		actor := audit.Token("a1b2c3", netip.MustParseAddr("10.1.2.3"))
		sub, ok := got[0].Data.(events.TaskSubmitted)
		if !ok || sub.TaskID != acc.ID.String() || sub.ModelRef != "sim-8b" || sub.PromptLength != uint64(len(secretPrompt)) || sub.MaxTokens != 20 || sub.CustomerID != "acme/eve" {
			t.Errorf("submitted = %+v", got[0].Data)
		}
		if got[0].Actor != actor || got[0].Correlation != "corr-1" {
			t.Errorf("submitted by %+v in %q, want %+v in corr-1", got[0].Actor, got[0].Correlation, actor)
		}
		done, ok := got[1].Data.(events.TaskCompleted)
		if !ok || done.TaskID != acc.ID.String() || done.WorkerID != "n/p/a" || done.TokensGenerated != 20 || done.DurationMS == 0 || got[1].Outcome == audit.Failure {
			t.Errorf("completed = %+v outcome %v", got[1].Data, got[1].Outcome)
		}
		if text := fmt.Sprintf("%+v", got); strings.Contains(text, secretPrompt) {
			t.Errorf("the prompt is in the records: %s", text)
		}
	})
}

// TestAuditOfCancelAndFailure: the two other ends, and a recorder that refuses
// costs nobody a task.
func TestAuditOfCancelAndFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net, rec, lines := new(workertest.Net), &recorder{refuse: errors.New("disk full")}, new(records)
		e := start(t, net, workertest.Config{Tokens: 500})
		o, _ := serve(t, orchestrator.Config{Pools: newPools(e), Workers: dialer(t, net), Recorder: rec, Logger: lines.logger()})
		acc, err := o.Submit(t.Context(), me, fill(orchestrator.Spec{MaxTokens: 500}))
		if err != nil {
			t.Fatal(err)
		}
		if err := o.Cancel(t.Context(), me, acc.ID); err != nil {
			t.Fatal(err)
		}
		ends(t, o, acc.ID)
		if err := e.SetFaults(workertest.Fault{Kind: "status", Arg: "400", Token: -1}); err != nil {
			t.Fatal(err)
		}
		failed, err := o.Submit(t.Context(), me, fill(orchestrator.Spec{}))
		if err != nil {
			t.Fatal(err)
		}
		ends(t, o, failed.ID)
		synctest.Wait()
		got := rec.take()
		if len(got) != 4 {
			t.Fatalf("%d records, want 4", len(got))
		}
		if x, ok := got[1].Data.(events.TaskCanceled); !ok || x.TaskID != acc.ID.String() || got[1].Reason != "client" {
			t.Errorf("cancelled = %+v, reason %q", got[1].Data, got[1].Reason)
		}
		if x, ok := got[3].Data.(events.TaskCompleted); !ok || x.TaskID != failed.ID.String() || got[3].Outcome != audit.Failure || got[3].Reason != string(taskapi.InvalidParams) {
			t.Errorf("failed = %+v, outcome %v, reason %q", got[3].Data, got[3].Outcome, got[3].Reason)
		}
		if n := strings.Count(lines.text(), `"event":"audit_refused"`); n != 4 {
			t.Errorf("%d refused records in the log, want 4", n)
		}
	})
}

// TestWideRecord: one record per end and per refusal, with its numbers, without
// prompt, output, user or tenant (ORC-882, G9).
func TestWideRecord(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net, lines := new(workertest.Net), new(records)
		e := start(t, net, workertest.Config{})
		o, _ := serve(t, orchestrator.Config{Pools: newPools(e), Workers: dialer(t, net), Logger: lines.logger()})
		who := orchestrator.Principal{Tenant: "tenant-canary", User: "user-canary", Roles: orchestrator.RoleUser, Fingerprint: "a1b2c3"}
		acc, err := o.Submit(t.Context(), who, fill(orchestrator.Spec{Prompt: secretPrompt, Correlation: "corr-2"}))
		if err != nil {
			t.Fatal(err)
		}
		var output []orchestrator.Event
		for e := range o.Events(t.Context(), who, acc.ID, 0) {
			output = append(output, e)
		}
		if _, err := o.Submit(t.Context(), who, fill(orchestrator.Spec{Prompt: secretPrompt, Model: "none"})); !errors.Is(err, taskapi.ModelNotFound) || strings.Contains(err.Error(), secretPrompt) {
			t.Errorf("Submit = %v", err)
		}
		synctest.Wait()
		all := lines.text()
		var ended, refused int
		for line := range strings.Lines(all) {
			var rec map[string]any
			if err := json.Unmarshal([]byte(line), &rec); err != nil {
				t.Fatal(err)
			}
			switch rec["event"] {
			case "task_finished":
				ended++
				for k, want := range map[string]any{
					"job_id": acc.ID.String(), "correlation_id": "corr-2", "class": "interactive", "model_ref": "sim-8b", "node_id": "n", "worker_id": "a",
					"tokens_out": 20.0, "attempt": 1.0, "code": "", "identity": "a1b2c3",
				} {
					if rec[k] != want {
						t.Errorf("%s = %v, want %v", k, rec[k], want)
					}
				}
			case "task_rejected":
				refused++
				if rec["code"] != string(taskapi.ModelNotFound) {
					t.Errorf("refused with %v", rec["code"])
				}
			}
		}
		if ended != 1 || refused != 1 {
			t.Errorf("%d ends and %d refusals logged, want one of each", ended, refused)
		}
		for _, secret := range []string{secretPrompt, text(t, output), "tenant-canary", "user-canary"} {
			if strings.Contains(all, secret) {
				t.Errorf("the log holds %q:\n%s", secret, all)
			}
		}
	})
}

// steps writes down what happens, in order.
type steps struct {
	store.Store
	mu  sync.Mutex
	all []string
}

func (s *steps) add(what string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all = append(s.all, what)
}

func (s *steps) Observe(e observe.Event) {
	switch e.(type) {
	case observe.Admitted, observe.Placed, observe.FirstToken, observe.Finished:
		s.add(strings.TrimPrefix(fmt.Sprintf("%T", e), "observe."))
	}
}

func (s *steps) Submit(ctx context.Context, e store.Epoch, b []store.NewTask) ([]store.Submitted, error) {
	s.add("store.Submit")
	return s.Store.Submit(ctx, e, b)
}

func (s *steps) Start(ctx context.Context, e store.Epoch, b []store.StartReq) ([]store.Started, error) {
	s.add("store.Start")
	return s.Store.Start(ctx, e, b)
}

func (s *steps) Mark(ctx context.Context, e store.Epoch, b []store.MarkReq) ([]error, error) {
	s.add("store.Mark")
	return s.Store.Mark(ctx, e, b)
}

func (s *steps) Complete(ctx context.Context, e store.Epoch, b []store.Completion) ([]error, error) {
	s.add("store.Complete")
	return s.Store.Complete(ctx, e, b)
}

// TestRequestPath: the path of one request that doc.go tells of, as the store,
// the engine, a reader and the observer see it (ORC-100, ORC-404).
func TestRequestPath(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := new(workertest.Net)
		path := &steps{Store: store.NewMemory()}
		began := func(e workertest.Event) {
			if e.Event == "arrived" {
				path.add("engine arrived")
			}
		}
		e := start(t, net, workertest.Config{Trace: began})
		o, _ := serve(t, orchestrator.Config{Pools: newPools(e), Workers: dialer(t, net), Store: path, Observer: path})
		acc, err := o.Submit(t.Context(), me, fill(orchestrator.Spec{}))
		if err != nil {
			t.Fatal(err)
		}
		for e, err := range o.Events(t.Context(), me, acc.ID, 0) {
			if err != nil {
				t.Fatal(err)
			}
			if e.Type == orchestrator.EventStarted || e.Type == orchestrator.EventEnd {
				path.add("reader " + e.Type)
			}
		}
		synctest.Wait()
		before := func(a, b string) {
			i, j := slices.Index(path.all, a), slices.Index(path.all, b)
			if i < 0 || j < 0 || i > j {
				t.Errorf("%s is not before %s in %q", a, b, path.all)
			}
		}
		chain := []string{"store.Submit", "store.Start", "engine arrived", "store.Mark", "reader started", "store.Complete", "reader end"}
		for i := range chain[1:] {
			before(chain[i], chain[i+1])
		}
		before("store.Submit", "Admitted")
		before("store.Submit", "Placed")
		before("Placed", "FirstToken")
		before("store.Mark", "FirstToken")
		before("store.Complete", "Finished")
		if len(path.all) != 11 {
			t.Errorf("steps = %q, want each of the 11 once", path.all)
		}
	})
}
