package poolcore

import (
	"time"

	"github.com/llorch/llorch/poolcore/engine"
)

// wait follows the log until the worker is gone, judges its end and removes what
// it leaves.
func (c *hostCrew) wait(w *worker) failure {
	if w.proc == nil {
		select {
		case <-w.unbound:
		case <-c.left:
		}
		return failure{class: engine.ClassGraceful}
	}
	if !c.follow(w) {
		return failure{class: engine.ClassGraceful, exitCode: -1, message: "left to the next run"}
	}
	if err := w.tail.look(); err != nil { // to the end: nobody writes any more
		c.cfg.Logger.Debug("engine log", "worker", string(w.id), "error", err)
	}
	f := judge(w)
	close(w.ended)
	c.at("ended/judged")
	if f.class == engine.ClassOOMVRAM && !w.served.Load() && len(w.plan.units) > 0 {
		c.memory.outOfMemory(w, time.Now())
	}
	c.settleMemory(w)
	c.clean(w)
	c.at("ended/clean")
	return f
}

// follow reads the log until the process is gone; false: it was left behind.
func (c *hostCrew) follow(w *worker) bool {
	every := time.NewTicker(tailFast)
	defer every.Stop()
	slowed := false
	for {
		select {
		case <-w.proc.Done():
			return true
		case <-c.left:
			return false
		case <-every.C:
			if err := w.tail.look(); err != nil {
				c.cfg.Logger.Debug("engine log", "worker", string(w.id), "error", err)
			}
			if w.served.Load() && !slowed {
				slowed = true
				every.Reset(tailSlow)
			}
		}
	}
}

// judge says why a worker went.
func judge(w *worker) failure {
	exit := w.proc.Exit()
	f := failure{
		class: engine.ClassGraceful, exitCode: exit.Code, signal: exit.Signal, tail: w.tail.tail(failureTail), message: "the engine ended by itself",
	}
	switch {
	case w.asked.Load():
		return f
	case w.robbed.Load():
		f.class, f.message = engine.ClassPortConflict, "another program took the port before the engine"
		return f
	}
	f.class = w.kind.Classify(engine.Exit{
		Code: exit.Code, Signal: exit.Signal, Lines: f.tail, Uptime: time.Since(w.proc.Started()), Answered: w.answered.Load(),
		OOMKills: int(min(w.proc.OOMKills(), 1<<20)),
	})
	if !exit.Known && f.class == engine.ClassUnknown {
		f.class = engine.ClassUnknownExit // the status went to its first parent
	}
	return f
}

// clean removes the worker's files and ends its reservations, the last first.
func (c *hostCrew) clean(w *worker) {
	c.mu.Lock()
	delete(c.live, w.id)
	c.mu.Unlock()
	w.cgroup.Discard()
	if w.tail != nil {
		_ = w.tail.close()
	}
	if w.dir != nil {
		_ = w.dir.Close()
		if err := c.erase(w); err != nil {
			c.cfg.Logger.Warn("worker files not removed", "worker", string(w.id), "error", err)
		}
	}
	if w.release != nil {
		w.release()
	}
	if w.port != 0 {
		c.ports.give(w.port, time.Now())
	}
	if w.proc == nil {
		c.memory.ledger.Release(string(w.id)) // of a process: when its memory is back
	}
}

func (c *hostCrew) stop(w *worker, grace time.Duration) bool {
	w.asked.Store(true)
	if w.proc == nil {
		if w.unbind.CompareAndSwap(false, true) {
			close(w.unbound)
		}
		return true
	}
	c.at("stop/begin")
	if err := c.note(w, stateStopping); err != nil {
		c.cfg.Logger.Debug("worker record", "worker", string(w.id), "error", err)
	}
	c.at("stop/recorded")
	gone := w.proc.Stop(grace)
	c.at("stop/done")
	return gone
}
