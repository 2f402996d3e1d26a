package poolcore

import (
	"slices"
	"strings"
	"testing"
	"time"
)

type step = func(poolState, event, time.Duration) (poolState, []effect)

// without is decide whose effects of a kind are lost when cond holds.
func without[E effect](cond func(E) bool) step {
	return func(s poolState, e event, now time.Duration) (poolState, []effect) {
		s, effects := decide(s, e, now)
		return s, slices.DeleteFunc(effects, func(f effect) bool { x, ok := f.(E); return ok && cond(x) })
	}
}

// heard is decide that takes one event for another.
func heard(as func(poolState, event) event) step {
	return func(s poolState, e event, now time.Duration) (poolState, []effect) { return decide(s, as(s, e), now) }
}

// after is decide with something done to its result.
func after(do func(before poolState, e event, s *poolState, effects *[]effect)) step {
	return func(before poolState, e event, now time.Duration) (poolState, []effect) {
		s, effects := decide(before, e, now)
		do(before, e, &s, &effects)
		return s, effects
	}
}

// plantedBugs are mistakes that this state machine could have, each with the
// invariant that must break.
func plantedBugs() map[string]struct {
	breaks string
	decide step
} {
	calls := 0
	return map[string]struct {
		breaks string
		decide step
	}{
		"a result depends on the past": {"G1", after(func(_ poolState, _ event, s *poolState, _ *[]effect) {
			calls++
			s.restarts += calls % 2
		})},
		"the input is changed": {"PCO-1", func(s poolState, e event, now time.Duration) (poolState, []effect) {
			if len(s.places) > 0 {
				s.places[0].slots++
			}
			next, effects := decide(s, e, now)
			return next, effects
		}},
		"an answer is lost":          {"PCO-3", without(func(f effDone) bool { return f.op%7 == 3 })},
		"an acceptance is lost":      {"PCO-3", without(func(f effAccept) bool { return f.code != "" })},
		"a journal's end is lost":    {"PCO-3", without(func(f effJournal) bool { return f.phase == "" })},
		"a kill is lost":             {"PCO-3", without(func(f effKill) bool { return f.gen%3 == 0 })},
		"a handoff file is not told": {"PCO-3", without(func(f effAnnounce) bool { return f.on })},
		"an answer is given twice": {"PCO-3", after(func(_ poolState, _ event, _ *poolState, effects *[]effect) {
			for _, f := range *effects {
				if _, ok := f.(effDone); ok {
					*effects = append(*effects, f)
					return
				}
			}
		})},
		"an exit is overheard": {"alive", heard(func(_ poolState, e event) event {
			if x, ok := e.(evExited); ok && x.gen%3 == 0 {
				return evPoke{}
			}
			return e
		})},
		"a foreign server is believed": {"G4", heard(func(_ poolState, e event) event {
			if x, ok := e.(evProbed); ok {
				x.probe.foreign = false
				return x
			}
			return e
		})},
		"a mask violation is overlooked": {"G4", heard(func(_ poolState, e event) event {
			if x, ok := e.(evProbed); ok {
				x.probe.fault = nil
				return x
			}
			return e
		})},
		"a slot is never given back": {"PCO-41", heard(func(_ poolState, e event) event {
			if x, ok := e.(evRelease); ok && x.gen%2 == 0 {
				return evPoke{}
			}
			return e
		})},
		"a full worker gives slots": {"G5", after(func(_ poolState, e event, s *poolState, effects *[]effect) {
			a, ok := e.(evAcquire)
			if !ok || len(s.places) == 0 || !s.places[0].serving() {
				return
			}
			for i, f := range *effects {
				if d, ok := f.(effDone); ok && d.fail != nil && d.fail.code == NoSlots {
					s.places[0].held++
					(*effects)[i] = effDone{op: a.op, worker: s.places[0].gen}
				}
			}
		})},
		"a draining pool is restarted": {"PCO-44", func(s poolState, e event, now time.Duration) (poolState, []effect) {
			_, tick := e.(evTick)
			if !tick || !s.drain.on || s.drain.over {
				return decide(s, e, now)
			}
			was := s.drain
			s.drain = drain{}
			for i := range s.places {
				s = s.clone()
				s.places[i].dueAt = now
			}
			s, effects := decide(s, e, now)
			s.drain = was
			return s, effects
		}},
		"a draining worker still serves": {"PCO-44", after(func(_ poolState, _ event, s *poolState, _ *[]effect) {
			for i := range s.places {
				if s.places[i].status == draining {
					s.places[i].status = ready
				}
			}
		})},
		"a drain does not wait for slots": {"PCO-44", func(s poolState, e event, now time.Duration) (poolState, []effect) {
			held := map[gen]int{}
			bare := s.clone()
			for i, p := range s.places {
				if s.drain.on {
					held[p.gen] = p.held
					bare.places[i].held = 0
				}
			}
			next, effects := decide(bare, e, now)
			for i, p := range next.places {
				if p.status == draining {
					next.places[i].held = max(p.held, held[p.gen])
				}
			}
			return next, effects
		}},
		"half open admits many": {"PCO-35", func(s poolState, e event, now time.Duration) (poolState, []effect) {
			open := s.breaker
			if _, tick := e.(evTick); !tick || open.state != breakerOpen || now < open.until {
				return decide(s, e, now)
			}
			s.breaker = breaker{state: breakerClosed}
			s, effects := decide(s, e, now)
			open.state = breakerHalfOpen
			s.breaker = open
			return s, effects
		}},
		"a sick device is shrugged off": {"PCO-39", after(func(_ poolState, e event, s *poolState, _ *[]effect) {
			if x, ok := e.(evDevice); ok && !x.sick {
				s.sick = s.serving() > 0 && s.keep
			}
		})},
		"engines are purged alive": {"PCO-48", after(func(before poolState, e event, s *poolState, effects *[]effect) {
			if x, ok := e.(evPurge); ok && !before.engaged() && x.work.engine && !s.purge.running {
				*effects = append(*effects, effPurge{op: x.op})
			}
		})},
		"a reload keeps both workers": {"G6", after(func(_ poolState, _ event, s *poolState, effects *[]effect) {
			for _, f := range *effects {
				if _, ok := f.(effJournal); ok && s.reload.phase == phaseClosing {
					s.edition = &edition{}
				}
			}
		})},
		"a timer is set in the past": {"spin", after(func(_ poolState, e event, s *poolState, _ *[]effect) {
			if _, ok := e.(evTick); ok && s.drain.on && !s.drain.over && !s.drain.ending {
				s.drain.by = 0
			}
		})},
		"a process is forgotten": {"G2", after(func(_ poolState, e event, s *poolState, _ *[]effect) {
			if _, ok := e.(evStuck); ok {
				s.places = slices.DeleteFunc(s.places, func(p place) bool { return p.status == stuck })
			}
		})},
		"a worker skips its start": {"table", after(func(_ poolState, _ event, _ *poolState, effects *[]effect) {
			for i, f := range *effects {
				if m, ok := f.(effMoved); ok && m.to == ready && m.from == starting {
					m.from = spawning
					(*effects)[i] = m
				}
			}
		})},
	}
}

// TestPlantedBugs: the model finds each of them, by the invariant that it breaks.
func TestPlantedBugs(t *testing.T) {
	for name, bug := range plantedBugs() {
		t.Run(name, func(t *testing.T) {
			others := map[string]int{}
			for seed := range uint64(4000) {
				_, broken := seededWalk(seed, bug.decide)
				v := string(broken)
				if strings.Contains(v, bug.breaks) {
					return
				}
				if v != "" {
					others[v[:min(len(v), 50)]]++
				}
			}
			t.Errorf("4000 walks do not break %s; others: %v", bug.breaks, others)
		})
	}
}
