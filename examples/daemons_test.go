package examples_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/llorch/llorch/audit/auditcmd"
	"github.com/llorch/llorch/orchestrator/taskapi"
	"github.com/llorch/llorch/orchestrator/worker/workertest"
)

const apiToken = "aB3dE6gH9jK2mN5pQ8sT1vW4yZ7bC0eF-test"

// tokenFile writes the token as an operator would.
func tokenFile(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(path, []byte(apiToken+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// controlPlane starts orchestratord with a state folder and the given variables.
func controlPlane(t *testing.T, state string, env ...string) *program {
	t.Helper()
	return start(t, append([]string{"LLORCH_STATE_DIR=" + state, "ORCHESTRATORD_ADDR=127.0.0.1:0"}, env...), "orchestratord")
}

// nodeDaemon starts pool-managerd with one pool of simulated engines.
func nodeDaemon(t *testing.T, state, orchestrator, tokens string) *program {
	t.Helper()
	dir, err := binaries()
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "pools.toml")
	pools := fmt.Sprintf("binaries = [%q]\n[[pool]]\npool_id = \"gpu0\"\nengine = \"simulator\"\nmodel = \"sim-8b\"\nslots = 2\nstop_grace_ms = 500\n", "simulator="+filepath.Join(dir, "enginesim"))
	if err := os.WriteFile(file, []byte(pools), 0o600); err != nil {
		t.Fatal(err)
	}
	return start(t, []string{
		"LLORCH_STATE_DIR=" + state, "POOL_MANAGERD_RUNTIME_DIR=" + filepath.Join(state, "run"), "LLORCH_API_TOKEN_FILE=" + tokens,
		"POOL_MANAGERD_ADDR=127.0.0.1:0", "POOL_MANAGERD_NODE_ID=gpu-7", "ORCHESTRATORD_URL=" + orchestrator, "POOL_MANAGERD_GPU_PROVIDER=none",
	}, "pool-managerd", "--config", file)
}

// nodeStatus is the status of the node gpu-7, "" if it is not known.
func nodeStatus(t *testing.T, p *program) string {
	t.Helper()
	list := decode[struct {
		Nodes []struct {
			ID     string `json:"node_id"`
			Status string `json:"status"`
		} `json:"nodes"`
	}](t, p.call("GET", "/v2/nodes", apiToken, ""), http.StatusOK)
	for _, n := range list.Nodes {
		if n.ID == "gpu-7" {
			return n.Status
		}
	}
	return ""
}

// ready reports whether a model can be placed.
func ready(t *testing.T, p *program) bool {
	t.Helper()
	return strings.Contains(body(t, p.call("GET", "/v1/models", apiToken, "")), "sim-8b")
}

// TestTwoDaemons: a node registers with a token, serves a task, is offline soon
// after kill -9 and is used again when it returns (SRV-2, PM-1, PM-2).
func TestTwoDaemons(t *testing.T) {
	tokens := tokenFile(t)
	o := controlPlane(t, t.TempDir(), "LLORCH_API_TOKEN_FILE="+tokens, "ORCHESTRATORD_NODE_TIMEOUT_SECS=3", "ORCHESTRATORD_HEARTBEAT_INTERVAL_SECS=1")
	state := t.TempDir()
	n := nodeDaemon(t, state, o.url, tokens)
	within(t, 10*time.Second, "the node's engine is ready", func() bool { return ready(t, o) })
	if got := nodeStatus(t, o); got != "online" {
		t.Errorf("the node is %q", got)
	}
	acc := o.submit(apiToken, 5, "")
	if got := all(t, o.stream(apiToken, acc.TaskID, 0)); got[len(got)-1].typ != "end" {
		t.Errorf("the task ended with %v", got[len(got)-1])
	}
	if task := o.task(apiToken, acc.TaskID); task.NodeID != "gpu-7" {
		t.Errorf("it ran on %q, want gpu-7", task.NodeID)
	}

	engines := children(n.cmd.Process.Pid)
	n.signal(syscall.SIGKILL)
	n.wait()
	took := within(t, 4*time.Second, "the node is offline after kill -9", func() bool { return nodeStatus(t, o) == "offline" })
	t.Logf("offline %v after kill -9", took)
	within(t, 2*time.Second, "its engines are gone too", func() bool { return !slices.ContainsFunc(engines, alive) })
	if e := decode[taskapi.ErrorBody](t, o.call("POST", "/v2/tasks", apiToken, `{"model":"sim-8b","prompt":"x"}`), http.StatusAccepted); e.Error.Code != "" {
		t.Errorf("a task for a node that may return: %+v", e)
	}
	nodeDaemon(t, state, o.url, tokens)
	took = within(t, 15*time.Second, "the node is used again", func() bool {
		list := decode[taskapi.TaskList](t, o.call("GET", "/v2/tasks?status=completed", apiToken, ""), http.StatusOK)
		return len(list.Tasks) == 2
	})
	t.Logf("used again %v after its start", took)
}

// TestRefusesToStart: without a token nothing listens where others reach it, and
// the message says how to make one (TestOneVariableExposure, AUTH-16).
func TestRefusesToStart(t *testing.T) {
	state := t.TempDir()
	code, out := once(t, []string{"LLORCH_STATE_DIR=" + state + "/s"}, "orchestratord", "--addr", "0.0.0.0:0")
	if code != 77 || !strings.Contains(out, "/dev/urandom") {
		t.Errorf("0.0.0.0 without a token: exit %d: %s", code, out)
	}
	if _, err := os.Stat(state + "/s"); err == nil {
		t.Error("a refused start made files")
	}
	if code, out := once(t, []string{"POOL_MANAGERD_RUNTIME_DIR=" + state + "/r"}, "pool-managerd", "--addr", "127.0.0.1:0"); code != 77 || !strings.Contains(out, "LLORCH_API_TOKEN") {
		t.Errorf("pool-managerd without a token: exit %d: %s", code, out)
	}
	if _, err := os.Stat(state + "/r"); err == nil {
		t.Error("a refused start of pool-managerd made files")
	}
	if code, out := once(t, []string{"ORCHESTRATORD_ADR=x"}, "orchestratord"); code != 78 || !strings.Contains(out, "did you mean ORCHESTRATORD_ADDR") {
		t.Errorf("an unknown variable: exit %d: %s", code, out)
	}
	for token, want := range map[string]int{"qwert": 77, "weak-weak-weak": 77, "no token at all; but thirty-two characters": 78} {
		code, out := once(t, []string{"LLORCH_STATE_DIR=" + state + "/s", "LLORCH_API_TOKEN=" + token}, "orchestratord", "--addr", "127.0.0.1:0")
		if code != want || strings.Contains(out, token) || strings.Count(out, "use a file") != 1 {
			t.Errorf("token of %d bytes: exit %d, want %d: %s", len(token), code, want, out)
		}
	}
}

// TestLostDataKey: no second key is made for a store that holds tasks sealed with
// the first one; they would be lost without a word.
func TestLostDataKey(t *testing.T) {
	state := t.TempDir()
	o := controlPlane(t, state)
	o.signal(syscall.SIGTERM)
	if code := o.wait(); code != 0 {
		t.Fatalf("exit %d: %s", code, o.errs)
	}
	key := filepath.Join(state, "data.key")
	if err := os.Remove(key); err != nil {
		t.Fatal(err)
	}
	code, out := once(t, []string{"LLORCH_STATE_DIR=" + state}, "orchestratord", "--addr", "127.0.0.1:0")
	if code != 75 || !strings.Contains(out, "data.key") || !strings.Contains(out, "put it back") {
		t.Errorf("exit %d: %s", code, out)
	}
	if _, err := os.Stat(key); err == nil {
		t.Error("a second key was made")
	}
}

// TestForeignHostRefused: DNS rebinding gets 421 even on loopback without a token
// (TestDNSRebindingRefused), and a local proxy makes nobody local.
func TestForeignHostRefused(t *testing.T) {
	p, _ := demo(t)
	req, err := http.NewRequestWithContext(t.Context(), "GET", p.url+"/v2/tasks", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Host = "attacker.example"
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode != http.StatusMisdirectedRequest {
		t.Errorf("a foreign Host = %d, want 421", res.StatusCode)
	}
	if res := p.call("GET", "/v2/tasks", "", "", "X-Forwarded-For", "203.0.113.9"); res.StatusCode != http.StatusForbidden {
		t.Errorf("a forwarded request = %d, want 403: no token could help it", res.StatusCode)
	}
}

// TestKill9KeepsAccepted: kill -9 with 100 waiting tasks in SQLite: after the
// restart every accepted task reaches exactly one terminal state (G1, G5).
func TestKill9KeepsAccepted(t *testing.T) {
	engine := workertest.Start(workertest.Config{Slots: 2, Latency: &workertest.Latency{Token: 5 * time.Millisecond}})
	defer engine.Close()
	state := t.TempDir()
	env := []string{"ORCHESTRATORD_ENGINES=local=" + engine.URL, "ORCHD_ADMISSION_CAPACITY=-1", "LLORCH_AUDIT_MODE=local"}
	o := controlPlane(t, state, env...)
	within(t, 5*time.Second, "the engine is found", func() bool { return ready(t, o) })
	const n = 102
	ids := make([]string, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { ids[i] = o.submit("", 8, `,"on_disconnect":"continue"`).TaskID })
	}
	wg.Wait()
	// Evidence is queued and written behind the 202: what a kill -9 may lose of it is
	// what was submitted in the last moment, which is not what this test is about.
	within(t, 5*time.Second, "the evidence of the submissions is written", func() bool {
		return submissions(t, filepath.Join(state, "audit")) == n
	})
	o.signal(syscall.SIGKILL)
	o.wait()
	o = controlPlane(t, state, env...)
	terminal := func() (done int, states map[string]int) {
		states = map[string]int{}
		list := decode[taskapi.TaskList](t, o.call("GET", "/v2/tasks?limit=1000", "", ""), http.StatusOK)
		for _, task := range list.Tasks {
			states[task.Status]++
			if slices.Contains([]string{"completed", "failed", "cancelled"}, task.Status) && slices.Contains(ids, task.TaskID) {
				done++
			}
		}
		return done, states
	}
	within(t, 25*time.Second, "all accepted tasks have ended", func() bool { done, _ := terminal(); return done == n })
	_, states := terminal()
	if states["completed"] < n-2 { // at most the two that streamed may be WORKER_RESET
		t.Errorf("states = %v, want at least %d completed", states, n-2)
	}
	for _, id := range ids[:3] {
		got := all(t, o.stream("", id, 0))
		ends := 0
		for _, e := range got {
			if e.typ == "end" || e.typ == "error" {
				ends++
			}
		}
		if ends != 1 || got[len(got)-1].id != uint64(len(got)) {
			t.Errorf("a task's stream has %d ends in %d events", ends, len(got))
		}
	}
	o.signal(syscall.SIGTERM)
	if code := o.wait(); code != 0 {
		t.Errorf("exit %d: %s", code, o.errs)
	}
	verifyAudit(t, filepath.Join(state, "audit"), n)
}

// submissions counts the tasks that an audit log says were submitted.
func submissions(t *testing.T, dir string) (n int) {
	t.Helper()
	files, err := filepath.Glob(dir + "/*.audit")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range files {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		n += bytes.Count(b, []byte(`"type":"task.submitted"`))
	}
	return n
}

// verifyAudit checks the log with auditctl as its user would, then with one byte
// flipped and with a line removed.
func verifyAudit(t *testing.T, dir string, tasks int) {
	t.Helper()
	verify := func() (int, string) {
		var out, errs bytes.Buffer
		code := auditcmd.Run(t.Context(), []string{"verify", dir}, strings.NewReader(""), &out, &errs, nil)
		return code, out.String() + errs.String()
	}
	if code, out := verify(); code != 0 {
		t.Errorf("verify = %d: %s", code, out)
	}
	files, _ := filepath.Glob(dir + "/*.audit")
	if len(files) == 0 {
		t.Fatal("no audit file")
	}
	text, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	if n := submissions(t, dir); n != tasks {
		t.Errorf("%d task.submitted, want %d", n, tasks)
	}
	if bytes.Contains(text, []byte("sky")) {
		t.Error("the audit log holds a prompt")
	}
	write := func(b []byte) {
		if err := os.WriteFile(files[0], b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	lines := bytes.SplitAfter(text, []byte("\n"))
	flipped := bytes.Clone(text)
	flipped[len(lines[0])+len(lines[1])+40] ^= 1
	for what, b := range map[string][]byte{
		"flipped": flipped,
		"deleted": slices.Concat(bytes.Join(lines[:3], nil), bytes.Join(lines[4:], nil)),
		"swapped": slices.Concat(lines[0], lines[2], lines[1], bytes.Join(lines[3:], nil)),
		"cut":     bytes.Join(lines[:len(lines)-4], nil),
	} {
		write(b)
		if code, out := verify(); code != 10 {
			t.Errorf("%s: verify = %d, want 10: %s", what, code, out)
		} else {
			t.Logf("%s: %s", what, strings.TrimSpace(out))
		}
	}
	write(text)
}

// TestQueueFullOverHTTP: a full queue answers 429 with a hint, and nothing accepted is lost.
func TestQueueFullOverHTTP(t *testing.T) {
	engine := workertest.Start(workertest.Config{Slots: 1, Preset: "slow"})
	defer engine.Close()
	o := controlPlane(t, t.TempDir(), "ORCHESTRATORD_ENGINES=local="+engine.URL, "ORCHD_ADMISSION_CAPACITY=1", "ORCHESTRATORD_STORE=memory", "LLORCH_LOG_LEVEL=debug")
	within(t, 5*time.Second, "the engine is found", func() bool { return ready(t, o) })
	o.submit("", 500, "")
	o.submit("", 500, "")
	res := o.call("POST", "/v2/tasks", "", `{"model":"sim-8b","prompt":"x"}`)
	e := decode[taskapi.ErrorBody](t, res, http.StatusTooManyRequests)
	if e.Error.Code != taskapi.QueueFull || !e.Error.Retriable || res.Header.Get("Retry-After") == "" || e.Error.Details["policy_label"] != "reject" {
		t.Errorf("a full queue: %+v, Retry-After %q", e, res.Header.Get("Retry-After"))
	}
	var openAI struct {
		Error struct{ Type, Code string } `json:"error"`
	}
	res = o.call("POST", "/v1/chat/completions", "", `{"model":"sim-8b","messages":[{"role":"user","content":"x"}]}`)
	if err := json.Unmarshal([]byte(body(t, res)), &openAI); err != nil || res.StatusCode != 429 || openAI.Error.Code == "" {
		t.Errorf("/v1 on a full queue: %d %+v %v", res.StatusCode, openAI, err)
	}
}
