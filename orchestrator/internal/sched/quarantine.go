package sched

import (
	"slices"
	"time"

	"github.com/llorch/llorch/orchestrator/internal/exec"
	"github.com/llorch/llorch/orchestrator/placement"
	"github.com/llorch/llorch/orchestrator/queue"
)

// The rules of quarantine (ORC-405).
const (
	firstOut   = time.Second // then doubled with every try that fails
	longestOut = time.Minute
	askTime    = 10 * time.Second // a probe without an answer has failed
	window     = 30 * time.Second
	buckets    = 10
	enough     = 20 // results in the window before their ratio counts
)

// tally counts the results of the last 30 seconds.
type tally struct {
	Newest int64 // number of the bucket that is filled now
	Good   [buckets]int
	Bad    [buckets]int
}

// add counts a result and reports whether at least half of enough ones were bad.
func (t *tally) add(now Instant, bad bool) bool {
	n := int64(now) / int64(window/buckets)
	for i := max(t.Newest+1, n-buckets+1); i <= n; i++ {
		t.Good[i%buckets], t.Bad[i%buckets] = 0, 0
	}
	t.Newest = n
	if !bad {
		t.Good[n%buckets]++
		return false
	}
	t.Bad[n%buckets]++
	bads, all := 0, 0
	for i := range buckets {
		bads += t.Bad[i]
		all += t.Bad[i] + t.Good[i]
	}
	return all >= enough && bads*2 >= all
}

// mate is what the core remembers of a worker in the list.
type mate struct {
	Key    placement.Key
	Models []string
	Since  Instant // when it was first seen with these models
	Used   Instant // when it last held a task
	Calls  tally
}

// sick is a worker in quarantine. It is asked when Until has come: by a Probe, or
// by a task that has nowhere else to go.
type sick struct {
	Key    placement.Key
	Wait   time.Duration
	Until  Instant  // when it is asked, or when the Probe has failed; 0 = a task asks
	Asking bool     // a Probe is under way
	Task   queue.ID // that asks
	Try    int      // attempt of Task; 0 = none
	Closed bool     // its node or engine takes nothing, whatever the calls say
}

func (c *Core) mate(k placement.Key) *mate {
	i, ok := slices.BinarySearchFunc(c.mates, k, func(m mate, k placement.Key) int { return m.Key.Compare(k) })
	if !ok {
		return nil
	}
	return &c.mates[i]
}

func (c *Core) ill(k placement.Key) (int, bool) {
	return slices.BinarySearchFunc(c.sick, k, func(s sick, k placement.Key) int { return s.Key.Compare(k) })
}

// muster takes the memory of workers over to a new list: one that is gone, or has
// a new id, is forgotten (ORC-405).
func (c *Core) muster(now Instant) {
	old := c.mates
	c.mates = make([]mate, 0, c.view.Len())
	for w := range c.view.Workers() {
		m := mate{Key: w.Key, Models: w.Models, Since: now, Used: now}
		if i, ok := slices.BinarySearchFunc(old, w.Key, func(m mate, k placement.Key) int { return m.Key.Compare(k) }); ok {
			m = old[i]
			if !slices.Equal(m.Models, w.Models) {
				m.Models, m.Since = w.Models, now
			}
		}
		c.mates = append(c.mates, m)
	}
	c.stale = true
	c.sick = slices.DeleteFunc(c.sick, func(s sick) bool { return c.mate(s.Key) == nil })
	for i := range c.sick {
		w, _ := c.view.Find(c.sick[i].Key)
		c.sick[i].Closed = !w.Online || !w.Ready
	}
}

// heard counts how a call to a worker ended.
func (c *Core) heard(now Instant, t *task, class exec.Class) {
	m := c.mate(t.worker)
	if m == nil {
		return
	}
	m.Used = now
	bad, answered := false, false
	switch class {
	case exec.OK, exec.Overload, exec.Rejected, exec.Unsupported:
		answered = true
	case exec.Connect, exec.Server, exec.Reset, exec.Timeout, exec.Protocol, exec.Denied:
		bad = true
	} // the others are not its doing
	i, out := c.ill(t.worker)
	if out && c.sick[i].Try == t.attempt && c.sick[i].Task == t.ID {
		switch {
		case bad:
			c.worse(now, &c.sick[i])
		case answered:
			c.restore(t.worker)
		}
		return
	}
	if out || !bad && class != exec.OK {
		return
	}
	if trip := m.Calls.add(now, bad); trip || class == exec.Connect {
		c.quarantine(now, t.worker, class)
	}
}

// quarantine takes a worker out.
func (c *Core) quarantine(now Instant, k placement.Key, why exec.Class) {
	i, out := c.ill(k)
	if out {
		return
	}
	s := sick{Key: k, Wait: firstOut}
	c.again(now, &s)
	c.sick = slices.Insert(c.sick, i, s)
	c.mate(k).Calls = tally{}
	c.view.Quarantine(k, true)
	c.emit(Note{Kind: "quarantined", Worker: k, For: time.Duration(s.Until - now), Why: string(why)})
}

// worse doubles the wait after a try that failed.
func (c *Core) worse(now Instant, s *sick) {
	s.Wait = min(longestOut, 2*s.Wait)
	c.again(now, s)
}

// again sets the next try.
func (c *Core) again(now Instant, s *sick) {
	s.Asking, s.Task, s.Try = false, queue.ID{}, 0
	s.Until = now + Instant(c.rng.around(s.Wait))
}

// restore opens a worker again.
func (c *Core) restore(k placement.Key) {
	i, out := c.ill(k)
	if !out {
		return
	}
	c.sick = slices.Delete(c.sick, i, i+1)
	c.view.Quarantine(k, false)
	c.emit(Note{Kind: "restored", Worker: k})
}

// probed takes the answer of a Probe.
func (c *Core) probed(now Instant, e Probed) {
	i, out := c.ill(e.Worker)
	switch {
	case !out:
	case e.OK:
		c.restore(e.Worker)
	case c.sick[i].Asking:
		c.worse(now, &c.sick[i])
	}
}

// alive says that a task's worker sends bytes. A worker that is asked by the task
// is well; for another one the wait begins anew, for what it does not answer it
// does not answer because it works (ORC-406).
func (c *Core) alive(now Instant, e Progress) {
	t := c.tasks[e.ID]
	if t == nil || t.phase != running {
		return
	}
	t.tokens, t.seen = max(t.tokens, e.Tokens), now
	if i, out := c.ill(t.worker); out {
		if s := &c.sick[i]; s.Task == t.ID && s.Try == t.attempt {
			c.restore(t.worker)
		} else {
			s.Wait = firstOut / 2 // the next failure doubles it
		}
	}
}

// askAgain asks the sick workers whose time has come: with the next task that no
// other worker could take, else with a Probe.
func (c *Core) askAgain(now Instant) {
	for i := range c.sick {
		s := &c.sick[i]
		if s.Until == 0 || s.Until > now || s.Closed {
			continue
		}
		if s.Asking {
			c.worse(now, s)
			continue
		}
		if c.tryOne(now, s) {
			continue
		}
		w, _ := c.view.Find(s.Key)
		s.Asking, s.Until = true, now+Instant(askTime)
		c.emit(Probe{w})
	}
}

// tryOne gives the sick worker one task if one waits that has no alternative.
func (c *Core) tryOne(now Instant, s *sick) bool {
	defer c.view.Quarantine(s.Key, true)
	it, ok := c.queue.Pick(now, func(id queue.KeyID) bool {
		r := c.request(id)
		c.view.Quarantine(s.Key, true)
		if d := placement.Decide(c.view, *r, c.policy); d.Worker != nil || d.Load != nil || d.Filter != "quarantine" {
			return false
		}
		c.view.Quarantine(s.Key, false)
		d := placement.Decide(c.view, *r, c.policy)
		return d.Worker != nil && d.Worker.Key == s.Key
	})
	if !ok {
		return false
	}
	c.view.Quarantine(s.Key, false)
	t := c.tasks[it.ID]
	if !c.start(now, t, it) {
		return false
	}
	s.Until, s.Task, s.Try = 0, t.ID, t.attempt
	return true
}

// nextAsk is the instant of the next try, 0 if there is none.
func (c *Core) nextAsk() (at Instant) {
	for i := range c.sick {
		if s := &c.sick[i]; s.Until > 0 && !s.Closed {
			at = earlier(at, s.Until)
		}
	}
	return at
}

// earlier returns the earlier of two instants; 0 is none.
func earlier(a, b Instant) Instant {
	if a == 0 || b != 0 && b < a {
		return b
	}
	return a
}
