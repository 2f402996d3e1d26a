package examples_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/llorch/llorch/orchestrator/placement"
	"github.com/llorch/llorch/orchestrator/taskapi"
)

// TestExplainAsAnOperatorSeesIt: the running program says in a sentence why a task
// went where it went, why another one waits, and why one that nobody can serve is
// refused, with the reason as a word for programs (ORC-309, 310, 240).
func TestExplainAsAnOperatorSeesIt(t *testing.T) {
	t.Parallel()
	whole(t)
	sim := engine(t, "-np", "1", "--fault", "stall@token=3")
	o := controlPlane(t, t.TempDir(), "ORCHESTRATORD_ENGINES=sim="+sim.url)
	within(t, 10*time.Second, "the engine is found", func() bool { return ready(t, o) })
	explain := func(id string) (e placement.Explanation) {
		t.Helper()
		return decode[placement.Explanation](t, o.call("GET", "/v2/tasks/"+id+"/explain", "", ""), http.StatusOK)
	}
	placed := o.submit("", 100, `,"on_disconnect":"continue"`).TaskID
	within(t, 5*time.Second, "the first task runs", func() bool { return o.task("", placed).Status == "running" })
	e := explain(placed)
	if e.Winner != "static/sim/r0" || e.Words != "It was the only worker that could take the task." || e.Reason != "" || e.Total != 1 || e.Feasible != 1 || len(e.Scores) != 1 || !strings.HasSuffix(e.DecisionID, "-1") {
		t.Errorf("a placed task: %+v", e)
	}
	waiting := o.submit("", 5, "").TaskID
	e = explain(waiting)
	if e.Winner != "" || e.Reason != "slot" || e.Filter != "slots" || e.Words != "Every slot of the workers that serve the model is taken; the task starts when one is free." {
		t.Errorf("a waiting task: reason %q, filter %q: %q", e.Reason, e.Filter, e.Words)
	}
	if len(e.Without) == 0 || len(e.Filters) != 1 || e.Filters[0].Example != "static/sim/r0" {
		t.Errorf("a waiting task: filters %+v, counterfactual %+v", e.Filters, e.Without)
	}
	behind := o.submit("", 5, "").TaskID
	if e := explain(behind); e.Reason != "fair_share" || !strings.Contains(e.Words, "other tasks go first") {
		t.Errorf("a task behind another: reason %q: %q", e.Reason, e.Words)
	}

	const nobody = `{"model":"gone-70b","prompt":"x"}`
	refused := decode[taskapi.ErrorBody](t, o.call("POST", "/v2/tasks", "", nobody), http.StatusNotFound).Error
	if list, _ := refused.Details["models"].([]any); refused.Code != taskapi.ModelNotFound || len(list) != 1 || list[0] != "sim-8b" {
		t.Errorf("a model that nobody serves: %+v, want those that are served", refused)
	}
	preview := decode[struct {
		Checks      []taskapi.Check
		Explanation placement.Explanation
	}](t, o.call("POST", "/v2/tasks/preview", "", nobody), http.StatusOK)
	e = preview.Explanation
	if e.Words != "No worker serves the model." || e.Filter != "model" || e.Reason != "model" {
		t.Errorf("a preview of it: reason %q, filter %q, %q", e.Reason, e.Filter, e.Words)
	}
	var failed strings.Builder
	for _, c := range preview.Checks {
		if !c.Pass {
			failed.WriteString(c.Name + " " + string(c.Code) + ";")
		}
	}
	if !strings.Contains(failed.String(), string(taskapi.ModelNotFound)) {
		t.Errorf("checks that fail: %q", failed.String())
	}
	if res := o.call("POST", "/v2/tasks/"+placed+"/cancel", "", ""); res.StatusCode != http.StatusNoContent {
		t.Errorf("cancel = %d", res.StatusCode)
	}
	within(t, 10*time.Second, "the waiting task has its turn", func() bool { return explain(waiting).Winner != "" })
	sim.signal(syscall.SIGKILL)
	sim.wait()
	within(t, 10*time.Second, "the engine's end is known", func() bool { return !ready(t, o) })
	lost := o.submit("", 5, "").TaskID
	e = explain(lost)
	if e.Winner != "" || !strings.HasPrefix(e.Reason, "no_worker:") || e.Words != "The workers that serve the model are not ready yet." {
		t.Errorf("a task whose engine is gone: reason %q, %q", e.Reason, e.Words)
	}
	text, _ := json.Marshal(explain(waiting))
	if strings.Contains(string(text), "sky") {
		t.Errorf("an explanation holds the prompt: %s", text)
	}
}
