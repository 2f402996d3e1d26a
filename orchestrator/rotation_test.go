package orchestrator_test

import (
	"bytes"
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/llorch/llorch/audit"
	"github.com/llorch/llorch/orchestrator"
	"github.com/llorch/llorch/orchestrator/store"
	"github.com/llorch/llorch/orchestrator/taskapi"
)

// TestRotation: with a new first seal key every document is wrapped anew, also
// when the store dies at any of them; then the old key may go. A key that is
// destroyed meanwhile stays destroyed, what it sealed stays erased (ORC-643).
func TestRotation(t *testing.T) {
	for dies := range 6 {
		synctest.Test(t, func(t *testing.T) {
			st, data := &mortal{Memory: store.NewMemory()}, []byte("kept over the rotation")
			serving := func(keys ...[]byte) (*orchestrator.Orchestrator, func() error) {
				return serve(t, orchestrator.Config{Pools: over(), Store: st, SealKeys: keys})
			}
			o, stop := serving(sealKey(1))
			var id string
			for _, who := range []orchestrator.Principal{alice, bob, me} {
				a, err := o.PutArtifact(t.Context(), who, "plan", data)
				if err != nil {
					t.Fatal(err)
				}
				id = a.ID
			}
			if err := stop(); err != nil {
				t.Fatal(err)
			}
			o, stop = serving(sealKey(2), sealKey(1))
			st.heal(dies)
			puts := 0
			st.before = func(op string) { // while the first key is wrapped, a person goes
				if puts++; op == "put" && puts == 2 && dies == 0 {
					keys := orchestrator.NewSubjectKeys(st.Memory, [][]byte{sealKey(2), sealKey(1)})
					for _, who := range []orchestrator.Principal{alice, bob} {
						if err := keys.Destroy(context.Background(), who.Subject()); err != nil {
							t.Error(err)
						}
					}
				}
			}
			n, err := o.Rewrap(t.Context())
			if dies == 0 && (err != nil || n != 2) || dies > 0 && dies < 5 && err == nil {
				t.Errorf("Rewrap dying at %d = %d, %v", dies, n, err)
			}
			st.before = nil
			st.heal(0)
			if _, err := o.Rewrap(t.Context()); err != nil {
				t.Errorf("Rewrap again = %v", err)
			}
			if n, err := o.Rewrap(t.Context()); n != 0 || err != nil {
				t.Errorf("Rewrap of everything wrapped = %d, %v, want nothing to do", n, err)
			}
			if err := stop(); err != nil {
				t.Fatal(err)
			}
			o, _ = serving(sealKey(2)) // the old one is gone
			for _, who := range []orchestrator.Principal{alice, bob, me} {
				got, err := o.Artifact(t.Context(), who, id)
				if gone := dies == 0 && who != me; gone && !errors.Is(err, taskapi.SubjectErased) || !gone && (err != nil || !bytes.Equal(got.Data, data)) {
					t.Errorf("Artifact of %s after the rotation (dying at %d) = %v", who.User, dies, err)
				}
			}
		})
	}
}

// TestPresentKey: a key that is there, but not its person's present one, opens
// nothing; a pointer to a key that is gone does not lock the person out (ORC-643).
func TestPresentKey(t *testing.T) {
	st := store.NewMemory()
	keys := orchestrator.NewSubjectKeys(st, [][]byte{sealKey(1)})
	box, err := orchestrator.SealWith(keys, "alice", orchestrator.TaskID{1}, store.SubjectRef{}, "body", []byte("x"))
	if err != nil {
		t.Fatal(err)
	}
	var old store.Doc
	for d, err := range st.Docs(t.Context(), store.KindKey, "k/") {
		if err != nil {
			t.Fatal(err)
		}
		old = d
	}
	if err := keys.Destroy(t.Context(), "alice"); err != nil {
		t.Fatal(err)
	}
	fresh := func() audit.SubjectKeys { return orchestrator.NewSubjectKeys(st, [][]byte{sealKey(1)}) }
	for _, again := range []bool{false, true} { // without a present key, and with another one
		if again {
			if _, _, err := fresh().Key(t.Context(), "alice"); err != nil {
				t.Fatal(err)
			}
		}
		v, err := st.PutDoc(t.Context(), old, 0) // out of a backup
		if err != nil {
			t.Fatal(err)
		}
		if _, err := orchestrator.OpenWith(fresh(), orchestrator.TaskID{1}, store.SubjectRef{}, "body", box); !errors.Is(err, orchestrator.ErrErased) {
			t.Errorf("a box of a key that came back (another present: %v) = %v, want erased", again, err)
		}
		if err := st.DeleteDoc(t.Context(), old.Kind, old.Key, v); err != nil {
			t.Fatal(err)
		}
	}
	for d, err := range st.Docs(t.Context(), store.KindKey, "k/") { // a crash between the steps of Destroy
		if err == nil {
			err = st.DeleteDoc(t.Context(), d.Kind, d.Key, d.Version)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if _, id, err := fresh().Key(t.Context(), "alice"); err != nil || len(id) != 32 {
		t.Errorf("Key after half a Destroy = %q, %v", id, err)
	}
}

// TestKeyCopyEnds: what another process destroyed lives 10 s at most in this one's
// memory (ORC-643).
func TestKeyCopyEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := store.NewMemory()
		here, there := orchestrator.NewSubjectKeys(st, [][]byte{sealKey(1)}), orchestrator.NewSubjectKeys(st, [][]byte{sealKey(1)})
		_, id, err := here.Key(t.Context(), "alice")
		if err != nil {
			t.Fatal(err)
		}
		if err := there.Destroy(t.Context(), "alice"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10*time.Second + time.Millisecond)
		for _, by := range [][2]string{{"alice", ""}, {"", id}} {
			if _, _, err := here.(audit.KeyFinder).Find(t.Context(), by[0], by[1]); !errors.Is(err, audit.ErrNoSubjectKey) {
				t.Errorf("Find(%q) 10 s after the Destroy elsewhere = %v", by, err)
			}
		}
	})
}

// TestEveryBit: whichever bit of a box is flipped, it does not open (ORC-643).
func TestEveryBit(t *testing.T) {
	keys := orchestrator.NewSubjectKeys(store.NewMemory(), [][]byte{sealKey(1)})
	box, err := orchestrator.SealWith(keys, "alice", orchestrator.TaskID{1}, store.SubjectRef{2}, "body", []byte("a short text"))
	if err != nil {
		t.Fatal(err)
	}
	for i := range 8 * len(box) {
		box[i/8] ^= 1 << (i % 8)
		if _, err := orchestrator.OpenWith(keys, orchestrator.TaskID{1}, store.SubjectRef{2}, "body", box); err == nil {
			t.Errorf("it opened with bit %d flipped", i)
		}
		box[i/8] ^= 1 << (i % 8)
	}
	if _, err := orchestrator.OpenWith(keys, orchestrator.TaskID{1}, store.SubjectRef{2}, "body", box); err != nil {
		t.Errorf("the whole box = %v", err)
	}
}

// slowKeys lets a test act while a key is being read.
type slowKeys struct {
	*store.Memory
	act func()
}

func (s *slowKeys) Doc(ctx context.Context, k store.Kind, key string) (store.Doc, error) {
	d, err := s.Memory.Doc(ctx, k, key)
	if act := s.act; act != nil && k == store.KindKey && key[0] == 'k' {
		s.act = nil
		act()
	}
	return d, err
}

// TestDestroyedWhileRead: a key that is destroyed while somebody reads it is not
// kept in memory afterwards (ORC-643).
func TestDestroyedWhileRead(t *testing.T) {
	st := &slowKeys{Memory: store.NewMemory()}
	keys := orchestrator.NewSubjectKeys(st, [][]byte{sealKey(1)})
	if _, _, err := keys.Key(t.Context(), "alice"); err != nil {
		t.Fatal(err)
	}
	keys = orchestrator.NewSubjectKeys(st, [][]byte{sealKey(1)})
	st.act = func() {
		if err := keys.Destroy(context.Background(), "alice"); err != nil {
			t.Error(err)
		}
	}
	_, _, _ = keys.(audit.KeyFinder).Find(t.Context(), "alice", "")
	if _, _, err := keys.(audit.KeyFinder).Find(t.Context(), "alice", ""); !errors.Is(err, audit.ErrNoSubjectKey) {
		t.Errorf("Find after Destroy = %v, want none", err)
	}
}
