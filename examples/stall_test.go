package examples_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestStalledBodyHoldsNobody: a body that never comes delays no refusal, and no
// shutdown fails because of it (SRV-4, SRV-5).
func TestStalledBodyHoldsNobody(t *testing.T) {
	t.Parallel()
	o := controlPlane(t, t.TempDir(), "LLORCH_API_TOKEN_FILE="+tokenFile(t))
	stalled := func(head string) net.Conn {
		c, err := net.Dial("tcp", strings.TrimPrefix(o.url, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		if _, err := fmt.Fprintf(c, "%s\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{", head); err != nil {
			t.Fatal(err)
		}
		return c
	}
	for _, c := range []struct {
		head string
		want int
	}{
		{"POST /v2/tasks HTTP/1.1\r\nHost: localhost", http.StatusUnauthorized},
		{"POST /v2/nodes/register HTTP/1.1\r\nHost: localhost", http.StatusUnauthorized},
		{"POST /v2/tasks HTTP/1.1\r\nHost: evil.example", http.StatusMisdirectedRequest},
		{"GET /health HTTP/1.1\r\nHost: localhost", http.StatusOK},
		{"POST /nowhere HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer " + apiToken, http.StatusNotFound},
		{"POST /v2/tasks HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer " + apiToken + "\r\nX-Deadline: soon", http.StatusBadRequest},
		{"POST /v2/tasks HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer " + apiToken + "\r\nX-Request-Timeout-Ms: 0", http.StatusGatewayTimeout},
		{"OPTIONS * HTTP/1.1\r\nHost: evil.example", http.StatusMisdirectedRequest},
		{"CONNECT localhost:80 HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer " + apiToken, http.StatusNotFound},
	} {
		conn := stalled(c.head)
		_ = conn.SetReadDeadline(time.Now().Add(8 * time.Second))
		res, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Errorf("%q: no answer: %v", c.head, err)
			continue
		}
		text, _ := io.ReadAll(res.Body)
		if res.StatusCode != c.want || !strings.HasPrefix(res.Header.Get("Content-Type"), "application/json") {
			t.Errorf("%q: %d %s %s, want %d", c.head, res.StatusCode, res.Header.Get("Content-Type"), text, c.want)
		}
	}
	stalled("POST /v2/tasks HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer " + apiToken)
	within(t, 5*time.Second, "the request is being read", func() bool { return connections(t, o) > 0 })
	o.signal(syscall.SIGTERM)
	if code := o.wait(); code != 0 {
		t.Errorf("exit code %d with a client that stalls, want 0: %s", code, o.errs)
	}
}

// connections counts the established connections of a program.
func connections(t *testing.T, p *program) int {
	t.Helper()
	list, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", p.cmd.Process.Pid))
	if err != nil {
		t.Skip("this system tells nobody about connections:", err)
	}
	n := 0
	for _, e := range list {
		if to, err := os.Readlink(fmt.Sprintf("/proc/%d/fd/%s", p.cmd.Process.Pid, e.Name())); err == nil && strings.HasPrefix(to, "socket:") {
			n++
		}
	}
	return n - 1 // the listener
}

// TestManyExchanges: tokens are exchanged as often as somebody likes.
func TestManyExchanges(t *testing.T) {
	t.Parallel()
	file := tokenFile(t)
	o := controlPlane(t, t.TempDir(), "LLORCH_API_TOKEN_FILE="+file)
	for n := range 300 {
		token := fmt.Sprintf("%s-%03d", nextToken, n)
		replaceFile(t, file, "# all of them\n"+token+"\n", 0o600)
		o.signal(syscall.SIGHUP)
		within(t, 10*time.Second, "the next token is accepted", func() bool { return o.call("GET", "/readyz", token, "").StatusCode == http.StatusOK })
	}
	if log := o.errs.String(); strings.Contains(log, `"WARN"`) && strings.Contains(log, "tokens_") && strings.Contains(log, "tokens_refused") || strings.Contains(log, "tokens_not_hidden") {
		t.Errorf("the log complains: %s", log)
	}
}

// TestHangupEndsNobody: SIGHUP is for files that changed; where there is none it
// ends no daemon (CFG-6).
func TestHangupEndsNobody(t *testing.T) {
	t.Parallel()
	for _, env := range [][]string{nil, {"LLORCH_API_TOKEN=" + apiToken}} {
		o := controlPlane(t, t.TempDir(), env...)
		o.signal(syscall.SIGHUP)
		within(t, 5*time.Second, "the log says that there is nothing to reload", func() bool { return strings.Contains(o.errs.String(), "nothing_to_reload") })
		if got := o.call("GET", "/readyz", apiToken, "").StatusCode; got != http.StatusOK {
			t.Errorf("after SIGHUP: %d", got)
		}
	}
}

// TestCheckConfigJudgesTokens: what a start would refuse, --check-config refuses,
// with the same exit code (CFG-5).
func TestCheckConfigJudgesTokens(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := func(name, content string, mode os.FileMode) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), mode); err != nil {
			t.Fatal(err)
		}
		return "LLORCH_API_TOKEN_FILE=" + path
	}
	for _, c := range []struct {
		name, program string
		env           []string
		want          int
	}{
		{"a good token", "orchestratord", []string{file("good", apiToken+"\n", 0o600), "ORCHESTRATORD_ADDR=0.0.0.0:0"}, 0},
		{"none, on loopback", "orchestratord", nil, 0},
		{"none, for everybody", "orchestratord", []string{"ORCHESTRATORD_ADDR=0.0.0.0:0"}, 77},
		{"none, for a node", "pool-managerd", nil, 77},
		{"short", "orchestratord", []string{file("short", "abc\n", 0o600)}, 77},
		{"open to others", "orchestratord", []string{file("open", apiToken+"\n", 0o644)}, 77},
		{"over", "orchestratord", []string{file("over", "ops "+apiToken+" 2020-01-01T00:00:00Z\n", 0o600)}, 77},
		{"missing", "orchestratord", []string{"LLORCH_API_TOKEN_FILE=" + filepath.Join(dir, "none")}, 75},
	} {
		if code, out := once(t, c.env, c.program, "--check-config"); code != c.want {
			t.Errorf("%s: exit code %d, want %d: %s", c.name, code, c.want, out)
		}
	}
}
