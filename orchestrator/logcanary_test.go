package orchestrator_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/llorch/llorch/orchestrator"
	"github.com/llorch/llorch/orchestrator/decisionlog"
	"github.com/llorch/llorch/orchestrator/queue"
	"github.com/llorch/llorch/orchestrator/worker/workertest"
)

// TestDecisionLogNamesNobody (ORC-123, G9): tenants, people, sessions, keys and texts
// go through a whole orchestrator, well and badly, and stand in no form in the record
// of its decisions.
func TestDecisionLogNamesNobody(t *testing.T) {
	dir := t.TempDir()
	names := map[string]string{
		"tenant": "acme-holding-canary", "another tenant": "umbrella-canary", "person": "eva.canary@example.org", "session": "session-canary-77", "key": "idempotency-canary-78",
		"prompt": "the prompt canary sings", "address": "192.0.2.77", "fingerprint": "c0ffee",
	}
	synctest.Test(t, func(t *testing.T) {
		log, err := decisionlog.NewWriter(decisionlog.Config{Dir: dir})
		if err != nil {
			t.Fatal(err)
		}
		b := begin(t, orchestrator.Config{Decisions: log, Queue: queue.Config{Capacity: 3}}, []workertest.Config{{Tokens: 20}})
		for i := range 12 { // more than fit: some are refused
			p := orchestrator.Principal{Tenant: names["tenant"], User: names["person"], Roles: orchestrator.RoleUser, Addr: names["address"], Fingerprint: names["fingerprint"]}
			s := orchestrator.Spec{Model: "sim-8b", Prompt: names["prompt"], MaxTokens: 30, Session: names["session"]}
			if i%3 == 0 {
				p.Tenant, s.Key = names["another tenant"], names["key"]
			}
			acc, err := b.Submit(t.Context(), p, s)
			if err == nil && i%4 == 0 {
				err = b.Cancel(t.Context(), p, acc.ID)
			}
			if err != nil && i < 4 {
				t.Error(err)
			}
		}
		time.Sleep(time.Minute)
	})
	all, err := io.ReadAll(recorded(t, dir))
	if err != nil {
		t.Fatal(err)
	}
	if n := bytes.Count(all, []byte(`{"assign":`)); n < 3 {
		t.Fatalf("only %d assignments are recorded", n)
	}
	for what, name := range names {
		sum := sha256.Sum256([]byte(name))
		for form, text := range map[string]string{
			"in clear": name, "in hexadecimal": hex.EncodeToString([]byte(name)), "in base64": base64.StdEncoding.EncodeToString([]byte(name))[:len(name)], "as a bare digest": hex.EncodeToString(sum[:8]),
		} {
			if bytes.Contains(all, []byte(text)) {
				t.Errorf("the decision log holds a %s %s", what, form)
			}
		}
	}
}
