package catalog_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/llorch/llorch/poolcore/catalog"
)

// PCO-60: the states are two, and a retired model starts nothing.
func TestStates(t *testing.T) {
	dir := t.TempDir()
	c := open(t, catalog.Config{Dir: dir})
	m := add(t, c, ref, tiny(1))
	until := time.Now().Add(time.Hour)
	must(t, c.SetState(m.ID, catalog.Retired, until))
	_, err := c.Ready(t.Context(), ref)
	wantCode(t, "Ready(retired)", err, catalog.ModelRetired)
	must(t, c.Close())
	c = open(t, catalog.Config{Dir: dir})
	if got, _ := c.Get(m.ID); got.State != catalog.Retired || !got.RetireAt.Equal(until) {
		t.Errorf("after a restart: %s until %v, want retired until %v", got.State, got.RetireAt, until)
	}
	must(t, c.SetState(m.ID, catalog.Active, until))
	if got, _ := c.Get(m.ID); !got.RetireAt.IsZero() {
		t.Errorf("RetireAt of an active model = %v", got.RetireAt)
	}
	must(t, second(c.Ready(t.Context(), ref)))
	wantCode(t, "SetState(nobody)", c.SetState("hf:no/body", catalog.Active, until), catalog.ModelUnknown)
}

// PCO-60: an unknown state is an error, never Active.
func TestUnknownStateRejected(t *testing.T) {
	dir := t.TempDir()
	c := open(t, catalog.Config{Dir: dir})
	m := add(t, c, ref, tiny(1))
	for _, s := range []catalog.State{"", "active", "ACTIVE", "Retiring", "Active "} {
		wantCode(t, "SetState("+string(s)+")", c.SetState(m.ID, s, time.Time{}), catalog.InvalidParams)
	}
	if got, _ := c.Get(m.ID); got.State != catalog.Active {
		t.Errorf("State = %q after refusals", got.State)
	}
	must(t, c.Close())
	index := filepath.Join(dir, "index.json")
	raw, err := os.ReadFile(index)
	must(t, err)
	must(t, os.WriteFile(index, []byte(strings.Replace(string(raw), `"Active"`, `"Paused"`, 1)), 0o600))
	_, err = catalog.Open(t.Context(), catalog.Config{Dir: dir})
	wantCode(t, "Open(unknown state)", err, catalog.ErrDamaged)
}

// PCO-60: removal takes the entry first, spares a model in use, and leaves nothing.
func TestRemove(t *testing.T) {
	dir := t.TempDir()
	c := open(t, catalog.Config{Dir: dir})
	m := add(t, c, ref, tiny(1))
	at := located(t, c, ref)
	release, err := c.Use(m.ID)
	must(t, err)
	if got, _ := c.Get(m.ID); got.LastUsedAt.IsZero() {
		t.Error("LastUsedAt is not recorded")
	}
	wantCode(t, "Remove(in use)", c.Remove(t.Context(), m.ID, false), catalog.ModelInUse)
	_, err = c.Put(t.Context(), catalog.Put{Ref: ref, From: write(t, "tiny.gguf", tiny(2))})
	wantCode(t, "Put(over a model in use)", err, catalog.ModelInUse)
	release()
	release()
	other, err := c.Use(m.ID)
	must(t, err)
	release() // counts once
	wantCode(t, "Remove(in use by another)", c.Remove(t.Context(), m.ID, false), catalog.ModelInUse)
	must(t, c.Remove(t.Context(), m.ID, true))
	other()
	if exists(at) || len(c.List()) != 0 {
		t.Errorf("after Remove: file %v, entries %v", exists(at), c.List())
	}
	for _, d := range []string{"models", "partial"} {
		if left, err := os.ReadDir(filepath.Join(dir, d)); err != nil || len(left) != 0 {
			t.Errorf("%s has %v, %v", d, left, err)
		}
	}
	wantCode(t, "Remove(again)", c.Remove(t.Context(), m.ID, false), catalog.ModelUnknown)
	_, err = c.Use(m.ID)
	wantCode(t, "Use(removed)", err, catalog.ModelUnknown)
}

// Other content under the same reference takes the place of the old, and nothing
// of the old stays; the same content again keeps the entry.
func TestPutAgain(t *testing.T) {
	c := open(t, catalog.Config{Dir: t.TempDir()})
	first := add(t, c, ref, tiny(1))
	old := located(t, c, ref)
	same, err := c.Put(t.Context(), catalog.Put{Ref: ref, From: write(t, "tiny.gguf", tiny(1)), SHA256: sum(tiny(1)), Tags: []string{"new"}})
	must(t, err)
	if !same.AddedAt.Equal(first.AddedAt) || same.Verification != catalog.Pass || !slices.Equal(same.Tags, []string{"new"}) || !exists(old) {
		t.Errorf("the same again = %+v", same)
	}
	second := add(t, c, ref, tiny(2))
	if second.Digest == first.Digest || exists(old) || len(c.List()) != 1 {
		t.Errorf("replaced = %+v, old file %v", second, exists(old))
	}
}

// A hard link costs no space and is hashed all the same; a change of the original
// is found.
func TestPutLink(t *testing.T) {
	c := open(t, catalog.Config{Dir: quickDir(t), FreeSpace: func(string) (uint64, error) { return 0, nil }})
	from := write(t, "tiny.gguf", tiny(1))
	m, err := c.Put(t.Context(), catalog.Put{Ref: ref, From: from, Link: true})
	must(t, err)
	a, err := os.Stat(from)
	must(t, err)
	b, err := os.Stat(located(t, c, ref))
	must(t, err)
	if !os.SameFile(a, b) || m.Files[0].SHA256 != sum(tiny(1)) {
		t.Errorf("linked = %v, %s", os.SameFile(a, b), m.Files[0].SHA256)
	}
	must(t, os.WriteFile(from, tiny(2), 0o600))
	_, err = c.Ready(t.Context(), ref)
	wantCode(t, "Ready(original changed)", err, catalog.ModelUnverified)
}
