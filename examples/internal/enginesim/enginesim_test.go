package enginesim_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/llorch/llorch/examples/internal/enginesim"
	"github.com/llorch/llorch/orchestrator/worker"
	"github.com/llorch/llorch/orchestrator/worker/workertest"
)

const childEnv = "ENGINESIM_TEST_CHILD"

func TestMain(m *testing.M) {
	if os.Getenv(childEnv) != "" { // this test binary as the program
		ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
		context.AfterFunc(ctx, stop)
		os.Exit(enginesim.Main(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
	}
	os.Exit(m.Run())
}

// child is the program as a process.
type child struct {
	cmd    *exec.Cmd
	url    string
	stdin  io.WriteCloser
	stderr *bytes.Buffer
}

func start(t *testing.T, args ...string) *child {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	c := &child{cmd: exec.CommandContext(ctx, os.Args[0], args...), stderr: &bytes.Buffer{}}
	c.cmd.Env = append(os.Environ(), childEnv+"=1")
	c.cmd.Stderr = c.stderr
	stdout, err := c.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if c.stdin, err = c.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cancel(); _ = c.cmd.Wait() })
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil || !strings.HasPrefix(line, "http://127.0.0.1:") {
		t.Fatalf("printed %q, %v; %s", line, err, c.stderr)
	}
	c.url = strings.TrimSpace(line)
	return c
}

// code waits for the end.
func (c *child) code(t *testing.T) *os.ProcessState {
	t.Helper()
	_ = c.cmd.Wait()
	return c.cmd.ProcessState
}

// stream starts a job at c and reads its first token.
func stream(t *testing.T, c *child, key string) (worker.Stream, error) {
	t.Helper()
	d, err := worker.NewDialer(worker.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close() })
	s, err := d.Start(t.Context(), worker.Target{URL: c.url, Token: key}, &worker.Job{ID: "t-1", Kind: worker.Completion, Prompt: "p", MaxTokens: 30})
	if err != nil {
		return nil, err
	}
	t.Cleanup(func() { _ = s.Close() })
	_, err = s.Next()
	return s, err
}

func rest(s worker.Stream) (tokens int, err error) {
	for {
		e, err := s.Next()
		if err == io.EOF {
			return tokens, nil
		}
		if err != nil {
			return tokens, err
		}
		if e.Kind == worker.Token {
			tokens++
		}
	}
}

// TestTermFinishesWork covers SIM-1: SIGTERM lets the running request end; and
// SIM-7: the trace has it all.
func TestTermFinishesWork(t *testing.T) {
	dir := t.TempDir()
	keys := filepath.Join(dir, "keys")
	if err := os.WriteFile(keys, []byte("# keys\n\n k1 \nk2\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	trace := filepath.Join(dir, "trace")
	c := start(t, "-m", "/models/x.gguf", "--host", "127.0.0.1", "--port", "0", "--alias", "pool-r0", "-c", "2048", "-np", "2", "-ngl", "999",
		"--api-key-file", keys, "--metrics", "--slots", "--preset", "fast", "--trace", trace, "--fault", "slow-start:300ms")
	d, err := worker.NewDialer(worker.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	st, err := d.Probe(t.Context(), worker.Target{URL: c.url, Token: "k2"})
	if err != nil || !st.Ready || st.SlotsTotal != 2 || st.CtxMax != 1024 || len(st.Models) != 1 || st.Models[0] != "pool-r0" {
		t.Errorf("Probe = %+v, %v", st, err)
	}
	if _, err := stream(t, c, "k3"); err == nil {
		t.Error("a wrong key was let in")
	}
	s, err := stream(t, c, "k1")
	if err != nil {
		t.Fatal(err)
	}
	if err := c.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	tokens, err := rest(s)
	if err != nil || tokens == 0 {
		t.Errorf("%d more tokens, %v", tokens, err)
	}
	if p := c.code(t); p.ExitCode() != 0 {
		t.Errorf("%v; %s", p, c.stderr)
	}
	b, err := os.ReadFile(trace)
	if err != nil {
		t.Fatal(err)
	}
	var text strings.Builder
	var last workertest.Event
	for line := range strings.Lines(string(b)) {
		var e workertest.Event
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		if e.Seq != last.Seq+1 {
			t.Errorf("event %d after %d", e.Seq, last.Seq)
		}
		text.WriteString(e.Text)
		last = e
	}
	if last.Event != "finished" || last.Key != "t-1" || len(strings.Fields(text.String())) != tokens+1 {
		t.Errorf("the trace ends with %+v and has the text %q", last, text.String())
	}
}

// TestProcessFaults covers SIM-6: the process really ends, in the middle.
func TestProcessFaults(t *testing.T) {
	for arg, want := range map[string]string{"exit:7@token=2": "exit status 7", "exit:KILL@token=2": "signal: killed", "oom@token=2": "exit status 1"} {
		t.Run(arg, func(t *testing.T) {
			t.Parallel()
			c := start(t, "--preset", "fast", "--fault", arg)
			s, err := stream(t, c, "")
			if err == nil {
				_, err = rest(s)
			}
			if f, ok := err.(*worker.Failure); !ok || f.Class != worker.Reset {
				t.Errorf("the stream ended with %v", err)
			}
			if p := c.code(t); p.String() != want {
				t.Errorf("%v, want %s", p, want)
			}
			if arg == "oom@token=2" && !strings.Contains(c.stderr.String(), "cudaMalloc failed: out of memory") {
				t.Errorf("stderr: %s", c.stderr)
			}
		})
	}
}

// TestEndsWithStdin: the supervisor's death closes the pipe.
func TestEndsWithStdin(t *testing.T) {
	c := start(t, "--exit-with-stdin", "--preset", "slow")
	if _, err := stream(t, c, ""); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(c.stdin, "not the end\n"); err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	_ = c.stdin.Close()
	if p := c.code(t); p.ExitCode() != 0 || time.Since(begin) > 2*time.Second {
		t.Errorf("%v after %v", p, time.Since(begin))
	}
}

// lockedBuffer is written by the program while the test reads.
type lockedBuffer struct {
	mu  sync.Mutex
	b   bytes.Buffer
	got chan struct{} // receives once something was written
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	select {
	case l.got <- struct{}{}:
	default:
	}
	return l.b.Write(p)
}

// TestDrainEnds: work that does not end in time is cut, and the code says so.
func TestDrainEnds(t *testing.T) {
	out := &lockedBuffer{got: make(chan struct{}, 1)}
	ctx, cancel := context.WithCancel(t.Context())
	code := make(chan int)
	go func() {
		code <- enginesim.Main(ctx, []string{"--fault", "stall@token=1", "--preset", "zero", "--drain", "50ms"}, strings.NewReader(""), out, io.Discard)
	}()
	<-out.got
	out.mu.Lock()
	c := &child{url: strings.TrimSpace(out.b.String())}
	out.mu.Unlock()
	if _, err := stream(t, c, ""); err != nil {
		t.Fatal(err)
	}
	cancel()
	if got := <-code; got != 20 {
		t.Errorf("code %d, want 20", got)
	}
}

// TestUsage: what is refused, with which code, and what the pages look like.
func TestUsage(t *testing.T) {
	dir := t.TempDir()
	empty := filepath.Join(dir, "empty")
	open := filepath.Join(dir, "open")
	if err := errors.Join(os.WriteFile(empty, []byte("# no key\n"), 0o600), os.WriteFile(open, []byte("key\n"), 0o644)); err != nil {
		t.Fatal(err)
	}
	l := workertest.Start(workertest.Config{})
	defer l.Close()
	taken := l.URL[strings.LastIndex(l.URL, ":")+1:]
	for _, tc := range []struct {
		args string
		code int
		says string
	}{
		{"--help", 0, "--api-key-file FILE"},
		{"-h", 0, "--api-key-file FILE"},
		{"--version", 0, "enginesim "},
		{"--canary", 2, "--help"},
		{"--fault canary", 2, "slow-start"},
		{"--fault exit:canary", 2, "KILL"},
		{"--port 70000 -np 0", 2, "-np"},
		{"-c 1 -np 2", 2, "-c"},
		{"--flavour x", 2, "llamacpp"},
		{"--preset x", 2, "h200"},
		{"extra", 2, "no flags"},
		{"--host 0.0.0.0", 77, "--api-key-file"},
		{"--host localhost", 77, "--api-key-file"},
		{"--api-key-file " + dir + "/none", 75, "no such file"},
		{"--api-key-file " + open, 77, "chmod 600"},
		{"--api-key-file " + empty, 78, "no key"},
		{"--trace " + dir, 75, "--trace"},
		{"--port " + taken, 75, "listen"},
	} {
		var stdout, stderr bytes.Buffer
		code := enginesim.Main(t.Context(), strings.Fields(tc.args), strings.NewReader(""), &stdout, &stderr)
		said := stdout.String() + stderr.String()
		if code != tc.code || !strings.Contains(said, tc.says) || tc.code == 0 && stderr.Len() > 0 || tc.code != 0 && stdout.Len() > 0 {
			t.Errorf("%s: code %d, %s", tc.args, code, said)
		}
	}
	var page bytes.Buffer
	enginesim.Main(t.Context(), []string{"--help"}, nil, &page, io.Discard)
	lines := strings.Split(strings.TrimSpace(page.String()), "\n")
	if len(lines) > 40 {
		t.Errorf("--help has %d lines", len(lines))
	}
	for _, line := range lines {
		if len([]rune(line)) > 80 {
			t.Errorf("too wide: %s", line)
		}
	}
	for _, k := range workertest.Kinds() {
		if !strings.Contains(page.String(), k) {
			t.Errorf("--help does not name the fault %s", k)
		}
	}
}

// TestLoadDelay covers SIM-1: loading answers 503.
func TestLoadDelay(t *testing.T) {
	c := start(t, "--load-delay", "1h")
	resp, err := http.Get(c.url + "/health")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != 503 || !bytes.Contains(b, []byte(`"loading"`)) {
		t.Errorf("%d %s %v", resp.StatusCode, b, err)
	}
}
