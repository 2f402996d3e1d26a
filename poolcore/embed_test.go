package poolcore

import (
	"bytes"
	"context"
	"errors"
	"iter"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/llorch/llorch/gpuinfo"
	"github.com/llorch/llorch/poolcore/catalog"
	"github.com/llorch/llorch/poolcore/engine"
	"github.com/llorch/llorch/poolcore/handoff"
	"github.com/llorch/llorch/poolregistry"
)

// beat lets the scheduler see the host and answer.
func beat(t *testing.T, h *Host, r poolregistry.BeatReply) {
	t.Helper()
	if _, err := h.Snapshot(t.Context()); err != nil {
		t.Fatal(err)
	}
	h.Reply(r)
	synctest.Wait()
}

// TestDrainWaitsForACountThatKnowsOfIt (PCO-40, PCO-44): a count from before the drain
// says nothing about requests that were sent meanwhile; a scheduler that has fallen
// silent leaves it to the engine.
func TestDrainWaitsForACountThatKnowsOfIt(t *testing.T) {
	c := &fakeCrew{}
	hosted(t, c, func(t *testing.T, h *Host) {
		p := serve(t, h, demo("p"))
		time.Sleep(time.Second)
		beat(t, h, poolregistry.BeatReply{TimeoutMS: 30_000})
		if _, err := h.Snapshot(t.Context()); err != nil { // the next beat is under way
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		drained := make(chan DrainOutcome, 1)
		go func() { o, _ := p.Drain(t.Context(), time.Hour); drained <- o }()
		time.Sleep(3 * time.Second)
		h.Reply(poolregistry.BeatReply{TimeoutMS: 30_000}) // by what was true before the drain
		time.Sleep(3 * time.Second)
		if p.Phase() != draining {
			t.Fatalf("phase = %s by a count from before the drain", p.Phase())
		}
		beat(t, h, poolregistry.BeatReply{TimeoutMS: 30_000, Active: map[poolregistry.PoolID]int{"p": 1}})
		time.Sleep(3 * time.Second)
		beat(t, h, poolregistry.BeatReply{TimeoutMS: 30_000})
		if o := <-drained; o.Forced || o.Duration < 8*time.Second || o.Duration > 10*time.Second {
			t.Errorf("outcome = %+v", o)
		}
	})
	c = &fakeCrew{busy: new(0)}
	hosted(t, c, func(t *testing.T, h *Host) {
		p := serve(t, h, demo("p"))
		beat(t, h, poolregistry.BeatReply{TimeoutMS: 30_000})
		time.Sleep(time.Second)
		if o, err := p.Drain(t.Context(), time.Hour); err != nil || o.Forced || o.Duration < 28*time.Second || o.Duration > 31*time.Second {
			t.Errorf("drain without replies = %+v, %v; want its end with the granted timeout", o, err)
		}
	})
	hosted(t, &fakeCrew{}, func(t *testing.T, h *Host) { // it cannot tell, and nobody else does
		p := serve(t, h, demo("p"))
		beat(t, h, poolregistry.BeatReply{TimeoutMS: 30_000})
		time.Sleep(time.Second)
		if o, err := p.Drain(t.Context(), time.Minute); err != nil || !o.Forced {
			t.Errorf("drain = %+v, %v", o, err)
		}
	})
}

// TestDrainAsksAnew (PCO-44): what an engine was asked before the drain says nothing
// about what came before its answer.
func TestDrainAsksAnew(t *testing.T) {
	s := begin(t, true)
	s.spawned()
	s.ready()
	s.now = s.s.due()
	s.feed(evTick{}) // asks
	s.now += time.Second
	s.feed(evDrain{op: 2, within: time.Hour})
	s.feed(evProbed{gen: s.gen(), probe: probe{ready: true, busy: new(0)}})
	if s.s.phase != draining {
		t.Fatalf("phase = %s by an answer from before the drain", s.s.phase)
	}
	s.feed(evTick{})
	s.feed(evProbed{gen: s.gen(), probe: probe{ready: true, busy: new(0)}})
	if s.s.phase != drained {
		t.Errorf("phase = %s", s.s.phase)
	}
	s.now = s.s.due()
	s.feed(evTick{})
	s.feed(evProbed{gen: s.gen(), probe: probe{ready: true, busy: new(0)}})
	if pause := s.s.due() - s.now; pause != 10*time.Second {
		t.Errorf("a drained engine is asked after %v, want 10 s", pause)
	}
}

// TestLongDrainIsNotForcedAtOnce (PCO-44): no wait is too long to be understood.
func TestLongDrainIsNotForcedAtOnce(t *testing.T) {
	hosted(t, &fakeCrew{}, func(t *testing.T, h *Host) {
		p := serve(t, h, demo("p"))
		_, release, err := p.Acquire(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		time.AfterFunc(time.Minute, release)
		if o, err := p.Drain(t.Context(), math.MaxInt64); err != nil || o.Forced {
			t.Errorf("drain = %+v, %v", o, err)
		}
		if err := p.Undrain(); err != nil {
			t.Fatal(err)
		}
		_, _, err = p.Acquire(t.Context()) // never released
		if err != nil {
			t.Fatal(err)
		}
		h.Reply(poolregistry.BeatReply{Schedule: poolregistry.Draining, DrainMS: math.MaxInt64, TimeoutMS: math.MaxInt64})
		time.Sleep(time.Hour)
		if p.Phase() != draining {
			t.Errorf("phase = %s", p.Phase())
		}
	})
}

// TestClosedNode (PCO-44): a reply that drains the node finds pools that are busy as
// soon as they are not, those that an operator drained stay so, and what is started
// meanwhile waits for the node to be opened.
func TestClosedNode(t *testing.T) {
	c := &fakeCrew{startIn: 20 * time.Second}
	hosted(t, c, func(t *testing.T, h *Host) {
		own := serve(t, h, demo("own"))
		if _, err := own.Drain(t.Context(), 0); err != nil {
			t.Fatal(err)
		}
		if _, err := h.Preload(t.Context(), demo("late")); err != nil {
			t.Fatal(err)
		}
		h.Reply(poolregistry.BeatReply{Schedule: poolregistry.Draining, DrainMS: 60_000})
		synctest.Wait()
		late := h.Pool("late")
		if late.Phase() != starting {
			t.Errorf("phase = %s: an operation under way is not broken off", late.Phase())
		}
		time.Sleep(25 * time.Second)
		if late.Phase() != drained {
			t.Errorf("phase = %s after the preload", late.Phase())
		}
		if _, err := h.Preload(t.Context(), demo("new")); !errors.Is(err, Draining) {
			t.Errorf("Preload = %v", err)
		}
		if err := late.Undrain(); err != nil || late.Phase() != drained {
			t.Errorf("Undrain = %v, phase %s: the scheduler wants it drained", err, late.Phase())
		}
		h.Reply(poolregistry.BeatReply{Schedule: poolregistry.Drained})
		h.Reply(poolregistry.BeatReply{Schedule: poolregistry.Open})
		synctest.Wait()
		if late.Phase() != ready || own.Phase() != drained {
			t.Errorf("phases %s, %s on an open node", late.Phase(), own.Phase())
		}
	})
}

// TestHalfOpenIsNotForgotten (PCO-35): a start that an open breaker admitted and that
// was broken off is not the last.
func TestHalfOpenIsNotForgotten(t *testing.T) {
	s := begin(t, true)
	for s.s.breaker.state != breakerHalfOpen {
		if s.s.places[0].status == spawning {
			s.feed(evSpawnFailed{gen: s.gen(), fail: failure{class: "killed"}})
		}
		s.untilSpawn()
	}
	s.feed(evDrain{op: 2})
	s.feed(evSpawnFailed{gen: s.gen(), fail: failure{class: "killed"}})
	if s.s.breaker.state != breakerOpen || s.s.breaker.until > s.now {
		t.Errorf("breaker = %+v", s.s.breaker)
	}
}

// TestCancelledReloadLeavesStarts (PCO-46): what is being started when a reload is taken
// back is not taken for something that has to be started again.
func TestCancelledReloadLeavesStarts(t *testing.T) {
	s := begin(t, true)
	s.feed(evReload{op: 2, edition: &edition{cfg: PoolConfig{ID: "n"}, rules: s.s.edition.rules}, strategy: strategyAlongside})
	s.feed(evStaged{op: 2})
	s.feed(evJournaled{serial: s.s.serial, fail: &failure{code: DirNotWritable}})
	s.feed(evJournaled{serial: s.s.serial})
	s.feed(evSpawnFailed{gen: s.gen(), fail: failure{class: engine.ClassMaskViolation}})
	if s.s.phase != failed || s.s.due() != never {
		t.Errorf("phase = %s, due %v; want failed for good", s.s.phase, s.s.due())
	}
}

// TestOtherDevices (PCO-39): a pool whose device is broken can be stopped and started
// on another.
func TestOtherDevices(t *testing.T) {
	gpu := &card{health: gpuinfo.Health{State: gpuinfo.Healthy}}
	hosted(t, &fakeCrew{devices: gpu}, func(t *testing.T, h *Host) {
		p := serve(t, h, onGPU("p"))
		gpu.set(gpuinfo.Health{State: gpuinfo.Broken, Recovery: gpuinfo.Reset})
		time.Sleep(time.Minute)
		if p.Phase() != failed {
			t.Fatalf("phase = %s", p.Phase())
		}
		if err := p.Stop(t.Context(), 0); err != nil {
			t.Fatal(err)
		}
		if _, err := h.Preload(t.Context(), onGPU("p")); !errors.Is(err, GPUUnhealthy) {
			t.Errorf("on the broken device: %v", err)
		}
		serve(t, h, demo("p"))
		time.Sleep(time.Minute)
		if p.Phase() != ready || p.view.Load().sick {
			t.Errorf("phase = %s without the device", p.Phase())
		}
	})
}

// TestDrainedEngineLeavesABrokenDevice (PCO-39): a device is reset when nothing holds it.
func TestDrainedEngineLeavesABrokenDevice(t *testing.T) {
	gpu := &card{health: gpuinfo.Health{State: gpuinfo.Healthy}}
	hosted(t, &fakeCrew{devices: gpu}, func(t *testing.T, h *Host) {
		p := serve(t, h, onGPU("p"))
		if _, err := p.Drain(t.Context(), time.Minute); err != nil || !p.Status().Live {
			t.Fatal(err)
		}
		gpu.set(gpuinfo.Health{State: gpuinfo.Broken, Recovery: gpuinfo.Reset})
		time.Sleep(time.Minute)
		if p.Status().Live || p.Phase() != failed {
			t.Errorf("phase = %s, live %v", p.Phase(), p.Status().Live)
		}
	})
}

// mute is a card whose provider has events in name only, like that of nvidia-smi.
type mute struct {
	card
	err   error
	asked int
}

func (c *mute) Events(context.Context) iter.Seq2[gpuinfo.Event, error] {
	return func(yield func(gpuinfo.Event, error) bool) {
		c.asked++
		yield(gpuinfo.Event{}, c.err)
	}
}

// TestDevicesWithoutNews (PCO-39): where events are not supported the snapshots say who
// must be restarted, and nobody is bothered with it; a source that fails is asked
// again.
func TestDevicesWithoutNews(t *testing.T) {
	for _, x := range []struct {
		err   error
		asked int
		warns int
	}{{gpuinfo.ErrUnsupported, 1, 0}, {errors.New("hung"), 5, 1}} {
		gpu := &mute{card: card{health: gpuinfo.Health{State: gpuinfo.Healthy}}, err: x.err}
		var log bytes.Buffer
		c := &fakeCrew{devices: gpu, log: slog.New(slog.NewTextHandler(&log, nil))}
		hosted(t, c, func(t *testing.T, h *Host) {
			p := serve(t, h, onGPU("p"))
			time.Sleep(11 * time.Second)
			gpu.set(gpuinfo.Health{State: gpuinfo.Degraded, Recovery: gpuinfo.RestartApp})
			time.Sleep(30 * time.Second)
			if len(c.times()) != 2 || p.Phase() != ready {
				t.Errorf("%d spawns, phase %s; want one restart", len(c.times()), p.Phase())
			}
		})
		if got := strings.Count(log.String(), "no news from the devices"); got != x.warns || gpu.asked != x.asked {
			t.Errorf("%v: %d lines in the log, asked %d times", x.err, got, gpu.asked)
		}
	}
}

// TestBindWaitsForRun: a handoff file may be read before the host runs.
func TestBindWaitsForRun(t *testing.T) {
	bind := func(h *Host) error {
		return h.BindExternal(handoff.Binding{Pool: "ext", Replica: "r0", URL: "http://127.0.0.1:1000", SlotsTotal: 1, Model: handoff.Model{ID: "m"}})
	}
	early := make(chan error, 1)
	c := &fakeCrew{before: func(h *Host) { go func() { early <- bind(h) }(); synctest.Wait() }}
	hosted(t, c, func(t *testing.T, h *Host) {
		if err := <-early; err != nil || h.Pool("ext") == nil {
			t.Errorf("a binding from before Run = %v", err)
		}
		c.after = func() {
			if err := bind(h); !errors.Is(err, HostStopped) {
				t.Errorf("a binding after Run = %v", err)
			}
		}
	})
}

// TestLeaveRunning (PCO-25, G8): engines and records stay when Run ends, whoever waits
// is told, and nothing is started or stopped any more.
func TestLeaveRunning(t *testing.T) {
	c := &fakeCrew{}
	c.edit = func(cfg *Config) { cfg.LeaveRunning, c.leaves = true, make(chan struct{}) }
	var first *worker
	var drain, start error
	hosted(t, c, func(t *testing.T, h *Host) {
		p := serve(t, h, demo("p"))
		if _, _, err := p.Acquire(t.Context()); err != nil {
			t.Fatal(err)
		}
		ctx := context.WithoutCancel(t.Context())
		go func() { _, drain = p.Drain(ctx, time.Hour) }()
		c.set(func() {
			c.startIn, c.slow = time.Hour, 5*time.Second
			for first = range c.live {
				break
			}
		})
		op, err := h.Preload(ctx, demo("q"))
		if err != nil {
			t.Fatal(err)
		}
		go func() { start = op.Wait(ctx) }()
		time.Sleep(time.Second) // the second engine is about to be started
	})
	if !errors.Is(drain, HostStopped) || !errors.Is(start, HostStopped) {
		t.Errorf("Drain = %v, Wait = %v", drain, start)
	}
	if _, alive := c.live[first]; !alive || len(c.live) != 1 {
		t.Errorf("%d engines are left, the first among them: %v; want it alone", len(c.live), alive)
	}
}

// TestRetiredModelIsDrained (PCO-60): the pools that use it have until its deadline.
func TestRetiredModelIsDrained(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "m.gguf")
	if err := os.WriteFile(file, []byte("GGUF\x03\x00\x00\x00"+strings.Repeat("\x00", 24)), 0o600); err != nil {
		t.Fatal(err)
	}
	cat, err := catalog.Open(t.Context(), catalog.Config{Dir: filepath.Join(dir, "models")})
	if err != nil {
		t.Fatal(err)
	}
	defer cat.Close()
	m, err := cat.Put(t.Context(), catalog.Put{Ref: "file:m.gguf", From: file})
	if err != nil {
		t.Fatal(err)
	}
	c := &fakeCrew{edit: func(cfg *Config) { cfg.Catalog = cat }}
	hosted(t, c, func(t *testing.T, h *Host) {
		pc, other := demo("p"), demo("other")
		pc.Model = m.ID
		p, q := serve(t, h, pc), serve(t, h, other)
		if _, _, err := p.Acquire(t.Context()); err != nil { // never released
			t.Fatal(err)
		}
		if err := cat.SetState(m.ID, catalog.Retired, time.Now().Add(time.Minute)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(11 * time.Second)
		if p.Phase() != draining || q.Phase() != ready {
			t.Errorf("phases %s, %s", p.Phase(), q.Phase())
		}
		time.Sleep(time.Minute)
		if p.Phase() != drained || p.Status().Live {
			t.Errorf("phase %s, live %v after the deadline", p.Phase(), p.Status().Live)
		}
	})
}

// TestLogsTellEverything (PCO-78): one record per transition and crash.
func TestLogsTellEverything(t *testing.T) {
	var log bytes.Buffer
	c := &fakeCrew{log: slog.New(slog.NewTextHandler(&log, nil))}
	hosted(t, c, func(t *testing.T, h *Host) {
		serve(t, h, onGPU("p"))
		c.crash()
		time.Sleep(5 * time.Second)
	})
	for _, want := range []string{
		"msg=transition pool=p restart_count=0 devices=0 worker=p-r0-", "pid=0 from=starting to=ready", "detail=exit",
		"msg=crash pool=p", "backoff_ms=", "class=killed", "last_error=", "signal=SIGKILL",
	} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("%q is not in the log:\n%s", want, log.String())
		}
	}
	if strings.Contains(log.String(), "token") {
		t.Error("a token is in the log")
	}
}
