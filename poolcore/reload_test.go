package poolcore

import (
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/llorch/llorch/poolcore/engine"
)

// reloadTo reloads p and returns the operation's error.
func reloadTo(t *testing.T, p *Pool, r ReloadRequest) error {
	t.Helper()
	op, err := p.Reload(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	return op.Wait(t.Context())
}

func models(p *Pool) (out []string) {
	for w := range p.Workers() {
		if w.Usable() {
			out = append(out, w.ModelRef)
		}
	}
	return out
}

// TestReloadAlongside (PCO-45, PCO-47): place after place, with no instant without
// a ready worker; ids of places stay, the journal is written before and removed
// after, and the handoff file of the new worker is there before the old one goes.
func TestReloadAlongside(t *testing.T) {
	c := &fakeCrew{startIn: 3 * time.Second}
	hosted(t, c, func(t *testing.T, h *Host) {
		pc := demo("p")
		pc.Replicas, pc.Quant, pc.VRAMDeclared = 2, "q4_0", 1<<30
		p := serve(t, h, pc)
		var gap time.Duration
		done := make(chan struct{})
		go func() {
			for {
				select {
				case <-done:
					return
				case <-time.After(time.Millisecond):
					if !p.Status().Ready {
						gap += time.Millisecond
					}
				}
			}
		}()
		if err := reloadTo(t, p, ReloadRequest{Model: "n", EngineVersion: "2"}); err != nil {
			t.Fatal(err)
		}
		close(done)
		synctest.Wait()
		if gap != 0 {
			t.Errorf("%v without a ready worker, want 0", gap)
		}
		if got := models(p); !slices.Equal(got, []string{"n", "n"}) {
			t.Errorf("models = %v", got)
		}
		if s := p.Status(); s.State != "ready" || s.EngineVersion != "2" || s.LastError != nil || s.ModelsLoaded[0] != "n" || p.Config().Replicas != 2 || p.Config().Quant != "" || p.Config().VRAMDeclared != 0 {
			t.Errorf("status = %+v", s)
		}
		if got := c.got(&c.phases); !slices.Equal(got, []string{phaseAlongside, ""}) {
			t.Errorf("journal = %q", got)
		}
		if got := c.got(&c.files); !slices.Equal(got, []string{"+m", "+m", "+n", "-m", "+n", "-m"}) {
			t.Errorf("handoff files = %q", got)
		}
		if s := h.Stats(); s.Reloads != 1 {
			t.Errorf("reloads = %d", s.Reloads)
		}
		op, err := p.Reload(t.Context(), ReloadRequest{Model: "n"})
		if err != nil || op.State() != "done" || len(c.times()) != 4 {
			t.Errorf("the same configuration: %v, %d spawns; want done at once", err, len(c.times()))
		}
	})
}

// TestReloadInPlace (PCO-45): what does not fit beside goes first, and only when it
// is idle; a second reload is refused meanwhile.
func TestReloadInPlace(t *testing.T) {
	c := &fakeCrew{unfit: map[string]bool{"n": true}}
	hosted(t, c, func(t *testing.T, h *Host) {
		p := serve(t, h, demo("p"))
		_, release, err := p.Acquire(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		op, err := p.Reload(t.Context(), ReloadRequest{Model: "n", Within: time.Hour})
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		if p.Phase() != reloading || op.State() != "running" || len(c.times()) != 1 {
			t.Errorf("phase %s, %d spawns while a slot is taken", p.Phase(), len(c.times()))
		}
		if _, err := p.Reload(t.Context(), ReloadRequest{Model: "o"}); !errors.Is(err, PoolBusy) {
			t.Errorf("a second reload = %v", err)
		}
		release()
		if err := op.Wait(t.Context()); err != nil || !slices.Equal(models(p), []string{"n"}) {
			t.Errorf("Wait = %v, models %v", err, models(p))
		}
		if got := c.got(&c.phases); !slices.Equal(got, []string{phaseDraining, phaseSwitching, ""}) || c.most != 1 {
			t.Errorf("journal = %q, %d workers at once", got, c.most)
		}
	})
}

// TestReloadRollsBackProcess (PCO-46): the new engine does not start, the old one
// serves again, with either strategy; both failing is said so, and supervision goes
// on with the old configuration.
func TestReloadRollsBackProcess(t *testing.T) {
	for _, strategy := range []string{strategyAlongside, strategyInPlace} {
		t.Run(strategy, func(t *testing.T) {
			c := &fakeCrew{startIn: 2 * time.Second, broken: map[string]bool{"bad": true}}
			hosted(t, c, func(t *testing.T, h *Host) {
				p := serve(t, h, demo("p"))
				err := reloadTo(t, p, ReloadRequest{Model: "bad", Strategy: strategy})
				crash, ok := errors.AsType[*CrashError](err)
				if !errors.Is(err, ReloadRolledBack) || !ok || crash.Class != engine.ClassKilled {
					t.Fatalf("Wait = %v, want RELOAD_ROLLED_BACK and why", err)
				}
				if !slices.Equal(models(p), []string{"m"}) || p.Config().Model != "m" || p.Phase() != ready {
					t.Errorf("models %v, phase %s", models(p), p.Phase())
				}
				if got := c.got(&c.phases); got[len(got)-1] != "" || got[len(got)-2] != phaseRollback {
					t.Errorf("journal = %q", got)
				}
				if s := h.Stats(); s.ReloadFailures[string(ReloadRolledBack)] != 1 {
					t.Errorf("failures = %v", s.ReloadFailures)
				}
			})
		})
	}
	c := &fakeCrew{broken: map[string]bool{}}
	hosted(t, c, func(t *testing.T, h *Host) {
		p := serve(t, h, demo("p"))
		c.set(func() { c.broken["bad"], c.broken["m"] = true, true })
		if err := reloadTo(t, p, ReloadRequest{Model: "bad", Strategy: strategyInPlace}); !errors.Is(err, RollbackFailed) {
			t.Errorf("Wait = %v, want RELOAD_ROLLBACK_FAILED", err)
		}
		if s := p.Status(); s.Ready || s.State != "failed" && s.State != "initializing" || s.LastError.Code != string(RollbackFailed) && s.LastError.Code != string(WorkerStartFailed) {
			t.Errorf("status = %+v", s)
		}
		c.set(func() { c.broken["m"] = false })
		time.Sleep(time.Minute)
		if !slices.Equal(models(p), []string{"m"}) {
			t.Errorf("supervision does not bring the old engine back: %v", models(p))
		}
	})
}

// TestReloadStageFails and drain deadlines (PCO-46): nothing is touched, or the old
// engine serves again; with Force it goes.
func TestReloadStageFails(t *testing.T) {
	c := &fakeCrew{absent: map[string]bool{"none": true}, unfit: map[string]bool{"n": true}}
	hosted(t, c, func(t *testing.T, h *Host) {
		p := serve(t, h, demo("p"))
		err := reloadTo(t, p, ReloadRequest{Model: "none"})
		if !errors.Is(err, ReloadStageFailed) || !errors.Is(err, ModelMissing) || len(c.times()) != 1 || p.Phase() != ready {
			t.Errorf("Wait = %v, %d spawns, phase %s", err, len(c.times()), p.Phase())
		}
		_, release, err := p.Acquire(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer release()
		began := time.Now()
		err = reloadTo(t, p, ReloadRequest{Model: "n", Within: 10 * time.Second})
		if took := time.Since(began); !errors.Is(err, ReloadDrainTimeout) || took < 10*time.Second || took > 11*time.Second {
			t.Errorf("Wait = %v after %v", err, took)
		}
		if len(c.times()) != 1 || !slices.Equal(models(p), []string{"m"}) {
			t.Errorf("%d spawns, models %v", len(c.times()), models(p))
		}
		if err := reloadTo(t, p, ReloadRequest{Model: "n", Within: time.Second, Force: true}); err != nil || !slices.Equal(models(p), []string{"n"}) {
			t.Errorf("forced: %v, models %v", err, models(p))
		}
		if _, err := p.Reload(t.Context(), ReloadRequest{Strategy: "SECRET"}); !errors.Is(err, InvalidParams) {
			t.Errorf("strategy = %v", err)
		}
	})
}

// TestCancelReload: cancelled in time, the old engine serves, and the operation
// says so.
func TestCancelReload(t *testing.T) {
	hosted(t, &fakeCrew{startIn: 20 * time.Second}, func(t *testing.T, h *Host) {
		p := serve(t, h, demo("p"))
		op, err := p.Reload(t.Context(), ReloadRequest{Model: "n"})
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Second)
		op.Cancel()
		if err := op.Wait(t.Context()); !errors.Is(err, Cancelled) || op.State() != "cancelled" {
			t.Errorf("Wait = %v, state %s", err, op.State())
		}
		if !slices.Equal(models(p), []string{"m"}) {
			t.Errorf("models = %v", models(p))
		}
	})
}

// TestUnfinishedReloadIsCompleted (PCO-47, G6): after a restart of the program a
// new engine that proves itself finishes the reload; without one the old
// configuration comes back.
func TestUnfinishedReloadIsCompleted(t *testing.T) {
	from, to := filled(t, demo("p")), filled(t, demo("p"))
	to.Model = "n"
	for name, x := range map[string]struct {
		phase  string
		alive  []PoolConfig
		broken string
		want   string
		spawns int
	}{
		"alongside, both alive":     {phaseAlongside, []PoolConfig{from, to}, "", "n", 0},
		"alongside, only the old":   {phaseAlongside, []PoolConfig{from}, "", "m", 0},
		"alongside, the new fails":  {phaseAlongside, []PoolConfig{from, to}, "n", "m", 0},
		"switching, only the new":   {phaseSwitching, []PoolConfig{to}, "", "n", 0},
		"switching, nothing alive":  {phaseSwitching, nil, "", "m", 1},
		"rollback, the old is back": {phaseRollback, []PoolConfig{from}, "", "m", 0},
	} {
		t.Run(name, func(t *testing.T) {
			c := &fakeCrew{left: []reloadJournal{{Pool: "p", From: from, To: to, Phase: x.phase}}, broken: map[string]bool{x.broken: true}}
			for _, pc := range x.alive {
				c.found = append(c.found, survivor(pc, 0))
			}
			hosted(t, c, func(t *testing.T, h *Host) {
				time.Sleep(2 * time.Minute)
				p := h.Pool("p")
				if p == nil || !slices.Equal(models(p), []string{x.want}) || p.Config().Model != x.want || p.Phase() != ready {
					t.Fatalf("models %v, phase %s", models(p), p.Phase())
				}
				if len(c.times()) != x.spawns {
					t.Errorf("%d spawns, want %d", len(c.times()), x.spawns)
				}
				if got := c.got(&c.phases); len(got) == 0 || got[len(got)-1] != "" {
					t.Errorf("the journal stands: %q", got)
				}
			})
		})
	}
}

// filled is pc as a record holds it: with its defaults.
func filled(t *testing.T, pc PoolConfig) PoolConfig {
	t.Helper()
	cfg := Config{NodeID: "n", StateDir: "/state", Binaries: map[string]string{"simulator": "/bin/true"}}.withDefaults()
	pc, _, err := cfg.checkPool(pc)
	if err != nil {
		t.Fatal(err)
	}
	return pc
}

// TestAdoption (PCO-27, G8): engines of an earlier run serve without a spawn when
// they prove themselves, and are replaced after 30 s when they do not; another
// configuration of the program takes over without a gap.
func TestAdoption(t *testing.T) {
	pc := filled(t, demo("p"))
	c := &fakeCrew{found: []adopted{survivor(pc, 0)}}
	hosted(t, c, func(t *testing.T, h *Host) {
		time.Sleep(time.Second)
		if p := h.Pool("p"); !p.Status().Ready || len(c.times()) != 0 || p.Config().Model != "m" {
			t.Errorf("status = %+v, %d spawns", p.Status(), len(c.times()))
		}
		if _, err := h.Preload(t.Context(), demo("p")); err != nil {
			t.Errorf("an identical preload = %v", err)
		}
	})
	c = &fakeCrew{found: []adopted{survivor(pc, 0)}, startIn: 40 * time.Second}
	hosted(t, c, func(t *testing.T, h *Host) {
		began := time.Now()
		for len(c.times()) == 0 && time.Since(began) < 5*time.Minute {
			time.Sleep(100 * time.Millisecond)
		}
		if took := time.Since(began); took < 30*time.Second || took > 33*time.Second {
			t.Errorf("given up after %v, want 30 s", took)
		}
	})
}
