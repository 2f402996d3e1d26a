package examples_test

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

const nextToken = "zY9xW8vU7tS6rQ5pO4nM3lK2jI1hG0fE-next"

// replaceFile exchanges a file as a careful operator does, in one step.
func replaceFile(t *testing.T, path, content string, mode os.FileMode) {
	t.Helper()
	next := filepath.Join(filepath.Dir(path), "next")
	if err := os.WriteFile(next, []byte(content), mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(next, path); err != nil {
		t.Fatal(err)
	}
}

// TestTokensAreExchanged: a token is replaced on both daemons without a restart
// and without a moment in which either is refused: both accepted, then the new
// one shown, then the old one gone. A damaged file changes nothing (AUTH-13,
// AUTH-15, SCR-27, SCR-28, CFG-6).
func TestTokensAreExchanged(t *testing.T) {
	t.Parallel()
	front, back := tokenFile(t), tokenFile(t)
	o := controlPlane(t, t.TempDir(), "LLORCH_API_TOKEN_FILE="+front, "ORCHESTRATORD_NODE_TIMEOUT_SECS=3", "ORCHESTRATORD_HEARTBEAT_INTERVAL_SECS=1")
	n := nodeDaemon(t, t.TempDir(), o.url, back)
	within(t, 10*time.Second, "the node's engine is ready", func() bool { return ready(t, o) })
	status := func(p *program, token string) int { return p.call("GET", "/readyz", token, "").StatusCode }
	pools := func(token string) int { return n.call("GET", "/pools", token, "").StatusCode }
	exchange := func(content string, told func() bool) {
		t.Helper()
		for path, p := range map[string]*program{front: o, back: n} {
			replaceFile(t, path, content+"\n", 0o600)
			p.signal(syscall.SIGHUP)
		}
		within(t, 10*time.Second, "both follow their files", told)
	}
	exchange(apiToken+","+nextToken, func() bool { return status(o, nextToken) == http.StatusOK && pools(nextToken) == http.StatusOK })
	exchange(nextToken+","+apiToken, func() bool {
		return strings.Count(o.errs.String(), "tokens_exchanged") == 2 && strings.Count(n.errs.String(), "tokens_exchanged") == 2
	})
	exchange(nextToken, func() bool {
		return status(o, apiToken) == http.StatusUnauthorized && pools(apiToken) == http.StatusUnauthorized
	})

	acc := o.submit(nextToken, 5, "")
	if got := all(t, o.stream(nextToken, acc.TaskID, 0)); got[len(got)-1].typ != "end" {
		t.Errorf("the task on the node ended with %v", got[len(got)-1])
	}
	for _, bad := range []struct {
		content string
		mode    os.FileMode
	}{{"", 0o600}, {nextToken + "\n", 0o644}, {"short\n", 0o600}, {nextToken + "," + nextToken + "\n", 0o600}} {
		before := len(o.errs.String())
		replaceFile(t, front, bad.content, bad.mode)
		o.signal(syscall.SIGHUP)
		within(t, 10*time.Second, "the log tells of a file that cannot be used", func() bool { return strings.Contains(o.errs.String()[before:], `"WARN"`) })
		if got := status(o, nextToken); got != http.StatusOK {
			t.Errorf("after a bad file the token gets %d", got)
		}
	}
	for _, p := range []*program{o, n} {
		for _, token := range []string{apiToken, nextToken} {
			if strings.Contains(p.errs.String(), token) {
				t.Error("a token is in the log")
			}
		}
	}
}

// TestNodesAlwaysNeedTheToken: where a token is set, a local caller who needs
// none for tasks needs it to act as a node (AUTH-26).
func TestNodesAlwaysNeedTheToken(t *testing.T) {
	t.Parallel()
	o := controlPlane(t, t.TempDir(), "LLORCH_API_TOKEN_FILE="+tokenFile(t), "AUTH_OPTIONAL=true")
	for _, c := range []struct {
		method, path string
		want         int
	}{
		{"GET", "/v2/nodes", http.StatusOK},
		{"GET", "/v2/tasks", http.StatusOK},
		{"POST", "/v2/nodes/register", http.StatusUnauthorized},
		{"POST", "/v2/nodes/gpu-7/heartbeat", http.StatusUnauthorized},
		{"DELETE", "/v2/nodes/gpu-7", http.StatusUnauthorized},
	} {
		if got := o.call(c.method, c.path, "", "{}").StatusCode; got != c.want {
			t.Errorf("%s %s without a token = %d, want %d", c.method, c.path, got, c.want)
		}
	}
	if got := o.call("POST", "/v2/nodes/register", apiToken, "{}").StatusCode; got != http.StatusBadRequest {
		t.Errorf("POST /v2/nodes/register with the token and an empty body = %d, want 400", got)
	}
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
