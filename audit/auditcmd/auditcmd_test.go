package auditcmd_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/llorch/llorch/audit"
	"github.com/llorch/llorch/audit/auditcmd"
	"github.com/llorch/llorch/audit/events"
)

// sample makes a closed log of four records.
func sample(t *testing.T) (dir, file string) {
	t.Helper()
	dir = t.TempDir() + "/log"
	l, err := audit.Open(t.Context(), audit.Config{Dir: dir, Service: "demo", Types: events.Types()})
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{"t1", "t2\x1b[2J"} {
		_, err := l.Append(t.Context(), audit.Event{
			Actor: audit.Service("api"), Reason: "user\x07", Correlation: "c1", Data: events.TaskCanceled{TaskID: id},
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(dir + "/*.audit")
	if err != nil || len(files) != 1 {
		t.Fatal(files, err)
	}
	return dir, files[0]
}

func run(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	code = auditcmd.Run(t.Context(), args, strings.NewReader(""), &out, &errs, nil)
	return code, out.String(), errs.String()
}

func TestVerify(t *testing.T) { // AUD-72, AUD-74
	dir, file := sample(t)
	code, out, errs := run(t, "verify", dir)
	if code != auditcmd.ExitOK || !strings.HasPrefix(out, "OK: 4 records in 1 files") || errs != "" {
		t.Errorf("verify = %d, %q, %q", code, out, errs)
	}
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	lines := bytes.SplitAfter(b, []byte("\n"))
	lines[2][len(lines[2])/2] ^= 1 // shares memory with b
	if err := os.WriteFile(file, b, 0o600); err != nil {
		t.Fatal(err)
	}
	code, out, errs = run(t, "verify", "--json", dir)
	var rep audit.Report
	if err := json.Unmarshal([]byte(strings.Replace(out, `"assurance":"none"`, `"assurance":0`, 1)), &rep); err != nil {
		t.Fatalf("%v in %s", err, out)
	}
	if code != auditcmd.ExitTampered || rep.OK || len(rep.Findings) == 0 || rep.Findings[0].Line != 3 || errs != "" {
		t.Errorf("verify = %d, %s, %q", code, out, errs)
	}
	code, out, _ = run(t, "verify", dir)
	if code != auditcmd.ExitTampered || !strings.Contains(out, "broken: "+filepath.Base(file)+" line 3 offset ") {
		t.Errorf("verify = %d, %q", code, out)
	}
}

func TestCat(t *testing.T) { // AUD-72, AUD-73
	dir, file := sample(t)
	code, out, errs := run(t, "cat", dir, "--from", "1")
	lines := strings.Split(strings.TrimSpace(out), "\n")
	if code != 0 || errs != "" || len(lines) != 3 || strings.ContainsAny(out, "\x1b\x07") ||
		!strings.Contains(lines[1], `task.canceled success service:api reason=user\a cid=c1 {"task_id":"t2\\x1b[2J"}`) {
		t.Errorf("cat = %d, %s%s", code, out, errs)
	}
	if _, raw, _ := run(t, "cat", dir, "--unescape"); !strings.Contains(raw, "reason=user\x07 ") {
		t.Errorf("cat --unescape = %q", raw)
	}
	_, out, _ = run(t, "cat", "--json", dir)
	b, err := os.ReadFile(file)
	if err != nil || out != string(b) {
		t.Errorf("cat --json = %s, %v", out, err)
	}
	// What somebody wrote into the file by hand reaches no terminal raw (VAL-14).
	if err := os.WriteFile(file, bytes.ReplaceAll(b, []byte("user"), []byte("us\u202e\u3164er")), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, out, _ = run(t, "cat", dir); !strings.Contains(out, `reason=us\u202e\u3164er\a`) {
		t.Errorf("cat of an edited file = %q", out)
	}
}

func TestUsage(t *testing.T) { // AUD-74
	dir, _ := sample(t)
	for want, cases := range map[int][][]string{
		auditcmd.ExitUsage: {
			{},
			{"frob"},
			{"verify"},
			{"verify", dir, dir},
			{"verify", "--nope", dir},
			{"verify", "--require", "signed", dir},
			{"cat", "--json", "--unescape", dir},
		},
		auditcmd.ExitOK:       {{"help"}, {"verify", "--help"}},
		auditcmd.ExitNotFound: {{"verify", dir + "/none"}, {"verify", t.TempDir()}, {"cat", t.TempDir()}},
	} {
		for _, args := range cases {
			if code, out, errs := run(t, args...); code != want || want != auditcmd.ExitOK && errs == "" || want == auditcmd.ExitOK && out == "" {
				t.Errorf("auditctl %v = %d, %q, %q, want %d", args, code, out, errs, want)
			}
		}
	}
}

func TestFollow(t *testing.T) { // AUD-72, AUD-74: 130
	dir := t.TempDir() + "/log"
	l, err := audit.Open(t.Context(), audit.Config{Dir: dir, Service: "demo", Types: events.Types(), RotateBytes: 64 << 10})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	r, w := io.Pipe()
	code := make(chan int)
	go func() {
		code <- auditcmd.Run(ctx, []string{"cat", "--follow", dir}, nil, w, io.Discard, nil)
		_ = w.Close()
	}()
	long := strings.Repeat("p", 1000)
	go func() {
		for range 100 { // three files
			_, _ = l.Append(ctx, audit.Event{Actor: audit.Service("api"), Reason: long, Data: events.NodeDeregistered{NodeID: "n"}})
		}
		_ = l.Close(ctx)
	}()
	seen, want := "", 104 // with started, rotated twice and stopped
	buf := make([]byte, 4096)
	for strings.Count(seen, "\n") < want {
		n, err := r.Read(buf)
		if err != nil {
			t.Fatalf("follow ended after %d lines", strings.Count(seen, "\n"))
		}
		seen += string(buf[:n])
	}
	cancel()
	if got := <-code; got != auditcmd.ExitInterrupted {
		t.Errorf("exit code %d", got)
	}
	for i, l := range strings.Split(strings.TrimSpace(seen), "\n") {
		if !strings.HasPrefix(l, strconv.Itoa(i)+" ") {
			t.Fatalf("line %d is %.40s", i, l)
		}
	}
}
