package poolcore

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/llorch/llorch/poolcore/internal/fit"
	"github.com/llorch/llorch/poolregistry"
)

// prepare makes the crew of real processes, unless a test brought its own.
func (h *Host) prepare() (crew, func(), error) {
	if h.crew != nil {
		return h.crew, func() {}, nil
	}
	c, release, err := openCrew(h.cfg)
	if err != nil {
		return nil, nil, err
	}
	c.mark = h.mark
	c.trouble = func(pool poolregistry.PoolID, f failure) {
		if p := h.Pool(pool); p != nil {
			p.note(evTrouble{fail: f})
		}
	}
	return c, release, nil
}

// openCrew takes the state directory. The function that it returns gives it back;
// by then every wait must have returned.
func openCrew(cfg Config) (*hostCrew, func(), error) {
	ctx, end := context.WithCancel(context.Background())
	c := &hostCrew{
		cfg: cfg, ports: newPorts(cfg.WorkerBind, cfg.Ports), client: probeClient(cfg.WorkerBind), memory: newMemory(cfg),
		left: make(chan struct{}), ctx: ctx, end: end, live: map[poolregistry.WorkerID]*worker{}, returning: map[string]chan struct{}{},
	}
	if cfg.StateDir == "" {
		return c, func() { c.end(); c.beside.Wait(); c.client.CloseIdleConnections() }, nil
	}
	if err := os.MkdirAll(cfg.StateDir, privateFolder); err != nil {
		return nil, nil, fmt.Errorf("make state directory: %w", err)
	}
	files, err := openState(cfg.StateDir)
	if err != nil {
		return nil, nil, err
	}
	unlock, err := lockDir(files.root)
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("lock state directory: %w", err), files.close())
	}
	c.files = files
	if err := c.load(); err != nil {
		unlock()
		return nil, nil, errors.Join(err, files.close())
	}
	return c, func() {
		c.end()
		c.beside.Wait()
		c.client.CloseIdleConnections()
		for _, dir := range []string{workersDir, reloadDir, "handoff"} {
			_ = files.root.Remove(dir) // stays while something is in it
		}
		if _, err := files.root.Stat(workersDir); errors.Is(err, fs.ErrNotExist) {
			_ = files.remove(instanceFile) // nobody carries it
			_ = files.remove(configuredFile)
		}
		unlock()
		_ = files.close()
	}, nil
}

// load reads the id of the state directory and what loads have taught. A damaged
// table is put aside: it is learned again.
func (c *hostCrew) load() error {
	b, err := c.files.read(instanceFile)
	if c.instance = strings.TrimSpace(string(b)); err != nil || len(c.instance) < 16 {
		c.instance = rand.Text()
		if err := c.files.write(instanceFile, []byte(c.instance+"\n")); err != nil {
			return err
		}
	}
	c.memory.save = func(b []byte) error { return c.files.write(fitFile, b) }
	b, err = c.files.read(fitFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		var table *fit.Table
		if table, err = fit.Parse(b); err == nil {
			c.memory.table = table
			return nil
		}
	}
	c.cfg.Logger.Warn("fit table is put aside", "error", err)
	return errors.Join(c.files.remove(fitFile+".bad"), c.files.root.Rename(fitFile, fitFile+".bad"))
}
