package storetest_test

import (
	"context"
	"errors"
	"flag"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/llorch/llorch/orchestrator/store"
	"github.com/llorch/llorch/orchestrator/store/storetest"
)

// TestMain keeps rapid from shrinking and storing failures that are wanted here.
func TestMain(m *testing.M) {
	for name, value := range map[string]string{"rapid.nofailfile": "true", "rapid.shrinktime": "0s"} {
		if err := flag.Set(name, value); err != nil {
			panic(err)
		}
	}
	os.Exit(m.Run())
}

// bug is a store with one planted fault.
type bug struct {
	open  func() store.Store
	caps  storetest.Caps
	finds []string // checks that must fail; "" stands for none
}

func bugs() map[string]bug {
	memory := func(wrap func(*store.Memory) store.Store) func() store.Store {
		return func() store.Store { return wrap(store.NewMemory()) }
	}
	return map[string]bug{
		"none": {open: memory(func(m *store.Memory) store.Store { return m })},
		"writes in a void term": {
			open:  memory(func(m *store.Memory) store.Store { return &unfenced{Memory: m} }),
			finds: []string{"a void term writes nothing", "model"},
		},
		"a bad item fails its batch": {
			open:  memory(func(m *store.Memory) store.Store { return &allOrNothing{m} }),
			finds: []string{"a bad item fails alone", "a later item sees the earlier ones"},
		},
		"a late attempt completes": {
			open:  memory(func(m *store.Memory) store.Store { return &anyAttempt{m} }),
			finds: []string{"complete is idempotent by attempt, state and code", "a bad item fails alone", "model"},
		},
		"marks are not kept": {
			open:  memory(func(m *store.Memory) store.Store { return &unmarked{m} }),
			finds: []string{"mark is idempotent by attempt", "start is idempotent by attempt", "a task reads back as it was submitted", "model"},
		},
		"pages lose their last task": {
			open:  memory(func(m *store.Memory) store.Store { return &shortPages{m} }),
			finds: []string{"a page holds what the filter selects", "pages meet without gap or overlap", "batches of 0, 1 and 1024", "model"},
		},
		"contexts are not read": {
			open:  memory(func(m *store.Memory) store.Store { return &deaf{m} }),
			finds: []string{"a context that ended writes nothing"},
		},
		"an ended context hides a write": {
			open:  memory(func(m *store.Memory) store.Store { return &liar{m} }),
			finds: []string{"a context that ended writes nothing", "a context that ends meanwhile leaves all or nothing", "a context that ends at any look leaves all or nothing"},
		},
		"documents do not compare": {
			open:  memory(func(m *store.Memory) store.Store { return &lastPutWins{m} }),
			finds: []string{"documents compare versions", "model"},
		},
		"a repetition passes for new": {
			open:  memory(func(m *store.Memory) store.Store { return &amnesic{Memory: m} }),
			finds: []string{"32 clients ConcurrentSafe"},
		},
		"nothing outlives close": {
			open:  memory(func(m *store.Memory) store.Store { return &forgetful{m} }),
			caps:  storetest.Caps{Durable: true, Reopen: reopenEmpty},
			finds: []string{"acknowledged writes are there after reopening", "counters go on after reopening", "close waits for writes in flight", "model"},
		},
		"an erasure is not done": {
			open: memory(func(m *store.Memory) store.Store { return &sticky{m} }),
			finds: []string{
				"erase takes what names the person and no more", "erase deletes the person's documents and no others",
				"erase of a person with a live task changes nothing", "model",
			},
		},
		"an erasure is not counted": {
			open:  memory(func(m *store.Memory) store.Store { return &miscounting{m} }),
			finds: []string{"erase takes what names the person and no more", "erase is idempotent and counts what was left", "model"},
		},
		"an erasure is not kept": {
			open:  memory(func(m *store.Memory) store.Store { return &forgetful{m} }),
			caps:  storetest.Caps{Durable: true, Reopen: reopenEmpty},
			finds: []string{"an erasure is there after reopening"},
		},
		"outputs go with their records": {
			open:  memory(func(m *store.Memory) store.Store { return &wholesale{m} }),
			finds: []string{"purge of outputs takes the oldest and leaves the records", "model"},
		},
		"an old copy leads": {
			open:  memory(func(m *store.Memory) store.Store { return &credulous{m} }),
			finds: []string{"an old copy does not lead unless it is forced to"},
		},
		"a scan ends without a word": {
			open:  memory(func(m *store.Memory) store.Store { return &quiet{m} }),
			finds: []string{"a scan reads so much and goes on"},
		},
		"writes are lost while the storage is away": {
			open:  memory(func(m *store.Memory) store.Store { return &lossy{Memory: m} }),
			caps:  storetest.Caps{Away: func(_ testing.TB, s store.Store) func() { return s.(*lossy).leave() }},
			finds: []string{"what is refused while the storage is away can be repeated"},
		},
		"one commit per caller": {
			open:  memory(func(m *store.Memory) store.Store { return m }),
			caps:  storetest.Caps{Slow: func(_ testing.TB, d time.Duration) store.Store { return &lonely{Memory: store.NewMemory(), delay: d} }},
			finds: []string{"64 callers share commits"},
		},
	}
}

// TestSuiteFindsPlantedBugs is ORC-655 of the suite itself: a sound store passes
// everything, a broken one fails in the promised places.
func TestSuiteFindsPlantedBugs(t *testing.T) {
	for name, b := range bugs() {
		t.Run(name, func(t *testing.T) {
			var failed []string
			storetest.Each(func(testing.TB) store.Store { return b.open() }, b.caps, func(check string, run func(testing.TB)) {
				name, tries := check[strings.Index(check, "/")+1:], 1
				if len(b.finds) > 0 && !slices.Contains(b.finds, name) {
					return
				}
				if name == "model" && len(b.finds) > 0 { // it draws at random: one walk may miss what is planted
					tries = 8
				}
				for range tries {
					if fails(t, run) {
						failed = append(failed, name)
						break
					}
				}
			})
			for _, want := range b.finds {
				if !slices.Contains(failed, want) {
					t.Errorf("%q did not fail; failed: %q", want, failed)
				}
			}
			if len(b.finds) == 0 && len(failed) > 0 {
				t.Errorf("a sound store fails %q", failed)
			}
		})
	}
}

// unfenced takes a write of any term it ever granted.
type unfenced struct {
	*store.Memory
	mu      sync.Mutex
	present store.Epoch
}

func (u *unfenced) Lead(ctx context.Context, r store.LeaseRequest) (store.Lease, error) {
	l, err := u.Memory.Lead(ctx, r)
	u.mu.Lock()
	defer u.mu.Unlock()
	u.present = l.Epoch
	return l, err
}

func (u *unfenced) Submit(ctx context.Context, e store.Epoch, batch []store.NewTask) ([]store.Submitted, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if e > 0 && e < u.present {
		e = u.present
	}
	return u.Memory.Submit(ctx, e, batch)
}

// allOrNothing refuses a batch with one bad item.
type allOrNothing struct{ *store.Memory }

func (a *allOrNothing) Submit(ctx context.Context, e store.Epoch, batch []store.NewTask) ([]store.Submitted, error) {
	out, err := a.Memory.Submit(ctx, e, batch)
	for _, o := range out {
		if o.Err != nil {
			return nil, o.Err
		}
	}
	return out, err
}

// anyAttempt does not fence attempts.
type anyAttempt struct{ *store.Memory }

func (a *anyAttempt) Complete(ctx context.Context, e store.Epoch, batch []store.Completion) ([]error, error) {
	batch = slices.Clone(batch)
	for i := range batch {
		if r, err := a.Task(ctx, batch[i].ID); err == nil {
			batch[i].Attempt = r.Attempt
		}
	}
	return a.Memory.Complete(ctx, e, batch)
}

// unmarked answers marks without keeping them.
type unmarked struct{ *store.Memory }

func (u *unmarked) Mark(_ context.Context, _ store.Epoch, batch []store.MarkReq) ([]error, error) {
	return make([]error, len(batch)), nil
}

// shortPages cuts pages by one.
type shortPages struct{ *store.Memory }

func (s *shortPages) Tasks(ctx context.Context, f store.Filter) ([]store.Record, error) {
	page, err := s.Memory.Tasks(ctx, f)
	return page[:max(len(page)-1, 0)], err
}

// deaf writes whatever the caller's context says.
type deaf struct{ *store.Memory }

func (d *deaf) Submit(ctx context.Context, e store.Epoch, batch []store.NewTask) ([]store.Submitted, error) {
	return d.Memory.Submit(context.WithoutCancel(ctx), e, batch)
}

// liar writes and then says that the context ended before.
type liar struct{ *store.Memory }

func (l *liar) Submit(ctx context.Context, e store.Epoch, batch []store.NewTask) ([]store.Submitted, error) {
	out, err := l.Memory.Submit(context.WithoutCancel(ctx), e, batch)
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-time.After(time.Millisecond):
		return out, err
	}
}

// lastPutWins ignores the expected version.
type lastPutWins struct{ *store.Memory }

func (l *lastPutWins) PutDoc(ctx context.Context, d store.Doc, _ store.Version) (store.Version, error) {
	old, err := l.Doc(ctx, d.Kind, d.Key)
	if err != nil {
		old.Version = 0
	}
	return l.Memory.PutDoc(ctx, d, old.Version)
}

// amnesic tells every other repetition that it was the first.
type amnesic struct {
	*store.Memory
	mu    sync.Mutex
	count int
}

func (a *amnesic) Submit(ctx context.Context, e store.Epoch, batch []store.NewTask) ([]store.Submitted, error) {
	out, err := a.Memory.Submit(ctx, e, batch)
	a.mu.Lock()
	defer a.mu.Unlock()
	for i := range out {
		if a.count++; a.count%2 == 0 {
			out[i].Duplicate = nil
		}
	}
	return out, err
}

// forgetful claims to be durable.
type forgetful struct{ *store.Memory }

func (f *forgetful) Durable() bool { return true }

func reopenEmpty(t testing.TB, s store.Store) store.Store {
	if err := s.Close(); err != nil {
		t.Errorf("Close() = %v", err)
	}
	return &forgetful{store.NewMemory()}
}

// lonely commits one call at a time.
type lonely struct {
	*store.Memory
	mu    sync.Mutex
	delay time.Duration
}

func (l *lonely) Submit(ctx context.Context, e store.Epoch, batch []store.NewTask) ([]store.Submitted, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-time.After(l.delay):
	}
	return l.Memory.Submit(ctx, e, batch)
}

// sticky answers erasures without keeping them.
type sticky struct{ *store.Memory }

func (s *sticky) Erase(ctx context.Context, _ store.Epoch, ref store.SubjectRef) (store.Erased, error) {
	page, err := s.Tasks(ctx, store.Filter{Subject: ref})
	return store.Erased{Tasks: len(page)}, err
}

// miscounting tells of half of what it erased.
type miscounting struct{ *store.Memory }

func (h *miscounting) Erase(ctx context.Context, e store.Epoch, ref store.SubjectRef) (store.Erased, error) {
	done, err := h.Memory.Erase(ctx, e, ref)
	done.Tasks /= 2
	return done, err
}

// wholesale takes the records with their outputs.
type wholesale struct{ *store.Memory }

func (w *wholesale) PurgeOutputs(ctx context.Context, e store.Epoch, before time.Time, limit int) (int, error) {
	return w.Purge(ctx, e, before, limit)
}

// credulous leads whatever others have seen.
type credulous struct{ *store.Memory }

func (c *credulous) Lead(ctx context.Context, r store.LeaseRequest) (store.Lease, error) {
	r.Force = true
	return c.Memory.Lead(ctx, r)
}

// quiet does not tell that a page may go on.
type quiet struct{ *store.Memory }

func (q *quiet) Tasks(ctx context.Context, f store.Filter) ([]store.Record, error) {
	page, err := q.Memory.Tasks(ctx, f)
	if _, ok := errors.AsType[*store.MoreError](err); ok {
		err = nil
	}
	return page, err
}

// lossy acknowledges what it can not write.
type lossy struct {
	*store.Memory
	gone atomic.Bool
}

func (l *lossy) leave() (back func()) {
	l.gone.Store(true)
	return func() { l.gone.Store(false) }
}

func (l *lossy) Submit(ctx context.Context, e store.Epoch, batch []store.NewTask) ([]store.Submitted, error) {
	if l.gone.Load() {
		return make([]store.Submitted, len(batch)), nil
	}
	return l.Memory.Submit(ctx, e, batch)
}
