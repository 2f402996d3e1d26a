package orchestrator

import (
	"context"
	"encoding/hex"
	"errors"
	"sync"

	"github.com/llorch/llorch/orchestrator/store"
	"github.com/llorch/llorch/orchestrator/taskapi"
)

// maxSubject bounds the name of a person, in bytes.
const maxSubject = 256

// signal wakes everybody who waits for a change. Its owner's lock guards it.
type signal struct{ ch chan struct{} }

func (s *signal) wait() <-chan struct{} {
	if s.ch == nil {
		s.ch = make(chan struct{})
	}
	return s.ch
}

func (s *signal) wake() {
	if s.ch != nil {
		close(s.ch)
		s.ch = nil
	}
}

// people is what admission has to know about persons at once: who is being
// erased, and what was consented to.
type people struct {
	turn chan struct{} // holds one: erasures go one by one

	mu       sync.Mutex
	erasing  map[store.SubjectRef]struct{} // erasures that are not done
	writing  map[store.SubjectRef]int      // documents that are being written now
	idle     signal                        // a write ended
	version  uint64                        // of all consents; rises with every change
	consents map[store.SubjectRef]map[string]bool
}

// keptConsents bounds the cache; a full one is emptied, it refills.
const keptConsents = 4096

func newPeople() *people {
	return &people{
		turn: make(chan struct{}, 1), erasing: make(map[store.SubjectRef]struct{}), writing: make(map[store.SubjectRef]int),
		consents: make(map[store.SubjectRef]map[string]bool),
	}
}

// mark refuses everything new of a person until unmark.
func (p *people) mark(ref store.SubjectRef) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.erasing[ref] = struct{}{}
	delete(p.consents, ref)
	p.version++
}

func (p *people) unmark(ref store.SubjectRef) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.erasing, ref)
}

func (p *people) isErasing(ref store.SubjectRef) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	_, ok := p.erasing[ref]
	return ok
}

// enter announces a write of one of the person's documents; an erasure waits for
// the leave. SUBJECT_ERASED while one is under way.
func (p *people) enter(ref store.SubjectRef) (leave func(), err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, ok := p.erasing[ref]; ok {
		return nil, taskapi.NewError(taskapi.SubjectErased)
	}
	p.writing[ref]++
	return func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.writing[ref]--; p.writing[ref] == 0 {
			delete(p.writing, ref)
			p.idle.wake()
		}
	}, nil
}

// quiet waits until nobody writes a document of a person who was marked.
func (p *people) quiet(ctx context.Context, ref store.SubjectRef) error {
	for {
		p.mu.Lock()
		n, changed := p.writing[ref], p.idle.wait()
		p.mu.Unlock()
		if n == 0 {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// erasing reports whether a person is being erased: nothing new of theirs is
// taken until that is done.
func (o *Orchestrator) erasing(ref store.SubjectRef) bool { return o.people.isErasing(ref) }

// permitted refuses a task whose person is being erased, or has not consented.
// It is asked again once the task can be found by an erasure or a revocation.
func (o *Orchestrator) permitted(ctx context.Context, r *run) error {
	if o.erasing(r.rec.Subject) {
		return taskapi.NewError(taskapi.SubjectErased)
	}
	return o.consented(ctx, r.rec.Subject, o.purposes(r))
}

// whose returns the person that a call is about, "" being the caller, if p may
// make it: the person and role privacy may. A refusal is recorded under the action.
func (o *Orchestrator) whose(ctx context.Context, p Principal, subject, action string) (string, store.SubjectRef, error) {
	if subject == "" {
		subject = p.Subject()
	}
	if subject == "" || len(subject) > maxSubject || !printable(subject) {
		return "", store.SubjectRef{}, taskapi.InvalidField("subject", "required; at most 256 printable bytes")
	}
	if !p.Has(RolePrivacy) && (!p.Has(RoleUser) || subject != p.Subject()) {
		o.audit.denied(ctx, owner(p), "", "persons", action, string(taskapi.Forbidden))
		return "", store.SubjectRef{}, taskapi.NewError(taskapi.Forbidden)
	}
	ref, err := o.refs.ref(ctx, "subject", subject)
	if err != nil {
		return "", ref, wireError(err)
	}
	return subject, ref, nil
}

// own is the beginning of the keys of a person's documents.
func own(ref store.SubjectRef) string { return hex.EncodeToString(ref[:]) + "/" }

// putDoc stores a document; after an unknown outcome it looks whether it did.
func (o *Orchestrator) putDoc(ctx context.Context, d store.Doc, expect store.Version) (store.Version, error) {
	for n := 1; ; n++ {
		v, err := o.store.PutDoc(ctx, d, expect)
		if !errors.Is(err, store.ErrUnknown) || n == persistTries {
			return v, err
		}
		if now, e := o.store.Doc(ctx, d.Kind, d.Key); e == nil && now.Version != expect && string(now.Data) == string(d.Data) {
			return now.Version, nil
		}
	}
}

// of returns the runs of a person that have not ended, and a channel that is
// closed when a run ends or leaves.
func (t *table) of(ref store.SubjectRef) (live []*run, changed <-chan struct{}) {
	t.mu.Lock()
	defer t.mu.Unlock()
	var waiting []*run // first: none of them shall get the slot of another
	for _, r := range t.byID {
		r.mu.Lock()
		switch {
		case r.rec.Subject != ref || !r.ended.IsZero():
		case r.rec.State == store.Queued:
			waiting = append(waiting, r)
		default:
			live = append(live, r)
		}
		r.mu.Unlock()
	}
	return append(waiting, live...), t.gone.wait()
}

// forgetPerson drops the event logs of a person's ended tasks.
func (t *table) forgetPerson(ref store.SubjectRef) {
	t.mu.Lock()
	defer t.mu.Unlock()
	kept := t.ended[:0]
	for _, r := range t.ended {
		if r.record().Subject != ref {
			kept = append(kept, r)
			continue
		}
		delete(t.byID, r.id)
		t.bytes -= r.kept
	}
	clear(t.ended[len(kept):])
	t.ended = kept
}
