package examples_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/llorch/llorch/orchestrator/worker/workertest"
	"github.com/llorch/llorch/poolregistry"
	"github.com/llorch/llorch/poolregistry/nodeapi"
)

// llamaNode is a node whose engine does not die with the daemon: the simulated one
// behind the kind llamacpp.
type llamaNode struct {
	t                      *testing.T
	dir, tokens, orc, file string
}

func newLlamaNode(t *testing.T, orc, tokens string) *llamaNode {
	t.Helper()
	whole(t)
	bin, err := binaries()
	if err != nil {
		t.Fatal(err)
	}
	n := &llamaNode{t: t, dir: t.TempDir(), tokens: tokens, orc: orc}
	n.file = filepath.Join(n.dir, "pools.toml")
	sim := filepath.Join(bin, "enginesim")
	n.write(n.file, fmt.Sprintf("binaries = [%q, %q]\nlocal_models = %q\n[[pool]]\npool_id = \"gpu0\"\nengine = \"llamacpp\"\nmodel = \"sim-8b\"\nmodel_path = %q\nslots = 2\nstop_grace_ms = 500\n",
		"llamacpp="+sim, "broken=/bin/false", n.dir, n.model("a.gguf")))
	t.Cleanup(n.sweep)
	return n
}

func (n *llamaNode) write(path, text string) {
	n.t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		n.t.Fatal(err)
	}
}

// model makes a file with the head of a GGUF model and nothing in it.
func (n *llamaNode) model(name string) string {
	path := filepath.Join(n.dir, name)
	n.write(path, "GGUF\x03\x00\x00\x00"+strings.Repeat("\x00", 16+64))
	return path
}

func (n *llamaNode) start() *program {
	return start(n.t, []string{
		"POOL_MANAGERD_RUNTIME_DIR=" + filepath.Join(n.dir, "run"), "LLORCH_API_TOKEN_FILE=" + n.tokens, "POOL_MANAGERD_ADDR=127.0.0.1:0",
		"POOL_MANAGERD_NODE_ID=gpu-7", "ORCHESTRATORD_URL=" + n.orc, "POOL_MANAGERD_GPU_PROVIDER=none", "POOL_MANAGERD_MODEL_DIR=" + filepath.Join(n.dir, "models"),
	}, "pool-managerd", "--config", n.file)
}

// engines are the processes that carry the mark of a worker of this node.
func (n *llamaNode) engines() (pids []int) {
	list, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, f := range list {
		var pid int
		text, err := os.ReadFile(f)
		if _, scan := fmt.Sscanf(f, "/proc/%d/cmdline", &pid); err == nil && scan == nil && strings.Contains(string(text), filepath.Join(n.dir, "run")) && strings.Contains(string(text), "enginesim") {
			pids = append(pids, pid)
		}
	}
	return pids
}

func (n *llamaNode) sweep() {
	for _, pid := range n.engines() {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
}

func (n *llamaNode) pool(p *program) nodeapi.PoolStatus {
	n.t.Helper()
	return decode[nodeapi.PoolStatus](n.t, p.call("GET", "/pools/gpu0/status", apiToken, ""), http.StatusOK)
}

func (n *llamaNode) ready(p *program) poolregistry.Worker {
	n.t.Helper()
	var s nodeapi.PoolStatus
	within(n.t, 15*time.Second, "the pool is ready", func() bool {
		res := p.call("GET", "/pools/gpu0/status", apiToken, "")
		if res.StatusCode == http.StatusNotFound {
			return false // the daemon has just begun
		}
		s = decode[nodeapi.PoolStatus](n.t, res, http.StatusOK)
		return s.Ready && len(s.Workers) == 1
	})
	return s.Workers[0]
}

// operation polls an operation to its end.
func (n *llamaNode) operation(p *program, res *http.Response) (op struct {
	ID, State string
	Error     *nodeapi.ErrorDetail
	Result    json.RawMessage
},
) {
	n.t.Helper()
	op = decode[struct {
		ID, State string
		Error     *nodeapi.ErrorDetail
		Result    json.RawMessage
	}](n.t, res, http.StatusAccepted)
	within(n.t, 20*time.Second, "the operation ends", func() bool {
		op = decode[struct {
			ID, State string
			Error     *nodeapi.ErrorDetail
			Result    json.RawMessage
		}](n.t, p.call("GET", "/operations/"+op.ID, apiToken, ""), http.StatusOK)
		return op.State != "running" && op.State != "queued"
	})
	return op
}

// TestDaemonAdoptsItsEngine: an engine outlives kill -9 of its daemon with its
// requests, and the next daemon takes it over: same process, same worker, no
// restart; the stream that ran meanwhile ends well. An orderly end stops it (PM-4,
// PM-5, PCO-25 to PCO-27, G8).
func TestDaemonAdoptsItsEngine(t *testing.T) {
	tokens := tokenFile(t)
	o := controlPlane(t, t.TempDir(), "LLORCH_API_TOKEN_FILE="+tokens, "ORCHESTRATORD_STORE=memory", "ORCHESTRATORD_NODE_TIMEOUT_SECS=30", "ORCHESTRATORD_HEARTBEAT_INTERVAL_SECS=1")
	n := newLlamaNode(t, o.url, tokens)
	d := n.start()
	before := n.ready(d)
	within(t, 10*time.Second, "the orchestrator can place", func() bool { return ready(t, o) })
	pids := n.engines()
	acc := o.submit(apiToken, 60, "")
	within(t, 5*time.Second, "the task runs", func() bool { return o.task(apiToken, acc.TaskID).Status == "running" })
	d.signal(syscall.SIGKILL)
	d.wait()
	d = n.start()
	began := time.Now()
	after := n.ready(d)
	t.Logf("ready again %v after the start of the next daemon", time.Since(began))
	if after.ID != before.ID || fmt.Sprint(n.engines()) != fmt.Sprint(pids) || after.RestartCount != 0 {
		t.Errorf("worker %s with processes %v became %s with %v, %d restarts", before.ID, pids, after.ID, n.engines(), after.RestartCount)
	}
	if status := o.ended(acc.TaskID); status != "completed" {
		t.Errorf("the task that ran meanwhile is %s: %+v\n%s", status, o.task(apiToken, acc.TaskID).Error, lastLines(o.errs.String(), 15))
	}
	within(t, 10*time.Second, "the orchestrator can place again", func() bool { return ready(t, o) })
	if got := all(t, o.stream(apiToken, o.submit(apiToken, 3, "").TaskID, 0)); got[len(got)-1].typ != "end" {
		t.Errorf("a task afterwards ended with %v", got[len(got)-1])
	}
	d.signal(syscall.SIGTERM)
	if code := d.wait(); code != 0 {
		t.Errorf("SIGTERM: exit %d: %s", code, lastLines(d.errs.String(), 5))
	}
	if left := n.engines(); len(left) != 0 {
		t.Errorf("engines %v outlive an orderly end", left)
	}
}

// ended waits for a task's end and returns how it ended.
func (p *program) ended(id string) (status string) {
	p.t.Helper()
	within(p.t, 20*time.Second, "the task ends", func() bool {
		status = p.task(apiToken, id).Status
		return status == "completed" || status == "failed" || status == "cancelled"
	})
	return status
}

// TestDaemonReloads: another model in the same pool while the old engine serves; a
// binary that does not start leaves the old engine serving; a file outside of the
// allowed folder is refused (PCO-45, PCO-46, PCO-10).
func TestDaemonReloads(t *testing.T) {
	tokens := tokenFile(t)
	o := controlPlane(t, t.TempDir(), "LLORCH_API_TOKEN_FILE="+tokens, "ORCHESTRATORD_STORE=memory", "ORCHESTRATORD_HEARTBEAT_INTERVAL_SECS=1")
	n := newLlamaNode(t, o.url, tokens)
	d := n.start()
	first := n.ready(d)
	op := n.operation(d, d.call("POST", "/pools/gpu0/reload", apiToken, fmt.Sprintf(`{"new_model_ref":"sim-70b","new_model_path":%q}`, n.model("b.gguf"))))
	second := n.ready(d)
	if op.State != "done" || second.ID == first.ID || second.ModelRef != "sim-70b" || len(n.engines()) != 1 {
		t.Errorf("reload: %s %+v; worker %s of %s, engines %v", op.State, op.Error, second.ID, second.ModelRef, n.engines())
	}
	within(t, 10*time.Second, "the orchestrator offers the new model", func() bool {
		list := body(t, o.call("GET", "/v1/models", apiToken, ""))
		return strings.Contains(list, "sim-70b") && !strings.Contains(list, "sim-8b")
	})
	// What is known at once is told at once, the rest by the operation.
	res := d.call("POST", "/pools/gpu0/reload", apiToken, `{"binary":"broken"}`)
	if res.StatusCode != http.StatusAccepted {
		if e := decode[nodeapi.ErrorReply](t, res, http.StatusInternalServerError); e.Error.Code != "RELOAD_ROLLED_BACK" {
			t.Errorf("a reload that does not start: %+v", e)
		}
	} else if op := n.operation(d, res); op.State != "failed" || op.Error == nil || op.Error.Code != "RELOAD_ROLLED_BACK" {
		t.Errorf("a reload that does not start: %s %+v", op.State, op.Error)
	}
	if third := n.ready(d); third.ModelRef != "sim-70b" || len(n.engines()) != 1 {
		t.Errorf("afterwards %s serves, engines %v", third.ModelRef, n.engines())
	}
	// A worker by model and GPU is started as the first pool is; this model is not here.
	if text := body(t, d.call("POST", "/v2/workers/start", apiToken, `{"model_ref":"hf:org/none@abc::file=m.gguf","gpu_id":7}`)); !strings.Contains(text, `"code":"MODEL_`) {
		t.Errorf("a worker by model and GPU: %s", text)
	}
	res = d.call("POST", "/pools/gpu0/reload", apiToken, `{"new_model_path":"/etc/passwd"}`)
	if text := body(t, res); res.StatusCode < 400 || strings.Contains(text, "passwd") {
		t.Errorf("a file outside of the allowed folder = %d: %s", res.StatusCode, text)
	}
}

// TestDaemonDrains: a drained pool gets no work and keeps its engine; an operator
// drains a whole node at the orchestrator, and the node does it (PCO-44, PRG-45).
func TestDaemonDrains(t *testing.T) {
	tokens := tokenFile(t)
	o := controlPlane(t, t.TempDir(), "LLORCH_API_TOKEN_FILE="+tokens, "ORCHESTRATORD_STORE=memory", "ORCHESTRATORD_HEARTBEAT_INTERVAL_SECS=1")
	n := newLlamaNode(t, o.url, tokens)
	d := n.start()
	n.ready(d)
	within(t, 10*time.Second, "the orchestrator can place", func() bool { return ready(t, o) })
	running := o.submit(apiToken, 60, "")
	within(t, 5*time.Second, "the task runs", func() bool { return o.task(apiToken, running.TaskID).Status == "running" })
	op := n.operation(d, d.call("POST", "/pools/gpu0/drain", apiToken, `{"deadline_ms":20000}`))
	var result nodeapi.DrainResult
	if err := json.Unmarshal(op.Result, &result); err != nil || op.State != "done" || result.Forced || len(n.engines()) != 1 {
		t.Errorf("drain: %s %s %+v, engines %v", op.State, op.Result, op.Error, n.engines())
	}
	if status := o.ended(running.TaskID); status != "completed" {
		t.Errorf("the task that ran is %s", status)
	}
	decode[nodeapi.PoolStatus](t, d.call("POST", "/pools/gpu0/undrain", apiToken, "{}"), http.StatusOK)
	n.ready(d)
	within(t, 10*time.Second, "the orchestrator can place again", func() bool { return ready(t, o) })

	if res := o.call("POST", "/v2/nodes/gpu-7/drain", apiToken, `{"deadline_ms":5000}`); res.StatusCode != http.StatusOK {
		t.Fatalf("drain of the node = %d: %s", res.StatusCode, body(t, res))
	}
	within(t, 10*time.Second, "the node is drained", func() bool {
		return strings.Contains(body(t, o.call("GET", "/v2/nodes/gpu-7", apiToken, "")), `"schedule":"drained"`)
	})
	if s := n.pool(d); !s.Draining {
		t.Errorf("the pool of a drained node: %+v", s)
	}
	o.call("POST", "/v2/nodes/gpu-7/uncordon", apiToken, "{}")
	within(t, 10*time.Second, "work comes again", func() bool { return n.pool(d).Ready && ready(t, o) })
}

// TestDaemonFollowsHandoffFiles: a file that says where an engine runs binds it,
// and another program's engine takes tasks (PCO-49 to PCO-52).
func TestDaemonFollowsHandoffFiles(t *testing.T) {
	tokens := tokenFile(t)
	o := controlPlane(t, t.TempDir(), "LLORCH_API_TOKEN_FILE="+tokens, "ORCHESTRATORD_STORE=memory", "ORCHESTRATORD_HEARTBEAT_INTERVAL_SECS=1")
	sim := workertest.Start(workertest.Config{Model: "sim-8b"})
	t.Cleanup(sim.Close)
	n := newLlamaNode(t, o.url, tokens)
	drop := filepath.Join(n.dir, "drop")
	n.write(n.file, fmt.Sprintf("handoff_dir = %q\nwatch_interval_ms = 100\n", drop))
	if err := os.Mkdir(drop, 0o700); err != nil {
		t.Fatal(err)
	}
	early := filepath.Join(drop, "q-r0.json") // from before the daemon's start
	n.write(early, fmt.Sprintf(`{"pool_id":"q","replica_id":"r0","engine":"llamacpp","engine_version":"1","url":%q,"model":{"id":"sim-8b"}}`, sim.URL))
	n.start()
	within(t, 15*time.Second, "the engine of a file from before the start takes tasks", func() bool { return ready(t, o) })
	if err := os.Remove(early); err != nil {
		t.Fatal(err)
	}
	within(t, 10*time.Second, "it is gone with its file", func() bool { return !ready(t, o) })
	file := filepath.Join(drop, "p-r0.json")
	n.write(file+".tmp", fmt.Sprintf(`{"pool_id":"p","replica_id":"r0","engine":"llamacpp","engine_version":"1","url":%q,"slots":2,"model":{"id":"sim-8b"}}`, sim.URL))
	if err := os.Rename(file+".tmp", file); err != nil {
		t.Fatal(err)
	}
	took := within(t, 15*time.Second, "the engine takes tasks", func() bool { return ready(t, o) })
	t.Logf("usable %v after the file", took)
	if status := o.ended(o.submit(apiToken, 3, "").TaskID); status != "completed" {
		t.Errorf("a task is %s", status)
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	within(t, 10*time.Second, "it is gone with the file", func() bool { return !ready(t, o) })
}

// TestWorkerWithoutANode: an engine on a machine without a daemon is registered by
// its address, takes tasks, and is offline when it does not answer (PRG-53).
func TestWorkerWithoutANode(t *testing.T) {
	tokens := tokenFile(t)
	o := controlPlane(t, t.TempDir(), "LLORCH_API_TOKEN_FILE="+tokens, "ORCHESTRATORD_STORE=memory", "ORCHESTRATORD_NODE_TIMEOUT_SECS=3", "ORCHESTRATORD_HEARTBEAT_INTERVAL_SECS=1")
	sim := workertest.Start(workertest.Config{Model: "sim-8b"})
	t.Cleanup(sim.Close)
	_, port, _ := strings.Cut(strings.TrimPrefix(sim.URL, "http://"), ":")
	res := o.call("POST", "/workers/register", apiToken, fmt.Sprintf(`{"id":"box","host":"127.0.0.1","port":%s,"model":"sim-8b","region":"DE"}`, port))
	if text := body(t, res); res.StatusCode != http.StatusOK {
		t.Fatalf("register = %d: %s", res.StatusCode, text)
	}
	within(t, 5*time.Second, "it takes tasks", func() bool { return ready(t, o) })
	acc := o.submit(apiToken, 5, "")
	if status := o.ended(acc.TaskID); status != "completed" {
		t.Errorf("a task is %s: %+v", status, o.task(apiToken, acc.TaskID).Error)
	}
	if task := o.task(apiToken, acc.TaskID); task.NodeID != "static-box" {
		t.Errorf("it ran on %q", task.NodeID)
	}
	sim.Close()
	within(t, 6*time.Second, "it is offline", func() bool {
		return strings.Contains(body(t, o.call("GET", "/v2/nodes/static-box", apiToken, "")), `"status":"offline"`)
	})
}
