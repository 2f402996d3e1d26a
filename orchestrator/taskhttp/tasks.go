package taskhttp

import (
	"net/http"
	"strconv"

	"github.com/llorch/llorch/orchestrator"
	"github.com/llorch/llorch/orchestrator/placement"
	"github.com/llorch/llorch/orchestrator/queue"
	"github.com/llorch/llorch/orchestrator/store"
	"github.com/llorch/llorch/orchestrator/taskapi"
	"github.com/llorch/llorch/orchestrator/worker"
)

// submit is POST /v2/tasks.
func (h *handler) submit(c *call) error {
	spec, err := c.taskSpec()
	if err != nil {
		return err
	}
	a, err := h.Orchestrator.Submit(c.r.Context(), c.p, spec)
	if err != nil {
		return err
	}
	c.w.Header().Set("Location", taskURL(a.ID))
	c.budget(spec.Session)
	return c.json(http.StatusAccepted, acceptedView(a))
}

// preview is POST /v2/tasks/preview; its body is that of a submit.
func (h *handler) preview(c *call) error {
	spec, err := c.taskSpec()
	if err != nil {
		return err
	}
	p, err := h.Orchestrator.Preview(c.r.Context(), c.p, spec)
	return c.show(http.StatusOK, previewView(p), err)
}

// budget tells what is left of the session's budget, if it has one. Not to know is
// no reason to refuse anything.
func (c *call) budget(session string) {
	if session == "" {
		return
	}
	if s, err := c.h.Orchestrator.Session(c.r.Context(), c.p, session); err == nil && s.Budget > 0 {
		c.w.Header().Set("X-Budget-Tokens-Remaining", strconv.Itoa(max(s.BudgetLeft, 0)))
	}
}

// taskSpec reads the body and headers of a task.
func (c *call) taskSpec() (orchestrator.Spec, error) {
	raw, err := c.body()
	if err != nil {
		return orchestrator.Spec{}, err
	}
	req, err := taskapi.DecodeSubmit(raw)
	if err != nil {
		return orchestrator.Spec{}, err
	}
	spec, err := specOf(req)
	if err != nil {
		return spec, err
	}
	if spec.Key, err = idempotencyKey(c.r.Header); err != nil {
		return spec, err
	}
	spec.Correlation, spec.Traceparent, spec.Tenant = c.correlation, traceparent(c.r), c.r.Header.Get("X-Tenant-Id")
	spec.Deadline, err = c.deadline(req.DeadlineMS)
	return spec, err
}

// specOf carries a decoded request into the engine's words.
func specOf(s taskapi.Submit) (orchestrator.Spec, error) {
	spec := orchestrator.Spec{
		Kind: worker.Completion, Model: s.ModelName(), Engine: s.Engine, Prompt: s.Prompt, Messages: s.Messages, Inputs: s.Inputs,
		Params: worker.Params{
			Temperature: s.Temperature, TopP: s.TopP, TopK: s.TopK,
			RepetitionPenalty: s.RepetitionPenalty, Seed: s.Seed, Stop: s.Stop,
		},
		Session: s.SessionID, MaxTokens: s.MaxTokens, Expected: s.ExpectedTokens, Ctx: s.Ctx, Purposes: s.Purposes,
		Keep: s.OnDisconnect == taskapi.DisconnectContinue, Place: constraints(s.Placement),
	}
	switch {
	case len(s.Messages) > 0:
		spec.Kind = worker.Chat
	case len(s.Inputs) > 0:
		spec.Kind = worker.Kind(s.Workload)
	}
	if s.Budget != nil {
		spec.Budget = s.Budget.Tokens
	}
	var err error
	if spec.Class, err = queue.ParseClass(s.Priority); err != nil {
		return spec, taskapi.InvalidField("priority", "unknown_value")
	}
	if s.TaskID != "" {
		if spec.ID, err = store.ParseTaskID(s.TaskID); err != nil {
			return spec, taskapi.InvalidField("task_id", "syntax")
		}
	}
	spec.Regions, err = regions("regions", s.Regions)
	return spec, err
}

// constraints are the placement of a request. Places that its mode does not look
// at are left out.
func constraints(p *taskapi.Placement) placement.Constraints {
	if p == nil {
		return placement.Constraints{}
	}
	c := placement.Constraints{
		Mode: p.Mode, Avoid: p.Avoid, Version: p.Version, Features: p.Features, Quant: p.Quant,
		MinCompute: p.MinCompute, Mask: p.Mask, MinVRAM: uint64(p.MinVRAM), Spread: p.Spread,
	}
	switch p.Mode {
	case "", taskapi.ModePin:
		c.Pool, c.Node, c.Worker = p.Pool, p.Node, p.Worker
	case taskapi.ModePrefer:
		c.Prefer, c.NoFallback = p.Prefer, p.AllowFallback != nil && !*p.AllowFallback
		if len(c.Prefer) == 0 {
			c.Prefer = []string{p.Pool}
		}
	}
	return c
}

// id returns the task that the path names. What is no id at all is answered as
// an unknown task is.
func (c *call) id() (orchestrator.TaskID, error) {
	id, err := store.ParseTaskID(c.r.PathValue("id"))
	if err != nil {
		return id, taskapi.NotFound
	}
	return id, nil
}

// task is GET /v2/tasks/{id}.
func (h *handler) task(c *call) error {
	id, err := c.id()
	if err != nil {
		return err
	}
	t, err := h.Orchestrator.Task(c.r.Context(), c.p, id)
	return c.show(http.StatusOK, taskView(t), err)
}

// cancel is POST /v2/tasks/{id}/cancel; an ended task is answered 204 too.
func (h *handler) cancel(c *call) error {
	id, err := c.id()
	if err != nil {
		return err
	}
	return c.done(h.Orchestrator.Cancel(c.r.Context(), c.p, id))
}

// remove is DELETE /v2/tasks/{id}: it cancels a task that lives, and keeps its
// record.
func (h *handler) remove(c *call) error {
	id, err := c.id()
	if err != nil {
		return err
	}
	if err := h.Orchestrator.Cancel(c.r.Context(), c.p, id); err != nil {
		return err
	}
	t, err := h.Orchestrator.Task(c.r.Context(), c.p, id)
	return c.show(http.StatusAccepted, taskapi.Stopped{JobID: id.String(), Status: t.Status}, err)
}

// explain is GET /v2/tasks/{id}/explain.
func (h *handler) explain(c *call) error {
	id, err := c.id()
	if err != nil {
		return err
	}
	x, err := h.Orchestrator.Explain(c.r.Context(), c.p, id)
	return c.show(http.StatusOK, x, err)
}
