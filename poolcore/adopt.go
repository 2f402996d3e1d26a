package poolcore

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"slices"
	"strings"
	"sync"

	"github.com/llorch/llorch/gpuinfo"
	"github.com/llorch/llorch/poolcore/engine"
	"github.com/llorch/llorch/poolcore/internal/proc"
	"github.com/llorch/llorch/poolregistry"
)

// adopt takes over what an earlier run left alive and ends what it can not take:
// engines without a record that fits, and members of those that died. A pid is
// touched only if it is provably the recorded one, or carries this directory's id.
func (c *hostCrew) adopt(ctx context.Context) ([]adopted, []reloadJournal) {
	if c.files == nil {
		return nil, nil
	}
	var out []adopted
	kept := map[string]bool{}
	names, err := c.files.names(workersDir)
	if err != nil {
		c.cfg.Logger.Warn("worker records", "error", err)
	}
	slices.Sort(names)
	var ends sync.WaitGroup
	for _, name := range names[:min(len(names), maxRecords)] {
		id, ok := strings.CutSuffix(name, recordSuffix)
		if !ok {
			continue
		}
		if a, ok := c.adoptOne(ctx, name, &ends); ok {
			out = append(out, a)
			kept[id] = true
		}
	}
	ends.Wait()
	lost := map[string]bool{}
	for _, name := range names {
		if id := strings.TrimSuffix(name, recordSuffix); !kept[id] && validWorker(id) {
			lost[id] = true
		}
	}
	if n := proc.KillInstance(c.instance, lost, func(tag string) bool { return kept[tag] }); n > 0 {
		c.cfg.Logger.Warn("processes of an earlier run ended", "count", n)
	}
	if c.cfg.CgroupDir != "" {
		proc.KillCgroups(c.cfg.CgroupDir, proc.Unreaped, func(name string) bool {
			tag, ours := strings.CutPrefix(name, c.instance+".")
			return !ours || kept[tag]
		})
	}
	for _, name := range names {
		if id := strings.TrimSuffix(name, recordSuffix); !kept[id] {
			if err := c.files.root.RemoveAll(workersDir + "/" + name); err != nil {
				c.cfg.Logger.Warn("files of an earlier run", "error", err)
			}
		}
	}
	c.clearHandoff(kept)
	return out, c.journals()
}

func validWorker(id string) bool {
	_, err := poolregistry.ParseWorkerID(id)
	return err == nil
}

// adoptOne judges one record; false: nothing of it is taken over, and what lives of
// it is ended beside, as ends tells.
func (c *hostCrew) adoptOne(ctx context.Context, name string, ends *sync.WaitGroup) (adopted, bool) {
	b, err := c.files.read(workersDir + "/" + name)
	var r record
	if err == nil {
		r, err = parseRecord(b)
	}
	if err != nil || string(r.WorkerID)+recordSuffix != name {
		c.cfg.Logger.Warn("worker record dropped", "error", err)
		return adopted{}, false
	}
	if r.State == stateIntent {
		return adopted{}, false // nobody noted a process; who carries the id is ended
	}
	p, err := proc.Adopt(r.Process, string(r.WorkerID), c.oldCgroup(r.WorkerID))
	if err != nil {
		if errors.Is(err, proc.ErrDifferent) {
			c.cfg.Logger.Warn("worker record dropped: its pid is not provably the worker's", "worker", string(r.WorkerID), "pid", r.Process.PID)
		}
		return adopted{}, false
	}
	pc, kind, err := c.cfg.checkPool(r.Config)
	w := c.revive(ctx, r, pc, kind, p)
	if err != nil || w == nil || r.Tied || r.State != stateRunning || c.cfg.KillOrphans {
		ends.Go(func() {
			if !p.Stop(c.cfg.Timing.StopGrace) {
				c.cfg.Logger.Warn("process of an earlier run survives", "worker", string(r.WorkerID), "pid", r.Process.PID)
			}
		})
		if w != nil {
			_ = errors.Join(w.tail.close(), w.dir.Close())
		}
		return adopted{}, false
	}
	c.ports.keep(w.port)
	c.memory.pinAs(pc, r.Devices)
	c.memory.ledger.Keep(string(w.id), w.plan.shares(pc))
	if r.Model != "" && c.cfg.Catalog != nil {
		if release, err := c.cfg.Catalog.Use(r.Model); err == nil {
			w.release = release
		}
	}
	c.enlist(w)
	c.at("adopt/one")
	return adopted{cfg: pc, kind: kind, at: r.Replica, w: w}, true
}

func (c *hostCrew) oldCgroup(id poolregistry.WorkerID) *proc.Cgroup {
	if c.cfg.CgroupDir == "" {
		return nil
	}
	return proc.FindCgroup(c.cfg.CgroupDir, c.cgroupName(id))
}

// revive makes the worker of a record again; nil: its directory or log is gone.
func (c *hostCrew) revive(ctx context.Context, r record, pc PoolConfig, kind engine.Kind, p *proc.Process) *worker {
	w := &worker{
		id: r.WorkerID, at: r.Replica, cfg: pc, kind: kind, token: r.Token, port: r.Port, proc: p, tied: r.Tied, began: r.Began,
		cgroup: c.oldCgroup(r.WorkerID), unbound: make(chan struct{}), ended: make(chan struct{}),
		probeAt: engine.Endpoint{Model: pc.Model, Client: c.client},
	}
	w.owns.Store(true) // it was ready once
	c.addresses(w)
	dir, err := c.files.root.OpenRoot(workersDir + "/" + string(r.WorkerID))
	if err != nil {
		return nil
	}
	if w.tail, err = openLogTail(dir, "engine.log", maxLogBytes, r.Token); err != nil {
		_ = dir.Close()
		return nil
	}
	w.dir = dir
	w.plan.need.Bytes, w.plan.model.ID = r.NeedBytes, r.Model
	if w.plan.mask, err = gpuinfo.ParseMask(r.Devices); err != nil {
		return w
	}
	if w.plan.cpu = w.plan.mask.CPUOnly(); w.plan.cpu || r.NeedBytes == 0 && !w.plan.mask.Restricts() {
		return w
	}
	if w.plan.devices, err = c.memory.snapshot(ctx); err == nil {
		w.plan.units, _ = w.plan.mask.Resolve(w.plan.devices) // devices that are gone have nothing to give back
	}
	return w
}

// journals reads the reloads that an earlier run did not finish.
func (c *hostCrew) journals() []reloadJournal {
	names, err := c.files.names(reloadDir)
	if err != nil {
		c.cfg.Logger.Warn("reload journals", "error", err)
		return nil
	}
	slices.Sort(names)
	var out []reloadJournal
	for _, name := range names[:min(len(names), maxPools)] {
		b, err := c.files.read(reloadDir + "/" + name)
		var j reloadJournal
		if err == nil {
			err = json.Unmarshal(b, &j)
		}
		if err != nil || j.Pool+recordSuffix != name || j.From.ID != j.Pool || j.To.ID != j.Pool {
			c.cfg.Logger.Warn("reload journal dropped")
			_ = c.files.remove(reloadDir + "/" + name)
			continue
		}
		out = append(out, j)
	}
	return out
}

// configured keeps the ids of the pools that the program's own configuration names,
// one to a line, and returns those of the run before.
func (c *hostCrew) configured(now []string) []string {
	if c.files == nil {
		return nil
	}
	text, err := c.files.read(configuredFile)
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		err = c.files.write(configuredFile, []byte(strings.Join(now, "\n")))
	}
	if err != nil {
		c.cfg.Logger.Warn("list of configured pools", "error", err)
	}
	return strings.Fields(string(text))
}

const configuredFile = "configured"
