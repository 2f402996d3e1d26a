package orchestrator_test

import (
	"context"
	"encoding/hex"
	"errors"
	"io"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/llorch/llorch/orchestrator"
	"github.com/llorch/llorch/orchestrator/decisionlog"
	"github.com/llorch/llorch/orchestrator/store"
	"github.com/llorch/llorch/orchestrator/taskapi"
	"github.com/llorch/llorch/orchestrator/worker"
	"github.com/llorch/llorch/orchestrator/worker/workertest"
)

// starting is a store in which something happens while an attempt is written.
type starting struct {
	*store.Memory
	during func()
}

func (s starting) Start(ctx context.Context, e store.Epoch, b []store.StartReq) ([]store.Started, error) {
	out, err := s.Memory.Start(ctx, e, b)
	s.during()
	return out, err
}

// TestNeverSent: no worker hears of a task whose deadline passed, which was
// cancelled, or whose body can not be opened any more, while its attempt was
// being written (ORC-409).
func TestNeverSent(t *testing.T) {
	for _, c := range []struct {
		name   string
		want   taskapi.Code
		during func(*testing.T, *orchestrator.Orchestrator, orchestrator.TaskID, *store.Memory)
	}{
		{"nothing happens", "", func(*testing.T, *orchestrator.Orchestrator, orchestrator.TaskID, *store.Memory) {}},
		{"late", taskapi.DeadlineUnmet, func(*testing.T, *orchestrator.Orchestrator, orchestrator.TaskID, *store.Memory) {
			time.Sleep(time.Minute)
		}},
		{"cancelled", taskapi.Cancelled, func(t *testing.T, o *orchestrator.Orchestrator, id orchestrator.TaskID, _ *store.Memory) {
			if err := o.Cancel(t.Context(), me, id); err != nil {
				t.Errorf("Cancel = %v", err)
			}
		}},
		{"erased", taskapi.SubjectErased, func(t *testing.T, _ *orchestrator.Orchestrator, _ orchestrator.TaskID, st *store.Memory) {
			if err := orchestrator.NewSubjectKeys(st, [][]byte{sealKey(1)}).Destroy(t.Context(), me.Subject()); err != nil {
				t.Errorf("Destroy = %v", err)
			}
			time.Sleep(time.Minute) // no copy of a key lives longer than 10 s
		}},
	} {
		synctest.Test(t, func(t *testing.T) {
			jobs, ids, st := 0, make(chan orchestrator.TaskID), store.NewMemory()
			engine := adapter{func(context.Context, worker.Target, *worker.Job) (worker.Stream, error) {
				jobs++
				return tokens(3), nil
			}}
			var o *orchestrator.Orchestrator
			cfg := orchestrator.Config{Pools: over(fake("a", 1)), Workers: engine, SealKeys: [][]byte{sealKey(1)}}
			cfg.Store = starting{st, func() {
				if id := <-ids; id != (orchestrator.TaskID{}) {
					c.during(t, o, id, st)
				}
			}}
			o, _ = serve(t, cfg)
			warm, err := o.Submit(t.Context(), me, fill(orchestrator.Spec{})) // what it leaves in memory must not help the next one
			if err != nil {
				t.Fatal(err)
			}
			ids <- orchestrator.TaskID{}
			ends(t, o, warm.ID)
			spec := orchestrator.Spec{Keep: true}
			if c.want == taskapi.DeadlineUnmet {
				spec.Deadline = time.Now().Add(30 * time.Second)
			}
			acc, err := o.Submit(t.Context(), me, fill(spec))
			if err != nil {
				t.Fatal(err)
			}
			ids <- acc.ID
			if _, got := ends(t, o, acc.ID); got != string(c.want) {
				t.Errorf("%s: ended with %q, want %q", c.name, got, c.want)
			}
			if want := map[bool]int{true: 2, false: 1}[c.want == ""]; jobs != want {
				t.Errorf("%s: %d jobs reached the worker, want %d with the first one", c.name, jobs, want)
			}
			if idle, dupes := o.CoreIdle(); !idle || dupes != 0 {
				t.Errorf("%s: idle %v, %d double releases", c.name, idle, dupes)
			}
		})
	}
}

// TestDuplicateNotOverwritten: another request under the id or the key of a task,
// also from somebody else, is a conflict or a task of its own; the first keeps its
// record, its tokens and its owner (ORC-246).
func TestDuplicateNotOverwritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net, st := new(workertest.Net), store.NewMemory()
		o, _ := serve(t, orchestrator.Config{Pools: newPools(start(t, net, workertest.Config{})), Workers: dialer(t, net), Store: st})
		first := fill(orchestrator.Spec{ID: orchestrator.TaskID{15: 7}, Key: "k", Keep: true})
		acc, err := o.Submit(t.Context(), me, first)
		if err != nil {
			t.Fatal(err)
		}
		other := first
		other.Prompt = "Something else?"
		check := func(when string) {
			before, err := st.Task(t.Context(), acc.ID)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := o.Submit(t.Context(), me, other); !errors.Is(err, taskapi.Conflict) {
				t.Errorf("%s: another request = %v, want CONFLICT", when, err)
			}
			if _, err := o.Submit(t.Context(), bob, first); err == nil {
				t.Errorf("%s: the id of another person's task was accepted", when)
			}
			if again, err := o.Submit(t.Context(), me, first); err != nil || !again.Duplicate || again.ID != acc.ID {
				t.Errorf("%s: the same request = %+v, %v, want a duplicate", when, again, err)
			}
			if after, err := st.Task(t.Context(), acc.ID); err != nil || !reflect.DeepEqual(after, before) {
				t.Errorf("%s: the record changed: %+v, %v", when, after, err)
			}
		}
		synctest.Wait()
		check("while it runs")
		if all, got := ends(t, o, acc.ID); got != "" || len(all) != 22 {
			t.Errorf("the first task ended with %q after %d events, want its 20 tokens", got, len(all))
		}
		synctest.Wait()
		check("after its end")
	})
}

// TestNamesStayOutside: what the core was told, as recorded step by step, spells no
// person, tenant, session, key, prompt or output; and a name means another
// reference in another installation (ORC-123, G9).
func TestNamesStayOutside(t *testing.T) {
	dir := t.TempDir()
	var task orchestrator.TaskID
	refs := map[store.SubjectRef]bool{}
	synctest.Test(t, func(t *testing.T) {
		log, err := decisionlog.NewWriter(decisionlog.Config{Dir: dir})
		if err != nil {
			t.Fatal(err)
		}
		net := new(workertest.Net)
		e := start(t, net, workertest.Config{})
		for _, d := range []*decisionlog.Writer{log, nil} {
			o, _ := serve(t, orchestrator.Config{Pools: newPools(e), Workers: dialer(t, net), Decisions: d})
			who := orchestrator.Principal{Tenant: "tenant-canary", User: "user-canary", Roles: orchestrator.RoleUser}
			acc, err := o.Submit(t.Context(), who, fill(orchestrator.Spec{Prompt: "prompt-canary", Session: "session-canary", Key: "key-canary"}))
			if err != nil {
				t.Fatal(err)
			}
			for _, err := range o.Events(t.Context(), who, acc.ID, 0) {
				if err != nil {
					t.Fatal(err)
				}
			}
			for _, name := range []string{who.Subject(), who.Subject(), "tenant-canary/other"} {
				ref, err := orchestrator.RefOf(o, name)
				if err != nil {
					t.Fatal(err)
				}
				refs[ref] = true
			}
			if d != nil {
				task = acc.ID
			}
		}
	})
	text, err := io.ReadAll(recorded(t, dir))
	if err != nil || !strings.Contains(string(text), hex.EncodeToString(task[:])) {
		t.Fatalf("the record does not tell of the task: %v", err)
	}
	if i := strings.Index(string(text), "canary"); i >= 0 {
		t.Errorf("the record spells a name: …%s…", text[max(0, i-80):min(len(text), i+40)])
	}
	if len(refs) != 4 {
		t.Errorf("%d references of two names in two installations, want 4", len(refs))
	}
}
