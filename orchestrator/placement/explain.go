package placement

import "slices"

// Explanation is why a task went where it went, or why it waits. Its JSON form
// is stable.
type Explanation struct {
	DecisionID string    `json:"decision_id"`
	At         int64     `json:"at_ns"` // on the scheduler's monotonic clock
	Generation uint64    `json:"view_generation"`
	Model      string    `json:"model"`
	Attempt    int       `json:"attempt,omitempty"`
	Total      int       `json:"candidates_total"`
	Feasible   int       `json:"candidates_feasible"`
	Filters    []Removed `json:"filters"`
	Scores     []Score   `json:"scores"` // the best eight, best first
	Winner     string    `json:"winner,omitempty"`
	RunnerUp   string    `json:"runner_up,omitempty"`
	Strategy   string    `json:"strategy"`
	TieRule    string    `json:"tie_rule"`
	Tried      []string  `json:"tried,omitempty"`  // workers that failed this task before
	Reason     string    `json:"reason,omitempty"` // without a winner: the binding filter
	Words      string    `json:"why"`              // one sentence for people
}

// Removed says how many workers one filter took out, and names one of them.
type Removed struct {
	Name    string `json:"name"`
	Removed int    `json:"removed"`
	Example string `json:"example,omitempty"`
}

// Score shows the terms that ordered a feasible worker.
type Score struct {
	Worker    string `json:"worker"`
	SlotsFree int    `json:"slots_free"`
	VRAMFree  uint64 `json:"vram_free_bytes"`
	Tried     bool   `json:"tried,omitempty"`
}

// shown is how many candidates an explanation lists.
const shown = 8

// Explain repeats a decision on the same view and request and writes down what
// it saw; the winner is the worker that [Decide] returns.
func Explain(v *View, r Request, p Policy) Explanation {
	e := Explanation{
		Generation: v.gen, Model: r.Model, Total: len(v.rows), Strategy: "least-loaded", TieRule: "node, pool, worker",
		Filters: []Removed{}, Scores: []Score{},
	}
	for _, k := range r.Tried {
		e.Tried = append(e.Tried, k.String())
	}
	best := make([]candidate, 0, shown+1)
	var removed [passed]Removed
	furthest := avoid
	for i := range v.rows {
		w := &v.rows[i]
		at := failing(w, &r)
		if at == passed {
			e.Feasible++
			best = insert(best, candidate{w.Worker, w.free, slices.Contains(r.Tried, w.Key)})
			continue
		}
		furthest = max(furthest, at)
		if removed[at].Removed++; removed[at].Example == "" {
			removed[at].Example = w.Key.String()
		}
	}
	for i, x := range removed {
		if x.Removed > 0 {
			x.Name = filterNames[i]
			e.Filters = append(e.Filters, x)
		}
	}
	for _, c := range best {
		e.Scores = append(e.Scores, Score{c.worker.Key.String(), c.free, c.worker.VRAMFree, c.tried})
	}
	switch {
	case len(best) > 0:
		e.Winner = e.Scores[0].Worker
		if len(e.Scores) > 1 {
			e.RunnerUp = e.Scores[1].Worker
		}
	case len(v.rows) == 0:
		e.Reason = "empty"
	default:
		e.Reason = filterNames[furthest]
	}
	e.Words = e.sentence()
	return e
}

// insert keeps the best candidates in order and drops what is beyond them.
func insert(best []candidate, c candidate) []candidate {
	if len(best) == shown && c.compare(best[shown-1]) > 0 {
		return best
	}
	at, _ := slices.BinarySearchFunc(best, c, candidate.compare)
	best = slices.Insert(best, at, c)
	return best[:min(shown, len(best))]
}

// reasons words the binding filters for people.
var reasons = [...]struct{ filter, words string }{
	{"empty", "No worker is registered."},
	{"avoid", "Every worker is in a pool that the request avoids."},
	{"pin", "No worker is in the pool, node or place that the request names."},
	{"engine", "No worker runs the engine that the request asks for."},
	{"model", "No worker serves the model."},
	{"ctx", "No worker of that model has a context window this large."},
	{"online", "The nodes that serve the model are not online."},
	{"ready", "The workers that serve the model are not ready yet."},
	{"draining", "The workers that serve the model are draining."},
	{"slots", "Every slot of the workers that serve the model is taken; the task starts when one is free."},
}

func (e Explanation) sentence() string {
	if e.Winner == "" {
		for _, r := range reasons {
			if r.filter == e.Reason {
				return r.words
			}
		}
		return ""
	}
	switch {
	case e.Feasible == 1:
		return "It was the only worker that could take the task."
	case e.Scores[0].Tried != e.Scores[1].Tried:
		return "It had not failed this task before."
	case e.Scores[0].SlotsFree != e.Scores[1].SlotsFree:
		return "It had more free slots than any other worker."
	case e.Scores[0].VRAMFree != e.Scores[1].VRAMFree:
		return "It had as many free slots as the next one and more free GPU memory."
	}
	return "It was equal to the next one and comes first by name."
}
