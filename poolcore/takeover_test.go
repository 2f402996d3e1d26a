package poolcore

import (
	"slices"
	"testing"
	"time"

	"github.com/llorch/llorch/poolcore/engine"
)

// TestJournalsThatLeadNowhere (PCO-47): where the program no longer knows the
// configuration of a reload, its journal goes, lest a later run takes it up.
func TestJournalsThatLeadNowhere(t *testing.T) {
	from, to := filled(t, demo("p")), filled(t, demo("p"))
	for name, edit := range map[string]func(*reloadJournal){
		"the new":  func(j *reloadJournal) { j.To.Engine = "gone" },
		"the old":  func(j *reloadJournal) { j.From.Engine = "gone" },
		"both are": func(j *reloadJournal) { j.From.Engine, j.To.Engine = "gone", "gone" },
	} {
		to.Model = "n"
		j := reloadJournal{Pool: "p", From: from, To: to, Phase: phaseSwitching}
		edit(&j)
		c := &fakeCrew{left: []reloadJournal{j}, found: []adopted{survivor(from, 0)}}
		hosted(t, c, func(t *testing.T, h *Host) {
			time.Sleep(time.Minute)
			if got := c.got(&c.phases); !slices.Equal(got, []string{""}) {
				t.Errorf("%s: journal = %q, want it removed", name, got)
			}
		})
	}
}

// TestOneNewEngineIsEnough (PCO-47): one that proves itself finishes a reload, though
// another did not live.
func TestOneNewEngineIsEnough(t *testing.T) {
	from := testEdition(2)
	to := &edition{cfg: PoolConfig{ID: "n"}, rules: from.rules}
	s := &script{t: t, s: emptyPool()}
	s.feed(evStart{op: 1, keep: true, edition: from, resume: to, found: []found{{at: 0, edition: to, worker: &worker{}}, {at: 1, edition: to, worker: &worker{}}}})
	s.crash(engine.ClassKilled)
	s.feed(evTick{})
	s.feed(evProbed{gen: s.gen(), probe: probe{ready: true}})
	if s.s.reload.phase != phaseSwitching || s.s.reload.next == phaseRollback || len(s.s.places) != 2 {
		t.Errorf("reload %s → %s with %d places, want both new ones", s.s.reload.phase, s.s.reload.next, len(s.s.places))
	}
}

// TestStopDuringResumedReload (PCO-47): an orderly end leaves no journal; engines that
// are left running keep theirs.
func TestStopDuringResumedReload(t *testing.T) {
	from, to := filled(t, demo("p")), filled(t, demo("p"))
	to.Model = "n"
	for _, wait := range []time.Duration{0, time.Second, 25 * time.Second, 40 * time.Second} {
		c := &fakeCrew{
			left: []reloadJournal{{Pool: "p", From: from, To: to, Phase: phaseAlongside}}, startIn: 20 * time.Second,
			found: []adopted{survivor(from, 0), survivor(to, 0)},
		}
		hosted(t, c, func(*testing.T, *Host) { time.Sleep(wait) })
		if got := c.phases; len(got) == 0 || got[len(got)-1] != "" {
			t.Errorf("stopped after %v: journal = %q", wait, got)
		}
	}
}

// TestConfiguredPoolIsBroughtBack: what the program says counts, also when an
// unfinished reload led elsewhere.
func TestConfiguredPoolIsBroughtBack(t *testing.T) {
	from, to := filled(t, demo("p")), filled(t, demo("p"))
	to.Model = "n"
	for _, x := range []struct {
		model     string // of the program's configuration
		reloading bool
	}{{"o", false}, {"o", true}, {"m", true}, {"n", true}} {
		own := demo("p")
		own.Model = x.model
		c := &fakeCrew{found: []adopted{survivor(from, 0)}, edit: func(cfg *Config) { cfg.Pools = []PoolConfig{own} }}
		if x.reloading {
			c.found = append(c.found, survivor(to, 0))
			c.left = []reloadJournal{{Pool: "p", From: from, To: to, Phase: phaseAlongside}}
		}
		hosted(t, c, func(t *testing.T, h *Host) {
			time.Sleep(2 * time.Minute)
			if got := models(h.Pool("p")); !slices.Equal(got, []string{x.model}) {
				t.Errorf("%+v: models %v", x, got)
			}
		})
	}
}
