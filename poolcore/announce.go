package poolcore

import (
	"errors"
	"os"
	"strconv"
	"time"

	"github.com/llorch/llorch/inputvalidation"
	"github.com/llorch/llorch/poolcore/handoff"
	"github.com/llorch/llorch/poolcore/internal/proc"
	"github.com/llorch/llorch/poolregistry"
)

// provisionedHere is the provisioning mode of files that this package writes.
const provisionedHere = "pool"

// announce writes the worker's handoff file, or removes it.
func (c *hostCrew) announce(w *worker, pc PoolConfig, on bool) {
	if c.cfg.HandoffDir == "" {
		return
	}
	replica := "r" + strconv.Itoa(w.at)
	err := c.withHandoff(func(dir *os.Root) error {
		if !on {
			return handoff.Remove(dir, poolregistry.PoolID(pc.ID), replica)
		}
		f := handoff.File{
			Schema: 1, PoolID: poolregistry.PoolID(pc.ID), ReplicaID: replica, WorkerID: string(w.id), Engine: pc.Engine, EngineVersion: pc.EngineVersion,
			URL: w.url, DeviceMask: w.plan.mask.String(), SlotsTotal: pc.Slots, SlotsFree: pc.Slots,
			Model: handoff.Model{ID: pc.Model, Path: w.plan.path, Digest: w.plan.model.Digest}, ProvisioningMode: provisionedHere, Flags: pc.Flags,
			WrittenAt: time.Now().UTC(),
		}
		if w.proc != nil {
			f.PID = w.proc.PID()
		}
		return handoff.Write(dir, f)
	})
	if err != nil {
		c.cfg.Logger.Warn("handoff file", "worker", string(w.id), "error", err)
	}
	c.at("announce/done")
}

func (c *hostCrew) withHandoff(do func(*os.Root) error) error {
	if err := os.MkdirAll(c.cfg.HandoffDir, privateFolder); err != nil {
		return err
	}
	dir, err := os.OpenRoot(c.cfg.HandoffDir)
	if err != nil {
		return err
	}
	defer dir.Close()
	return do(dir)
}

// clearHandoff removes the files of workers of an earlier run that are gone. Those
// of engines that live stay, so that nobody misses them, and so do files that others
// put there. A pid proves nothing by itself: a stranger may have it by now.
func (c *hostCrew) clearHandoff(kept map[string]bool) {
	if c.cfg.HandoffDir == "" {
		return
	}
	err := c.withHandoff(func(dir *os.Root) error {
		tree, err := inputvalidation.OpenTree(c.cfg.HandoffDir, inputvalidation.TreeConfig{})
		if err != nil {
			return err
		}
		defer tree.Close()
		names, err := namesIn(dir, ".")
		if err != nil {
			return err
		}
		errs := []error{removeTemps(dir, ".", names)}
		for _, name := range names {
			if f, ok := ourHandoff(tree, name); ok && !kept[f.WorkerID] && !proc.Tagged(f.PID, f.WorkerID) {
				errs = append(errs, dir.Remove(name))
			}
		}
		return errors.Join(errs...)
	})
	if err != nil {
		c.cfg.Logger.Warn("handoff files of an earlier run", "error", err)
	}
}

// ourHandoff reads a file that this package wrote.
func ourHandoff(tree *inputvalidation.Tree, name string) (handoff.File, bool) {
	path, err := inputvalidation.ParseRelPath("name", name)
	if err != nil {
		return handoff.File{}, false
	}
	b, err := tree.ReadFile(path, handoff.MaxBytes)
	if err != nil {
		return handoff.File{}, false
	}
	f, err := handoff.Parse(b)
	return f, err == nil && f.ProvisioningMode == provisionedHere
}
