package poolcore

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"sync"
	"testing"
	"time"

	"github.com/llorch/llorch/gpuinfo"
	"github.com/llorch/llorch/poolcore/engine"
)

// card is a provider of one GPU whose health a test decides, and its events.
type card struct {
	mu     sync.Mutex
	health gpuinfo.Health
	events chan gpuinfo.Event
}

func (c *card) Name() string { return "card" }

func (c *card) Snapshot(context.Context) (gpuinfo.Snapshot, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	total := uint64(24 << 30)
	return gpuinfo.Snapshot{Reason: gpuinfo.OK, At: time.Now(), Devices: []gpuinfo.Device{{
		UUID: "GPU-0a000000-0000-0000-0000-000000000001", BusID: "0000:01:00.0", Vendor: "nvidia", Health: c.health,
		Memory: gpuinfo.Memory{Kind: gpuinfo.Dedicated, Total: &total, Free: &total},
	}}}, nil
}

func (c *card) set(h gpuinfo.Health) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.health = h
}

// eventful is a card that is an EventSource.
type eventful struct{ card }

func (c *eventful) Events(ctx context.Context) iter.Seq2[gpuinfo.Event, error] {
	return func(yield func(gpuinfo.Event, error) bool) {
		for {
			select {
			case <-ctx.Done():
				return
			case e := <-c.events:
				if !yield(e, nil) {
					return
				}
			}
		}
	}
}

func onGPU(id string) PoolConfig {
	pc := demo(id)
	pc.Devices = "0"
	return pc
}

// TestUnhealthyDevice (PCO-39): what runs on it has 30 s, then the pool is failed
// with GPU_UNHEALTHY and nothing is started, until the device is healthy.
func TestUnhealthyDevice(t *testing.T) {
	gpu := &card{health: gpuinfo.Health{State: gpuinfo.Healthy}}
	c := &fakeCrew{devices: gpu}
	hosted(t, c, func(t *testing.T, h *Host) {
		p, other := serve(t, h, onGPU("p")), serve(t, h, demo("cpu"))
		time.Sleep(11 * time.Second)
		_, release, err := p.Acquire(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer release()
		gpu.set(gpuinfo.Health{State: gpuinfo.Broken, Recovery: gpuinfo.Reset})
		time.Sleep(11 * time.Second)
		if p.Phase() != draining || other.Phase() != ready {
			t.Fatalf("phase = %s, of the pool without a device %s", p.Phase(), other.Phase())
		}
		time.Sleep(35 * time.Second)
		spawned := len(c.times())
		if s := p.Status(); s.State != "failed" || s.Live || s.LastError.Code != string(GPUUnhealthy) {
			t.Errorf("status = %+v, %+v", s, s.LastError)
		}
		if _, err := h.Preload(t.Context(), onGPU("p")); !errors.Is(err, GPUUnhealthy) {
			t.Errorf("Preload = %v", err)
		}
		time.Sleep(10 * time.Minute)
		if len(c.times()) != spawned {
			t.Error("something was started on the device")
		}
		gpu.set(gpuinfo.Health{State: gpuinfo.Healthy})
		time.Sleep(30 * time.Second)
		if p.Phase() != ready {
			t.Errorf("phase = %s after the device recovered", p.Phase())
		}
	})
}

// TestDeviceAsksForRestart (PCO-39): by an event where there are events, else by
// the snapshot, once.
func TestDeviceAsksForRestart(t *testing.T) {
	for _, events := range []bool{false, true} {
		t.Run(fmt.Sprintf("events %v", events), func(t *testing.T) {
			gpu := &eventful{card{health: gpuinfo.Health{State: gpuinfo.Healthy}}}
			c := &fakeCrew{devices: &gpu.card}
			if events {
				c.devices = gpu
			}
			hosted(t, c, func(t *testing.T, h *Host) {
				p := serve(t, h, onGPU("p"))
				time.Sleep(11 * time.Second)
				if events {
					h.happened(t.Context(), gpuinfo.Event{UUID: "GPU-0a000000-0000-0000-0000-000000000001", XID: 13, Action: gpuinfo.RestartApp, At: time.Now()})
				} else {
					gpu.set(gpuinfo.Health{State: gpuinfo.Degraded, Recovery: gpuinfo.RestartApp})
				}
				time.Sleep(40 * time.Second)
				if len(c.times()) != 2 || p.Phase() != ready || p.Status().LastError == nil {
					t.Errorf("%d spawns, phase %s; want one restart", len(c.times()), p.Phase())
				}
				b, err := h.Snapshot(t.Context())
				if err != nil || len(b.Events) != 1 || b.Events[0].Class != engine.ClassDriverReset {
					t.Errorf("events = %+v, %v", b.Events, err)
				}
			})
		})
	}
}
