package taskapi

import (
	"encoding/json"

	"github.com/llorch/llorch/inputvalidation"
)

// defaultTemperature is that of the simple shape.
const defaultTemperature = 0.7

// DecodeSubmit reads and checks the body of POST /v2/tasks, in both shapes
// (ORC-761). The body is bounded by the caller. Every refusal is an *[Error]
// whose details name the field and the reason: INVALID_PARAMS, or DEADLINE_UNMET
// for a deadline_ms that is not positive.
//
// The full shape (model_ref) requires task_id, session_id, workload, engine,
// ctx, priority, max_tokens and deadline_ms. What a region is, the engine knows.
func DecodeSubmit(body []byte) (Submit, error) {
	m := readBody(body)
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
		m.enum("workload", &s.Workload, WorkloadCompletion, WorkloadChat, WorkloadEmbedding, WorkloadRerank)
		m.ident("engine", &s.Engine, word)
		m.enum("kv_hint", &s.KVHint, "reuse", "cold")
		m.enum("output_mode", &s.OutputMode, "text", "json")
		m.enum("determinism", &s.Determinism, "strict", "best_effort")
		m.ident("sampler_profile_version", &s.SamplerProfile, word)
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
	m.ident("session_id", &s.SessionID, session)
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
	listed := s.Workload == WorkloadEmbedding || s.Workload == WorkloadRerank
	for _, c := range []struct {
		bad         bool
		name, fault string
	}{
		{m.has("messages") && m.has("prompt"), "messages", "beside_prompt"},
		{m.has("messages") && listed, "messages", "not_of_this_workload"},
		{m.has("prompt") && s.Workload == WorkloadEmbedding, "prompt", "not_of_this_workload"},
		{m.has("inputs") && !listed, "inputs", "not_of_this_workload"},
		{listed && !m.has("inputs"), "inputs", "required"},
		{s.Workload == WorkloadChat && !m.has("messages"), "messages", "required"},
		{s.Workload == WorkloadCompletion && m.has("messages"), "prompt", "required"},
		{s.Workload != WorkloadEmbedding && !m.has("messages") && !m.has("prompt"), "prompt", "required"},
	} {
		if c.bad {
			m.fail(c.name, c.fault)
		}
	}
	if m.has("messages") && m.err == nil {
		s.Messages = m.raw["messages"]
		m.adopt("messages", checkMessages(s.Messages))
	}
	if take(m, "prompt", &s.Prompt); m.err == nil && m.has("prompt") {
		m.adopt("prompt", promptFault("prompt", s.Prompt))
	}
	s.readInputs(m)
}

func promptFault(name, text string) error {
	_, err := inputvalidation.ParsePrompt(name, text, MaxPrompt, MaxPrompt)
	return err
}

func (s *Submit) readInputs(m *members) {
	if take(m, "inputs", &s.Inputs); m.err != nil || !m.has("inputs") {
		return
	}
	if len(s.Inputs) == 0 || len(s.Inputs) > MaxInputs {
		m.fail("inputs", "count")
	}
	total := len(s.Prompt)
	for _, text := range s.Inputs {
		m.adopt("inputs", promptFault("inputs", text))
		total += len(text)
	}
	if m.err == nil && total > MaxPrompt {
		m.fail("inputs", "too_long")
		m.err.With("limit", MaxPrompt)
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
	m.idents("regions", &s.Regions, MaxRegions, word)
	m.idents("purposes", &s.Purposes, MaxPurposes, word)
	if m.has("regions") && len(s.Regions) == 0 {
		m.fail("regions", "count") // nowhere, or anywhere? nobody should have to guess
	}
	if p := m.object("budget"); p != nil {
		s.Budget = new(readBudget(p))
		m.err = p.err
	}
	if p := m.object("placement"); p != nil {
		s.Placement = new(Placement)
		s.Placement.read(p)
		m.err = p.err
	}
}

func readBudget(m *members) (b Budget) {
	take(m, "tokens", &b.Tokens)
	between(m, "tokens", b.Tokens, 1, 1<<40)
	take(m, "time_ms", &b.TimeMS)
	between(m, "time_ms", b.TimeMS, 1, maxDeadlineMS)
	take(m, "cost", &b.Cost)
	between(m, "cost", b.Cost, 0, 1e12)
	return b
}

func (p *Placement) read(m *members) {
	m.enum("mode", &p.Mode, ModeAuto, ModePin, ModePrefer)
	m.ident("pool", &p.Pool, place)
	m.ident("node", &p.Node, place)
	m.ident("worker", &p.Worker, place)
	m.ident("engine_version", &p.Version, place)
	m.ident("quant", &p.Quant, place)
	if p.Mode == ModePin && p.Pool == "" && p.Node == "" && p.Worker == "" {
		m.fail("pool", "required")
	}
	if m.idents("prefer", &p.Prefer, MaxAvoid, place); p.Mode == ModePrefer && len(p.Prefer) == 0 && p.Pool == "" {
		m.fail("prefer", "required")
	}
	take(m, "allow_fallback", &p.AllowFallback)
	m.idents("avoid", &p.Avoid, MaxAvoid, place)
	m.idents("features", &p.Features, MaxAvoid, place)
	m.idents("device_mask", &p.Mask, MaxAvoid, place)
	take(m, "min_compute", &p.MinCompute)
	between(m, "min_compute", p.MinCompute, 0, 10_000)
	take(m, "min_vram_bytes", &p.MinVRAM)
	between(m, "min_vram_bytes", p.MinVRAM, 0, 1<<50)
	take(m, "spread", &p.Spread)
	between(m, "spread", p.Spread, 0, 1_000_000)
}
