package examples_test

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/llorch/llorch/audit/auditcmd"
	"github.com/llorch/llorch/orchestrator/taskapi"
)

// person is somebody with a token, who may be erased.
type person struct{ name, token, mark string }

// TestErasureOfWholeProgram: a person with waiting, running and ended tasks, a
// session, an artifact and a consent is erased over HTTP; nothing that this person
// said and no name of theirs is left in any file, log or metric of the running
// program, nor of the stopped one; the evidence verifies, repetition gives the same
// receipt, others keep what is theirs, and the person may come back (ORC-841, 843,
// I16, G9).
func TestErasureOfWholeProgram(t *testing.T) {
	t.Parallel()
	whole(t)
	eva := person{"eva." + rand.Text(), "t1-" + rand.Text() + rand.Text(), "marker-" + rand.Text()}
	bob := person{"bob." + rand.Text(), "t2-" + rand.Text() + rand.Text(), "other-" + rand.Text()}
	tokens := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(tokens, fmt.Appendf(nil, "%s %s\n%s %s\n", eva.name, eva.token, bob.name, bob.token), 0o600); err != nil {
		t.Fatal(err)
	}
	sim := engine(t, "-np", "2", "--preset", "fast", "--fault", "stall@token=10")
	state := t.TempDir()
	o := controlPlane(t, state, "LLORCH_API_TOKEN_FILE="+tokens, "ORCHESTRATORD_ENGINES=sim="+sim.url, "ORCHESTRATORD_DECISION_LOG="+filepath.Join(state, "decisions"),
		"LLORCH_AUDIT_MODE=local", "LLORCH_AUDIT_FLUSH=immediate", "LLORCH_LOG_LEVEL=debug")
	within(t, 10*time.Second, "the engine is found", func() bool {
		return strings.Contains(body(t, o.call("GET", "/v1/models", eva.token, "")), "sim-8b")
	})
	submit := func(who person, tokens int) string {
		t.Helper()
		text := fmt.Sprintf(`{"model":"sim-8b","prompt":%q,"max_tokens":%d,"session_id":%q,"on_disconnect":"continue"}`, "Remember "+who.mark, tokens, "s-"+rand.Text())
		return decode[taskapi.Accepted](t, o.call("POST", "/v2/tasks", who.token, text), http.StatusAccepted).TaskID
	}
	ended, his := submit(eva, 5), submit(bob, 5)
	for id, who := range map[string]person{ended: eva, his: bob} {
		if got := all(t, o.stream(who.token, id, 0)); got[len(got)-1].typ != "end" {
			t.Fatalf("a task of five tokens ended with %+v", got[len(got)-1])
		}
	}
	running := []string{submit(eva, 500), submit(eva, 500)}
	for _, id := range running {
		within(t, 5*time.Second, "a task runs", func() bool { return o.task(eva.token, id).Status == "running" })
	}
	waiting := submit(eva, 5)
	if got := o.task(eva.token, waiting).Status; got != "queued" {
		t.Fatalf("a third task of two slots is %s", got)
	}
	for _, path := range []string{"/v2/artifacts?kind=plan", "/gdpr/consent"} {
		text := fmt.Sprintf(`{"purpose":"research","granted":true,"x":%q}`, eva.mark)
		if res := o.call("POST", path, eva.token, text); res.StatusCode/100 != 2 {
			t.Errorf("POST %s = %d: %s", path, res.StatusCode, body(t, res))
		}
	}
	export := body(t, o.call("GET", "/gdpr/export", eva.token, ""))
	for _, want := range []string{ended, waiting, running[0], `"section":"manifest"`, `"research"`} {
		if !strings.Contains(export, want) {
			t.Errorf("the export has no %s: %s", want, export)
		}
	}
	erase := func() taskapi.Erasure {
		t.Helper()
		return decode[taskapi.Erasure](t, o.call("POST", "/gdpr/delete", eva.token, `{"reason":"request"}`), http.StatusOK)
	}
	began := time.Now()
	receipt := erase()
	t.Logf("erased in %v: %+v", time.Since(began), receipt)
	if receipt.Tasks != 4 || receipt.Cancelled != 3 || receipt.Outputs < 1 || receipt.Documents < 2 || receipt.KeyID == "" || receipt.AuditSeq == 0 {
		t.Errorf("receipt %+v, want 4 tasks, 3 of them cancelled, an output, 2 documents, a key and its evidence", receipt)
	}
	if again := erase(); again != receipt {
		t.Errorf("repeated: %+v, want %+v", again, receipt)
	}
	for _, id := range append(running, ended, waiting) {
		if res := o.call("GET", "/v2/tasks/"+id+"/events", eva.token, ""); res.StatusCode != http.StatusNotFound && res.StatusCode != http.StatusGone {
			t.Errorf("the stream of an erased person = %d: %s", res.StatusCode, body(t, res))
		}
		if got := o.task(eva.token, id); got.SessionID != "" || id == waiting && got.Attempt != 0 { // every key is an operator's, who sees nameless metadata
			t.Errorf("a task of an erased person: %+v", got)
		}
	}
	if got := o.task(bob.token, his); got.Status != "completed" {
		t.Errorf("another person's task is %s", got.Status)
	}
	if got := all(t, o.stream(bob.token, his, 0)); len(got) < 6 || got[len(got)-1].typ != "end" {
		t.Errorf("another person's stream has %d events", len(got))
	}
	search := newTrap(canary{"what the person said", eva.mark, false})
	name := newTrap(canary{"the person's name", eva.name, false})
	metrics := body(t, o.call("GET", "/metrics", bob.token, ""))
	places := func(when string) {
		t.Helper()
		for _, s := range []*trap{search, name} {
			s.none(t, when+" /metrics", []byte(metrics))
			s.none(t, when+" the log", []byte(o.errs.String()))
		}
		leftIn(t, state, when, search, name)
	}
	places("after the erasure")
	back := submit(eva, 5)
	if got := all(t, o.stream(eva.token, back, 0)); got[len(got)-1].typ != "end" {
		t.Errorf("a new task of an erased person ended with %+v", got[len(got)-1])
	}
	if after := erase(); after.Tasks != 1 || after.KeyID == receipt.KeyID {
		t.Errorf("the second erasure: %+v", after)
	}
	o.signal(syscall.SIGTERM)
	if code := o.wait(); code != 0 {
		t.Errorf("exit %d: %s", code, o.errs)
	}
	places("after the stop")
	var out, errs bytes.Buffer
	if code := auditcmd.Run(t.Context(), []string{"verify", filepath.Join(state, "audit")}, strings.NewReader(""), &out, &errs, nil); code != 0 {
		t.Errorf("verify = %d: %s%s", code, &out, &errs)
	}
}

// leftIn searches every file of the state folder: database, its logs, decisions and
// evidence. The audit log names the person today: its personal members are in clear,
// as the audit module says; what the person said is not in there.
func leftIn(t *testing.T, state, when string, said, name *trap) {
	t.Helper()
	seen := map[string]int{}
	err := filepath.WalkDir(state, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		place := when + " " + strings.TrimPrefix(path, state)
		seen[filepath.Ext(path)] += len(text)
		said.none(t, place, text)
		if filepath.Ext(path) != ".audit" {
			name.none(t, place, text)
		}
		return nil
	})
	if err != nil || seen[".db"] < 4096 || seen[".audit"] < 1000 || seen[".ndjson"] < 1000 {
		t.Errorf("bytes by kind of file: %v, %v, want a database, an audit log and a decision log", seen, err)
	}
}
