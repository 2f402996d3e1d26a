package taskhttp_test

import (
	"context"
	"fmt"
	"iter"
	"time"

	"github.com/llorch/llorch/orchestrator"
	"github.com/llorch/llorch/orchestrator/placement"
	"github.com/llorch/llorch/orchestrator/taskapi"
	"github.com/llorch/llorch/poolregistry"
)

// artifactID is the one artifact that the fake knows.
const artifactID = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"

// fakeRest is the part of a fake beside tasks. It knows the session s-1, the
// artifact artifactID, the model m, the pool p1 on node n1, p2 on two nodes, and
// the operation n1/op-1, and writes down what it is told to do.
type fakeRest struct {
	fault     error // of every method
	notReady  error
	inSession string // session of the one task
	steps     []string
	calls     []string
	exported  []orchestrator.ExportItem
	exportErr error // behind what is exported
	verdicts  []orchestrator.Verdict
}

func (f *fakeRest) note(format string, args ...any) error {
	f.calls = append(f.calls, fmt.Sprintf(format, args...))
	return f.fault
}

func (f *fakeRest) Ready() error { return f.notReady }

func (f *fakeRest) Preview(_ context.Context, _ orchestrator.Principal, s orchestrator.Spec) (orchestrator.Preview, error) {
	return orchestrator.Preview{
		Checks:      []orchestrator.Check{{Name: "accepting"}, {Name: "quota", Code: "QUOTA_EXCEEDED"}},
		Explanation: placement.Explanation{Model: s.Model}, StartIn: time.Second, Band: time.Millisecond, Position: 3,
	}, f.note("preview %s", s.Model)
}

func (f *fakeRest) Capabilities() taskapi.Capabilities {
	return taskapi.Capabilities{Engines: []taskapi.Engine{{
		Engine: "vllm", Versions: []string{"0.11"}, Models: []string{"m"}, Workloads: []string{"chat"}, Features: []string{}, CtxMax: 8192, Slots: 4, Batching: true,
	}}}
}

func session(id string) orchestrator.Session {
	return orchestrator.Session{ID: id, Turns: 2, TTLLeft: time.Minute, Budget: 100, BudgetLeft: 90, Warm: true, Worker: "n1/p1/r0"}
}

func (f *fakeRest) OpenSession(_ context.Context, _ orchestrator.Principal, id string, budget int) (orchestrator.Session, error) {
	if id == "" {
		id = "s-new"
	}
	return session(id), f.note("open session %s %d", id, budget)
}

func (f *fakeRest) Session(_ context.Context, _ orchestrator.Principal, id string) (orchestrator.Session, error) {
	return session(id), f.only(id, "s-1", taskapi.SessionNotFound)
}

func (f *fakeRest) only(got, want string, c taskapi.Code) error {
	if got != want {
		return taskapi.NewError(c)
	}
	return f.fault
}

func (f *fakeRest) TouchSession(_ context.Context, _ orchestrator.Principal, id string) error {
	return f.only(id, "s-1", taskapi.SessionNotFound)
}

func (f *fakeRest) EndSession(_ context.Context, _ orchestrator.Principal, id string) error {
	return f.note("end session %s", id)
}

func (f *fakeRest) PutArtifact(_ context.Context, _ orchestrator.Principal, kind string, data []byte) (orchestrator.Artifact, error) {
	return orchestrator.Artifact{ID: artifactID, Kind: kind, Created: time.UnixMilli(0).UTC()}, f.note("put %s %q", kind, data)
}

func (f *fakeRest) Artifact(_ context.Context, _ orchestrator.Principal, id string) (orchestrator.Artifact, error) {
	return orchestrator.Artifact{ID: id, Kind: "plan", Data: []byte("<b>test")}, f.only(id, artifactID, taskapi.NotFound)
}

func (f *fakeRest) model() orchestrator.Model {
	return orchestrator.Model{ID: "owner/repo", State: "Active", LastVerified: time.UnixMilli(7), Verified: f.verdicts}
}

func (f *fakeRest) Catalog(context.Context) ([]orchestrator.Model, error) {
	return []orchestrator.Model{f.model()}, f.fault
}

func (f *fakeRest) PutModel(_ context.Context, _ orchestrator.Principal, m orchestrator.Model) (orchestrator.Model, error) {
	return m, f.note("put model %+v", m)
}

func (f *fakeRest) SetModelState(_ context.Context, _ orchestrator.Principal, id, state string, within time.Duration) (orchestrator.Model, error) {
	if err := f.only(id, "owner/repo", taskapi.ModelNotFound); err != nil {
		return orchestrator.Model{}, err
	}
	return orchestrator.Model{ID: id, State: state}, f.note("model state %s %s %v", id, state, within)
}

func (f *fakeRest) DeleteModel(_ context.Context, _ orchestrator.Principal, id string) error {
	return f.note("delete model %s", id)
}

func theOperation(do string) orchestrator.Operation {
	return orchestrator.Operation{
		ID: "n1/op-1", Pool: poolregistry.PoolKey{Node: "n1", Pool: "p1"}, Do: do, State: "running", Phase: "load", Bytes: 5, Total: -1,
	}
}

func (f *fakeRest) VerifyModel(_ context.Context, _ orchestrator.Principal, id string) (orchestrator.Operation, error) {
	return theOperation("verify"), f.only(id, "owner/repo", taskapi.ModelNotFound)
}

func (f *fakeRest) PoolStates(context.Context, orchestrator.Principal) ([]orchestrator.PoolState, error) {
	key := func(node poolregistry.NodeID, pool poolregistry.PoolID) poolregistry.PoolKey {
		return poolregistry.PoolKey{Node: node, Pool: pool}
	}
	return []orchestrator.PoolState{
		{Key: key("n1", "p1"), Engine: "vllm", Ready: true, Slots: 4, Active: 1, Models: []string{"m"}},
		{Key: key("n1", "p2"), Why: "starting"},
		{Key: key("n2", "p2"), Draining: true},
	}, f.fault
}

func (f *fakeRest) Command(_ context.Context, _ orchestrator.Principal, pool poolregistry.PoolKey, c orchestrator.Command) (orchestrator.Operation, error) {
	return theOperation(c.Do), f.note("%s %s/%s model=%s within=%v force=%v", c.Do, pool.Node, pool.Pool, c.Model, c.Within, c.Force)
}

func (f *fakeRest) Operation(_ context.Context, _ orchestrator.Principal, id string) (orchestrator.Operation, error) {
	return theOperation("drain"), f.only(id, "n1/op-1", taskapi.NotFound)
}

func (f *fakeRest) Queue(context.Context, orchestrator.Principal) (orchestrator.QueueState, error) {
	return orchestrator.QueueState{
		Capacity: 100, Waiting: 2, Bytes: 64, Oldest: 3 * time.Second, Classes: map[string]int{"batch": 2},
		Tenants: []orchestrator.TenantState{{Tenant: "acme", Weight: 2, Waiting: 2, Running: 1, Virtual: 7, TokensToday: 99}},
	}, f.fault
}

func (f *fakeRest) Decisions(_ context.Context, _ orchestrator.Principal, limit int) ([]placement.Explanation, error) {
	return []placement.Explanation{{DecisionID: "d-1"}}, f.note("decisions %d", limit)
}

func (f *fakeRest) Export(_ context.Context, _ orchestrator.Principal, subject string) iter.Seq2[orchestrator.ExportItem, error] {
	return func(yield func(orchestrator.ExportItem, error) bool) {
		if err := f.note("export %s", subject); err != nil {
			yield(orchestrator.ExportItem{}, err)
			return
		}
		for _, x := range f.exported {
			if !yield(x, nil) {
				return
			}
		}
		if f.exportErr != nil {
			yield(orchestrator.ExportItem{}, f.exportErr)
		}
	}
}

func (f *fakeRest) Erase(_ context.Context, _ orchestrator.Principal, subject, reason string) (orchestrator.Erasure, error) {
	return orchestrator.Erasure{KeyID: "k-1", AuditSeq: 9, At: time.UnixMilli(0).UTC(), Tasks: 3}, f.note("erase %s %s", subject, reason)
}

func (f *fakeRest) SetConsent(_ context.Context, _ orchestrator.Principal, c orchestrator.Consent) error {
	return f.note("consent %s %s %v", c.Subject, c.Purpose, c.Granted)
}

func (f *fakeRest) Consents(_ context.Context, _ orchestrator.Principal, subject string) ([]orchestrator.Consent, error) {
	return []orchestrator.Consent{{Purpose: "chat", Granted: true, At: time.UnixMilli(0).UTC()}}, f.note("consents %s", subject)
}
