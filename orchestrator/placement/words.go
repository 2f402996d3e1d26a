package placement

import (
	"fmt"
	"strings"
)

// filters names the filters in their order, says what it means that one of them
// keeps a task waiting, and what would have to be otherwise for one worker.
var filters = [passed]struct{ name, why, without string }{
	region:     {"region", "No worker that could take the task stands in an allowed region; it never leaves them. Add a worker there, or allow another region.", "%s fits if its region is allowed"},
	avoid:      {"avoid", "Every worker is in a pool that the request avoids.", "%s fits if its pool is not avoided"},
	pin:        {"pin", "No worker is in the pool, node or place that the request names.", "%s fits without the pin"},
	engine:     {"engine", "No worker runs the engine that the request asks for.", "%s fits with its own engine and version"},
	workload:   {"workload", "No worker of that model does this kind of work; serve a model for it.", "%s fits if it serves this kind of work"},
	model:      {"model", "No worker serves the model.", "%s fits once it serves the model"},
	digest:     {"digest", "No worker serves the model with the pinned digest; verify or reload the model there.", "%s fits once its copy of the model is the pinned one"},
	ctx:        {"ctx", "No worker of that model has a context window this large.", "%s tokens too many for %s"},
	features:   {"features", "No worker of that model has every feature that the request asks for.", "%s fits without the features it lacks"},
	quant:      {"quant", "No worker serves the model in the quantisation that the request asks for.", "%s fits with its own quantisation"},
	compute:    {"compute", "No worker of that model has GPUs of the compute capability that the request asks for.", "%[2]s fits if a compute capability lower by %[1]s is enough"},
	mask:       {"mask", "No worker of that model runs on exactly the devices that the request names.", "%s fits with its own devices"},
	vram:       {"vram", "The model needs more GPU memory than the devices of any worker have; it can never fit there. Give a pool more devices, or use a smaller model.", "%s more GPU memory on %s fits"},
	online:     {"online", "The nodes that serve the model are not online.", "%s fits once its node is online"},
	ready:      {"ready", "The workers that serve the model are not ready yet.", "%s fits once it is ready"},
	draining:   {"draining", "The workers that serve the model are draining.", "%s fits once its pool is undrained"},
	quarantine: {"quarantine", "The workers that serve the model failed just now and are being probed; the task starts when one answers.", "%s fits once it answers a probe"},
	slots:      {"slots", "Every slot of the workers that serve the model is taken; the task starts when one is free.", "%s more free slot on %s fits"},
	memory:     {"memory", "The model is on disk, but not enough GPU memory is free to load it; the task starts when other models have ended.", "%s more free memory on %s fits"},
	spread:     {"spread", "Each node that could take the task runs as many tasks of its session as it may; the task starts when one of them ends.", "%s fits once a task of the session on its node ends"},
}

// wins words what decided for the winner.
var wins = [...]struct{ by, words string }{
	{"only", "It was the only worker that could take the task."},
	{"tier", "It has the model loaded; the next one would have to load it first."},
	{"tried", "It had not failed this task before."},
	{"affinity", "It answered the session's last turn, so that the conversation may still be in its memory."},
	{"slots_free", "It had more free slots than any other worker."},
	{"vram_free_bytes", "It had as many free slots as the next one and more free GPU memory."},
	{"active", "It had as much free GPU memory as the next one and fewer running tasks."},
	{"turn", "It was its turn: it comes next after the last used one."},
	{"predicted_ns", "It was predicted to end the task before any other worker."},
	{"rest", "It was equal to the next one and rested longer."},
	{"name", "It was equal to the next one and comes first by name."},
}

// sentence says in words why a task went there or waits.
func (e *Explanation) sentence() string {
	if e.Winner == "" {
		switch {
		case e.Load != nil && e.Load.Evict == nil:
			return "No worker has the model loaded; it can be loaded on " + e.Load.Worker + "."
		case e.Load != nil:
			return "No worker has the model loaded; it can be loaded on " + e.Load.Worker + " in place of " + strings.Join(e.Load.Evict, ", ") + "."
		case e.Reason == "empty":
			return "No worker is registered."
		}
		for _, f := range filters {
			if f.name == e.Filter {
				return e.fixed() + f.why
			}
		}
		return ""
	}
	by := e.Margin.By
	if by == "vram_free_bytes" && e.Strategy == "most-vram-free" {
		return "It had more free GPU memory than any other worker."
	}
	for _, w := range wins {
		if w.by == by {
			return w.words
		}
	}
	return ""
}

// fixed says that only some places were looked at.
func (e *Explanation) fixed() string {
	switch e.Reason {
	case "pinned_pool_infeasible":
		return "The request is pinned. "
	case "no_preferred_feasible":
		return "The request takes only its preferred pools. "
	}
	return ""
}

// size words a number of bytes, rounded up, so that what it says is enough.
func size(n int64) string {
	const gib, mib = 1 << 30, 1 << 20
	if n > gib {
		tenths := n / gib * 10
		tenths += (n%gib*10 + gib - 1) / gib
		return fmt.Sprintf("%d.%d GiB", tenths/10, tenths%10)
	}
	return fmt.Sprintf("%d MiB", n/mib+flag(n%mib != 0))
}
