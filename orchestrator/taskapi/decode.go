package taskapi

import (
	"encoding/json"

	"github.com/llorch/llorch/inputvalidation"
)

// defaultTemperature is that of the simple shape.
const defaultTemperature = 0.7

// DecodeSubmit reads and checks the body of POST /v2/tasks, in both shapes
// (ORC-761). The body is bounded by the caller. Every refusal is an *[Error]
// whose details name the field and the reason: INVALID_PARAMS,
// MODEL_INCOMPATIBLE for a workload that no worker does, and DEADLINE_UNMET
// for a deadline_ms that is not positive.
//
// The full shape (model_ref) requires task_id, session_id, workload, engine,
// ctx, priority, max_tokens and deadline_ms. regions is refused: a task must
// not run where its owner forbade it, and nothing here could keep it from that.
func DecodeSubmit(body []byte) (Submit, error) {
	if err := inputvalidation.CheckJSON("body", body, max(len(body), 1)); err != nil {
		return Submit{}, fieldFault("body", err)
	}
	m := readMembers("", body)
	if m.err != nil {
		return Submit{}, m.err
	}
	var s Submit
	s.readShape(m)
	s.readLimits(m)
	s.readText(m)
	s.readSampling(m)
	s.readPlace(m)
	if m.err != nil {
		return Submit{}, m.err
	}
	return s, nil
}

func (s *Submit) readShape(m *members) {
	if m.has("model_ref") {
		m.require("task_id", "session_id", "workload", "engine", "ctx", "priority", "max_tokens", "deadline_ms")
		take(m, "model_ref", &s.ModelRef)
		s.readWorkload(m)
		if take(m, "engine", &s.Engine); m.has("engine") {
			m.adopt("engine", inputvalidation.CheckIdentifier("engine", s.Engine, inputvalidation.IdentRules{Max: 64, Extra: "._-"}))
		}
		_, err := inputvalidation.ParseModelRef("model_ref", s.ModelRef)
		m.adopt("model_ref", err)
	} else {
		m.require("model")
		take(m, "model", &s.Model)
		_, err := inputvalidation.ParseModelRef("model", s.Model)
		m.adopt("model", err)
		s.Temperature = new(defaultTemperature)
	}
	if take(m, "task_id", &s.TaskID); m.err == nil && m.has("task_id") {
		id, err := inputvalidation.ParseUUID("task_id", s.TaskID)
		s.TaskID = id
		m.adopt("task_id", err)
		if id == "00000000-0000-0000-0000-000000000000" {
			m.fail("task_id", "range") // the zero id means none
		}
	}
	if take(m, "session_id", &s.SessionID); m.err == nil && m.has("session_id") {
		m.adopt("session_id", inputvalidation.CheckIdentifier("session_id", s.SessionID, inputvalidation.IdentRules{Max: MaxSession, Extra: "._-"}))
	}
}

// readWorkload knows the words of the full shape; workers do two of them.
func (s *Submit) readWorkload(m *members) {
	m.enum("workload", &s.Workload, WorkloadCompletion, WorkloadChat, "embedding", "rerank")
	if m.err == nil && (s.Workload == "embedding" || s.Workload == "rerank") {
		m.err = NewError(ModelIncompatible).With("field", "workload")
	}
}

func (s *Submit) readLimits(m *members) {
	s.Priority = PriorityInteractive
	m.enum("priority", &s.Priority, PriorityInteractive, PriorityBatch)
	m.enum("on_disconnect", &s.OnDisconnect, DisconnectCancel, DisconnectContinue)
	take(m, "max_tokens", &s.MaxTokens)
	between(m, "max_tokens", s.MaxTokens, 1, MaxTokens)
	take(m, "expected_tokens", &s.ExpectedTokens)
	between(m, "expected_tokens", s.ExpectedTokens, 0, MaxTokens)
	take(m, "ctx", &s.Ctx)
	between(m, "ctx", s.Ctx, 1, MaxContext)
	take(m, "deadline_ms", &s.DeadlineMS)
	if m.err == nil && m.has("deadline_ms") && s.DeadlineMS <= 0 {
		m.err = NewError(DeadlineUnmet).With("field", "deadline_ms").With("reason", "not_positive")
	}
	between(m, "deadline_ms", s.DeadlineMS, 1, maxDeadlineMS)
}

func (s *Submit) readText(m *members) {
	prompt, messages := m.has("prompt"), m.has("messages")
	switch {
	case prompt && messages:
		m.fail("messages", "beside_prompt")
	case messages && s.Workload == WorkloadCompletion:
		m.require("prompt")
	case messages:
		s.Messages = m.raw["messages"]
		if m.err == nil {
			m.adopt("messages", checkMessages(s.Messages))
		}
	case s.Workload == WorkloadChat:
		m.require("messages")
	default:
		m.require("prompt")
		if take(m, "prompt", &s.Prompt); m.err == nil {
			_, err := inputvalidation.ParsePrompt("prompt", s.Prompt, MaxPrompt, MaxPrompt)
			m.adopt("prompt", err)
		}
	}
}

func (s *Submit) readSampling(m *members) {
	number(m, "temperature", &s.Temperature, 0, 2)
	number(m, "top_p", &s.TopP, 0, 1)
	number(m, "top_k", &s.TopK, -1, MaxContext)
	number(m, "repetition_penalty", &s.RepetitionPenalty, 0, 10)
	take(m, "seed", &s.Seed)
	s.readStop(m)
}

func number[T int | float64](m *members, name string, dst **T, low, high T) {
	if take(m, name, dst); m.err == nil && *dst != nil {
		between(m, name, **dst, low, high)
	}
}

func (s *Submit) readStop(m *members) {
	if !m.has("stop") {
		return
	}
	var one string
	if json.Unmarshal(m.raw["stop"], &one) == nil {
		s.Stop = []string{one}
	} else {
		take(m, "stop", &s.Stop)
	}
	if m.err == nil && len(s.Stop) > MaxStops {
		m.fail("stop", "too_many")
	}
	for _, stop := range s.Stop {
		if stop == "" || len(stop) > MaxStopBytes {
			m.fail("stop", "length")
		}
	}
}

func (s *Submit) readPlace(m *members) {
	var regions []string
	if take(m, "regions", &regions); len(regions) > 0 {
		m.fail("regions", "not_supported")
	}
	if m.err != nil || !m.has("placement") {
		return
	}
	p := readMembers("placement.", m.raw["placement"])
	s.Placement = new(Placement)
	s.Placement.read(p)
	if p.err != nil {
		m.err = p.err
	}
}

func (p *Placement) read(m *members) {
	m.enum("mode", &p.Mode, ModeAuto, ModePin, ModePrefer)
	ident := inputvalidation.IdentRules{Extra: "._-:@+"}
	for _, id := range []struct {
		name string
		dst  *string
	}{{"pool", &p.Pool}, {"node", &p.Node}, {"worker", &p.Worker}} {
		if take(m, id.name, id.dst); m.err == nil && m.has(id.name) {
			m.adopt(id.name, inputvalidation.CheckIdentifier(id.name, *id.dst, ident))
		}
	}
	if p.Mode == ModePin && p.Pool == "" && p.Node == "" && p.Worker == "" {
		m.fail("pool", "required")
	}
	if take(m, "avoid", &p.Avoid); len(p.Avoid) > MaxAvoid {
		m.fail("avoid", "too_many")
	}
	for _, pool := range p.Avoid {
		m.adopt("avoid", inputvalidation.CheckIdentifier("avoid", pool, ident))
	}
}
