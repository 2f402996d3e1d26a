package examples_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/llorch/llorch/orchestrator/taskapi"
)

// demo starts the demo on a free port with a temporary folder of its own.
func demo(t *testing.T, args ...string) (p *program, tmp string) {
	t.Helper()
	tmp = t.TempDir()
	p = start(t, []string{"TMPDIR=" + tmp}, "llorch-demo", append([]string{"--addr", "127.0.0.1:0"}, args...)...)
	within(t, 10*time.Second, "three workers are ready", func() bool {
		return strings.Count(body(t, p.call("GET", "/v2/nodes", "", "")), `"status":"ready"`) == 3
	})
	return p, tmp
}

// TestDemoStreams: tokens come one by one, a cut stream resumes without a gap or
// a repeat, and the choice is explained (DEMO-1, ORC-500, 502).
func TestDemoStreams(t *testing.T) {
	p, _ := demo(t)
	acc := p.submit("", 30, "")
	var got []sse
	events(t, p.stream("", acc.TaskID, 0), func(e sse) bool {
		got = append(got, e)
		return len(got) < 12
	})
	got = append(got, all(t, p.stream("", acc.TaskID, got[len(got)-1].id))...)
	for i, e := range got {
		if e.id != uint64(i+1) {
			t.Fatalf("event %d has id %d: a gap or a repeat", i, e.id)
		}
	}
	tokens := slices.DeleteFunc(slices.Clone(got[:12]), func(e sse) bool { return e.typ != "token" })
	if d := tokens[len(tokens)-1].at.Sub(tokens[0].at); d < 50*time.Millisecond {
		t.Errorf("%d tokens came within %v: not one by one", len(tokens), d)
	}
	if last := got[len(got)-1]; last.typ != "end" || len(got) != 32 {
		t.Errorf("%d events, last %s %s, want started, 30 tokens, end", len(got), last.typ, last.data)
	}
	why := decode[map[string]any](t, p.call("GET", "/v2/tasks/"+acc.TaskID+"/explain", "", ""), http.StatusOK)
	if why["winner"] == "" || why["why"] == "" || why["candidates_total"] != 3.0 {
		t.Errorf("explain = %v", why)
	}
}

// TestDemoLeavesNothing: Ctrl-C ends every child and leaves no file; kill -9 of
// the demo takes the engines with it within 2 s (DEMO-5).
func TestDemoLeavesNothing(t *testing.T) {
	for _, s := range []syscall.Signal{syscall.SIGINT, syscall.SIGKILL} {
		p, tmp := demo(t)
		engines := children(p.cmd.Process.Pid)
		if len(engines) != 3 {
			t.Fatalf("%d children, want 3 engines", len(engines))
		}
		p.signal(s)
		code := p.wait()
		within(t, 2*time.Second, fmt.Sprintf("the engines are gone after %v", s), func() bool { return !slices.ContainsFunc(engines, alive) })
		if s != syscall.SIGINT {
			continue
		}
		if code != 0 {
			t.Errorf("exit code %d after Ctrl-C, want 0: %s", code, p.errs)
		}
		if left, _ := filepath.Glob(tmp + "/*"); len(left) > 0 {
			t.Errorf("left behind: %v", left)
		}
	}
}

// engineOf returns the pid of the engine that serves a worker.
func engineOf(t *testing.T, p *program, worker string) int {
	t.Helper()
	for _, pid := range children(p.cmd.Process.Pid) {
		args, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		if worker != "" && strings.Contains(string(args), worker) {
			return pid
		}
	}
	t.Fatalf("no engine process for worker %q", worker)
	return 0
}

// TestDemoEngineKilled: a streaming task on a killed engine ends with a retriable
// WORKER_RESET, one without a token is placed again and finishes, and the engine
// comes back (ORC-403, 406, PCO-34).
func TestDemoEngineKilled(t *testing.T) {
	p, _ := demo(t, "--preset", "slow")
	streaming := p.submit("", 400, "")
	var last sse
	var engine int
	events(t, p.stream("", streaming.TaskID, 0), func(e sse) bool {
		if e.id == 3 {
			engine = engineOf(t, p, p.task("", streaming.TaskID).WorkerID)
			_ = syscall.Kill(engine, syscall.SIGKILL)
		}
		last = e
		return true
	})
	var end taskapi.ErrorEvent
	if err := json.Unmarshal([]byte(last.data), &end); err != nil || last.typ != "error" || end.Code != taskapi.WorkerReset || !end.Retriable {
		t.Errorf("the cut stream ended with %s %s", last.typ, last.data)
	}
	dead := p.task("", streaming.TaskID).WorkerID
	within(t, 10*time.Second, "the engine was restarted under a new name", func() bool {
		nodes := body(t, p.call("GET", "/v2/nodes", "", ""))
		return !strings.Contains(nodes, `"worker_id":"`+dead+`","status"`) && strings.Count(nodes, `"status":"ready"`) == 3
	})

	// A long prompt keeps the engine busy before its first token.
	prompt := strings.Repeat("sky ", 600)
	acc := decode[taskapi.Accepted](t, p.call("POST", "/v2/tasks", "", fmt.Sprintf(`{"model":"sim-8b","prompt":%q,"max_tokens":3}`, prompt)), http.StatusAccepted)
	_ = syscall.Kill(engineOf(t, p, p.task("", acc.TaskID).WorkerID), syscall.SIGKILL)
	got := all(t, p.stream("", acc.TaskID, 0))
	if l := got[len(got)-1]; l.typ != "end" {
		t.Errorf("a task without a token ended with %s %s, want end", l.typ, l.data)
	}
	if task := p.task("", acc.TaskID); task.Attempt != 2 {
		t.Errorf("attempt %d, want 2", task.Attempt)
	}
}

func body(t *testing.T, res *http.Response) string {
	t.Helper()
	defer res.Body.Close()
	var b strings.Builder
	buf := make([]byte, 32<<10)
	for {
		n, err := res.Body.Read(buf)
		b.Write(buf[:n])
		if err != nil {
			return b.String()
		}
	}
}

// TestDemoCancel: a cancel answers 204 and the stream ends with CANCELLED at once.
func TestDemoCancel(t *testing.T) {
	p, _ := demo(t)
	acc := p.submit("", 2000, "")
	var cancelled time.Time
	var last sse
	events(t, p.stream("", acc.TaskID, 0), func(e sse) bool {
		if e.id == 5 {
			if res := p.call("POST", "/v2/tasks/"+acc.TaskID+"/cancel", "", ""); res.StatusCode != http.StatusNoContent {
				t.Errorf("cancel = %d", res.StatusCode)
			}
			cancelled = time.Now()
		}
		last = e
		return true
	})
	if d := time.Since(cancelled); last.typ != "error" || !strings.Contains(last.data, "CANCELLED") || d > 200*time.Millisecond {
		t.Errorf("%v after the cancel the stream ended with %s %s", d, last.typ, last.data)
	}
}

// TestDemoLinksNoDatabase: the demo builds fast because it links neither a
// database nor a driver (DEMO-3).
func TestDemoLinksNoDatabase(t *testing.T) {
	out, err := exec.CommandContext(t.Context(), "go", "list", "-deps", "./cmd/llorch-demo").Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{"modernc.org/", "github.com/jackc/", "github.com/NVIDIA/"} {
		if strings.Contains(string(out), bad) {
			t.Errorf("the demo links %s", bad)
		}
	}
}

// TestDemoNextPort: a taken port is no obstacle.
func TestDemoNextPort(t *testing.T) {
	first, _ := demo(t)
	port := first.url[strings.LastIndexByte(first.url, ':')+1:]
	code, out := once(t, []string{"TMPDIR=" + t.TempDir()}, "llorch-demo", "--addr", "127.0.0.1:"+port)
	if code != 1 || !strings.Contains(out, "no free port") { // a port above 8099 has no next one
		t.Errorf("exit %d: %s", code, out)
	}
}

// TestDemoRefusals: a wrong flag is a usage fault that names what is wanted, and a
// refused address is not called a taken one.
func TestDemoRefusals(t *testing.T) {
	for _, c := range []struct {
		flag, value, want string
		code              int
	}{
		{"--preset", "bogus", "h200", 2},
		{"--log-level", "LOUD", "TRACE", 2},
		{"--addr", "0.0.0.0:8080", "not loopback", 1},
	} {
		code, out := once(t, []string{"TMPDIR=" + t.TempDir()}, "llorch-demo", c.flag, c.value)
		if code != c.code || !strings.Contains(out, c.want) || strings.Contains(out, "no free port") {
			t.Errorf("%s %s: exit %d: %s", c.flag, c.value, code, out)
		}
	}
}

// TestBadInput: every fault has its status and the canonical body, and echoes
// nothing of the input (ORC-761, 766, 800).
func TestBadInput(t *testing.T) {
	p, _ := demo(t)
	const secret = "s3cr3t-canary"
	for _, c := range []struct {
		name, path, body, contentType string
		status                        int
		code                          taskapi.Code
	}{
		{"wrong JSON", "/v2/tasks", `{"model":"` + secret, "", 400, taskapi.InvalidParams},
		{"wrong type", "/v2/tasks", `{"model":"sim-8b","prompt":"` + secret + `","max_tokens":"` + secret + `"}`, "", 400, taskapi.InvalidParams},
		{"unknown enum", "/v2/tasks", `{"model":"sim-8b","prompt":"x","priority":"` + secret + `"}`, "", 400, taskapi.InvalidParams},
		{"control characters", "/v2/tasks", `{"model":"` + secret + `\u001b[2J","prompt":"x"}`, "", 400, taskapi.InvalidParams},
		{"NUL in prompt", "/v2/tasks", `{"model":"sim-8b","prompt":"` + secret + `\u0000"}`, "", 400, taskapi.InvalidParams},
		{"two members", "/v2/tasks", `{"model":"sim-8b","model":"` + secret + `","prompt":"x"}`, "", 400, taskapi.InvalidParams},
		{"oversized", "/v2/tasks", `{"model":"sim-8b","prompt":"` + strings.Repeat("x", 9<<20) + `"}`, "", 413, taskapi.BodyTooLarge},
		{"media type", "/v2/tasks", `{"model":"sim-8b","prompt":"x"}`, "text/plain", 415, taskapi.UnsupportedMedia},
		{"unknown model", "/v2/tasks", `{"model":"` + secret + `","prompt":"x"}`, "", 404, taskapi.ModelNotFound},
		{"past deadline", "/v2/tasks", `{"model":"sim-8b","prompt":"` + secret + `","deadline_ms":-1}`, "", 400, taskapi.DeadlineUnmet},
		{"unknown path", "/v2/" + secret, `{}`, "", 404, taskapi.NotFound},
		{"unknown model, OpenAI", "/v1/chat/completions", `{"model":"` + secret + `","messages":[{"role":"user","content":"x"}]}`, "", 404, taskapi.ModelNotFound},
	} {
		headers := []string{}
		if c.contentType != "" {
			headers = append(headers, "Content-Type", c.contentType)
		}
		res := p.call("POST", c.path, "", c.body, headers...)
		text := body(t, res)
		var e taskapi.ErrorBody
		if err := json.Unmarshal([]byte(text), &e); err != nil || res.StatusCode != c.status || !strings.Contains(text, string(c.code)) {
			t.Errorf("%s: %d %s, want %d %s", c.name, res.StatusCode, text, c.status, c.code)
		}
		if strings.Contains(text, secret) || strings.Contains(fmt.Sprint(res.Header), secret) {
			t.Errorf("%s: the answer echoes the input: %s", c.name, text)
		}
		if id := res.Header.Get("X-Correlation-Id"); id == "" || !strings.HasPrefix(c.path, "/v1") && e.Error.CorrelationID != id {
			t.Errorf("%s: correlation id %q in the header, %q in the body", c.name, id, e.Error.CorrelationID)
		}
	}
	res := p.call("POST", "/v2/tasks", "", `{"model":"sim-8b","prompt":"x"}`, "X-Deadline", fmt.Sprint(time.Now().Add(-time.Minute).UnixMilli()))
	if e := decode[taskapi.ErrorBody](t, res, http.StatusGatewayTimeout); e.Error.Code != taskapi.DeadlineUnmet || e.Error.Retriable {
		t.Errorf("a deadline in the past: %+v", e)
	}
	if res := p.call("POST", "/v2/tasks", "", `{}`, "Host", "x"); res.StatusCode != 400 {
		t.Errorf("POST {} = %d", res.StatusCode)
	}
	if strings.Contains(p.errs.String(), secret) {
		t.Error("the log holds the input")
	}
}
