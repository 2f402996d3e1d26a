package sched_test

import (
	"context"
	"fmt"
	"slices"
	"time"

	"pgregory.net/rapid"

	"github.com/llorch/llorch/orchestrator/internal/exec"
	"github.com/llorch/llorch/orchestrator/internal/sched"
	"github.com/llorch/llorch/orchestrator/placement"
	"github.com/llorch/llorch/orchestrator/queue"
	"github.com/llorch/llorch/orchestrator/store"
)

// actionNames says how often each action is drawn.
var actionNames = []string{
	"submit", "submit", "submit", "store", "store", "store", "token", "token", "finish", "finish", "read", "cancel", "time", "load", "rare",
}

// actions is what can happen to a cluster.
func (c *cluster) actions() map[string]func(*rapid.T) {
	return map[string]func(*rapid.T){
		"submit": c.submit,
		"store":  c.storeAnswers,
		"token": func(t *rapid.T) {
			if a := c.pick(t, func(a *attempt) bool { return a.started && !a.engine.hangs }); a != nil {
				c.emit(a)
			}
		},
		"finish": c.finishes,
		"read": func(t *rapid.T) {
			if len(c.jobs) > 0 {
				c.readOn(rapid.SampledFrom(c.jobs).Draw(t, "reader"), rapid.IntRange(1, 4).Draw(t, "events"))
			}
		},
		"cancel": func(t *rapid.T) {
			if len(c.jobs) > 0 && !c.fair {
				c.cancel(rapid.SampledFrom(c.jobs).Draw(t, "task"))
			}
		},
		"time": func(t *rapid.T) {
			most := 8000
			if c.fair { // no task runs out of time, which would give its cost back
				most = 100
			}
			if rapid.IntRange(0, 3).Draw(t, "long") == 0 {
				most *= 4
			}
			c.advance(time.Duration(rapid.IntRange(1, most).Draw(t, "ms")) * time.Millisecond)
		},
		"load": c.loads,
		"rare": c.rare,
	}
}

// loads lets a model come nearer to its worker, arrive there, or fail.
func (c *cluster) loads(t *rapid.T) {
	if len(c.loading) == 0 {
		return
	}
	i := rapid.IntRange(0, len(c.loading)-1).Draw(t, "load")
	c.load(i, rapid.SampledFrom([]string{"goes on", "goes on", "arrives", "arrives", "fails", "is not heard of"}).Draw(t, "it"))
}

// load tells the core of a load, or does not.
func (c *cluster) load(i int, how string) {
	l := c.loading[i]
	if how != "goes on" {
		c.loading = slices.Delete(c.loading, i, i+1)
	}
	switch how {
	case "goes on":
		l.bytes++
		c.step(sched.Loading{Worker: l.engine.key, Model: l.model, Bytes: l.bytes, Total: -1, Phase: "load"})
	case "fails":
		c.step(sched.Loading{Worker: l.engine.key, Model: l.model, Done: true, Fail: "INTERNAL"})
	case "arrives":
		c.step(sched.Loading{Worker: l.engine.key, Model: l.model, Done: true})
		l.engine.models = []string{l.model}
		c.step(c.picture())
	}
}

func (c *cluster) submit(t *rapid.T) {
	n := len(c.jobs) + 1
	task := sched.Task{
		ID: id(n), Tenant: rapid.SampledFrom(tenantIDs()).Draw(t, "tenant"), Class: queue.Class(rapid.IntRange(0, 1).Draw(t, "class")),
		Subject: sched.Ref{0xee, byte(c.persons), byte(rapid.IntRange(1, 2).Draw(t, "subject")), 0xff},
		Need:    placement.Request{Model: "m", Prompt: rapid.IntRange(1, 20).Draw(t, "prompt"), Expected: rapid.IntRange(1, 20).Draw(t, "expected")},
		Bytes:   100, MaxTokens: 40, Total: total, Ephemeral: rapid.IntRange(0, 3).Draw(t, "ephemeral") == 0,
	}
	task.Cost = int64(task.Need.Prompt)*1000 + int64(task.Need.Expected)*2000
	if c.fair {
		task.Class = queue.Interactive
	} else {
		if rapid.IntRange(0, 3).Draw(t, "deadline") == 0 {
			task.Due = c.now + sched.Instant(rapid.IntRange(1, 10).Draw(t, "s"))*sched.Instant(time.Second)
		}
		if rapid.IntRange(0, 2).Draw(t, "region") == 0 {
			task.Need.Regions = []string{"EU"}
		}
		if rapid.IntRange(0, 5).Draw(t, "model") == 0 {
			task.Need.Model = "o"
		}
		task.Session = sched.Ref{byte(rapid.IntRange(0, 2).Draw(t, "session"))}
	}
	c.shares.most = max(c.shares.most, task.Cost)
	c.arrivals++
	j := &job{n: n, order: c.arrivals, task: task, marks: map[int]bool{}}
	c.jobs = append(c.jobs, j)
	c.step(sched.Submit{Task: task})
}

func (c *cluster) storeAnswers(t *rapid.T) {
	if len(c.ops) == 0 {
		return
	}
	how := "ok"
	if !c.fair {
		how = rapid.SampledFrom([]string{"ok", "ok", "ok", "ok", "unavailable", "lost", "unknown"}).Draw(t, "how")
	}
	c.answer(rapid.IntRange(0, len(c.ops)-1).Draw(t, "call"), how)
}

func (c *cluster) pick(t *rapid.T, ok func(*attempt) bool) *attempt {
	var may []*attempt
	for _, a := range c.attempts {
		if ok(a) {
			may = append(may, a)
		}
	}
	if len(may) == 0 {
		return nil
	}
	return rapid.SampledFrom(may).Draw(t, "attempt")
}

// finishes ends an attempt: well, badly, or because it was told to.
func (c *cluster) finishes(t *rapid.T) {
	a := c.pick(t, func(a *attempt) bool { return a.started && !a.marking && (!a.engine.hangs || a.told) })
	if a == nil {
		return
	}
	class := exec.OK
	if !c.fair && rapid.IntRange(0, 2).Draw(t, "fails") == 0 {
		class = rapid.SampledFrom([]exec.Class{
			exec.Connect, exec.Overload, exec.Rejected, exec.Denied, exec.Server, exec.Reset, exec.Timeout, exec.Protocol, exec.Erased,
		}).Draw(t, "class")
	}
	if a.told {
		class = exec.Reset
	}
	c.finish(a, class)
}

// cancel is a client's: the core first, then the store, then the answer (ORC-560).
func (c *cluster) cancel(j *job) {
	if j.over || !j.live && !j.placed {
		return
	}
	j.asked = true
	c.step(sched.Cancel{ID: j.task.ID, Reason: sched.Client})
	if j.task.Ephemeral {
		j.stopped, j.quiet = true, tokens(j.log)
		return
	}
	c.call("cancel", func(e store.Epoch) error {
		res, err := c.mem.Cancel(context.Background(), e, []store.CancelReq{{ID: store.TaskID(j.task.ID), Reason: "client"}})
		return one(res, err, func(s store.CancelState) error { return s.Err })
	}, func(err error) {
		if err == nil && !j.stopped {
			j.stopped, j.quiet = true, tokens(j.log)
		}
	})
}

// rare is what seldom happens.
func (c *cluster) rare(t *rapid.T) {
	e := rapid.SampledFrom(c.engines).Draw(t, "engine")
	what := rapid.IntRange(0, 16).Draw(t, "what")
	if c.fair && what > 2 {
		return
	}
	switch what {
	case 0:
		c.crash()
		return
	case 1:
		tenant := rapid.SampledFrom(tenantIDs()).Draw(t, "tenant")
		r := sched.Rules{Weight: rapid.IntRange(1, 4).Draw(t, "weight"), MaxRunning: rapid.IntRange(0, 2).Draw(t, "running"), Wait: true}
		if c.fair {
			return
		}
		c.limit[tenant] = r
		c.step(sched.Tenant{ID: tenant, Rules: r})
		return
	case 2:
		c.step(sched.Progress{ID: id(rapid.IntRange(1, len(c.jobs)+1).Draw(t, "task")), Tokens: 1})
		return
	case 3, 4:
		e.up = !e.up
		if e.up {
			e.epoch++
		}
	case 5: // the node is lost
		for _, x := range c.engines {
			if x.key.Node == e.key.Node {
				x.up = false
			}
		}
	case 6:
		e.hangs = !e.hangs
	case 7:
		e.drains = !e.drains
	case 8:
		e.ready = !e.ready
	case 9:
		e.busy = rapid.IntRange(0, 5).Draw(t, "lie")
	case 10: // out of memory: everything there fails
		for _, a := range append([]*attempt(nil), c.attempts...) {
			if a.engine == e && a.started && !a.marking {
				c.finish(a, exec.Server)
			}
		}
		return
	case 11: // a storm of cancels
		for _, j := range c.jobs {
			c.cancel(j)
		}
		return
	case 12:
		c.step(sched.Probed{Worker: e.key, OK: rapid.Bool().Draw(t, "well")})
		return
	case 13:
		c.regions = rapid.SampledFrom([][]string{nil, {"EU"}, {"EU", "US"}}).Draw(t, "regions")
		strategy := rapid.SampledFrom([]string{"", "most-vram-free", "round-robin"}).Draw(t, "strategy")
		c.step(sched.Policy{Policy: placement.Policy{Strategy: strategy}, Regions: c.regions})
		return
	case 14, 15:
		c.erase(t)
		return
	case 16:
		c.restart(t)
		return
	}
	c.step(c.picture())
}

// restart is a planned end: nothing new, what runs may finish or is cut, and the
// next process takes up what the store has (ORC-102).
func (c *cluster) restart(t *rapid.T) {
	c.step(sched.Refuse{Durable: true})
	c.finishes(t)
	if rapid.Bool().Draw(t, "cut") {
		c.step(sched.Cut{})
		c.finishes(t)
	}
	c.advance(time.Duration(rapid.IntRange(1, 8000).Draw(t, "ms")) * time.Millisecond)
	c.crash()
}

// erase forgets one of the two persons of this time (ORC-841): their tasks are
// cancelled and end, then the store forgets.
func (c *cluster) erase(t *rapid.T) {
	who := byte(rapid.IntRange(1, 2).Draw(t, "who"))
	ref := sched.Ref{0xee, byte(c.persons), who, 0xff}
	c.persons++ // nobody submits under this name any more
	c.step(sched.CancelAll{Subject: ref, Reason: sched.Erasure})
	c.forget(ref, fmt.Sprint(c.persons))
}

// forget lets the store erase a person as soon as no task of them lives.
func (c *cluster) forget(ref sched.Ref, name string) {
	c.call("erase "+name, func(e store.Epoch) error {
		for _, j := range c.jobs {
			if j.task.Subject == ref && (j.live || j.placed) {
				return store.ErrTransition
			}
		}
		if c.bug != nil && c.bug.keeps {
			return nil
		}
		_, err := c.mem.Erase(context.Background(), e, store.SubjectRef(ref))
		return err
	}, func(err error) {
		if err != nil {
			c.forget(ref, name) // later
			return
		}
		c.erased[ref] = true
	})
}
