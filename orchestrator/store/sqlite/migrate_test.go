package sqlite_test

import (
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"time"

	"github.com/llorch/llorch/orchestrator/store"
)

// old makes a store from the dump of a schema that this program no longer writes.
func old(t *testing.T, name string) string {
	t.Helper()
	path := fresh(t)
	if err := os.Mkdir(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	edit(t, path, string(text))
	return path
}

// TestUpgradeFrom1 is ORC-653: a store of schema 1 is brought up to date and is
// the same store: tasks in every state, documents, and all counters go on.
func TestUpgradeFrom1(t *testing.T) {
	path := old(t, "0001.sql")
	for range 2 { // the second open has nothing left to do
		if err := open(t, path).Close(); err != nil {
			t.Fatal(err)
		}
	}
	s, e := begin(t, path)
	if e != 3 {
		t.Errorf("Lead() = term %d, want the one after 2", e)
	}
	page, err := s.Tasks(t.Context(), store.Filter{Oldest: true})
	if err != nil || len(page) != 6 {
		t.Fatalf("Tasks() = %d tasks, %v, want 6", len(page), err)
	}
	for i, want := range []store.State{store.Queued, store.Running, store.Running, store.Completed, store.Cancelled, store.Completed} {
		if r := page[i]; r.State != want || r.Seq != uint64(i+1) || r.ID != crashID(i+1) || r.Meta.MaxTokens != 64 {
			t.Errorf("task %d = %+v, want it %s", i+1, r, want)
		}
	}
	want := store.Record{
		ID: crashID(4), Seq: 4, Tenant: "default", Subject: store.SubjectRef{1}, Class: "interactive", Model: "llama-3.1-8b", Session: "s", IdemKey: "4",
		BodyHash: [32]byte{4}, State: store.Completed, Epoch: 2, Attempt: 1, Worker: "n/p/w", Created: time.Date(2026, 11, 1, 12, 0, 4, 0, time.UTC),
		Started: time.UnixMicro(1795320168630178).UTC(), Finished: time.UnixMicro(1795320168630796).UTC(),
		Outcome: store.Outcome{FinishReason: "stop", TokensOut: 5}, Meta: page[3].Meta,
	}
	if !reflect.DeepEqual(page[3], want) {
		t.Errorf("task 4 =\n%+v, want\n%+v", page[3], want)
	}
	started, err := s.Start(t.Context(), e, []store.StartReq{{ID: crashID(1), Attempt: 1}, {ID: crashID(2), Attempt: 2}, {ID: crashID(3), Attempt: 3}})
	if err != nil || string(started[0].Body) != "sealed 1" || string(started[1].Body) != "sealed 2" || started[2].Err == nil {
		t.Errorf("Start() = %+v, %v, want two bodies and a refusal", started, err)
	}
	if d, err := s.Doc(t.Context(), store.KindInstall, "id"); err != nil || string(d.Data) != "fact" || d.Version != 2 {
		t.Errorf("Doc() = %+v, %v", d, err)
	}
	if v, err := s.PutDoc(t.Context(), store.Doc{Kind: store.KindInstall, Key: "new"}, 0); err != nil || v != 3 {
		t.Errorf("PutDoc() = version %d, %v, want 3", v, err)
	}
	submit(t, s, e, crashTask(7))
	if r, err := s.Task(t.Context(), crashID(7)); err != nil || r.Seq != 7 {
		t.Errorf("Task() = seq %d, %v, want 7", r.Seq, err)
	}
	// What step 2 added holds for the outputs that were there.
	at := page[3].Finished
	if n, err := s.PurgeOutputs(t.Context(), e, at, 10); err != nil || n != 1 {
		t.Errorf("PurgeOutputs() = %d, %v, want the one of task 6", n, err)
	}
	if out, err := s.Output(t.Context(), crashID(4)); err != nil || string(out) != "out 4" {
		t.Errorf("Output() = %q, %v", out, err)
	}
}
