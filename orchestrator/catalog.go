package orchestrator

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/llorch/llorch/inputvalidation"
	"github.com/llorch/llorch/orchestrator/placement"
	"github.com/llorch/llorch/orchestrator/store"
	"github.com/llorch/llorch/orchestrator/taskapi"
)

// Model is an entry of the catalogue.
type Model struct {
	ID           string    `json:"id"`
	Digest       string    `json:"digest,omitempty"` // sha256:<hex>
	Source       string    `json:"source_url,omitempty"`
	State        string    `json:"state"` // Active or Retired
	Aliases      []string  `json:"aliases,omitempty"`
	Tags         []string  `json:"tags,omitempty"`
	Successor    string    `json:"successor,omitempty"`
	Deadline     time.Time `json:"deadline,omitzero"` // of a retired one: waiting tasks run until then
	LastVerified time.Time `json:"last_verified,omitzero"`
	Verified     []Verdict `json:"verified,omitempty"`
}

// Verdict is what one node found when it hashed a model.
type Verdict struct {
	Node   string `json:"node"`
	Result string `json:"result"` // pass, warn, fail
}

const (
	verdictPass = "pass"
	verdictWarn = "warn" // nothing was decided
	verdictFail = "fail"
)

// maxModels bounds the catalogue.
const maxModels = 4096

// catalog is the copy of the entries that admission reads.
type catalog struct {
	now    atomic.Pointer[entries]
	turn   chan struct{} // holds one: who writes
	wake   chan struct{} // holds one: a deadline or a verification is new
	checks checks

	mu   sync.Mutex
	list []*placement.Worker // as the source reported them last
}

// entries is one state of the catalogue; never written again.
type entries struct {
	byID  map[string]entry
	alias map[string]string // to id
}

type entry struct {
	Model
	version store.Version
}

func newCatalog() *catalog {
	c := &catalog{turn: make(chan struct{}, 1), wake: make(chan struct{}, 1)}
	c.now.Store(&entries{})
	return c
}

// find returns the entry of an id or an alias.
func (e *entries) find(name string) (entry, bool) {
	if m, ok := e.byID[name]; ok {
		return m, true
	}
	m, ok := e.byID[e.alias[name]]
	return m, ok
}

// with returns the entries with m put in, or without id if m is nil.
func (e *entries) with(id string, m *entry) *entries {
	out := &entries{byID: maps.Clone(e.byID), alias: make(map[string]string)}
	if out.byID == nil {
		out.byID = make(map[string]entry)
	}
	if delete(out.byID, id); m != nil {
		out.byID[id] = *m
	}
	for id, m := range out.byID {
		for _, a := range m.Aliases {
			out.alias[a] = id
		}
	}
	return out
}

// nudge has keepCatalog look again.
func (c *catalog) nudge() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// loadCatalog reads the entries.
func (o *Orchestrator) loadCatalog(ctx context.Context) error {
	all := &entries{byID: make(map[string]entry)}
	for d, err := range o.store.Docs(ctx, store.KindModel, "") {
		if err != nil {
			return fmt.Errorf("read catalogue: %w", err)
		}
		m := entry{version: d.Version}
		if err := json.Unmarshal(d.Data, &m.Model); err != nil || m.ID != d.Key {
			return errors.New("orchestrator: an entry of the catalogue can not be read")
		}
		all.byID[m.ID] = m
	}
	o.catalog.now.Store(all.with("", nil))
	o.catalog.nudge()
	return nil
}

// Catalog returns the entries, by id.
func (o *Orchestrator) Catalog(ctx context.Context) ([]Model, error) {
	all := o.catalog.now.Load().byID
	out := make([]Model, 0, len(all))
	for _, id := range slices.Sorted(maps.Keys(all)) {
		out = append(out, all[id].clone())
	}
	return out, nil
}

func (m Model) clone() Model {
	m.Aliases, m.Tags, m.Verified = slices.Clone(m.Aliases), slices.Clone(m.Tags), slices.Clone(m.Verified)
	return m
}

// operator refuses who may not run the installation.
func (o *Orchestrator) operator(ctx context.Context, p Principal, kind, action string) error {
	if p.Has(RoleOperator) {
		return nil
	}
	o.audit.denied(ctx, owner(p), "", kind, action, string(taskapi.Forbidden))
	return taskapi.NewError(taskapi.Forbidden)
}

// edit changes one entry, one caller after another: f gets the present one, nil if
// there is none, and returns the next, nil for none.
func (o *Orchestrator) edit(ctx context.Context, id string, f func(all *entries, now *Model) (*Model, error)) (Model, error) {
	if err := o.Ready(); err != nil {
		return Model{}, err
	}
	select {
	case o.catalog.turn <- struct{}{}:
	case <-ctx.Done():
		return Model{}, wireError(context.Cause(ctx))
	}
	defer func() { <-o.catalog.turn }()
	all := o.catalog.now.Load()
	old, ok := all.byID[id]
	var now *Model
	if ok {
		now = new(old.clone())
	}
	next, err := f(all, now)
	if err != nil || next == nil && !ok {
		return Model{}, err
	}
	e, err := o.writeModel(context.WithoutCancel(ctx), id, next, old.version)
	if err != nil {
		return Model{}, wireError(err)
	}
	after := all.with(id, e)
	o.catalog.now.Store(after)
	o.catalog.nudge()
	if !slices.Equal(all.failed(id), after.failed(id)) {
		o.offer()
	}
	return after.byID[id].clone(), nil
}

func (o *Orchestrator) writeModel(ctx context.Context, id string, m *Model, version store.Version) (*entry, error) {
	if m == nil {
		return nil, o.store.DeleteDoc(ctx, store.KindModel, id, version)
	}
	data, err := json.Marshal(m)
	if err != nil {
		return nil, err
	}
	v, err := o.putDoc(ctx, store.Doc{Kind: store.KindModel, Key: id, Data: data}, version)
	return &entry{*m, v}, err
}

// PutModel adds or replaces an entry. What was verified stays while the digest does.
// Operators only.
func (o *Orchestrator) PutModel(ctx context.Context, p Principal, m Model) (Model, error) {
	if err := o.operator(ctx, p, "models", "model.put"); err != nil {
		return Model{}, err
	}
	m = m.clone()
	m.State = cmp.Or(m.State, taskapi.ModelActive)
	if err := m.check(); err != nil {
		return Model{}, err
	}
	return o.edit(ctx, m.ID, func(all *entries, now *Model) (*Model, error) {
		if now == nil && len(all.byID) >= maxModels {
			return nil, taskapi.InvalidField("id", "too many entries")
		}
		for _, name := range append(slices.Clone(m.Aliases), m.ID) {
			other, taken := all.alias[name]
			if _, isID := all.byID[name]; isID && name != m.ID || taken && other != m.ID {
				return nil, taskapi.InvalidField("aliases", "names another entry")
			}
		}
		m.Deadline, m.LastVerified, m.Verified = time.Time{}, time.Time{}, nil
		if now != nil && now.Digest == m.Digest {
			m.LastVerified, m.Verified = now.LastVerified, now.Verified
		}
		if m.State == taskapi.ModelRetired {
			m.Deadline = time.Now().UTC()
			if now != nil && now.State == m.State {
				m.Deadline = now.Deadline
			}
		}
		return &m, nil
	})
}

// check refuses an entry that no request could mean; it never echoes a value.
func (m *Model) check() error {
	const most, maxSource = 64, 2048
	hex, pinned := strings.CutPrefix(m.Digest, "sha256:")
	_, hexErr := inputvalidation.ParseHex("digest", hex, 32)
	ref := func(s string) bool {
		_, err := inputvalidation.ParseModelRef("id", s)
		return err != nil || len(s) > maxModel
	}
	for _, c := range []struct {
		bad           bool
		field, reason string
	}{
		{ref(m.ID), "id", "syntax"},
		{m.Digest != "" && (!pinned || hexErr != nil || strings.ToLower(hex) != hex), "digest", "syntax"},
		{len(m.Source) > maxSource || !printable(m.Source), "source_url", "too long or not printable"},
		{m.State != taskapi.ModelActive && m.State != taskapi.ModelRetired, "state", "unknown"},
		{m.Successor != "" && ref(m.Successor) || m.Successor == m.ID && m.ID != "", "successor", "syntax"},
		{len(m.Aliases) > most, "aliases", "too many"},
		{slices.ContainsFunc(m.Aliases, ref) || slices.Contains(m.Aliases, m.ID), "aliases", "syntax"},
		{len(m.Tags) > most, "tags", "too many"},
		{slices.ContainsFunc(m.Tags, func(s string) bool {
			return inputvalidation.CheckIdentifier("tags", s, inputvalidation.IdentRules{Max: 64, Extra: "._-"}) != nil
		}), "tags", "syntax"},
	} {
		if c.bad {
			return taskapi.InvalidField(c.field, c.reason)
		}
	}
	return nil
}

// SetModelState retires a model or, with state Active, brings it back. New tasks of
// a retired one are refused at once; waiting ones run until within is over, then
// they end with MODEL_DEPRECATED. Operators only.
func (o *Orchestrator) SetModelState(ctx context.Context, p Principal, id, state string, within time.Duration) (Model, error) {
	if err := o.operator(ctx, p, "models", "model.state"); err != nil {
		return Model{}, err
	}
	if state != taskapi.ModelActive && state != taskapi.ModelRetired {
		return Model{}, taskapi.InvalidField("state", "unknown")
	}
	if within < 0 {
		return Model{}, taskapi.InvalidField("deadline_ms", "range")
	}
	return o.edit(ctx, id, func(_ *entries, m *Model) (*Model, error) {
		if m == nil {
			return nil, taskapi.NewError(taskapi.ModelNotFound)
		}
		m.State, m.Deadline = state, time.Time{}
		if state == taskapi.ModelRetired {
			m.Deadline = time.Now().UTC().Add(within)
		}
		return m, nil
	})
}

// DeleteModel removes an entry; an absent one is nil. Operators only.
func (o *Orchestrator) DeleteModel(ctx context.Context, p Principal, id string) error {
	if err := o.operator(ctx, p, "models", "model.delete"); err != nil {
		return err
	}
	_, err := o.edit(ctx, id, func(*entries, *Model) (*Model, error) { return nil, nil })
	return err
}
