package store

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"iter"
	"slices"
	"strings"
	"time"
)

// Task implements [Tasks].
func (m *Memory) Task(ctx context.Context, id TaskID) (Record, error) {
	if err := m.enter(ctx); err != nil {
		return Record{}, err
	}
	defer m.mu.Unlock()
	t := m.tasks[id]
	if t == nil {
		return Record{}, ErrNotFound
	}
	return t.rec.clone(), nil
}

// Output implements [Tasks].
func (m *Memory) Output(ctx context.Context, id TaskID) ([]byte, error) {
	if err := m.enter(ctx); err != nil {
		return nil, err
	}
	defer m.mu.Unlock()
	t := m.tasks[id]
	if t == nil || t.output == nil {
		return nil, ErrNotFound
	}
	return bytes.Clone(t.output), nil
}

// Tasks implements [Tasks].
func (m *Memory) Tasks(ctx context.Context, f Filter) ([]Record, error) {
	size, err := f.Size()
	if err != nil {
		return nil, err
	}
	if err := m.enter(ctx); err != nil {
		return nil, err
	}
	defer m.mu.Unlock()
	bySeq := func(t *memoryTask, seq uint64) int { return cmp.Compare(t.rec.Seq, seq) }
	part := m.log
	if f.Before != 0 {
		i, _ := slices.BinarySearchFunc(part, f.Before, bySeq)
		part = part[:i]
	}
	if f.After != 0 {
		i, found := slices.BinarySearchFunc(part, f.After, bySeq)
		if found {
			i++
		}
		part = part[i:]
	}
	each := slices.Backward(part)
	if f.Oldest {
		each = slices.All(part)
	}
	if one := m.keys[idemKey{f.Tenant, f.IdemKey}]; f.IdemKey != "" && f.Tenant != "" { // at most this one
		each = func(yield func(int, *memoryTask) bool) {
			if one != nil && (f.Before == 0 || one.rec.Seq < f.Before) && one.rec.Seq > f.After {
				yield(0, one)
			}
		}
	}
	var out []Record
	refused, scans := 0, f.Scans()
	for _, t := range each {
		switch {
		case len(out) == size:
			return out, nil
		case !t.removed && f.selects(&t.rec):
			out = append(out, t.rec.clone())
		case scans:
			if refused++; refused == MaxPage {
				return out, &MoreError{Next: t.rec.Seq}
			}
		}
	}
	return out, nil
}

// selects reports whether r is among the records of f, its Seq aside.
func (f Filter) selects(r *Record) bool {
	return (f.Tenant == "" || f.Tenant == r.Tenant) &&
		(f.Subject == SubjectRef{} || f.Subject == r.Subject) &&
		(len(f.States) == 0 || slices.Contains(f.States, r.State)) &&
		(f.Model == "" || f.Model == r.Model) &&
		(f.Session == "" || f.Session == r.Session) &&
		(f.IdemKey == "" || f.IdemKey == r.IdemKey) &&
		!r.Created.Before(clock(f.Since))
}

// Purge implements [Upkeep].
func (m *Memory) Purge(ctx context.Context, e Epoch, before time.Time, limit int) (int, error) {
	if limit < 0 || limit > MaxPage {
		return 0, fmt.Errorf("purge limit: %w", ErrInvalid)
	}
	if err := m.write(ctx, e); err != nil {
		return 0, err
	}
	defer m.mu.Unlock()
	old := m.oldestLocked(before, limit, func(*memoryTask) bool { return true })
	for _, t := range old {
		m.removeLocked(t)
	}
	m.ended = slices.DeleteFunc(m.ended, func(t *memoryTask) bool { return t.removed })
	return len(old), nil
}

// PutDoc implements [Docs].
func (m *Memory) PutDoc(ctx context.Context, d Doc, expect Version) (Version, error) {
	if err := d.Check(); err != nil {
		return 0, err
	}
	if err := m.enter(ctx); err != nil {
		return 0, err
	}
	defer m.mu.Unlock()
	k := docKey{d.Kind, d.Key}
	if m.docs[k].Version != expect {
		return 0, ErrVersion
	}
	m.version++
	d.Version = m.version
	d.Data = bytes.Clone(d.Data)
	m.docs[k] = d
	return d.Version, nil
}

// Doc implements [Docs].
func (m *Memory) Doc(ctx context.Context, k Kind, key string) (Doc, error) {
	if err := m.enter(ctx); err != nil {
		return Doc{}, err
	}
	defer m.mu.Unlock()
	d, ok := m.docs[docKey{k, key}]
	if !ok {
		return Doc{}, ErrNotFound
	}
	d.Data = bytes.Clone(d.Data)
	return d, nil
}

// Docs implements [Docs].
func (m *Memory) Docs(ctx context.Context, k Kind, prefix string) iter.Seq2[Doc, error] {
	return func(yield func(Doc, error) bool) {
		found, err := m.docsOf(ctx, k, prefix)
		if err != nil {
			yield(Doc{}, err)
			return
		}
		for _, d := range found {
			if err := ctx.Err(); err != nil {
				yield(Doc{}, err)
				return
			}
			d.Data = bytes.Clone(d.Data)
			if !yield(d, nil) {
				return
			}
		}
	}
}

// docsOf returns the documents by key. Their data is shared with m, which
// replaces data but never changes it in place.
func (m *Memory) docsOf(ctx context.Context, k Kind, prefix string) ([]Doc, error) {
	if err := m.enter(ctx); err != nil {
		return nil, err
	}
	defer m.mu.Unlock()
	var found []Doc
	for at, d := range m.docs {
		if at.kind == k && strings.HasPrefix(at.key, prefix) {
			found = append(found, d)
		}
	}
	slices.SortFunc(found, func(a, b Doc) int { return strings.Compare(a.Key, b.Key) })
	return found, nil
}

// DeleteDoc implements [Docs].
func (m *Memory) DeleteDoc(ctx context.Context, k Kind, key string, expect Version) error {
	if err := m.enter(ctx); err != nil {
		return err
	}
	defer m.mu.Unlock()
	at := docKey{k, key}
	d, ok := m.docs[at]
	if !ok {
		return nil
	}
	if d.Version != expect {
		return ErrVersion
	}
	delete(m.docs, at)
	return nil
}
