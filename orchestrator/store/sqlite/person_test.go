package sqlite_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/llorch/llorch/orchestrator"
	"github.com/llorch/llorch/orchestrator/observe"
	"github.com/llorch/llorch/orchestrator/store"
	"github.com/llorch/llorch/orchestrator/store/sqlite"
	"github.com/llorch/llorch/orchestrator/taskapi"
	"github.com/llorch/llorch/orchestrator/worker"
)

// parrot is an engine that says one thing.
type parrot string

func (p parrot) Start(context.Context, worker.Target, *worker.Job) (worker.Stream, error) {
	said := false
	return says(func() (worker.Event, error) {
		if said {
			return worker.Event{}, io.EOF
		}
		said = true
		return worker.Event{Kind: worker.Token, Text: string(p)}, nil
	}), nil
}

func (parrot) Probe(context.Context, worker.Target) (worker.Status, error) {
	return worker.Status{Ready: true, Models: []string{"m"}, SlotsTotal: 2}, nil
}

type says func() (worker.Event, error)

func (s says) Next() (worker.Event, error) { return s() }
func (says) Close() error                  { return nil }

// admits says when an orchestrator leads, and when it has a worker.
type admits struct{ leads, slots func() }

func (a admits) Observe(e observe.Event) {
	switch e := e.(type) {
	case observe.Leader:
		a.leads()
	case observe.Loop:
		if e.SlotsTotal > 0 {
			a.slots()
		}
	}
}

// running runs an orchestrator on a file.
func running(t *testing.T, path string) (o *orchestrator.Orchestrator, stop func()) {
	t.Helper()
	st, err := sqlite.Open(t.Context(), sqlite.Config{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	leads, slots := make(chan struct{}), make(chan struct{})
	seen := admits{sync.OnceFunc(func() { close(leads) }), sync.OnceFunc(func() { close(slots) })}
	o, err = orchestrator.New(orchestrator.Config{
		Pools: orchestrator.StaticWith(parrot(""), orchestrator.Engine{Name: "e", URL: "http://e.test"}), Workers: parrot("Xq7-output"),
		Store: st, SealKeys: [][]byte{[]byte("0123456789abcdef0123456789abcdef")}, Observer: seen,
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- o.Run(ctx) }()
	<-leads
	<-slots
	return o, func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if err := st.Close(); err != nil {
			t.Error(err)
		}
	}
}

// where lists the marks that are in clear in the files of a store.
func where(t *testing.T, path string) (found []string) {
	for _, mark := range []string{"Xq7-user", "Xq7-prompt", "Xq7-output", "Xq7-artifact", "xq7-session", "Xq7-key", "xq7-purpose"} {
		for _, text := range files(t, path) {
			if strings.Contains(text, mark) && !slices.Contains(found, mark) {
				found = append(found, mark)
			}
		}
	}
	return found
}

// TestPersonIsGone: a person who used everything is in the files of the store
// only as sealed boxes and references, and after the erasure not even so: the
// marks and the wrapped key are gone, also after a restart (ORC-841, ORC-643, G9).
func TestPersonIsGone(t *testing.T) {
	path := fresh(t)
	o, stop := running(t, path)
	who := orchestrator.Principal{User: "Xq7-user", Roles: orchestrator.RoleUser}
	acc, err := o.Submit(t.Context(), who, orchestrator.Spec{Model: "m", Prompt: "Xq7-prompt", Session: "xq7-session", Key: "Xq7-key"})
	if err != nil {
		t.Fatal(err)
	}
	var said strings.Builder
	for e, err := range o.Events(t.Context(), who, acc.ID, 0) {
		if err != nil {
			t.Fatal(err)
		}
		said.WriteString(string(e.Data))
	}
	if !strings.Contains(said.String(), "Xq7-output") {
		t.Fatalf("the engine said %s", said.String())
	}
	if _, err := o.PutArtifact(t.Context(), who, "plan", []byte("Xq7-artifact")); err != nil {
		t.Fatal(err)
	}
	if err := o.SetConsent(t.Context(), who, orchestrator.Consent{Purpose: "xq7-purpose", Granted: true}); err != nil {
		t.Fatal(err)
	}
	if got, want := where(t, path), []string{"xq7-session", "Xq7-key", "xq7-purpose"}; !slices.Equal(got, want) {
		t.Errorf("in clear before the erasure: %q, want only %q", got, want)
	}
	var exported strings.Builder
	for item, err := range o.Export(t.Context(), who, "") {
		if err != nil {
			t.Fatal(err)
		}
		exported.WriteString(string(item.Data.(json.RawMessage)))
	}
	if !strings.Contains(exported.String(), "Xq7-output") || !strings.Contains(exported.String(), "WHE3LWFydGlmYWN0") {
		t.Errorf("the export lacks output or artifact: %s", exported.String())
	}
	receipt, err := o.Erase(t.Context(), who, "", "")
	if err != nil || receipt.Tasks != 1 || receipt.Outputs != 1 || receipt.KeyID == "" {
		t.Fatalf("Erase = %+v, %v", receipt, err)
	}
	if got := where(t, path); len(got) != 0 {
		t.Errorf("after the erasure: %q", got)
	}
	for name, text := range files(t, path) {
		if strings.Contains(text, "k/"+receipt.KeyID) {
			t.Errorf("%s holds the document of the key", name)
		}
	}
	stop()
	o, stop = running(t, path)
	defer stop()
	if again, err := o.Erase(t.Context(), who, "", ""); err != nil || again != receipt {
		t.Errorf("Erase after a restart = %+v, %v, want %+v", again, err, receipt)
	}
	if _, err := o.Task(t.Context(), who, acc.ID); !errors.Is(err, taskapi.NotFound) {
		t.Errorf("Task after a restart = %v, want NOT_FOUND", err)
	}
	if got := where(t, path); len(got) != 0 {
		t.Errorf("after a restart: %q", got)
	}
}

// TestBackupBeforeErasure: a backup from before an erasure opens what was sealed
// as long as it holds the key documents, and nothing without them (ORC-841).
func TestBackupBeforeErasure(t *testing.T) {
	path := fresh(t)
	o, stop := running(t, path)
	who := orchestrator.Principal{User: "Xq7-user", Roles: orchestrator.RoleUser}
	art, err := o.PutArtifact(t.Context(), who, "plan", []byte("Xq7-artifact"))
	if err != nil {
		t.Fatal(err)
	}
	stop()
	st, err := sqlite.Open(t.Context(), sqlite.Config{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	backup := path + "-backup"
	if err := st.Backup(t.Context(), backup); err != nil {
		t.Fatal(err)
	}
	if err := st.Close(); err != nil {
		t.Fatal(err)
	}
	o, stop = running(t, path)
	if _, err := o.Erase(t.Context(), who, "", ""); err != nil {
		t.Fatal(err)
	}
	stop()
	o, stop = running(t, backup)
	if got, err := o.Artifact(t.Context(), who, art.ID); err != nil || string(got.Data) != "Xq7-artifact" {
		t.Errorf("out of the backup: %q, %v", got.Data, err)
	}
	stop()
	if st, err = sqlite.Open(t.Context(), sqlite.Config{Path: backup}); err != nil {
		t.Fatal(err)
	}
	for d, err := range st.Docs(t.Context(), store.KindKey, "") {
		if err == nil {
			err = st.DeleteDoc(t.Context(), d.Kind, d.Key, d.Version)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := st.Close(); err != nil {
		t.Fatal(err)
	}
	o, stop = running(t, backup)
	defer stop()
	if _, err := o.Artifact(t.Context(), who, art.ID); !errors.Is(err, taskapi.SubjectErased) {
		t.Errorf("out of a backup without keys: %v, want SUBJECT_ERASED", err)
	}
}
