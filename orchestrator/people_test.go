package orchestrator_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/llorch/llorch/orchestrator"
	"github.com/llorch/llorch/orchestrator/store"
	"github.com/llorch/llorch/orchestrator/taskapi"
	"github.com/llorch/llorch/orchestrator/worker/workertest"
)

// asks makes a tenant whose tasks need consent for purposes.
func asks(purposes ...string) func(string) (orchestrator.TenantPolicy, bool) {
	return func(string) (orchestrator.TenantPolicy, bool) {
		return orchestrator.TenantPolicy{Consent: purposes}, true
	}
}

// TestConsent: what nobody said is no consent; a revocation stops new tasks at
// once and ends those that run and wait on its strength, no others (ORC-842).
func TestConsent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net, rec := new(workertest.Net), new(recorder)
		e := start(t, net, workertest.Config{Tokens: 500})
		o, _ := serve(t, orchestrator.Config{Pools: newPools(e), Workers: dialer(t, net), Recorder: rec, Tenants: asks("inference")})
		submit := func(purposes ...string) (orchestrator.TaskID, error) {
			acc, err := o.Submit(t.Context(), alice, fill(orchestrator.Spec{MaxTokens: 500, Keep: true, Purposes: purposes}))
			return acc.ID, err
		}
		say := func(purpose string, granted bool) {
			t.Helper()
			if err := o.SetConsent(t.Context(), alice, orchestrator.Consent{Purpose: purpose, Granted: granted}); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := submit(); !errors.Is(err, taskapi.ConsentRequired) {
			t.Errorf("Submit without a word = %v, want CONSENT_REQUIRED", err)
		}
		say("inference", true)
		plain, err := submit()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := submit("research"); !errors.Is(err, taskapi.ConsentRequired) {
			t.Errorf("Submit for another purpose = %v, want CONSENT_REQUIRED", err)
		}
		say("research", true)
		var needing []orchestrator.TaskID
		for range 2 { // one runs, one waits
			id, err := submit("research")
			if err != nil {
				t.Fatal(err)
			}
			needing = append(needing, id)
		}
		synctest.Wait()
		say("research", false)
		for _, id := range needing {
			var last orchestrator.Event
			for e := range o.Events(t.Context(), alice, id, 0) {
				last = e
			}
			if c := code(t, []orchestrator.Event{last}); c != taskapi.Cancelled || !strings.Contains(string(last.Data), `"reason":"consent"`) {
				t.Errorf("the end of a task without consent: %s", last.Data)
			}
		}
		if _, err := submit("research"); !errors.Is(err, taskapi.ConsentRequired) {
			t.Errorf("Submit after the revocation = %v, want CONSENT_REQUIRED", err)
		}
		var last orchestrator.Event
		for e := range o.Events(t.Context(), alice, plain, 0) {
			last = e
		}
		if last.Type != orchestrator.EventEnd {
			t.Errorf("a task that did not need the purpose ended with %s", last.Data)
		}
		said, err := o.Consents(t.Context(), officer, alice.Subject())
		if err != nil || len(said) != 2 || said[0].Purpose != "inference" || !said[0].Granted || said[1].Granted || said[1].By != "subject" || said[1].Subject != alice.Subject() {
			t.Errorf("Consents = %+v, %v", said, err)
		}
		var kinds []string
		for _, e := range rec.take() {
			if strings.HasPrefix(e.Type, "compliance.") {
				kinds = append(kinds, e.Type)
			}
		}
		if want := []string{"compliance.consent_granted", "compliance.consent_granted", "compliance.consent_revoked"}; !slices.Equal(kinds, want) {
			t.Errorf("evidence %q, want %q", kinds, want)
		}
		if _, err := o.Consents(t.Context(), bob, alice.Subject()); !errors.Is(err, taskapi.Forbidden) {
			t.Errorf("a stranger's Consents = %v, want FORBIDDEN", err)
		}
		if err := o.SetConsent(t.Context(), alice, orchestrator.Consent{Purpose: "Two Words"}); !errors.Is(err, taskapi.InvalidParams) {
			t.Errorf("a purpose in words = %v, want INVALID_PARAMS", err)
		}
		rec.mu.Lock()
		rec.refuse = errors.New("disk full")
		rec.mu.Unlock()
		if err := o.SetConsent(t.Context(), alice, orchestrator.Consent{Purpose: "research", Granted: true}); !errors.Is(err, taskapi.StoreUnavailable) {
			t.Errorf("a consent without evidence = %v, want STORE_UNAVAILABLE", err)
		}
	})
}

// TestRevokedWhileDown: a start does not take up what lost its consent, or its
// person, while nobody ran (ORC-654, ORC-842, ORC-843).
func TestRevokedWhileDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net, st, heard := new(workertest.Net), durable{store.NewMemory()}, new(seen)
		e := start(t, net, workertest.Config{Tokens: 500})
		cfg := orchestrator.Config{Pools: newPools(e), Workers: dialer(t, net), Store: st, SealKeys: [][]byte{sealKey(1)}, Timing: orchestrator.Timing{Drain: -1}}
		first, _ := serve(t, cfg)
		if err := first.SetConsent(t.Context(), alice, orchestrator.Consent{Purpose: "research", Granted: true}); err != nil {
			t.Fatal(err)
		}
		var ids []orchestrator.TaskID
		for range 4 { // two run, two wait
			acc, err := first.Submit(t.Context(), alice, fill(orchestrator.Spec{MaxTokens: 500, Keep: true, Purposes: []string{"research"}}))
			if err != nil {
				t.Fatal(err)
			}
			ids = append(ids, acc.ID)
		}
		for d, err := range st.Docs(t.Context(), store.KindConsent, "") { // the word of another process
			if err == nil {
				d.Data = []byte(`{"purpose":"research","granted":false}`)
				_, err = st.PutDoc(t.Context(), d, d.Version)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		synctest.Wait()
		arrived, rec := e.Stats().Arrived, new(recorder)
		cfg.Observer, cfg.Recorder = heard, rec
		serve(t, cfg)
		synctest.Wait()
		if n := e.Stats().Arrived; n != arrived {
			t.Errorf("%d tasks ran without consent", n-arrived)
		}
		for _, id := range ids {
			if r, err := st.Task(t.Context(), id); err != nil || !r.State.Terminal() {
				t.Errorf("state %s, %v, want an end", r.State, err)
			}
		}
		if r, err := st.Task(t.Context(), ids[3]); err != nil || r.State != store.Cancelled || r.CancelReason != "consent" {
			t.Errorf("a waiting task: %s %s, %v", r.State, r.CancelReason, err)
		}
		if text := fmt.Sprintf("%+v", rec.take()); !strings.Contains(text, "orchestrator.tasks_recovered") {
			t.Errorf("evidence of the recovery is missing: %s", text)
		}
	})
}

// TestArtifacts: the id is the digest of the bytes, twice is one, only the owner
// reads, nothing stands in clear, the largest one fits, time ends it (ORC-610).
func TestArtifacts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := durable{store.NewMemory()}
		keep := orchestrator.Retention{Artifacts: 2 * time.Hour}
		o, _ := serve(t, orchestrator.Config{Pools: over(), Store: st, SealKeys: [][]byte{sealKey(1)}, Retention: keep})
		data := []byte("canary-artifact")
		sum := sha256.Sum256(data)
		put, err := o.PutArtifact(t.Context(), alice, "plan", data)
		if err != nil || put.ID != hex.EncodeToString(sum[:]) || put.Kind != "plan" {
			t.Fatalf("PutArtifact = %+v, %v", put, err)
		}
		time.Sleep(time.Hour)
		if again, err := o.PutArtifact(t.Context(), alice, "diff", data); err != nil || again.Created != put.Created || again.Kind != "plan" {
			t.Errorf("PutArtifact again = %+v, %v, want the first one", again, err)
		}
		if got, err := o.Artifact(t.Context(), alice, put.ID); err != nil || !bytes.Equal(got.Data, data) || got.Created != put.Created {
			t.Errorf("Artifact = %+v, %v", got, err)
		}
		if _, err := o.Artifact(t.Context(), bob, put.ID); !errors.Is(err, taskapi.NotFound) {
			t.Errorf("a foreign artifact = %v, want NOT_FOUND", err)
		}
		if _, err := o.PutArtifact(t.Context(), bob, "plan", data); err != nil {
			t.Fatal(err)
		}
		if _, err := o.Erase(t.Context(), alice, "", ""); err != nil {
			t.Fatal(err)
		}
		if _, err := o.Artifact(t.Context(), alice, put.ID); !errors.Is(err, taskapi.NotFound) {
			t.Errorf("an erased artifact = %v, want NOT_FOUND", err)
		}
		if got, err := o.Artifact(t.Context(), bob, put.ID); err != nil || !bytes.Equal(got.Data, data) {
			t.Errorf("the other person's equal artifact = %v, %v", got, err)
		}
		if _, _, text := traces(t, st); strings.Contains(text, "canary") {
			t.Errorf("it stands in clear: %s", text)
		}
		time.Sleep(2 * time.Hour) // to the instant, and before the next purge
		if _, err := o.Artifact(t.Context(), bob, put.ID); !errors.Is(err, taskapi.NotFound) {
			t.Errorf("an artifact after its time = %v, want NOT_FOUND", err)
		}
		if again, err := o.PutArtifact(t.Context(), bob, "diff", data); err != nil || again.Kind != "diff" {
			t.Errorf("PutArtifact after its time = %+v, %v, want a new one", again, err)
		}
		if _, err := o.PutArtifact(t.Context(), bob, "logs", make([]byte, 4<<20)); err != nil {
			t.Errorf("4 MiB = %v", err)
		}
		for _, c := range []struct {
			kind string
			data []byte
			want taskapi.Code
		}{{"logs", make([]byte, 4<<20+1), taskapi.BodyTooLarge}, {"virus", data, taskapi.InvalidParams}, {"logs", nil, taskapi.InvalidParams}} {
			if _, err := o.PutArtifact(t.Context(), bob, c.kind, c.data); !errors.Is(err, c.want) {
				t.Errorf("PutArtifact(%s, %d bytes) = %v, want %s", c.kind, len(c.data), err, c.want)
			}
		}
		for _, id := range []string{"", "x", strings.ToUpper(put.ID), put.ID + "00", "../" + put.ID} {
			if _, err := o.Artifact(t.Context(), bob, id); !errors.Is(err, taskapi.NotFound) {
				t.Errorf("Artifact(%q) = %v, want NOT_FOUND", id, err)
			}
		}
	})
}

// TestRetention: each minute what is too old goes, and the evidence has only
// counts (ORC-843).
func TestRetention(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net, st, rec := new(workertest.Net), durable{store.NewMemory()}, new(recorder)
		e := start(t, net, workertest.Config{})
		keep := orchestrator.Retention{Tasks: 3 * time.Hour, Outputs: time.Hour, Artifacts: 2 * time.Hour, Streams: time.Minute}
		o, _ := serve(t, orchestrator.Config{Pools: newPools(e), Workers: dialer(t, net), Store: st, SealKeys: [][]byte{sealKey(1)}, Recorder: rec, Retention: keep})
		acc, err := o.Submit(t.Context(), me, fill(orchestrator.Spec{}))
		if err != nil {
			t.Fatal(err)
		}
		ends(t, o, acc.ID)
		art, err := o.PutArtifact(t.Context(), me, "plan", []byte("x"))
		if err != nil {
			t.Fatal(err)
		}
		state := func() string {
			_, noOutput := st.Output(t.Context(), acc.ID)
			_, noArtifact := o.Artifact(t.Context(), me, art.ID)
			_, noTask := st.Task(t.Context(), acc.ID)
			docs := 0
			for range st.Docs(t.Context(), store.KindDue, "") {
				docs++
			}
			return fmt.Sprint(noOutput == nil, noArtifact == nil, noTask == nil, docs)
		}
		for _, step := range []struct {
			after time.Duration
			want  string
		}{{59 * time.Minute, "true true true 1"}, {3 * time.Minute, "false true true 1"}, {time.Hour, "false false true 0"}, {time.Hour, "false false false 0"}} {
			time.Sleep(step.after)
			synctest.Wait()
			if got := state(); got != step.want {
				t.Errorf("after %v: output, artifact, task, due documents = %s, want %s", step.after, got, step.want)
			}
		}
		var purged []string
		for _, e := range rec.take() {
			if e.Type == "orchestrator.records_purged" {
				purged = append(purged, fmt.Sprintf("%+v", e.Data))
			}
		}
		if want := []string{"{Artifacts:0 Outputs:1 Records:0}", "{Artifacts:1 Outputs:0 Records:0}", "{Artifacts:0 Outputs:0 Records:1}"}; !slices.Equal(purged, want) {
			t.Errorf("evidence %q, want %q", purged, want)
		}
	})
}

// TestExport: everything of a person and nothing of others, sorted, with a
// manifest that fits; a task that comes meanwhile is left out (ORC-840).
func TestExport(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net, rec, st := new(workertest.Net), new(recorder), durable{store.NewMemory()}
		e := start(t, net, workertest.Config{})
		o, _ := serve(t, orchestrator.Config{Pools: newPools(e), Workers: dialer(t, net), Recorder: rec, Store: st, SealKeys: [][]byte{sealKey(1)}})
		said := ""
		for _, who := range []orchestrator.Principal{alice, bob, alice} {
			acc, err := o.Submit(t.Context(), who, fill(orchestrator.Spec{Key: fmt.Sprint(who.User, len(said))}))
			if err != nil {
				t.Fatal(err)
			}
			var all []orchestrator.Event
			for e := range o.Events(t.Context(), who, acc.ID, 0) {
				all = append(all, e)
			}
			said = text(t, all)
		}
		if _, err := o.PutArtifact(t.Context(), alice, "plan", []byte("her plan")); err != nil {
			t.Fatal(err)
		}
		if err := o.SetConsent(t.Context(), alice, orchestrator.Consent{Purpose: "research", Granted: true}); err != nil {
			t.Fatal(err)
		}
		sums, counts, order, out := map[string][]byte{}, map[string]int{}, []string{}, ""
		var m orchestrator.Manifest
		for item, err := range o.Export(t.Context(), officer, alice.Subject()) {
			if err != nil {
				t.Fatal(err)
			}
			line, err := json.Marshal(item.Data)
			if err != nil {
				t.Fatal(err)
			}
			if len(order) == 0 || order[len(order)-1] != item.Section {
				order = append(order, item.Section)
			}
			if item.Section == "manifest" {
				if err := json.Unmarshal(line, &m); err != nil {
					t.Fatal(err)
				}
				continue
			}
			if len(order) == 1 { // while it goes on
				acc, err := o.Submit(t.Context(), alice, fill(orchestrator.Spec{}))
				if err != nil {
					t.Fatal(err)
				}
				for range o.Events(t.Context(), alice, acc.ID, 0) {
					continue
				}
			}
			sums[item.Section] = append(append(sums[item.Section], line...), '\n')
			counts[item.Section]++
			out += item.Section + " " + string(line) + "\n"
		}
		if want := []string{"tasks", "artifacts", "outputs", "usage", "consents", "manifest"}; !slices.Equal(order, want) {
			t.Errorf("sections %q, want %q", order, want)
		}
		for _, s := range []string{"tasks", "sessions", "artifacts", "outputs", "usage", "consents"} {
			if sum := sha256.Sum256(sums[s]); m.SHA256[s] != hex.EncodeToString(sum[:]) || m.Counts[s] != counts[s] {
				t.Errorf("%s: manifest says %d %s, read %d %x", s, m.Counts[s], m.SHA256[s], counts[s], sum)
			}
		}
		if counts["tasks"] != 2 || counts["outputs"] != 2 || strings.Contains(out, "bob") || !strings.Contains(out, `"tokens_out":20`) {
			t.Errorf("export:\n%s", out)
		}
		first, _, _ := strings.Cut(said, " ")
		if first == "" || !strings.Contains(out, first) || !strings.Contains(out, "aGVyIHBsYW4=") {
			t.Errorf("output or artifact is missing in:\n%s", out)
		}
		for _, err := range o.Export(t.Context(), bob, alice.Subject()) {
			if !errors.Is(err, taskapi.Forbidden) {
				t.Errorf("a stranger's export = %v, want FORBIDDEN", err)
			}
		}
		var kinds []string
		for _, e := range rec.take() {
			if strings.HasPrefix(e.Type, "compliance.gdpr_data") || e.Type == "authz.denied" && strings.Contains(fmt.Sprint(e.Data), "person.export") {
				kinds = append(kinds, e.Type)
			}
		}
		if want := []string{"compliance.gdpr_data_access_request", "compliance.gdpr_data_export", "authz.denied"}; !slices.Equal(kinds, want) {
			t.Errorf("evidence %q, want %q", kinds, want)
		}
		for range o.Export(t.Context(), alice, "") { // a reader may leave
			break
		}
	})
}

// TestExportPages: an export of many tasks reads page by page and holds one.
func TestExportPages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := durable{store.NewMemory()}
		keys := orchestrator.NewSubjectKeys(st, [][]byte{sealKey(1)})
		o, _ := serve(t, orchestrator.Config{Pools: over(), Store: st, Keys: keys, SealKeys: [][]byte{sealKey(1)}})
		lease, err := st.Lead(t.Context(), store.LeaseRequest{Holder: "test"})
		if err != nil {
			t.Fatal(err)
		}
		ref, err := orchestrator.RefOf(o, alice.Subject())
		if err != nil {
			t.Fatal(err)
		}
		const many = 1203
		for i := range many {
			rec := store.Record{ID: store.TaskID{1, byte(i >> 8), byte(i)}, Tenant: "acme", Subject: ref}
			res, err := st.Submit(t.Context(), lease.Epoch, []store.NewTask{{Record: rec, Final: &store.Completion{State: store.Completed}}})
			if err != nil || res[0].Err != nil {
				t.Fatal(err, res)
			}
		}
		seen := make(map[string]bool)
		for item, err := range o.Export(t.Context(), alice, "") {
			if err != nil {
				t.Fatal(err)
			}
			if item.Section == "tasks" {
				seen[string(item.Data.(json.RawMessage))] = true
			}
		}
		if len(seen) != many {
			t.Errorf("%d different tasks, want %d", len(seen), many)
		}
	})
}

// slowDocs lets a test act between reading consents and using them.
type slowDocs struct {
	durable
	act func()
}

func (s *slowDocs) Docs(ctx context.Context, k store.Kind, prefix string) iter.Seq2[store.Doc, error] {
	return func(yield func(store.Doc, error) bool) {
		for d, err := range s.durable.Docs(ctx, k, prefix) {
			if act := s.act; act != nil && k == store.KindConsent {
				s.act = nil
				act()
			}
			if !yield(d, err) {
				return
			}
		}
	}
}

// TestRevokedWhileRead: a revocation that comes while the consents are being read
// is not forgotten over what was read (ORC-842).
func TestRevokedWhileRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net, st := new(workertest.Net), &slowDocs{durable: durable{store.NewMemory()}}
		e := start(t, net, workertest.Config{})
		o, _ := serve(t, orchestrator.Config{Pools: newPools(e), Workers: dialer(t, net), Store: st, SealKeys: [][]byte{sealKey(1)}})
		say := func(granted bool) {
			if err := o.SetConsent(context.Background(), alice, orchestrator.Consent{Purpose: "research", Granted: granted}); err != nil {
				t.Error(err)
			}
		}
		say(true)
		said := make(chan struct{})
		st.act = func() { // it waits for the Submit that it meets
			go func() { defer close(said); say(false) }()
			synctest.Wait()
		}
		spec := fill(orchestrator.Spec{Purposes: []string{"research"}})
		_, _ = o.Submit(t.Context(), alice, spec) // it came before or after: either is right
		<-said
		if st.act != nil {
			t.Fatal("the consents were not read")
		}
		if _, err := o.Submit(t.Context(), alice, spec); !errors.Is(err, taskapi.ConsentRequired) {
			t.Errorf("Submit after the revocation = %v, want CONSENT_REQUIRED", err)
		}
	})
}
