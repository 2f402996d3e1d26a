package orchestrator

import (
	"container/list"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"sync"
	"time"

	"github.com/llorch/llorch/orchestrator/placement"
	"github.com/llorch/llorch/orchestrator/store"
	"github.com/llorch/llorch/orchestrator/taskapi"
)

// sessionKey names a session: those of two persons never meet.
type sessionKey struct {
	subject store.SubjectRef
	id      string
}

func (k sessionKey) doc() string { return own(k.subject) + k.id }

// ref names the context that the session's turns share on a worker; another one
// after every eviction. The key is the process's own, so that nobody can find an id
// by guessing (ORC-123).
func (t *sessions) ref(k sessionKey, evictions uint64) [16]byte {
	mac := hmac.New(sha256.New, t.secret)
	mac.Write(binary.BigEndian.AppendUint64(append(k.subject[:], k.id...), evictions))
	return [16]byte(mac.Sum(nil)[:16])
}

// session is what is known of one. The lock of sessions guards it, except saving.
type session struct {
	key       sessionKey
	turns     int
	evictions uint64
	live      int // tasks that have not ended
	used      time.Time
	budget    int // 0 = none
	spent     int // by tasks that have ended
	held      int // by those that have not
	worker    placement.Key
	gone      bool

	saving  chan struct{} // holds one: who writes the document
	version store.Version // of the document; owned by who saves
}

// left is what may still be reserved; −1 without a budget.
func (s *session) left() int {
	if s.budget == 0 {
		return -1
	}
	return max(0, s.budget-s.spent-s.held)
}

// sessions holds those of this process, the longest unused last. A session with a
// budget has a document as well, so that the budget outlives the process.
type sessions struct {
	cfg     Sessions
	longest time.Duration // that a task may take: one that never ends keeps its session so long
	secret  []byte

	mu    sync.Mutex
	byKey map[sessionKey]*list.Element
	order *list.List // of *session, the last used first
}

func newSessions(c Sessions, longest time.Duration) *sessions {
	return &sessions{cfg: c, longest: longest, secret: randomKey(), byKey: make(map[sessionKey]*list.Element), order: list.New()}
}

// left is how long s stays if nobody uses it.
func (t *sessions) left(s *session, now time.Time) time.Duration {
	d := t.cfg.TTL - now.Sub(s.used)
	if s.live > 0 {
		d += t.longest
	}
	return d
}

// getLocked returns a session that has not expired, and nil else.
func (t *sessions) getLocked(k sessionKey, now time.Time) *session {
	if e := t.byKey[k]; e != nil && t.left(e.Value.(*session), now) > 0 {
		return e.Value.(*session)
	}
	return nil
}

func (t *sessions) touchLocked(s *session, now time.Time) {
	s.used = now
	t.order.MoveToFront(t.byKey[s.key])
}

// addLocked puts a new session in the place of one that expired. Beyond the bound
// the longest unused one without a task goes; gone are those whose documents go too.
func (t *sessions) addLocked(k sessionKey, budget int, now time.Time) (s *session, gone []*session) {
	s = &session{key: k, budget: budget, used: now, saving: make(chan struct{}, 1)}
	if old := t.byKey[k]; old != nil {
		gone = append(gone, t.dropLocked(old))
	}
	if t.order.Len() >= t.cfg.Max {
		e := t.order.Back()
		for x := e; x != nil; x = x.Prev() {
			if x.Value.(*session).live == 0 {
				e = x
				break
			}
		}
		gone = append(gone, t.dropLocked(e))
	}
	t.byKey[k] = t.order.PushFront(s)
	return s, gone
}

// drop drops s, if it is there still.
func (t *sessions) drop(s *session) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if e := t.byKey[s.key]; e != nil && e.Value == s {
		t.dropLocked(e)
	}
}

func (t *sessions) dropLocked(e *list.Element) *session {
	s := e.Value.(*session)
	delete(t.byKey, s.key)
	t.order.Remove(e)
	s.gone = true
	return s
}

// open returns a session, made if there is none.
func (t *sessions) open(k sessionKey, budget int, now time.Time) (s *session, made bool, gone []*session) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if s = t.getLocked(k, now); s != nil {
		t.touchLocked(s, now)
		return s, false, nil
	}
	s, gone = t.addLocked(k, budget, now)
	return s, true, gone
}

// take counts a turn and reserves tokens, in one step.
func (t *sessions) take(k sessionKey, budget, need int, now time.Time) (u sessionUse, gone []*session, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.getLocked(k, now)
	full := s != nil && s.turns >= t.cfg.Turns
	switch {
	case s == nil && budget > 0 && need > budget, s != nil && s.budget > 0 && need > s.left():
		return u, nil, taskapi.NewError(taskapi.BudgetExceeded)
	case full && t.cfg.Full == rejectTurn:
		return u, nil, taskapi.NewError(taskapi.SessionLimit).With("turns", s.turns)
	case full:
		s.turns, s.worker = 0, placement.Key{}
		s.evictions++
	}
	made := s == nil
	if made {
		s, gone = t.addLocked(k, budget, now)
	}
	t.touchLocked(s, now)
	s.turns++
	s.live++
	if s.budget > 0 {
		s.held += need
	} else {
		need = 0
	}
	return sessionUse{BudgetLeft: s.left(), Ref: t.ref(k, s.evictions), made: made, s: s, held: need}, gone, nil
}

// settle ends a use; a turn that was not taken counts no longer, and a session made
// for it goes. It reports whether the document has to be written.
func (t *sessions) settle(u *sessionUse, tokens int, taken bool, now time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := u.s
	s.live--
	s.held -= u.held
	if s.budget > 0 {
		s.spent += max(0, tokens)
	}
	if s.gone {
		return false
	}
	if !taken {
		if s.turns = max(0, s.turns-1); u.made && s.turns == 0 {
			t.dropLocked(t.byKey[s.key])
			return s.budget > 0
		}
		return s.budget > 0
	}
	t.touchLocked(s, now)
	return s.budget > 0
}

// placed notes where the session's turn runs. The loop calls it.
func (t *sessions) placed(ref store.SubjectRef, id string, w placement.Key) {
	if id == "" {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if e := t.byKey[sessionKey{ref, id}]; e != nil {
		e.Value.(*session).worker = w
	}
}

// expire drops what nobody used for too long. Sessions with a task stay longer, so
// that the walk goes past them.
func (t *sessions) expire(now time.Time) (gone []*session) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for e := t.order.Back(); e != nil && now.Sub(e.Value.(*session).used) >= t.cfg.TTL; {
		x := e
		e = e.Prev()
		if t.left(x.Value.(*session), now) <= 0 {
			gone = append(gone, t.dropLocked(x))
		}
	}
	return gone
}
