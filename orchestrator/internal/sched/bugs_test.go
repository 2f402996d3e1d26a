package sched_test

import "github.com/llorch/llorch/orchestrator/internal/sched"

// planted is one defect, of the core or of its executor.
type planted struct {
	breaks int
	name   string

	core     func(*sched.Core)
	effects  func(*cluster, []sched.Effect) []sched.Effect
	fence    bool // the store takes writes of an old term
	unfenced bool // a log takes tokens of every attempt
	reuse    bool // ids of a log come twice
	skip     bool // a token is left out
	forget   bool // a crash loses what was committed
	silent   bool // nobody says that a token was published
	keeps    bool // the store does not erase
}

// plantedBugs returns the list; every invariant is broken by one at least.
func plantedBugs() []planted {
	out := []planted{
		{breaks: 1, name: "an end comes twice", effects: func(_ *cluster, fx []sched.Effect) []sched.Effect {
			for _, f := range fx {
				if _, ok := f.(sched.Terminal); ok {
					return append(fx, f)
				}
			}
			return fx
		}},
		{breaks: 1, name: "a crash loses what was committed", forget: true},
		{breaks: 2, name: "an event id comes twice", reuse: true},
		{breaks: 3, name: "a token is left out", skip: true},
		{breaks: 6, name: "an old term writes", fence: true},
		{breaks: 7, name: "nobody says that a token was published", silent: true},
		{breaks: 11, name: "a log takes tokens after a cancel", unfenced: true},
		{breaks: 16, name: "the store does not erase", keeps: true},
	}
	for _, b := range sched.Bugs() {
		out = append(out, planted{breaks: b.Breaks, name: b.Name, core: b.Plant})
	}
	return out
}
