package store

import (
	"context"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Erase implements [Upkeep].
func (m *Memory) Erase(ctx context.Context, e Epoch, ref SubjectRef) (Erased, error) {
	if ref == (SubjectRef{}) {
		return Erased{}, fmt.Errorf("erase: subject: %w", ErrInvalid)
	}
	if err := m.write(ctx, e); err != nil {
		return Erased{}, err
	}
	defer m.mu.Unlock()
	var own []*memoryTask
	for _, t := range m.log {
		if t.removed || t.rec.Subject != ref {
			continue
		}
		if !t.rec.State.Terminal() {
			return Erased{}, ErrTransition
		}
		own = append(own, t)
	}
	var done Erased
	for _, t := range own {
		delete(m.keys, idemKey{t.rec.Tenant, t.rec.IdemKey})
		t.rec.Forget(e)
		done.Tasks++
		done.Outputs += m.dropOutputLocked(t)
	}
	key := hex.EncodeToString(ref[:])
	for at := range m.docs {
		if slices.Contains(PersonalKinds(), at.kind) && (at.key == key || strings.HasPrefix(at.key, key+"/")) {
			delete(m.docs, at)
			done.Documents++
		}
	}
	return done, nil
}

// dropOutputLocked forgets the output of t and returns how many it had, 0 or 1.
func (m *Memory) dropOutputLocked(t *memoryTask) int {
	if t.output == nil {
		return 0
	}
	m.used.outputs -= len(t.output)
	t.output = nil
	return 1
}

// PurgeOutputs implements [Upkeep].
func (m *Memory) PurgeOutputs(ctx context.Context, e Epoch, before time.Time, limit int) (int, error) {
	if limit < 0 || limit > MaxPage {
		return 0, fmt.Errorf("purge outputs: limit: %w", ErrInvalid)
	}
	if err := m.write(ctx, e); err != nil {
		return 0, err
	}
	defer m.mu.Unlock()
	old := m.oldestLocked(before, limit, func(t *memoryTask) bool { return t.output != nil })
	for _, t := range old {
		m.dropOutputLocked(t)
	}
	return len(old), nil
}

// oldestLocked returns up to limit of the ended tasks that finished before the
// instant, the oldest. The wall clock may have stepped back, so the order of
// ending is not always the order of Finished.
func (m *Memory) oldestLocked(before time.Time, limit int, holds func(*memoryTask) bool) []*memoryTask {
	var old []*memoryTask
	for _, t := range m.ended {
		if t.rec.Finished.Before(clock(before)) && holds(t) {
			old = append(old, t)
		}
	}
	slices.SortStableFunc(old, func(a, b *memoryTask) int { return a.rec.Finished.Compare(b.rec.Finished) })
	return old[:min(limit, len(old))]
}
