package poolcore

import (
	"context"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"

	"github.com/llorch/llorch/gpuinfo"
	"github.com/llorch/llorch/poolcore/engine"
	"github.com/llorch/llorch/poolcore/internal/proc"
)

const theUUID = "GPU-00000001-0000-0000-0000-000000000000"

// told is a provider of one device whose process list a test writes.
type told struct {
	gpuinfo.Provider
	list atomic.Pointer[[]gpuinfo.Process]
}

func newTold() *told {
	total, free := uint64(16<<30), uint64(16<<30)
	return &told{Provider: gpuinfo.Static(gpuinfo.Snapshot{Devices: []gpuinfo.Device{{
		UUID: theUUID, Name: "Fake", Vendor: "nvidia", Health: gpuinfo.Health{State: gpuinfo.Healthy},
		Memory: gpuinfo.Memory{Kind: gpuinfo.Dedicated, Total: &total, Free: &free},
	}}})}
}

func (f *told) Processes(context.Context) ([]gpuinfo.Process, error) { return *f.list.Load(), nil }

func (f *told) tell(pid int, uuid string, used uint64) {
	f.list.Store(&[]gpuinfo.Process{{PID: pid, UUID: uuid, Name: "x", Used: &used}})
}

// edgeCrew is a crew of its own, and what the tests change of it.
func edgeCrew(t *testing.T, edit func(*Config)) *hostCrew {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cfg := Config{
		NodeID: "n", StateDir: filepath.Join(t.TempDir(), "state"), Binaries: map[string]string{"simulator": self},
		Engines: []engine.Kind{engine.Simulator{Args: []string{"sleeper"}}}, Ports: PortRange{First: 19000, Last: 19009},
	}
	edit(&cfg)
	c, release, err := openCrew(cfg.withDefaults())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(release)
	return c
}

// asleep is a worker on the first device of the crew whose process does nothing.
func asleep(t *testing.T, c *hostCrew) *worker {
	t.Helper()
	s, err := c.memory.snapshot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	self, _ := os.Executable()
	p, err := proc.Start(proc.Spec{Path: self, Args: []string{"sleeper"}, Tag: "p-r0-" + t.Name()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Stop(0) })
	log := filepath.Join(t.TempDir(), "engine.log")
	if err := os.WriteFile(log, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	root, err := os.OpenRoot(filepath.Dir(log))
	if err != nil {
		t.Fatal(err)
	}
	tail, err := openLogTail(root, "engine.log", maxLogBytes, "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = tail.close(), root.Close() })
	mask, err := gpuinfo.ParseMask(theUUID)
	if err != nil {
		t.Fatal(err)
	}
	return &worker{id: "p-r0-x", proc: p, tail: tail, port: 1, plan: plan{units: s.Units(), mask: mask}, ended: make(chan struct{})}
}
