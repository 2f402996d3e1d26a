package poolcore

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/llorch/llorch/gpuinfo"
	"github.com/llorch/llorch/inputvalidation"
	"github.com/llorch/llorch/poolcore/engine"
)

// How memory is watched: what a load takes is its peak within learnFor after it is
// ready; what an ended worker had must be back within returnIn.
const (
	learnFor    = 5 * time.Second
	learnEvery  = 500 * time.Millisecond
	maskEvery   = 10 * time.Second
	returnIn    = 10 * time.Second
	returnEvery = 100 * time.Millisecond
	returnSlow  = time.Second
	returnSlack = 256 << 20 // bytes; 5 % of the device where that is more
	maxHolders  = 8
)

// notReturned is the code of memory that an ended worker still holds.
const notReturned Code = "vram_not_returned"

// watchMemory learns what a worker that has just become ready uses, and looks from
// then on whether it stays on its devices.
func (c *hostCrew) watchMemory(w *worker) {
	if len(w.plan.units) == 0 {
		c.memory.ledger.Realise(string(w.id))
		return
	}
	var peak uint64
	rough := true
	begin := time.Now()
	every := time.NewTicker(learnEvery)
	defer every.Stop()
	learning := true
	finish := func() {
		if learning && peak > 0 {
			c.memory.table.Learn(w.plan.key, peak, w.plan.free, rough, time.Now())
			if err := c.memory.persist(); err != nil {
				c.cfg.Logger.Warn("fit table", "error", err)
			}
		}
		learning = false
	}
	defer finish()
	for {
		if u, ok := c.measure(w); ok && u.sum() >= peak && learning {
			peak, rough = u.sum(), !u.exact
			w.took.Store(peak)
		}
		if learning && time.Since(begin) >= learnFor {
			finish()
			every.Reset(maskEvery)
		}
		select {
		case <-every.C:
		case <-w.ended:
			return
		case <-c.ctx.Done():
			return
		}
	}
}

// loadTook is the most memory that one of the workers was seen to use when it was
// loaded, 0 where nothing was learned yet.
func loadTook(workers []*worker) (most uint64) {
	for _, w := range workers {
		most = max(most, w.took.Load())
	}
	return most
}

// usage is what a worker has on its devices: by its own processes where exact, else
// by what the devices have more in use than before.
type usage struct {
	by      map[string]uint64 // UUID → bytes
	exact   bool
	strayed bool // it is seen on a device outside its mask
}

func (u usage) sum() (sum uint64) {
	for _, n := range u.by {
		sum += n
	}
	return sum
}

// usage reads what the worker uses now; false: nobody can tell.
func (c *hostCrew) usage(ctx context.Context, w *worker) (usage, bool) {
	u := usage{by: map[string]uint64{}}
	if list, told := c.memory.processes(ctx); told {
		pids := w.members.living(w.proc)
		for _, p := range list {
			switch {
			case !pids[p.PID]:
			case !w.plan.has(p.UUID) && w.plan.mask.Restricts():
				u.strayed = true
			case p.Used != nil:
				u.by[p.UUID] += *p.Used
				u.exact = true
			}
		}
	}
	ok := u.exact
	if !ok {
		u.by, ok = c.deviceGrowth(ctx, w)
	}
	return u, ok
}

// measure notes what the worker uses, and gives it up when it is seen on devices
// that are not its own.
func (c *hostCrew) measure(w *worker) (usage, bool) {
	ctx, cancel := context.WithTimeout(c.ctx, 2*time.Second)
	defer cancel()
	u, ok := c.usage(ctx, w)
	if u.strayed {
		w.fault.Store(&failure{class: engine.ClassMaskViolation, exitCode: -1, message: "the engine uses a device outside its mask"})
	}
	if u.exact {
		w.members.mu.Lock()
		w.members.gpu = true
		w.members.mu.Unlock()
	}
	if ok {
		c.memory.ledger.Measure(string(w.id), u.by)
	} else {
		c.memory.ledger.Realise(string(w.id))
	}
	return u, ok
}

// deviceGrowth is what the worker's units have more in use than before it began.
// Where other workers share a unit nobody can tell whose it is.
func (c *hostCrew) deviceGrowth(ctx context.Context, w *worker) (map[string]uint64, bool) {
	now, ok := c.inUse(ctx, w.plan.units)
	if !ok || w.plan.before == nil { // nil: an earlier run knew it
		return nil, false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	out := map[string]uint64{}
	for _, u := range w.plan.units {
		for id, other := range c.live {
			if id != w.id && other.plan.has(u.UUID) {
				return nil, false
			}
		}
		out[u.UUID] = now[u.UUID] - min(now[u.UUID], w.plan.before[u.UUID])
	}
	return out, true
}

func (p plan) has(uuid string) bool {
	return slices.ContainsFunc(p.units, func(u gpuinfo.Unit) bool { return u.UUID == uuid })
}

// inUse reads the bytes in use on each unit.
func (c *hostCrew) inUse(ctx context.Context, units []gpuinfo.Unit) (map[string]uint64, bool) {
	s, err := c.memory.snapshot(ctx)
	if err != nil || s.Stale {
		return nil, false
	}
	all := map[string]uint64{}
	for _, u := range s.Units() {
		if m := u.Memory(); m.Total != nil && m.Free != nil {
			all[u.UUID] = *m.Total - min(*m.Total, *m.Free)
		}
	}
	out := map[string]uint64{}
	for _, u := range units {
		n, ok := all[u.UUID]
		if !ok {
			return nil, false
		}
		out[u.UUID] = n
	}
	return out, true
}

// settleMemory watches, beside the loop, that the memory of an ended worker comes
// back. Until it is back nobody else is promised it.
func (c *hostCrew) settleMemory(w *worker) {
	if len(w.plan.units) == 0 || c.memory.devices == nil {
		c.memory.ledger.Release(string(w.id))
		return
	}
	back := make(chan struct{})
	place := placeName(w.cfg.ID, w.at)
	c.mu.Lock()
	c.returning[place] = back
	c.mu.Unlock()
	c.beside.Go(func() {
		c.awaitReturn(w)
		c.awaitFresh()
		c.memory.ledger.Release(string(w.id))
		close(back)
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.returning[place] == back {
			delete(c.returning, place)
		}
	})
}

func placeName(pool string, at int) string { return pool + "-r" + strconv.Itoa(at) }

// awaitMemory waits for the memory of the place's last worker, but not for ever:
// after that the preflight sees what is missing.
func (c *hostCrew) awaitMemory(ctx context.Context, pool string, at int) {
	c.mu.Lock()
	back := c.returning[placeName(pool, at)]
	c.mu.Unlock()
	if back == nil {
		return
	}
	t := time.NewTimer(returnIn)
	defer t.Stop()
	select {
	case <-back:
	case <-t.C:
	case <-ctx.Done():
	}
}

// awaitReturn returns when the memory is back or the host ends; it complains once.
func (c *hostCrew) awaitReturn(w *worker) {
	begin := time.Now()
	every := time.NewTicker(returnEvery)
	defer every.Stop()
	for told := false; ; {
		holders, back := c.returned(w)
		if back {
			c.memory.renewed(c.ctx, time.Now())
			return
		}
		if !told && time.Since(begin) >= returnIn {
			told = true
			every.Reset(returnSlow)
			f := failure{class: engine.ClassVRAMLeak, code: notReturned, exitCode: -1, message: "memory of an ended worker is still in use" + holders}
			c.cfg.Logger.Warn("vram not returned", "pool", w.cfg.ID, "worker", string(w.id), "holders", holders)
			c.tell(w.cfg.ID, f)
		}
		select {
		case <-every.C:
		case <-c.ctx.Done():
			return
		}
	}
}

// awaitFresh returns when the picture of the devices is newer than the call, so that
// nobody decides on one that shows memory in use which has come back.
func (c *hostCrew) awaitFresh() {
	since := time.Now()
	ctx, cancel := context.WithTimeout(c.ctx, 2*time.Second)
	defer cancel()
	every := time.NewTicker(returnEvery / 4)
	defer every.Stop()
	for {
		if s, err := c.memory.snapshot(ctx); err == nil && s.At.After(since) {
			return
		}
		select {
		case <-every.C:
		case <-ctx.Done():
			return
		}
	}
}

// returned reports whether nothing is charged to the worker's pids any more or,
// where only totals are told, whether use fell to what it was, and names holders.
func (c *hostCrew) returned(w *worker) (holders string, back bool) {
	ctx, cancel := context.WithTimeout(c.ctx, 2*time.Second)
	defer cancel()
	list, told := c.memory.processes(ctx)
	w.members.mu.Lock()
	defer w.members.mu.Unlock()
	if told && w.members.gpu {
		var names []string
		for _, p := range list {
			if w.members.hadLocked(p.PID) && w.plan.has(p.UUID) {
				names = append(names, describe(p))
			}
		}
		return list2text(names), len(names) == 0
	}
	if w.plan.before == nil { // adopted, and nobody tells who uses what
		return "", true
	}
	now, ok := c.inUse(ctx, w.plan.units)
	if !ok {
		return "", false
	}
	for _, u := range w.plan.units {
		d := fitDevice(u)
		others := c.memory.ledger.Promised()[d.ID] - c.memory.ledger.ReservedBy(string(w.id), d.ID)
		if now[d.ID] > w.plan.before[d.ID]+max(returnSlack, d.Total/20)+others {
			var names []string
			for _, p := range list {
				if p.UUID == d.ID {
					names = append(names, describe(p))
				}
			}
			return list2text(names), false
		}
	}
	return "", true
}

func describe(p gpuinfo.Process) string {
	return fmt.Sprintf("pid %d (%s)", p.PID, inputvalidation.EscapeMax(p.Name, 64))
}

func list2text(names []string) string {
	if len(names) == 0 {
		return ""
	}
	return ": " + strings.Join(names[:min(len(names), maxHolders)], ", ")
}
