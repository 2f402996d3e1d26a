package orchestrator_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/llorch/llorch/orchestrator"
	"github.com/llorch/llorch/orchestrator/observe"
	"github.com/llorch/llorch/orchestrator/store"
	"github.com/llorch/llorch/orchestrator/taskapi"
	"github.com/llorch/llorch/orchestrator/worker"
	"github.com/llorch/llorch/orchestrator/worker/workertest"
)

var (
	alice   = orchestrator.Principal{Tenant: "acme", User: "alice-canary", Roles: orchestrator.RoleUser, Fingerprint: "aaaaaa"}
	bob     = orchestrator.Principal{Tenant: "acme", User: "bob", Roles: orchestrator.RoleUser}
	officer = orchestrator.Principal{User: "officer", Roles: orchestrator.RolePrivacy}
)

// mortal is a durable store that stops to answer: from its dies-th write on until
// it is healed. Half of its last words are written and not heard.
type mortal struct {
	*store.Memory
	mu     sync.Mutex
	writes int
	dies   int // 0 never
	before func(op string)
}

func (*mortal) Durable() bool { return true }

func (m *mortal) heal(dies int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.writes, m.dies = 0, dies
}

func write[T any](m *mortal, op string, call func() (T, error)) (T, error) {
	if m.before != nil {
		m.before(op)
	}
	m.mu.Lock()
	m.writes++
	dead, last := m.dies > 0 && m.writes >= m.dies, m.writes == m.dies && m.dies%2 == 0
	m.mu.Unlock()
	var none T
	if last {
		_, _ = call()
		return none, store.ErrUnknown
	}
	if dead {
		return none, store.ErrUnavailable
	}
	return call()
}

func (m *mortal) PutDoc(ctx context.Context, d store.Doc, v store.Version) (store.Version, error) {
	return write(m, "put", func() (store.Version, error) { return m.Memory.PutDoc(ctx, d, v) })
}

func (m *mortal) DeleteDoc(ctx context.Context, k store.Kind, key string, v store.Version) error {
	_, err := write(m, "delete", func() (struct{}, error) { return struct{}{}, m.Memory.DeleteDoc(ctx, k, key, v) })
	return err
}

func (m *mortal) Erase(ctx context.Context, e store.Epoch, ref store.SubjectRef) (store.Erased, error) {
	return write(m, "erase", func() (store.Erased, error) { return m.Memory.Erase(ctx, e, ref) })
}

// traces are what a store holds of persons: documents but receipts and the
// installation's own, and records that still lead to somebody.
func traces(t *testing.T, st store.Store) (docs, records int, text string) {
	t.Helper()
	for _, k := range append(store.PersonalKinds(), store.KindKey, store.KindErasure) {
		for d, err := range st.Docs(t.Context(), k, "") {
			if err != nil {
				t.Fatal(err)
			}
			text += d.Key + string(d.Data)
			if k != store.KindErasure {
				docs++
			}
		}
	}
	all, err := st.Tasks(t.Context(), store.Filter{Limit: 1000})
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range all {
		text += fmt.Sprintf("%+v", r)
		if r.Subject != (store.SubjectRef{}) || r.Session != "" || r.IdemKey != "" || r.Meta.PromptSHA256 != "" {
			records++
		}
	}
	return docs, records, text
}

// live gives a person an ended task with an output, an artifact, a consent, two
// running tasks and a waiting one; they are returned in that order.
func live(t *testing.T, o *orchestrator.Orchestrator, who orchestrator.Principal) (ids []orchestrator.TaskID) {
	t.Helper()
	submit := func(s orchestrator.Spec) orchestrator.TaskID {
		acc, err := o.Submit(t.Context(), who, fill(s))
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, acc.ID)
		return acc.ID
	}
	for range o.Events(t.Context(), who, submit(orchestrator.Spec{Key: "canary-key"}), 0) {
		continue
	}
	if _, err := o.PutArtifact(t.Context(), who, "plan", []byte("canary-artifact")); err != nil {
		t.Fatal(err)
	}
	if err := o.SetConsent(t.Context(), who, orchestrator.Consent{Purpose: "research", Granted: true}); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		submit(orchestrator.Spec{MaxTokens: 500, Keep: true})
	}
	synctest.Wait()
	return ids
}

// TestErase: whatever runs or waits ends, readers get their terminal event, and
// nothing leads to the person any more, also not in the evidence; others keep
// theirs (ORC-841, ORC-843, ORC-845, ORC-644, G9).
func TestErase(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net, st, rec, heard, lines := new(workertest.Net), &mortal{Memory: store.NewMemory()}, new(recorder), new(seen), new(records)
		e := start(t, net, workertest.Config{Tokens: 500})
		cfg := orchestrator.Config{Pools: newPools(e), Workers: dialer(t, net), Store: st, SealKeys: [][]byte{sealKey(1)}, Recorder: rec, Observer: heard, Logger: lines.logger()}
		o, _ := serve(t, cfg)
		if _, err := o.PutArtifact(t.Context(), bob, "plan", []byte("canary-artifact")); err != nil {
			t.Fatal(err)
		}
		theirs, _, _ := traces(t, st)
		ids := live(t, o, alice)
		codes := make(chan taskapi.Code, 3)
		for _, id := range ids[1:] {
			go func() {
				var all []orchestrator.Event
				for e := range o.Events(t.Context(), alice, id, 0) {
					all = append(all, e)
				}
				codes <- code(t, all)
			}()
		}
		synctest.Wait()
		st.before = func(op string) {
			if op == "erase" {
				if _, err := o.Submit(t.Context(), alice, fill(orchestrator.Spec{})); !errors.Is(err, taskapi.SubjectErased) {
					t.Errorf("Submit during the erasure = %v, want SUBJECT_ERASED", err)
				}
				if _, err := o.PutArtifact(t.Context(), alice, "plan", []byte("x")); !errors.Is(err, taskapi.SubjectErased) {
					t.Errorf("PutArtifact during the erasure = %v, want SUBJECT_ERASED", err)
				}
			}
		}
		if _, err := o.Erase(t.Context(), bob, alice.Subject(), ""); !errors.Is(err, taskapi.Forbidden) {
			t.Errorf("a stranger's Erase = %v, want FORBIDDEN", err)
		}
		if _, err := o.Erase(t.Context(), alice, "", "Alice asked"); !errors.Is(err, taskapi.InvalidParams) {
			t.Errorf("Erase for a reason in words = %v, want INVALID_PARAMS", err)
		}
		began := time.Now()
		got, err := o.Erase(t.Context(), alice, "", "")
		if err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took > 5*time.Second {
			t.Errorf("it took %v, want at most 5 s", took)
		}
		for range 3 {
			if c := <-codes; c != taskapi.Cancelled {
				t.Errorf("a reader's last word is %q, want CANCELLED", c)
			}
		}
		if got.Tasks != 4 || got.Documents != 2 || got.Cancelled != 3 || got.Outputs == 0 || len(got.KeyID) != 32 || got.At.IsZero() {
			t.Errorf("receipt %+v, want 4 tasks, 2 documents, 3 cancelled, outputs, a key", got)
		}
		docs, records, all := traces(t, st)
		if docs != theirs || records != 0 || strings.Contains(all, "canary") {
			t.Errorf("%d documents (want %d) and %d records are left, %s", docs, theirs, records, all)
		}
		if n := o.Sizes().Runs; n != 0 {
			t.Errorf("%d event logs are still in memory", n)
		}
		if _, err := o.Task(t.Context(), alice, ids[0]); !errors.Is(err, taskapi.NotFound) {
			t.Errorf("an erased task = %v, want NOT_FOUND", err)
		}
		if _, err := o.Artifact(t.Context(), bob, "5a6b9e2d0000000000000000000000000000000000000000000000000000000f"); !errors.Is(err, taskapi.NotFound) {
			t.Errorf("an unknown artifact = %v", err)
		}
		again, err := o.Erase(t.Context(), officer, alice.Subject(), "")
		if err != nil || again != got {
			t.Errorf("repeated: %+v, %v, want the same receipt %+v", again, err, got)
		}
		var evidence strings.Builder
		for _, e := range rec.take() {
			if e.Type == "compliance.gdpr_right_to_erasure" || e.Type == "data.deleted" {
				evidence.WriteString(fmt.Sprintf("%+v", e))
			}
		}
		if !strings.Contains(evidence.String(), got.KeyID) || strings.Contains(evidence.String(), "canary") || strings.Contains(evidence.String(), "aaaaaa") {
			t.Errorf("evidence %s, want the key's id and no person", evidence.String())
		}
		if n, last := count[observe.Erased](heard); n != 1 || last.Tasks != 4 {
			t.Errorf("observed %d erasures, %+v", n, last)
		}
		if log := lines.text(); !strings.Contains(log, `"event":"subject_erased"`) || strings.Contains(log, "canary") {
			t.Errorf("the log: %s", log)
		}
		if _, err := o.PutArtifact(t.Context(), alice, "plan", []byte("a new life")); err != nil {
			t.Errorf("the person comes back: %v", err)
		}
		if fresh, err := o.Erase(t.Context(), officer, alice.Subject(), ""); err != nil || fresh.KeyID == got.KeyID || fresh.Documents != 1 {
			t.Errorf("what came later is erased too: %+v, %v", fresh, err)
		}
	})
}

// TestEraseResumes: the store dies at each write of an erasure in turn, with a
// crash after it; the next start goes on, nobody is taken up again, and the
// receipt is that of an erasure without a fault (ORC-841, I16).
func TestEraseResumes(t *testing.T) {
	for dies := 1; ; dies++ {
		finished := false
		synctest.Test(t, func(t *testing.T) {
			net, st, rec := new(workertest.Net), &mortal{Memory: store.NewMemory()}, new(recorder)
			e := start(t, net, workertest.Config{Tokens: 500})
			cfg := orchestrator.Config{
				Pools: newPools(e), Workers: dialer(t, net), Store: st, SealKeys: [][]byte{sealKey(1)}, Recorder: rec, Timing: orchestrator.Timing{Drain: -1},
			}
			first, stop := serve(t, cfg)
			live(t, first, alice)
			st.heal(dies)
			_, err := first.Erase(t.Context(), alice, "", "")
			finished = err == nil
			st.heal(0)
			second, _ := serve(t, cfg)
			if err := stop(); err != nil {
				t.Errorf("Run = %v", err)
			}
			synctest.Wait()
			if docs, records, text := traces(t, st); dies > 2 && (docs != 0 || records != 0 || strings.Contains(text, "canary")) {
				t.Errorf("died at write %d: %d documents and %d records are left: %s", dies, docs, records, text)
			}
			got, err := second.Erase(t.Context(), officer, alice.Subject(), "")
			if err != nil || got.Tasks != 4 || got.Documents != 2 || len(got.KeyID) != 32 {
				t.Errorf("died at write %d: receipt %+v, %v", dies, got, err)
			}
			if docs, records, text := traces(t, st); docs != 0 || records != 0 || strings.Contains(text, "canary") {
				t.Errorf("died at write %d: %d documents and %d records are left: %s", dies, docs, records, text)
			}
			if again, err := second.Erase(t.Context(), alice, "", ""); err != nil || again != got {
				t.Errorf("died at write %d: repeated %+v, %v, want %+v", dies, again, err, got)
			}
			if _, err := second.Submit(t.Context(), alice, fill(orchestrator.Spec{})); err != nil {
				t.Errorf("died at write %d: the person can not come back: %v", dies, err)
			}
		})
		if finished {
			if dies < 6 {
				t.Errorf("only %d writes were faulted", dies-1)
			}
			return
		}
	}
}

// TestEraseAfterCrash: a start that finds the mark of an erasure takes nothing of
// that person up (ORC-654, ORC-841).
func TestEraseAfterCrash(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net, st := new(workertest.Net), durable{store.NewMemory()}
		e := start(t, net, workertest.Config{Tokens: 500})
		cfg := orchestrator.Config{Pools: newPools(e), Workers: dialer(t, net), Store: st, SealKeys: [][]byte{sealKey(1)}, Timing: orchestrator.Timing{Drain: -1}}
		first, _ := serve(t, cfg)
		live(t, first, alice)
		if err := orchestrator.MarkErasing(first, alice.Subject()); err != nil {
			t.Fatal(err)
		}
		arrived := e.Stats().Arrived
		second, _ := serve(t, cfg)
		synctest.Wait()
		if n := e.Stats().Arrived; n != arrived {
			t.Errorf("%d tasks of an erased person ran", n-arrived)
		}
		if docs, records, text := traces(t, st); docs != 0 || records != 0 || strings.Contains(text, "canary") {
			t.Errorf("%d documents and %d records are left: %s", docs, records, text)
		}
		if got, err := second.Erase(t.Context(), alice, "", ""); err != nil || got.Tasks != 4 || got.Cancelled != 3 {
			t.Errorf("receipt %+v, %v, want 4 tasks, of which three were live", got, err)
		}
	})
}

// TestEraseWaitsForWrites: a document that is being written when an erasure begins
// is erased with the others (ORC-841).
func TestEraseWaitsForWrites(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := &mortal{Memory: store.NewMemory()}
		o, _ := serve(t, orchestrator.Config{Pools: over(), Store: st, SealKeys: [][]byte{sealKey(1)}})
		release, later := make(chan struct{}), new(atomic.Bool)
		st.before = func(string) {
			if !later.Swap(true) {
				<-release
			}
		}
		written, erased := make(chan error, 1), make(chan error, 1)
		go func() { _, err := o.PutArtifact(t.Context(), alice, "plan", []byte("x")); written <- err }()
		synctest.Wait()
		go func() { _, err := o.Erase(t.Context(), alice, "", ""); erased <- err }()
		synctest.Wait()
		select {
		case err := <-erased:
			t.Errorf("Erase = %v before the write had ended", err)
		default:
		}
		close(release)
		if err := <-written; err != nil {
			t.Errorf("PutArtifact = %v", err)
		}
		if err := <-erased; err != nil {
			t.Errorf("Erase = %v", err)
		}
		if docs, records, _ := traces(t, st); docs != 0 || records != 0 {
			t.Errorf("%d documents and %d records are left", docs, records)
		}
	})
}

// TestErasureConcurrentSafe: whatever a person does while being erased, again and
// again, is refused or erased; after the last erasure nothing is left (I16, ORC-843).
func TestErasureConcurrentSafe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net, st := new(workertest.Net), &mortal{Memory: store.NewMemory()}
		e := start(t, net, workertest.Config{})
		o, _ := serve(t, orchestrator.Config{Pools: newPools(e), Workers: dialer(t, net), Store: st, SealKeys: [][]byte{sealKey(1)}, Tenants: asks("inference")})
		var all sync.WaitGroup
		var accepted, refused atomic.Int64
		for i := range 12 {
			all.Go(func() {
				for n := range 8 {
					var err error
					switch (i + n) % 4 {
					case 0:
						err = o.SetConsent(t.Context(), alice, orchestrator.Consent{Purpose: "inference", Granted: n != 5})
					case 1:
						_, err = o.PutArtifact(t.Context(), alice, "logs", []byte{byte(i), byte(n)})
					case 2:
						_, err = o.Erase(t.Context(), alice, "", "")
					default:
						var acc orchestrator.Accepted
						if acc, err = o.Submit(t.Context(), alice, fill(orchestrator.Spec{Keep: true})); err == nil && n%2 == 0 {
							for range o.Events(t.Context(), alice, acc.ID, 0) {
								continue
							}
						}
					}
					switch {
					case err == nil:
						accepted.Add(1)
					case errors.Is(err, taskapi.SubjectErased), errors.Is(err, taskapi.ConsentRequired), errors.Is(err, taskapi.Cancelled):
						refused.Add(1)
					default:
						t.Errorf("client %d, step %d: %v", i, n, err)
					}
					time.Sleep(time.Duration(i*n) * time.Millisecond)
				}
			})
		}
		all.Wait()
		if _, err := o.Erase(t.Context(), officer, alice.Subject(), ""); err != nil {
			t.Fatal(err)
		}
		if docs, records, text := traces(t, st); docs != 0 || records != 0 || strings.Contains(text, "canary") {
			t.Errorf("%d documents and %d records are left: %s", docs, records, text)
		}
		if idle, dupes := o.CoreIdle(); !idle || dupes != 0 || o.Sizes().Runs != 0 {
			t.Errorf("idle %v, %d double releases, %d runs left", idle, dupes, o.Sizes().Runs)
		}
		t.Logf("%d accepted, %d refused", accepted.Load(), refused.Load())
	})
}

// TestEraseUnrecorded: an erasure that can not be put into evidence is no
// success; it stays open and is finished later (ORC-845).
func TestEraseUnrecorded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rec := &recorder{refuse: errors.New("disk full")}
		o, _ := serve(t, orchestrator.Config{Pools: over(), Recorder: rec})
		if _, err := o.PutArtifact(t.Context(), alice, "plan", []byte("x")); err != nil {
			t.Fatal(err)
		}
		if _, err := o.Erase(t.Context(), alice, "", ""); !errors.Is(err, taskapi.StoreUnavailable) {
			t.Fatalf("Erase = %v, want STORE_UNAVAILABLE", err)
		}
		if _, err := o.PutArtifact(t.Context(), alice, "plan", []byte("x")); !errors.Is(err, taskapi.SubjectErased) {
			t.Errorf("PutArtifact = %v, want SUBJECT_ERASED until it is done", err)
		}
		rec.mu.Lock()
		rec.refuse = nil
		rec.mu.Unlock()
		time.Sleep(61 * time.Second) // the janitor's next round
		synctest.Wait()
		if _, err := o.PutArtifact(t.Context(), alice, "plan", []byte("x")); err != nil {
			t.Errorf("PutArtifact after the erasure = %v", err)
		}
		if err := o.SetConsent(t.Context(), alice, orchestrator.Consent{Purpose: "research", Granted: true}); err != nil {
			t.Errorf("SetConsent = %v", err)
		}
	})
}

// TestLateCompletion: an engine that does not let go delays the erasure; what it
// says later changes nothing (ORC-843).
func TestLateCompletion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := &mortal{Memory: store.NewMemory()}
		hung := make(chan struct{})
		engine := adapter{func(context.Context, worker.Target, *worker.Job) (worker.Stream, error) {
			return script(func() (worker.Event, error) {
				<-hung
				return worker.Event{Kind: worker.Token, Text: "canary-late"}, nil
			}), nil
		}}
		o, _ := serve(t, orchestrator.Config{Pools: over(fake("a", 1)), Workers: engine, Store: st, SealKeys: [][]byte{sealKey(1)}})
		for _, ephemeral := range []bool{false, true} {
			s := orchestrator.Spec{Ephemeral: ephemeral}
			if ephemeral {
				s.Raw, s.Kind = []byte(`{"prompt":"x"}`), "completion"
			}
			if _, err := o.Submit(t.Context(), alice, fill(s)); err != nil {
				t.Fatal(err)
			}
		}
		synctest.Wait()
		got, err := o.Erase(t.Context(), alice, "", "")
		if err != nil || got.Tasks != 2 {
			t.Fatalf("Erase = %+v, %v, want 2 tasks", got, err)
		}
		close(hung)
		synctest.Wait()
		if docs, records, text := traces(t, st); docs != 0 || records != 0 || strings.Contains(text, "canary-late") {
			t.Errorf("%d documents and %d records came back: %s", docs, records, text)
		}
	})
}
