package catalog_test

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/llorch/llorch/poolcore/catalog"
)

// known is what the reference model remembers of one model.
type known struct {
	seed    byte
	retired bool
	failed  bool
	touched bool // a byte was changed since it was hashed
	uses    []func()
}

// machine drives a catalogue and a map of what it has to be.
type machine struct {
	c      *catalog.Catalog
	dir    string
	from   [3]string // files with the seeds 0 to 2
	models map[string]*known
}

func (m *machine) id(rt *rapid.T) string {
	return "file:" + strconv.Itoa(rapid.IntRange(0, 3).Draw(rt, "model")) + ".gguf"
}

// wants checks an error against the reference: "" = none.
func wants(rt *rapid.T, what string, err error, code catalog.Code) {
	rt.Helper()
	if code == "" && err != nil || code != "" && !errors.Is(err, code) {
		rt.Fatalf("%s = %v, want %q", what, err, code)
	}
}

func (m *machine) Put(rt *rapid.T) {
	id, seed := m.id(rt), byte(rapid.IntRange(0, 2).Draw(rt, "seed"))
	_, err := m.c.Put(rt.Context(), catalog.Put{Ref: id, From: m.from[seed]})
	k := m.models[id]
	if k == nil {
		k = &known{failed: true}
	} else if len(k.uses) > 0 && !k.failed {
		wants(rt, "Put over a used model", err, catalog.ModelInUse)
		return
	}
	wants(rt, "Put", err, "")
	same := k.seed == seed && !k.failed && !k.touched
	m.models[id] = &known{seed: seed, retired: same && k.retired, uses: k.uses}
}

func (m *machine) Verify(rt *rapid.T) {
	id := m.id(rt)
	v, err := m.c.Verify(rt.Context(), id, nil)
	switch k := m.models[id]; {
	case k == nil:
		wants(rt, "Verify", err, catalog.ModelUnknown)
	case k.failed:
		wants(rt, "Verify", err, catalog.ModelUnverified)
	case k.touched:
		wants(rt, "Verify", err, catalog.DigestMismatch)
		k.failed, k.touched = true, false
	case v != catalog.Warn || err != nil:
		rt.Fatalf("Verify = %s, %v", v, err)
	}
}

func (m *machine) Tamper(rt *rapid.T) {
	id := m.id(rt)
	k := m.models[id]
	if k == nil || k.failed {
		rt.Skip("no file")
	}
	at, err := m.c.Locate(id)
	wants(rt, "Locate", err, "")
	if err := os.WriteFile(at.Path, tiny(k.seed+100), 0o600); err != nil {
		rt.Fatal(err)
	}
	later := time.Now().Add(time.Hour) // the clock of a file system may be coarse
	if err := os.Chtimes(at.Path, later, later); err != nil {
		rt.Fatal(err)
	}
	k.touched = true
}

func (m *machine) Ready(rt *rapid.T) {
	id := m.id(rt)
	_, err := m.c.Ready(rt.Context(), id)
	switch k := m.models[id]; {
	case k == nil:
		wants(rt, "Ready", err, catalog.ModelUnknown)
	case k.retired:
		wants(rt, "Ready", err, catalog.ModelRetired)
	case k.failed || k.touched:
		wants(rt, "Ready", err, catalog.ModelUnverified)
		k.failed, k.touched = true, false
	default:
		wants(rt, "Ready", err, "")
	}
}

func (m *machine) SetState(rt *rapid.T) {
	id, retire := m.id(rt), rapid.Bool().Draw(rt, "retire")
	s := catalog.Active
	if retire {
		s = catalog.Retired
	}
	err := m.c.SetState(id, s, time.Time{})
	if k := m.models[id]; k != nil {
		wants(rt, "SetState", err, "")
		k.retired = retire
		return
	}
	wants(rt, "SetState", err, catalog.ModelUnknown)
}

func (m *machine) Use(rt *rapid.T) {
	id := m.id(rt)
	release, err := m.c.Use(id)
	if k := m.models[id]; k != nil {
		wants(rt, "Use", err, "")
		k.uses = append(k.uses, release)
		return
	}
	wants(rt, "Use", err, catalog.ModelUnknown)
}

func (m *machine) Release(rt *rapid.T) {
	k := m.models[m.id(rt)]
	if k == nil || len(k.uses) == 0 {
		rt.Skip("not in use")
	}
	k.uses[0]()
	k.uses[0]()
	k.uses = k.uses[1:]
}

func (m *machine) Remove(rt *rapid.T) {
	id := m.id(rt)
	err := m.c.Remove(rt.Context(), id, false)
	switch k := m.models[id]; {
	case k == nil:
		wants(rt, "Remove", err, catalog.ModelUnknown)
	case len(k.uses) > 0:
		wants(rt, "Remove", err, catalog.ModelInUse)
	default:
		wants(rt, "Remove", err, "")
		delete(m.models, id)
	}
}

func (m *machine) Reopen(rt *rapid.T) {
	wants(rt, "Close", m.c.Close(), "")
	for _, k := range m.models {
		k.uses = nil // a use ends with its process
	}
	var err error
	m.c, err = catalog.Open(rt.Context(), catalog.Config{Dir: m.dir, FreeSpace: plenty})
	wants(rt, "Open", err, "")
}

// Check: the entries are those of the reference, and a model that did not fail has
// its file at its place.
func (m *machine) Check(rt *rapid.T) {
	list := m.c.List()
	if len(list) != len(m.models) {
		rt.Fatalf("%d entries, want %d", len(list), len(m.models))
	}
	for i, e := range list {
		k := m.models[e.ID]
		if k == nil || i > 0 && list[i-1].ID >= e.ID {
			rt.Fatalf("entry %s: known %v, sorted %v", e.ID, k != nil, i == 0 || list[i-1].ID < e.ID)
		}
		at, err := m.c.Locate(e.ID)
		wants(rt, "Locate", err, "")
		retired, failed := e.State == catalog.Retired, e.Verification == catalog.Fail
		if retired != k.retired || failed != k.failed || exists(at.Path) == k.failed || e.Files[0].SHA256 != sum(tiny(k.seed)) {
			rt.Fatalf("entry %s is retired %v, failed %v, file %v; want %+v", e.ID, retired, failed, exists(at.Path), k)
		}
	}
}

// PCO-58, PCO-59, PCO-60, G7: any history of additions, changes on the disk,
// verifications, retirements, uses, removals and restarts keeps index and files as
// the reference says.
func TestCatalogModel(t *testing.T) {
	var from [3]string
	for i := range from {
		from[i] = write(t, "tiny.gguf", tiny(byte(i)))
	}
	top := quickDir(t)
	rapid.Check(t, func(rt *rapid.T) {
		dir, err := os.MkdirTemp(top, "run")
		if err != nil {
			rt.Fatal(err)
		}
		defer os.RemoveAll(dir)
		m := &machine{dir: filepath.Join(dir, "models"), from: from, models: map[string]*known{}}
		m.c, err = catalog.Open(rt.Context(), catalog.Config{Dir: m.dir, FreeSpace: plenty})
		wants(rt, "Open", err, "")
		defer func() { _ = m.c.Close() }() // the run is over
		rt.Repeat(rapid.StateMachineActions(m))
	})
}
