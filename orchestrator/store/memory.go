package store

import (
	"bytes"
	"context"
	"slices"
	"sync"
	"time"
)

// Bounds of a [Memory].
const (
	memoryRecords = 100_000   // ended ones are evicted, live ones never
	memoryBodies  = 256 << 20 // bytes of sealed bodies of live tasks; beyond it Submit answers ErrUnavailable
	memoryOutputs = 256 << 20 // bytes of sealed outputs; beyond it the oldest ended tasks are evicted
)

// Memory is a Store that forgets everything when the process ends. It keeps at
// most 100,000 records and 256 MiB of outputs: the tasks that ended first are
// evicted, live ones never; when all are live Submit answers [ErrUnavailable].
// Several orchestrators of one process may share one.
type Memory struct {
	mu      sync.Mutex // guards everything below
	closed  bool
	epoch   Epoch
	seq     uint64
	version Version
	tasks   map[TaskID]*memoryTask
	keys    map[idemKey]*memoryTask
	log     []*memoryTask // by seq; holds removed ones until compacted
	removed int           // removed ones in log
	ended   []*memoryTask // in the order of ending; holds no removed ones
	docs    map[docKey]Doc
	limit   memoryLimit
	used    memoryLimit
}

var _ Store = (*Memory)(nil)

type memoryTask struct {
	rec     Record
	body    []byte // nil once ended
	output  []byte // nil until ended
	removed bool
}

type memoryLimit struct{ records, bodies, outputs int }

type idemKey struct{ tenant, key string }

type docKey struct {
	kind Kind
	key  string
}

// NewMemory returns an empty store.
func NewMemory() *Memory {
	return &Memory{
		tasks: make(map[TaskID]*memoryTask),
		keys:  make(map[idemKey]*memoryTask),
		docs:  make(map[docKey]Doc),
		limit: memoryLimit{records: memoryRecords, bodies: memoryBodies, outputs: memoryOutputs},
	}
}

// enter locks m for a call; the caller unlocks when the error is nil.
func (m *Memory) enter(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	m.mu.Lock()
	if m.closed {
		m.mu.Unlock()
		return ErrClosed
	}
	return nil
}

// write is enter for a write of term e.
func (m *Memory) write(ctx context.Context, e Epoch) error {
	if err := m.enter(ctx); err != nil {
		return err
	}
	if e == 0 || e != m.epoch {
		m.mu.Unlock()
		return ErrFenced
	}
	return nil
}

// Submit implements [Tasks].
func (m *Memory) Submit(ctx context.Context, e Epoch, batch []NewTask) ([]Submitted, error) {
	if err := m.write(ctx, e); err != nil {
		return nil, err
	}
	defer m.mu.Unlock()
	out := make([]Submitted, len(batch))
	for i, n := range batch {
		out[i] = m.submitLocked(e, n, time.Now())
	}
	return out, nil
}

func (m *Memory) submitLocked(e Epoch, n NewTask, now time.Time) Submitted {
	r, err := n.Stored(e, now)
	if err != nil {
		return Submitted{Err: err}
	}
	if old := m.takenLocked(r); old != nil {
		if !old.rec.Repeats(n) {
			return Submitted{Err: ErrConflict}
		}
		dup := old.rec.clone()
		return Submitted{Seq: dup.Seq, Duplicate: &dup}
	}
	t := &memoryTask{}
	if n.Final == nil {
		t.body = bytes.Clone(n.Body)
	} else if len(n.Final.Output) > 0 {
		t.output = bytes.Clone(n.Final.Output)
	}
	if !m.makeRoomLocked(len(t.body)) {
		return Submitted{Err: ErrUnavailable}
	}
	m.seq++
	r.Seq = m.seq
	t.rec = r
	m.tasks[r.ID] = t
	if r.IdemKey != "" {
		m.keys[idemKey{r.Tenant, r.IdemKey}] = t
	}
	m.log = append(m.log, t)
	m.used.bodies += len(t.body)
	if n.Final != nil {
		m.endedLocked(t)
	}
	return Submitted{Seq: r.Seq}
}

// takenLocked returns the task that holds the id or the idempotency key of r.
func (m *Memory) takenLocked(r Record) *memoryTask {
	if t := m.tasks[r.ID]; t != nil {
		return t
	}
	if r.IdemKey == "" {
		return nil
	}
	return m.keys[idemKey{r.Tenant, r.IdemKey}]
}

// Start implements [Tasks].
func (m *Memory) Start(ctx context.Context, e Epoch, batch []StartReq) ([]Started, error) {
	if err := m.write(ctx, e); err != nil {
		return nil, err
	}
	defer m.mu.Unlock()
	out := make([]Started, len(batch))
	for i, q := range batch {
		t := m.tasks[q.ID]
		if t == nil {
			out[i].Err = ErrNotFound
			continue
		}
		if _, err := t.rec.Start(q, e, time.Now()); err != nil {
			out[i].Err = err
			continue
		}
		out[i].Body = bytes.Clone(t.body)
	}
	return out, nil
}

// Mark implements [Tasks].
func (m *Memory) Mark(ctx context.Context, e Epoch, batch []MarkReq) ([]error, error) {
	if err := m.write(ctx, e); err != nil {
		return nil, err
	}
	defer m.mu.Unlock()
	out := make([]error, len(batch))
	for i, q := range batch {
		if t := m.tasks[q.ID]; t != nil {
			_, out[i] = t.rec.Mark(q, e)
		} else {
			out[i] = ErrNotFound
		}
	}
	return out, nil
}

// Complete implements [Tasks].
func (m *Memory) Complete(ctx context.Context, e Epoch, batch []Completion) ([]error, error) {
	if err := m.write(ctx, e); err != nil {
		return nil, err
	}
	defer m.mu.Unlock()
	out := make([]error, len(batch))
	for i, c := range batch {
		t := m.tasks[c.ID]
		if t == nil {
			out[i] = ErrNotFound
			continue
		}
		changed, err := t.rec.Complete(c, e, time.Now())
		out[i] = err
		if !changed {
			continue
		}
		if len(c.Output) > 0 {
			t.output = bytes.Clone(c.Output)
		}
		m.endedLocked(t)
	}
	return out, nil
}

// Cancel implements [Tasks].
func (m *Memory) Cancel(ctx context.Context, e Epoch, batch []CancelReq) ([]CancelState, error) {
	if err := m.write(ctx, e); err != nil {
		return nil, err
	}
	defer m.mu.Unlock()
	out := make([]CancelState, len(batch))
	for i, q := range batch {
		t := m.tasks[q.ID]
		if t == nil {
			out[i].Err = ErrNotFound
			continue
		}
		if t.rec.Cancel(q, e, time.Now()) && t.rec.State.Terminal() {
			m.endedLocked(t)
		}
		out[i].State = t.rec.State
	}
	return out, nil
}

// Lead implements [Upkeep]; it never waits.
func (m *Memory) Lead(ctx context.Context, r LeaseRequest) (Lease, error) {
	if err := m.enter(ctx); err != nil {
		return Lease{}, err
	}
	defer m.mu.Unlock()
	next, err := r.Next(m.epoch)
	if err != nil {
		return Lease{}, err
	}
	m.epoch = next
	return Lease{Epoch: next, Holder: r.Holder, URL: r.URL}, nil
}

// Durable implements [Upkeep]: false.
func (m *Memory) Durable() bool { return false }

// Close implements [Upkeep] and drops everything that was stored.
func (m *Memory) Close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.closed = true
	m.tasks, m.keys, m.log, m.ended, m.docs = nil, nil, nil, nil, nil
	return nil
}

// endedLocked books the end of t and evicts what no longer fits.
func (m *Memory) endedLocked(t *memoryTask) {
	m.used.bodies -= len(t.body)
	m.used.outputs += len(t.output)
	t.body = nil
	m.ended = append(m.ended, t)
	for m.used.outputs > m.limit.outputs && len(m.ended) > 1 {
		m.evictLocked()
	}
}

// makeRoomLocked reports whether one more record with a body of that size fits,
// evicting the task that ended first when it has to.
func (m *Memory) makeRoomLocked(body int) bool {
	if m.used.bodies+body > m.limit.bodies {
		return false
	}
	if len(m.tasks) < m.limit.records {
		return true
	}
	if len(m.ended) == 0 {
		return false
	}
	m.evictLocked()
	return true
}

// evictLocked removes the task that ended first.
func (m *Memory) evictLocked() {
	m.removeLocked(m.ended[0])
	m.ended[0] = nil
	m.ended = m.ended[1:]
}

// removeLocked forgets t; the caller takes it out of ended.
func (m *Memory) removeLocked(t *memoryTask) {
	delete(m.tasks, t.rec.ID)
	if t.rec.IdemKey != "" {
		delete(m.keys, idemKey{t.rec.Tenant, t.rec.IdemKey})
	}
	m.used.outputs -= len(t.output)
	t.output, t.removed = nil, true
	if m.removed++; m.removed > 1024 && m.removed > len(m.log)/2 {
		m.log = slices.DeleteFunc(m.log, func(t *memoryTask) bool { return t.removed })
		m.removed = 0
	}
}

func (r Record) clone() Record {
	r.Meta.Params = bytes.Clone(r.Meta.Params)
	r.Meta.Place = bytes.Clone(r.Meta.Place)
	r.Meta.Regions, r.Meta.Purposes = slices.Clone(r.Meta.Regions), slices.Clone(r.Meta.Purposes)
	r.Outcome.Details = bytes.Clone(r.Outcome.Details)
	return r
}
