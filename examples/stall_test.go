package examples_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
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
