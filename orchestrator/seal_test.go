package orchestrator_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/llorch/llorch/audit"
	"github.com/llorch/llorch/orchestrator"
	"github.com/llorch/llorch/orchestrator/store"
)

func sealKey(c byte) []byte { return bytes.Repeat([]byte{c}, 32) }

// FuzzSeal: a box opens only as it was made: any other bit, task, owner or field
// fails, and no text shows in it (ORC-643).
func FuzzSeal(f *testing.F) {
	keys := orchestrator.NewSubjectKeys(store.NewMemory(), [][]byte{sealKey(1)})
	f.Add([]byte("a prompt that must not show"), uint16(0), byte(1))
	f.Add([]byte(""), uint16(17), byte(128))
	f.Fuzz(func(t *testing.T, plain []byte, at uint16, flip byte) {
		id, ref := orchestrator.TaskID{1}, store.SubjectRef{2}
		box, err := orchestrator.SealWith(keys, "alice", id, ref, "body", plain)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := orchestrator.OpenWith(keys, id, ref, "body", box); err != nil || !bytes.Equal(got, plain) {
			t.Fatalf("Open = %q, %v", got, err)
		}
		if len(plain) >= 8 && bytes.Contains(box, plain) {
			t.Fatal("the text shows in its box")
		}
		for _, open := range []func() ([]byte, error){
			func() ([]byte, error) {
				return orchestrator.OpenWith(keys, orchestrator.TaskID{9}, ref, "body", box)
			},
			func() ([]byte, error) { return orchestrator.OpenWith(keys, id, store.SubjectRef{9}, "body", box) },
			func() ([]byte, error) { return orchestrator.OpenWith(keys, id, ref, "output", box) },
			func() ([]byte, error) {
				bad := bytes.Clone(box)
				bad[int(at)%len(bad)] ^= flip | 1
				return orchestrator.OpenWith(keys, id, ref, "body", bad)
			},
			func() ([]byte, error) { return orchestrator.OpenWith(keys, id, ref, "body", box[:int(at)%len(box)]) },
		} {
			if _, err := open(); err == nil {
				t.Fatal("a box opened that is not the one that was made")
			}
		}
	})
}

// TestSubjectKeys: one key per person, kept wrapped; another seal key cannot
// open it; destroying it makes every box unreadable and the next key is new (ORC-643).
func TestSubjectKeys(t *testing.T) {
	st := store.NewMemory()
	keys := orchestrator.NewSubjectKeys(st, [][]byte{sealKey(1)})
	a, id, err := keys.Key(t.Context(), "tenant/alice")
	if err != nil || len(id) != 32 {
		t.Fatalf("Key = %q, %v", id, err)
	}
	if again, same, err := keys.Key(t.Context(), "tenant/alice"); err != nil || again != a || same != id {
		t.Errorf("Key again = %q, %v: want the same", same, err)
	}
	if b, other, err := keys.Key(t.Context(), "bob"); err != nil || b == a || other == id {
		t.Errorf("another person has the same key: %v", err)
	}
	for d, err := range st.Docs(t.Context(), store.KindKey, "") {
		if err != nil || strings.Contains(d.Key+string(d.Data), "alice") || bytes.Contains(d.Data, a[:]) {
			t.Errorf("a stored key shows the name or the key: %s, %v", d.Key, err)
		}
	}
	after := orchestrator.NewSubjectKeys(st, [][]byte{sealKey(2), sealKey(1)}) // a restart with a new first seal key
	if got, same, err := after.Key(t.Context(), "tenant/alice"); err != nil || got != a || same != id {
		t.Errorf("after a rotation Key = %q, %v", same, err)
	}
	if _, _, err := orchestrator.NewSubjectKeys(st, [][]byte{sealKey(3)}).Key(t.Context(), "tenant/alice"); err == nil {
		t.Error("a foreign seal key opened a subject's key")
	}
	box, err := orchestrator.SealWith(keys, "tenant/alice", orchestrator.TaskID{}, store.SubjectRef{}, "body", []byte("x"))
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // absent is nil
		if err := keys.Destroy(t.Context(), "tenant/alice"); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := orchestrator.OpenWith(keys, orchestrator.TaskID{}, store.SubjectRef{}, "body", box); !errors.Is(err, orchestrator.ErrErased) {
		t.Errorf("Open after Destroy = %v, want erased", err)
	}
	if _, _, err := keys.(audit.KeyFinder).Find(t.Context(), "tenant/alice", ""); !errors.Is(err, audit.ErrNoSubjectKey) {
		t.Errorf("Find after Destroy = %v", err)
	}
	if _, fresh, err := keys.Key(t.Context(), "tenant/alice"); err != nil || fresh == id {
		t.Errorf("the key after Destroy = %q, %v: want a new one", fresh, err)
	}
}
