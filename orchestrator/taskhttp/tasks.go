package taskhttp

import (
	"net/http"

	"github.com/llorch/llorch/orchestrator"
	"github.com/llorch/llorch/orchestrator/placement"
	"github.com/llorch/llorch/orchestrator/queue"
	"github.com/llorch/llorch/orchestrator/store"
	"github.com/llorch/llorch/orchestrator/taskapi"
	"github.com/llorch/llorch/orchestrator/worker"
)

// submit is POST /v2/tasks.
func (h *handler) submit(c *call) error {
	raw, err := c.body()
	if err != nil {
		return err
	}
	req, err := taskapi.DecodeSubmit(raw)
	if err != nil {
		return err
	}
	spec, err := specOf(req)
	if err != nil {
		return err
	}
	if spec.Key, err = idempotencyKey(c.r.Header); err != nil {
		return err
	}
	if spec.Deadline, err = c.deadline(req.DeadlineMS); err != nil {
		return err
	}
	spec.Correlation, spec.Traceparent = c.correlation, traceparent(c.r)
	a, err := h.Orchestrator.Submit(c.r.Context(), c.p, spec)
	if err != nil {
		return err
	}
	c.w.Header().Set("Location", taskURL(a.ID))
	return c.json(http.StatusAccepted, acceptedView(a))
}

// specOf carries a decoded request into the engine's words.
func specOf(s taskapi.Submit) (orchestrator.Spec, error) {
	spec := orchestrator.Spec{
		Kind: worker.Completion, Model: s.ModelName(), Engine: s.Engine, Prompt: s.Prompt, Messages: s.Messages,
		Params: worker.Params{
			Temperature: s.Temperature, TopP: s.TopP, TopK: s.TopK,
			RepetitionPenalty: s.RepetitionPenalty, Seed: s.Seed, Stop: s.Stop,
		},
		Session: s.SessionID, MaxTokens: s.MaxTokens, Expected: s.ExpectedTokens, Ctx: s.Ctx,
		Keep: s.OnDisconnect == taskapi.DisconnectContinue,
	}
	if len(s.Messages) > 0 {
		spec.Kind = worker.Chat
	}
	if p := s.Placement; p != nil {
		spec.Place.Avoid = p.Avoid
		if p.Mode == "" || p.Mode == taskapi.ModePin {
			spec.Place = placement.Constraints{Pool: p.Pool, Node: p.Node, Worker: p.Worker, Avoid: p.Avoid}
		}
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
	return spec, nil
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
	if err != nil {
		return err
	}
	return c.json(http.StatusOK, taskView(t))
}

// cancel is POST /v2/tasks/{id}/cancel; an ended task is answered 204 too.
func (h *handler) cancel(c *call) error {
	id, err := c.id()
	if err != nil {
		return err
	}
	if err := h.Orchestrator.Cancel(c.r.Context(), c.p, id); err != nil {
		return err
	}
	c.w.WriteHeader(http.StatusNoContent)
	return nil
}

// explain is GET /v2/tasks/{id}/explain.
func (h *handler) explain(c *call) error {
	id, err := c.id()
	if err != nil {
		return err
	}
	x, err := h.Orchestrator.Explain(c.r.Context(), c.p, id)
	if err != nil {
		return err
	}
	return c.json(http.StatusOK, x)
}
