package taskhttp

import (
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/llorch/llorch/inputvalidation"
	"github.com/llorch/llorch/orchestrator"
	"github.com/llorch/llorch/orchestrator/queue"
	"github.com/llorch/llorch/orchestrator/taskapi"
	"github.com/llorch/llorch/orchestrator/worker"
	"github.com/llorch/llorch/orchestrator/worker/sse"
)

const (
	headerTask  = "X-Task-Id"
	headerQueue = "X-Queue-Ms"
	// headerRegion says where the node stands that ran the task.
	headerRegion  = "X-Node-Region"
	headerRegions = "X-Allowed-Regions"
	// maxModel bounds the name of a model; it is the length of a model reference.
	maxModel = 512
)

// chat is POST /v1/chat/completions.
func (h *handler) chat(c *call) error { return h.generate(c, worker.Chat) }

// completions is POST /v1/completions.
func (h *handler) completions(c *call) error { return h.generate(c, worker.Completion) }

// embeddings is POST /v1/embeddings, rerank POST /v1/rerank: one answer, no stream.
func (h *handler) embeddings(c *call) error {
	return h.generate(c, worker.Embedding)
}

func (h *handler) rerank(c *call) error { return h.generate(c, worker.Rerank) }

// generate runs a task that nobody was promised: it lives as long as this
// request, and its answer is the engine's own (OAI-1).
func (h *handler) generate(c *call, kind worker.Kind) error {
	spec, err := c.openAISpec(kind)
	if err != nil {
		return err
	}
	if err := h.enter(); err != nil {
		return err
	}
	defer h.leave()
	a, err := h.Orchestrator.Submit(c.r.Context(), c.p, spec)
	if err != nil {
		return err
	}
	c.w.Header().Set(headerTask, a.ID.String())
	c.budget(spec.Session)
	items, stop := c.follow(a.ID, 0)
	defer stop()
	if spec.Stream {
		return c.relay(items, h.EarlyHeaders, &frameReader{})
	}
	return c.result(items)
}

// openAISpec reads what is ours of a /v1 body and its headers (OAI-4); the body
// itself goes on as it came.
func (c *call) openAISpec(kind worker.Kind) (orchestrator.Spec, error) {
	var spec orchestrator.Spec
	raw, err := c.body()
	if err != nil {
		return spec, err
	}
	b, err := worker.Inspect(raw)
	if fault, ok := errors.AsType[*worker.BodyError](err); ok {
		return spec, taskapi.InvalidField(fault.Field, fault.Rule)
	}
	switch {
	case err != nil:
		return spec, taskapi.InvalidField("body", "syntax")
	case b.Model == "":
		return spec, taskapi.InvalidField("model", "required")
	case len(b.Model) > maxModel:
		return spec, taskapi.InvalidField("model", "too_long").With("limit", maxModel)
	}
	spec = orchestrator.Spec{
		Kind: kind, Model: b.Model, Raw: raw, Stream: b.Stream, WantUsage: b.IncludeUsage,
		MaxTokens: b.MaxTokens, Choices: b.N, PromptBytes: b.PromptBytes, Ephemeral: true,
		Session: c.r.Header.Get("X-Session-Id"), Correlation: c.correlation, Traceparent: traceparent(c.r), Tenant: c.r.Header.Get("X-Tenant-Id"),
	}
	if spec.Stream && kind != worker.Completion && kind != worker.Chat {
		return spec, taskapi.InvalidField("stream", "not_of_this_workload")
	}
	if spec.Class, err = queue.ParseClass(c.r.Header.Get("X-Priority")); err != nil {
		return spec, taskapi.InvalidField("X-Priority", "unknown_value")
	}
	if spec.Session != "" {
		rules := inputvalidation.IdentRules{Max: taskapi.MaxSession, Extra: "._-"}
		if inputvalidation.CheckIdentifier("X-Session-Id", spec.Session, rules) != nil {
			return spec, taskapi.InvalidField("X-Session-Id", "syntax")
		}
	}
	if lines := c.r.Header.Values(headerRegions); len(lines) > 0 {
		if spec.Regions, err = regions(headerRegions, strings.Split(strings.Join(lines, ","), ",")); err != nil {
			return spec, err
		}
	}
	spec.Deadline, err = c.deadline(0)
	return spec, err
}

// result answers a call that does not stream, once the task has ended well: the
// engine may still take back what it produced until then.
func (c *call) result(items <-chan item) error {
	var result []byte
	for it := range items {
		if it.err != nil {
			return it.err
		}
		switch it.ev.Type {
		case orchestrator.EventStarted:
			c.started(it.ev)
		case orchestrator.EventResult:
			result = it.ev.Data
		case orchestrator.EventError:
			return eventFault(it.ev)
		case orchestrator.EventEnd:
			if result == nil {
				return errUnfinished
			}
			c.header(http.StatusOK, "application/json", len(result))
			if err := send(c.w, http.NewResponseController(c.w), result); err != nil {
				c.lost(err)
			}
			return nil
		}
	}
	if err := c.r.Context().Err(); err != nil {
		return err
	}
	return errUnfinished
}

// started tells the client how long its task waited, and where it runs.
func (c *call) started(ev orchestrator.Event) {
	var s taskapi.Started
	if json.Unmarshal(ev.Data, &s) != nil {
		return
	}
	c.w.Header().Set(headerQueue, strconv.FormatInt(s.QueueWaitMS, 10))
	if s.NodeRegion != "" {
		c.w.Header().Set(headerRegion, s.NodeRegion)
	}
}

// eventFault returns the error that a terminal event tells of.
func eventFault(ev orchestrator.Event) error {
	var e taskapi.ErrorEvent
	if err := json.Unmarshal(ev.Data, &e); err != nil {
		return err
	}
	return e.Err()
}

// frameReader shows an engine's own frames to an OpenAI client (OAI-3).
type frameReader struct{ done bool }

func (r *frameReader) event(s *stream, ev orchestrator.Event) error {
	switch ev.Type {
	case orchestrator.EventStarted:
		if !s.begun {
			s.c.started(ev)
		}
	case orchestrator.EventFrame, orchestrator.EventResult:
		s.buf = sse.AppendFrame(s.buf, sse.Frame{Data: ev.Data})
	case orchestrator.EventError:
		r.done = true
		return eventFault(ev)
	case orchestrator.EventEnd:
		r.done = true
		s.buf = sse.AppendFrame(s.buf, sse.Frame{Data: []byte("[DONE]")})
	}
	return nil
}

// idle sends what every OpenAI client skips; it ends in one newline.
func (r *frameReader) idle(s *stream) { s.buf = append(s.buf, ": ping\n"...) }

// broken is the last frame of a stream without [DONE].
func (r *frameReader) broken(s *stream, e *taskapi.Error) {
	if data, err := json.Marshal(e.OpenAI()); err == nil {
		s.buf = sse.AppendFrame(s.buf, sse.Frame{Data: data})
	}
}

func (r *frameReader) end(*stream) error {
	if !r.done {
		return errUnfinished
	}
	return nil
}

// models is GET /v1/models.
func (h *handler) models(c *call) error {
	return c.json(http.StatusOK, taskapi.NewModelList(h.Orchestrator.Models()))
}

// model is GET /v1/models/{id}; an id with a slash is percent-encoded.
func (h *handler) model(c *call) error {
	id := c.r.PathValue("id")
	if !slices.Contains(h.Orchestrator.Models(), id) {
		return taskapi.ModelNotFound
	}
	return c.json(http.StatusOK, taskapi.NewModel(id))
}
