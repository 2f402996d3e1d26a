package orchestrator

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"sync/atomic"
	"time"

	"github.com/llorch/llorch/inputvalidation"
	"github.com/llorch/llorch/orchestrator/placement"
	"github.com/llorch/llorch/orchestrator/store"
	"github.com/llorch/llorch/orchestrator/taskapi"
)

// Session groups tasks of one subject for affinity and budget. It holds no text.
type Session struct {
	ID         string
	Turns      int
	TTLLeft    time.Duration
	Budget     int    // tokens; 0 = none
	BudgetLeft int    // never below 0
	Warm       bool   // the worker of the last turn may still hold its context
	Worker     string // of the last turn, node/pool/worker
}

// What Sessions.Full may be.
const (
	evictOldestKV = "evict-oldest-kv" // the turns are counted anew and affinity is dropped
	rejectTurn    = "reject"
)

func (s *Sessions) fill() error {
	err := fill("Sessions", []duration{{"TTL", &s.TTL, 10 * time.Minute, false}})
	if s.Turns < 0 || s.Max < 0 {
		err = errors.Join(err, errors.New("orchestrator: Config.Sessions: negative"))
	}
	s.Turns, s.Max, s.Full = cmp.Or(s.Turns, 8), cmp.Or(s.Max, 65_536), cmp.Or(s.Full, evictOldestKV)
	if s.Full != evictOldestKV && s.Full != rejectTurn {
		err = errors.Join(err, errors.New("orchestrator: Config.Sessions.Full: unknown"))
	}
	return err
}

// dropSessions forgets the sessions of a person who is being erased; the store
// erases their documents.
func (o *Orchestrator) dropSessions(ref store.SubjectRef) {
	o.talks.mu.Lock()
	defer o.talks.mu.Unlock()
	for k, e := range o.talks.byKey {
		if k.subject == ref {
			o.talks.dropLocked(e)
		}
	}
}

// sessionUse is what one task has of its session. The zero value has none.
type sessionUse struct {
	BudgetLeft int      // tokens, after this reservation; −1 = no budget
	Ref        [16]byte // names the session for affinity; zero = none

	o     *Orchestrator
	s     *session
	made  bool
	held  int
	ended *atomic.Bool
}

// takeSession makes or touches the session of a request, counts its turn and
// reserves need tokens of its budget, durably: SESSION_LIMIT, BUDGET_EXCEEDED. Who
// takes one calls settle, or cancel if the task is not admitted.
func (o *Orchestrator) takeSession(ctx context.Context, p Principal, s *Spec, ref store.SubjectRef, need int) (sessionUse, error) {
	if s.Session == "" {
		return sessionUse{BudgetLeft: -1}, nil
	}
	if err := checkSession(s.Session, s.Budget); err != nil {
		return sessionUse{}, err
	}
	leave, err := o.people.enter(ref) // an erasure waits for the document
	if err != nil {
		return sessionUse{}, err
	}
	defer leave()
	ctx = context.WithoutCancel(ctx)
	u, gone, err := o.talks.take(sessionKey{ref, s.Session}, s.Budget, max(0, need), time.Now())
	o.saveSessions(ctx, gone)
	if err != nil {
		return sessionUse{}, err
	}
	u.o, u.ended = o, new(atomic.Bool)
	if u.BudgetLeft < 0 {
		return u, nil
	}
	if err := o.saveSession(ctx, u.s); err != nil {
		u.cancel()
		return sessionUse{}, wireError(err)
	}
	return u, nil
}

// settle ends the use with the tokens that the task really took; its first call
// counts. It writes a document and is not for the loop.
func (u sessionUse) settle(tokens int) { u.end(tokens, true) }

// cancel gives back the turn and the tokens of a task that was not admitted.
func (u sessionUse) cancel() { u.end(0, false) }

func (u sessionUse) end(tokens int, taken bool) {
	if u.s == nil || u.ended.Swap(true) || !u.o.talks.settle(&u, tokens, taken, time.Now()) {
		return
	}
	leave, err := u.o.people.enter(u.s.key.subject)
	if err != nil {
		return // being erased: there will be no document
	}
	defer leave()
	u.o.saveSessions(context.Background(), []*session{u.s})
}

func checkSession(id string, budget int) error {
	if inputvalidation.CheckIdentifier("session_id", id, inputvalidation.IdentRules{Max: taskapi.MaxSession, Extra: "._-"}) != nil {
		return taskapi.InvalidField("session_id", "syntax")
	}
	if budget < 0 {
		return taskapi.InvalidField("budget.tokens", "range")
	}
	return nil
}

// whoseSession returns the key of a caller's session.
func (o *Orchestrator) whoseSession(ctx context.Context, p Principal, id string) (sessionKey, error) {
	if !p.Has(RoleUser) {
		return sessionKey{}, taskapi.NewError(taskapi.Forbidden)
	}
	ref, err := o.refs.ref(ctx, "subject", p.Subject())
	if err != nil {
		return sessionKey{}, wireError(err)
	}
	return sessionKey{ref, id}, nil
}

// OpenSession makes a session of the caller; "" gives it a name. With a name that
// exists it answers with that session.
func (o *Orchestrator) OpenSession(ctx context.Context, p Principal, id string, budget int) (Session, error) {
	if id == "" {
		id = rand.Text()
	}
	k, err := o.whoseSession(ctx, p, id)
	if err == nil {
		err = cmp.Or(o.Ready(), checkSession(id, budget))
	}
	if err != nil {
		return Session{}, err
	}
	leave, err := o.people.enter(k.subject)
	if err != nil {
		return Session{}, err
	}
	defer leave()
	s, made, gone := o.talks.open(k, budget, time.Now())
	ctx = context.WithoutCancel(ctx)
	o.saveSessions(ctx, gone)
	if made && budget > 0 {
		if err := o.saveSession(ctx, s); err != nil {
			o.talks.drop(s)
			return Session{}, wireError(err)
		}
	}
	return o.sessionState(k)
}

// Session returns a session of the caller; it never makes one.
func (o *Orchestrator) Session(ctx context.Context, p Principal, id string) (Session, error) {
	k, err := o.whoseSession(ctx, p, id)
	if err != nil {
		return Session{}, err
	}
	return o.sessionState(k)
}

func (o *Orchestrator) sessionState(k sessionKey) (Session, error) {
	now := time.Now()
	o.talks.mu.Lock()
	s := o.talks.getLocked(k, now)
	if s == nil {
		o.talks.mu.Unlock()
		return Session{}, taskapi.NewError(taskapi.SessionNotFound)
	}
	out := Session{ID: k.id, Turns: s.turns, TTLLeft: min(o.talks.left(s, now), o.talks.cfg.TTL), Budget: s.budget, BudgetLeft: max(0, s.left())}
	w := s.worker
	o.talks.mu.Unlock()
	if w != (placement.Key{}) {
		out.Worker, out.Warm = w.String(), o.hasWorker(w)
	}
	return out, nil
}

// TouchSession begins the session's time to live anew.
func (o *Orchestrator) TouchSession(ctx context.Context, p Principal, id string) error {
	k, err := o.whoseSession(ctx, p, id)
	if err != nil {
		return err
	}
	now := time.Now()
	o.talks.mu.Lock()
	defer o.talks.mu.Unlock()
	s := o.talks.getLocked(k, now)
	if s == nil {
		return taskapi.NewError(taskapi.SessionNotFound)
	}
	o.talks.touchLocked(s, now)
	return nil
}

// EndSession forgets a session; it cancels nothing, and twice is nil.
func (o *Orchestrator) EndSession(ctx context.Context, p Principal, id string) error {
	k, err := o.whoseSession(ctx, p, id)
	if err != nil {
		return err
	}
	o.talks.mu.Lock()
	e := o.talks.byKey[k]
	if e == nil {
		o.talks.mu.Unlock()
		return nil
	}
	s := o.talks.dropLocked(e)
	o.talks.mu.Unlock()
	if err := o.saveSession(context.WithoutCancel(ctx), s); err != nil {
		return wireError(err)
	}
	return nil
}
