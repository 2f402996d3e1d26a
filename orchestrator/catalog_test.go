package orchestrator_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/llorch/llorch/orchestrator"
	"github.com/llorch/llorch/orchestrator/observe"
	"github.com/llorch/llorch/orchestrator/placement"
	"github.com/llorch/llorch/orchestrator/store"
	"github.com/llorch/llorch/orchestrator/taskapi"
	"github.com/llorch/llorch/orchestrator/worker/workertest"
	"github.com/llorch/llorch/poolregistry"
)

var (
	op     = orchestrator.Principal{User: "op", Roles: orchestrator.RoleUser | orchestrator.RoleOperator}
	digest = "sha256:" + strings.Repeat("0a", 32)
)

// nodes plays the programs that run the workers: commands begin, and end when the
// test says so.
type nodes struct {
	mu   sync.Mutex
	got  []orchestrator.Command
	at   []poolregistry.PoolKey
	ends map[string]orchestrator.Operation // by node
	errs map[string]error                  // of Do, by node
}

func (n *nodes) Do(_ context.Context, pool poolregistry.PoolKey, c orchestrator.Command) (orchestrator.Operation, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.got, n.at = append(n.got, c), append(n.at, pool)
	return orchestrator.Operation{ID: string(pool.Node) + "/op-1", Pool: pool, Do: c.Do, State: "running", Total: 100}, n.errs[string(pool.Node)]
}

func (n *nodes) Operation(_ context.Context, id string) (orchestrator.Operation, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	node, _, ok := strings.Cut(id, "/")
	if !ok {
		return orchestrator.Operation{}, taskapi.NewError(taskapi.NotFound)
	}
	if end, ok := n.ends[node]; ok {
		end.ID = id
		return end, nil
	}
	return orchestrator.Operation{ID: id, State: "running", Bytes: 40, Total: 100}, nil
}

func (n *nodes) Workers(context.Context, poolregistry.PoolKey) ([]orchestrator.WorkerAccess, error) {
	return nil, nil
}

func (n *nodes) end(node string, o orchestrator.Operation) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.ends == nil {
		n.ends = make(map[string]orchestrator.Operation)
	}
	n.ends[node] = o
}

func field(err error) string {
	e, ok := errors.AsType[*taskapi.Error](err)
	if !ok || e.Code != taskapi.InvalidParams {
		return ""
	}
	f, _ := e.Details["field"].(string)
	return f
}

func (b *bench) put(m orchestrator.Model) orchestrator.Model {
	b.t.Helper()
	m, err := b.PutModel(b.t.Context(), op, m)
	if err != nil {
		b.t.Fatalf("PutModel: %v", err)
	}
	return m
}

// TestCatalog: entries are kept over a restart, names are unique, what no request
// could mean is refused by field, and only operators write (ORC-600).
func TestCatalog(t *testing.T) {
	cfg := orchestrator.Config{Store: store.NewMemory(), SealKeys: [][]byte{make([]byte, 32)}}
	inBubble(t, cfg, nil, func(t *testing.T, b *bench) {
		want := b.put(orchestrator.Model{ID: "owner/b", Digest: digest, Source: "https://x.test/b", Aliases: []string{"b", "best"}, Tags: []string{"small"}})
		if want.State != taskapi.ModelActive || want.Aliases[1] != "best" {
			t.Errorf("PutModel = %+v", want)
		}
		b.put(orchestrator.Model{ID: "a", Aliases: []string{"first"}})
		for _, tt := range []struct {
			m     orchestrator.Model
			field string
		}{
			{orchestrator.Model{}, "id"},
			{orchestrator.Model{ID: "a b"}, "id"},
			{orchestrator.Model{ID: "c", Digest: "0a"}, "digest"},
			{orchestrator.Model{ID: "c", Digest: strings.ToUpper(digest)}, "digest"},
			{orchestrator.Model{ID: "c", Digest: digest + "0"}, "digest"},
			{orchestrator.Model{ID: "c", State: "Sleeping"}, "state"},
			{orchestrator.Model{ID: "c", Aliases: []string{"best"}}, "aliases"},
			{orchestrator.Model{ID: "c", Aliases: []string{"a"}}, "aliases"},
			{orchestrator.Model{ID: "c", Aliases: []string{"c"}}, "aliases"},
			{orchestrator.Model{ID: "first"}, "aliases"},
			{orchestrator.Model{ID: "c", Aliases: make([]string, 65)}, "aliases"},
			{orchestrator.Model{ID: "c", Tags: []string{"two words"}}, "tags"},
			{orchestrator.Model{ID: "c", Successor: "c"}, "successor"},
			{orchestrator.Model{ID: "c", Source: strings.Repeat("x", 2049)}, "source_url"},
		} {
			if _, err := b.PutModel(t.Context(), op, tt.m); field(err) != tt.field {
				t.Errorf("PutModel(%.80v) = %v, want INVALID_PARAMS for %s", tt.m, err, tt.field)
			}
		}
		for what, err := range map[string]error{
			"put":    second(b.PutModel(t.Context(), me, orchestrator.Model{ID: "x"})),
			"state":  second(b.SetModelState(t.Context(), me, "a", taskapi.ModelRetired, 0)),
			"verify": second(b.VerifyModel(t.Context(), me, "a")),
			"delete": b.DeleteModel(t.Context(), me, "a"),
		} {
			if !errors.Is(err, taskapi.Forbidden) {
				t.Errorf("%s by a user = %v, want FORBIDDEN", what, err)
			}
		}
		if err := b.stop(); err != nil {
			t.Fatal(err)
		}
		b.start(cfg)
		list, err := b.Catalog(t.Context())
		if err != nil || len(list) != 2 || list[0].ID != "a" || !cmp.Equal(list[1], want) {
			t.Fatalf("after a restart Catalog = %+v, %v", list, err)
		}
		list[1].Aliases[0] = "mine" // a copy
		for range 2 {
			if err := b.DeleteModel(t.Context(), op, "a"); err != nil {
				t.Errorf("DeleteModel = %v", err)
			}
		}
		if list, _ := b.Catalog(t.Context()); len(list) != 1 || list[0].Aliases[0] != "b" {
			t.Errorf("Catalog = %+v, want b alone", list)
		}
		b.put(orchestrator.Model{ID: "c", Aliases: []string{"first"}}) // the name is free again
	})
}

func second[T any](_ T, err error) error { return err }

// TestCatalogResolve: an alias means its entry, a retired one names its successor, and
// only a pinned digest is trusted by a strict installation (ORC-600, ORC-601).
func TestCatalogResolve(t *testing.T) {
	for _, strict := range []bool{false, true} {
		inBubble(t, orchestrator.Config{StrictModels: strict}, []workertest.Config{{}}, func(t *testing.T, b *bench) {
			w := *b.pools.list[0]
			w.Digest = digest
			b.pools.set(&w)
			synctest.Wait()
			b.put(orchestrator.Model{ID: "sim-8b", Digest: digest, Aliases: []string{"best"}})
			b.put(orchestrator.Model{ID: "loose"})
			b.put(orchestrator.Model{ID: "other", Digest: "sha256:" + strings.Repeat("0b", 32)})
			b.put(orchestrator.Model{ID: "old", Digest: digest, State: taskapi.ModelRetired, Successor: "sim-8b"})
			w2 := w
			w2.Key.Worker, w2.Models = "z", []string{"other"}
			b.pools.set(&w, &w2)
			synctest.Wait()
			trusted := taskapi.Code("")
			if strict {
				trusted = taskapi.UntrustedArtifact
			}
			for _, tt := range []struct {
				name, model, digest string
				code                taskapi.Code
			}{
				{"sim-8b", "sim-8b", digest, ""},
				{"best", "sim-8b", digest, ""},
				{"loose", "loose", "", trusted},
				{"unheard-of", "unheard-of", "", trusted},
				{"other", "other", "sha256:" + strings.Repeat("0b", 32), trusted}, // no worker reports that digest
				{"old", "", "", taskapi.ModelDeprecated},
			} {
				model, got, err := orchestrator.ResolveModel(b.Orchestrator, tt.name)
				if tt.code != "" {
					if e, ok := errors.AsType[*taskapi.Error](err); !ok || e.Code != tt.code || tt.name == "old" && e.Details["successor"] != "sim-8b" {
						t.Errorf("strict %t: %s = %v, want %s", strict, tt.name, err, tt.code)
					}
					continue
				}
				if err != nil || model != tt.model || got != tt.digest {
					t.Errorf("strict %t: %s = %s, %s, %v, want %s, %s", strict, tt.name, model, got, err, tt.model, tt.digest)
				}
			}
		})
	}
}

// TestModelRetired: what waits for a retired model runs until the deadline and then
// ends with MODEL_DEPRECATED; what runs goes on (ORC-600).
func TestModelRetired(t *testing.T) {
	inBubble(t, orchestrator.Config{}, []workertest.Config{{Slots: 2, Tokens: 2000}}, func(t *testing.T, b *bench) {
		b.put(orchestrator.Model{ID: "sim-8b", Successor: "sim-9b"})
		long := orchestrator.Spec{MaxTokens: 2000, Keep: true}
		running := []orchestrator.Accepted{b.submit(long), b.submit(long)}
		waiting := b.submit(orchestrator.Spec{Keep: true})
		began := time.Now()
		m, err := b.SetModelState(t.Context(), op, "sim-8b", taskapi.ModelRetired, 3*time.Second)
		if err != nil || m.State != taskapi.ModelRetired || !m.Deadline.Equal(began.Add(3*time.Second)) {
			t.Fatalf("SetModelState = %+v, %v", m, err)
		}
		time.Sleep(2 * time.Second)
		if task, err := b.Task(t.Context(), me, waiting.ID); err != nil || task.Status != "queued" {
			t.Fatalf("before the deadline Task = %s, %v, want queued", task.Status, err)
		}
		all := b.read(waiting.ID, 0)
		if got, took := code(t, all), time.Since(began); got != taskapi.ModelDeprecated || took != 3*time.Second {
			t.Errorf("the waiting task ended with %s after %s, want MODEL_DEPRECATED after 3 s", got, took)
		}
		if !strings.Contains(string(all[len(all)-1].Data), "sim-9b") {
			t.Errorf("error event = %s, want the successor", all[len(all)-1].Data)
		}
		for _, acc := range running {
			if got := code(t, b.read(acc.ID, 0)); got != "" {
				t.Errorf("a running task ended with %s, want success", got)
			}
		}
		if m, err := b.SetModelState(t.Context(), op, "sim-8b", taskapi.ModelActive, 0); err != nil || !m.Deadline.IsZero() {
			t.Errorf("back to Active = %+v, %v", m, err)
		}
		if got := code(t, b.read(b.submit(orchestrator.Spec{}).ID, 0)); got != "" {
			t.Errorf("a task of the model that is back ended with %s", got)
		}
		if _, err := b.SetModelState(t.Context(), op, "none", taskapi.ModelRetired, 0); !errors.Is(err, taskapi.ModelNotFound) {
			t.Errorf("SetModelState of nothing = %v, want MODEL_NOT_FOUND", err)
		}
		if _, err := b.SetModelState(t.Context(), op, "sim-8b", "Tired", 0); field(err) != "state" {
			t.Errorf("an unknown state = %v, want INVALID_PARAMS for state", err)
		}
		if _, err := b.SetModelState(t.Context(), op, "sim-8b", taskapi.ModelRetired, -1); field(err) != "deadline_ms" {
			t.Errorf("a negative time = %v, want INVALID_PARAMS for deadline_ms", err)
		}
	})
}

// TestVerifyModel: every node that has the model hashes it, the verdicts stand in the
// entry, and the workers of a node that failed have that digest no longer (ORC-600).
func TestVerifyModel(t *testing.T) {
	ctl := new(nodes)
	inBubble(t, orchestrator.Config{Control: ctl, StrictModels: true}, nil, func(t *testing.T, b *bench) {
		ctl.errs = map[string]error{"n4": taskapi.NewError(taskapi.NodeUnavailable)}
		on := func(node string, models ...string) *placement.Worker {
			return &placement.Worker{
				Key: placement.Key{Node: node, Pool: "p", Worker: "w"}, Models: models, Digest: digest, SlotsTotal: 1, Online: true, Ready: true, Static: true,
			}
		}
		disk := on("n3", "else")
		disk.OnDisk = []placement.OnDisk{{Model: "m"}}
		b.pools.set(on("n1", "m"), on("n2", "m"), disk, on("n4", "m"), on("n5", "else"))
		synctest.Wait()
		b.put(orchestrator.Model{ID: "m", Digest: digest})
		if _, err := b.VerifyModel(t.Context(), op, "none"); !errors.Is(err, taskapi.ModelNotFound) {
			t.Errorf("VerifyModel of nothing = %v, want MODEL_NOT_FOUND", err)
		}
		first, err := b.VerifyModel(t.Context(), op, "m")
		if err != nil || first.State != "running" || first.Do != orchestrator.DoVerify {
			t.Fatalf("VerifyModel = %+v, %v", first, err)
		}
		if _, err := b.VerifyModel(t.Context(), op, "m"); !errors.Is(err, taskapi.OperationRunning) {
			t.Errorf("a second one = %v, want OPERATION_RUNNING", err)
		}
		time.Sleep(5 * time.Second)
		if now, err := b.Operation(t.Context(), op, first.ID); err != nil || now.Ended() || now.Bytes != 120 || now.Total != 300 {
			t.Errorf("Operation = %+v, %v, want 120 of 300 bytes", now, err)
		}
		ctl.end("n1", orchestrator.Operation{State: "done", Result: map[string]any{"verification": "pass"}})
		ctl.end("n2", orchestrator.Operation{State: "failed", Code: "DIGEST_MISMATCH"})
		ctl.end("n3", orchestrator.Operation{State: "cancelled"})
		time.Sleep(5 * time.Second)
		synctest.Wait()
		want := map[string]string{"n1": "pass", "n2": "fail", "n3": "warn", "n4": "warn"}
		if done, err := b.Operation(t.Context(), op, first.ID); err != nil || done.State != "done" || !cmp.Equal(done.Result, any(want)) {
			t.Errorf("Operation = %+v, %v, want %v", done, err, want)
		}
		list, err := b.Catalog(t.Context())
		if err != nil || len(list) != 1 || list[0].LastVerified.IsZero() || !slices.Equal(list[0].Verified, []orchestrator.Verdict{{"n1", "pass"}, {"n2", "fail"}, {"n3", "warn"}, {"n4", "warn"}}) {
			t.Errorf("Catalog = %+v, %v", list, err)
		}
		if n, _ := count[observe.Verified](b.seen); n != 4 {
			t.Errorf("%d verdicts were observed, want 4", n)
		}
		if got := orchestrator.Digests(b.Orchestrator); !cmp.Equal(got, map[string]string{"n1": digest, "n2": "", "n3": digest, "n4": digest, "n5": digest}) {
			t.Errorf("digests that count = %v, want n2 without", got)
		}
		b.pools.set(on("n2", "m"))
		synctest.Wait()
		if _, _, err := orchestrator.ResolveModel(b.Orchestrator, "m"); !errors.Is(err, taskapi.UntrustedArtifact) {
			t.Errorf("only the node that failed has the model: %v, want UNTRUSTED_ARTIFACT", err)
		}
		b.put(orchestrator.Model{ID: "m", Digest: digest, Tags: []string{"t"}}) // the same digest: the verdict stays
		if got := orchestrator.Digests(b.Orchestrator)["n2"]; got != "" {
			t.Error("an edit of the tags made the digest count again")
		}
		b.put(orchestrator.Model{ID: "m"})
		if got := orchestrator.Digests(b.Orchestrator)["n2"]; got != digest {
			t.Error("without the pin the worker's own report counts")
		}
	})
}

// TestCommands: an operator's command reaches the node and is polled; who may not,
// what is no command and what runs already are told apart (ORC-760).
func TestCommands(t *testing.T) {
	ctl := &nodes{errs: map[string]error{"busy": taskapi.NewError(taskapi.OperationRunning), "none": taskapi.NewError(taskapi.PoolNotFound)}}
	inBubble(t, orchestrator.Config{Control: ctl}, nil, func(t *testing.T, b *bench) {
		at := func(node string) poolregistry.PoolKey {
			return poolregistry.PoolKey{Node: poolregistry.NodeID(node), Pool: "p"}
		}
		drain := orchestrator.Command{Do: orchestrator.DoDrain, Within: time.Minute}
		begun, err := b.Command(t.Context(), op, at("n"), drain)
		if err != nil || begun.ID == "" || len(ctl.got) != 1 || ctl.got[0] != drain || ctl.at[0] != at("n") {
			t.Fatalf("Command = %+v, %v; the node got %+v", begun, err, ctl.got)
		}
		ctl.end("n", orchestrator.Operation{State: "done"})
		if done, err := b.Operation(t.Context(), op, begun.ID); err != nil || done.State != "done" {
			t.Errorf("Operation = %+v, %v, want done", done, err)
		}
		if _, err := b.Operation(t.Context(), op, "nothing"); !errors.Is(err, taskapi.NotFound) {
			t.Errorf("Operation of nothing = %v, want NOT_FOUND", err)
		}
		for node, want := range map[string]taskapi.Code{"busy": taskapi.OperationRunning, "none": taskapi.PoolNotFound} {
			if _, err := b.Command(t.Context(), op, at(node), drain); !errors.Is(err, want) {
				t.Errorf("Command at %s = %v, want %s", node, err, want)
			}
		}
		for name, c := range map[string]orchestrator.Command{
			"command": {Do: "explode"}, "model": {Do: orchestrator.DoReload}, "deadline_ms": {Do: orchestrator.DoDrain, Within: -1},
		} {
			if _, err := b.Command(t.Context(), op, at("n"), c); field(err) != name {
				t.Errorf("Command(%+v) = %v, want INVALID_PARAMS for %s", c, err, name)
			}
		}
		if _, err := b.Command(t.Context(), me, at("n"), drain); !errors.Is(err, taskapi.Forbidden) {
			t.Errorf("Command by a user = %v, want FORBIDDEN", err)
		}
		if _, err := b.Operation(t.Context(), me, begun.ID); !errors.Is(err, taskapi.Forbidden) {
			t.Errorf("Operation by a user = %v, want FORBIDDEN", err)
		}
	})
}

// TestPoolStates: pools are the sum of their workers, with what this scheduler holds
// there (ORC-760).
func TestPoolStates(t *testing.T) {
	inBubble(t, orchestrator.Config{}, []workertest.Config{{}, {}}, func(t *testing.T, b *bench) {
		down := &placement.Worker{Key: placement.Key{Node: "m", Pool: "q", Worker: "w"}, Engine: "vllm", Draining: true, Why: "stopped", SlotsTotal: 4}
		b.pools.set(append([]*placement.Worker{down}, b.pools.list...)...)
		synctest.Wait()
		acc := b.submit(orchestrator.Spec{MaxTokens: 1000, Keep: true})
		got, err := b.PoolStates(t.Context(), op)
		want := []orchestrator.PoolState{
			{Key: poolregistry.PoolKey{Node: "m", Pool: "q"}, Engine: "vllm", Draining: true, Why: "stopped", Slots: 4},
			{Key: poolregistry.PoolKey{Node: "n", Pool: "p"}, Engine: "llamacpp", Ready: true, Models: []string{"sim-8b"}, Slots: 4, Active: 1},
		}
		if err != nil || !cmp.Equal(got, want) {
			t.Errorf("PoolStates: %v\n%s", err, cmp.Diff(want, got))
		}
		if _, err := b.PoolStates(t.Context(), me); !errors.Is(err, taskapi.Forbidden) {
			t.Errorf("PoolStates by a user = %v, want FORBIDDEN", err)
		}
		b.read(acc.ID, 0)
	})
}

// TestAliasOfTasks: a task asked for by an alias runs as its model, and is recorded
// as that (ORC-600).
func TestAliasOfTasks(t *testing.T) {
	inBubble(t, orchestrator.Config{}, []workertest.Config{{}}, func(t *testing.T, b *bench) {
		b.put(orchestrator.Model{ID: "sim-8b", Aliases: []string{"best"}})
		acc := b.submit(orchestrator.Spec{Model: "best"})
		b.read(acc.ID, 0)
		if task, err := b.Task(t.Context(), me, acc.ID); err != nil || task.Model != "sim-8b" || task.Status != "completed" {
			t.Errorf("Task = %s %s, %v, want sim-8b completed", task.Model, task.Status, err)
		}
		b.put(orchestrator.Model{ID: "sim-8b", Digest: digest}) // no worker reports it
		if _, err := b.Submit(t.Context(), me, fill(orchestrator.Spec{})); err == nil {
			t.Error("a task ran on a worker without the pinned digest")
		}
		if _, err := b.SetModelState(t.Context(), op, "sim-8b", taskapi.ModelRetired, time.Hour); err != nil {
			t.Fatal(err)
		}
		if _, err := b.Submit(t.Context(), me, fill(orchestrator.Spec{})); !errors.Is(err, taskapi.ModelDeprecated) {
			t.Errorf("a new task of a retired model = %v, want MODEL_DEPRECATED at once", err)
		}
	})
}
