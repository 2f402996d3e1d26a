package examples_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/llorch/llorch/orchestrator/taskapi"
)

// binaries builds the programs once for all tests that run them.
var binaries = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "llorch-bin-")
	if err != nil {
		return "", err
	}
	built = dir
	out, err := exec.Command("go", "build", "-o", dir+"/", "./cmd/...").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("go build: %v\n%s", err, out)
	}
	return dir, nil
})

var built string // folder of the binaries, once they are made

func TestMain(m *testing.M) {
	code := m.Run()
	if built != "" {
		os.RemoveAll(built)
	}
	os.Exit(code)
}

// program is a running binary.
type program struct {
	t    *testing.T
	cmd  *exec.Cmd
	url  string
	errs *lockedBuffer
	once sync.Once
	code int
}

// lockedBuffer is written by a process and read by the test.
type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// within polls until ok; it is for processes, whose time is not ours.
func within(t testing.TB, d time.Duration, what string, ok func() bool) time.Duration {
	t.Helper()
	began := time.Now()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		if time.Since(began) > d {
			t.Fatalf("not within %v: %s", d, what)
		}
		<-tick.C
	}
	return time.Since(began)
}

// whole skips tests of whole programs in the short runs: the race detector sees
// nothing of another process, and make test has run them.
func whole(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("runs whole programs: make test does")
	}
}

// start runs a program and waits for its address on the given stream.
func start(t *testing.T, env []string, name string, args ...string) *program {
	t.Helper()
	whole(t)
	dir, err := binaries()
	if err != nil {
		t.Fatal(err)
	}
	p := &program{t: t, cmd: exec.Command(filepath.Join(dir, name), args...), errs: new(lockedBuffer)}
	p.cmd.Env = append([]string{"HOME=" + t.TempDir(), "PATH=" + os.Getenv("PATH"), "TMPDIR=" + os.TempDir()}, env...)
	p.cmd.Stderr = p.errs
	out := new(lockedBuffer)
	p.cmd.Stdout = out
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.signal(syscall.SIGKILL); p.wait() })
	address := regexp.MustCompile(`(?:listens on |demo: http://|^http://)(127\.0\.0\.1:\d+)`)
	within(t, 20*time.Second, name+" says where it listens", func() bool {
		if m := address.FindStringSubmatch(out.String() + p.errs.String()); m != nil {
			p.url = "http://" + m[1]
		}
		return p.url != "" || p.exited()
	})
	if p.url == "" {
		t.Fatalf("%s ended at once: %s", name, p.errs)
	}
	return p
}

// once runs a program to its end.
func once(t *testing.T, env []string, name string, args ...string) (code int, out string) {
	t.Helper()
	whole(t)
	dir, err := binaries()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join(dir, name), args...)
	cmd.Env = append([]string{"HOME=" + t.TempDir(), "PATH=" + os.Getenv("PATH")}, env...)
	text, _ := cmd.CombinedOutput()
	return cmd.ProcessState.ExitCode(), string(text)
}

func (p *program) signal(s syscall.Signal) { _ = p.cmd.Process.Signal(s) }

// wait waits for the end and returns the exit code, −1 after a signal.
func (p *program) wait() int {
	p.once.Do(func() {
		_ = p.cmd.Wait()
		p.code = p.cmd.ProcessState.ExitCode()
	})
	return p.code
}

func (p *program) exited() bool { return !alive(p.cmd.Process.Pid) }

// alive reports whether a process runs; a zombie does not.
func alive(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	after := stat[bytes.LastIndexByte(stat, ')')+1:]
	return !bytes.HasPrefix(bytes.TrimSpace(after), []byte("Z"))
}

// children lists the direct children of a process.
func children(pid int) []int {
	var out []int
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	for _, t := range tasks {
		text, _ := os.ReadFile(t)
		for f := range strings.FieldsSeq(string(text)) {
			if n, err := strconv.Atoi(f); err == nil {
				out = append(out, n)
			}
		}
	}
	return out
}

// call sends a request with the program's token, if it has one.
func (p *program) call(method, path, token, body string, headers ...string) *http.Response {
	p.t.Helper()
	req, err := http.NewRequestWithContext(p.t.Context(), method, p.url+path, strings.NewReader(body))
	if err != nil {
		p.t.Fatal(err)
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	for i := 0; i+1 < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		p.t.Fatalf("%s %s: %v", method, path, err)
	}
	p.t.Cleanup(func() { res.Body.Close() })
	return res
}

// decode reads a JSON answer of the wanted status.
func decode[T any](t *testing.T, res *http.Response, status int) (v T) {
	t.Helper()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	if res.StatusCode != status {
		t.Fatalf("%s %s = %d, want %d: %s", res.Request.Method, res.Request.URL.Path, res.StatusCode, status, text)
	}
	if len(text) > 0 {
		if err := json.Unmarshal(text, &v); err != nil {
			t.Fatalf("%s: %v in %s", res.Request.URL.Path, err, text)
		}
	}
	return v
}

// sse is one event as a reader sees it.
type sse struct {
	id   uint64
	typ  string
	data string
	at   time.Time
}

// events reads a stream; it ends with the stream or when yield says no.
func events(t *testing.T, res *http.Response, yield func(sse) bool) {
	t.Helper()
	if res.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(res.Body)
		t.Fatalf("%s = %d: %s", res.Request.URL.Path, res.StatusCode, text)
	}
	defer res.Body.Close()
	var e sse
	in := bufio.NewScanner(res.Body)
	for in.Scan() {
		key, value, _ := strings.Cut(in.Text(), ":")
		value = strings.TrimPrefix(value, " ")
		switch key {
		case "id":
			e.id, _ = strconv.ParseUint(value, 10, 64)
		case "event":
			e.typ = value
		case "data":
			e.data, e.at = value, time.Now()
		case "":
			if e.data != "" && !yield(e) {
				return
			}
			e = sse{id: e.id}
		}
	}
}

// all reads a stream to its end.
func all(t *testing.T, res *http.Response) (out []sse) {
	t.Helper()
	events(t, res, func(e sse) bool { out = append(out, e); return true })
	return out
}

// submit accepts a task of n tokens.
func (p *program) submit(token string, n int, more string) taskapi.Accepted {
	p.t.Helper()
	body := fmt.Sprintf(`{"model":"sim-8b","prompt":"Why is the sky blue?","max_tokens":%d%s}`, n, more)
	return decode[taskapi.Accepted](p.t, p.call("POST", "/v2/tasks", token, body), http.StatusAccepted)
}

func (p *program) task(token, id string) taskapi.Task {
	p.t.Helper()
	return decode[taskapi.Task](p.t, p.call("GET", "/v2/tasks/"+id, token, ""), http.StatusOK)
}

func (p *program) stream(token, id string, after uint64) *http.Response {
	p.t.Helper()
	return p.call("GET", "/v2/tasks/"+id+"/events", token, "", "Last-Event-ID", strconv.FormatUint(after, 10))
}
