package engine

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"path"
	"strings"
)

// probeLlamaServer asks a llama-server: is it loaded, who is it, how busy is it.
func probeLlamaServer(ctx context.Context, ep Endpoint) (Report, error) {
	status, body, err := get(ctx, ep, "/health")
	if err != nil {
		return Report{}, err
	}
	switch {
	case status == http.StatusOK:
	case status == http.StatusServiceUnavailable && noSlot(body):
		return Report{}, errOverloaded
	case status == http.StatusServiceUnavailable:
		return Report{Live: true, Loading: true, Detail: "loading"}, nil
	default:
		return Report{}, fmt.Errorf("probe /health: status %d: %w", status, ErrBadAnswer)
	}
	m, err := firstModel(ctx, ep)
	if err != nil {
		return Report{}, err
	}
	r := Report{Live: true, Ready: true, Detail: "ok", Alias: text(m.ID)}
	for _, ask := range []func(context.Context, Endpoint, *Report) error{askProps, askSlots, askLlamaMetrics} {
		if err := ask(ctx, ep, &r); err != nil {
			return Report{}, err
		}
	}
	return r, nil
}

// noSlot reports whether an unhealthy server is only full: older releases answer
// so when all slots work.
func noSlot(body []byte) bool {
	var health struct {
		Status string `json:"status"`
	}
	return json.Unmarshal(body, &health) == nil && strings.HasPrefix(health.Status, "no slot")
}

func askProps(ctx context.Context, ep Endpoint, r *Report) error {
	var props struct {
		TotalSlots *int   `json:"total_slots"`
		ModelPath  string `json:"model_path"`
		BuildInfo  string `json:"build_info"`
		Generation struct {
			Ctx *int `json:"n_ctx"`
		} `json:"default_generation_settings"`
	}
	if err := offerJSON(ctx, ep, "/props", &props); err != nil {
		return err
	}
	r.SlotsTotal = between(props.TotalSlots, 1, maxSlots)
	r.CtxMax = between(props.Generation.Ctx, 1, maxTokens)
	r.Version = text(props.BuildInfo)
	if props.ModelPath != "" {
		r.Model = text(path.Base(props.ModelPath)) // where models lie is nobody's business
	}
	return nil
}

func askSlots(ctx context.Context, ep Endpoint, r *Report) error {
	var slots []struct {
		Processing bool `json:"is_processing"`
		State      int  `json:"state"` // older releases: 0 is idle
	}
	if err := offerJSON(ctx, ep, "/slots", &slots); err != nil {
		return err
	}
	if len(slots) == 0 || len(slots) > maxSlots {
		return nil
	}
	busy := 0
	for _, s := range slots {
		if s.Processing || s.State != 0 {
			busy++
		}
	}
	r.SlotsBusy = &busy
	if r.SlotsTotal == nil {
		total := len(slots)
		r.SlotsTotal = &total
	}
	return nil
}

func askLlamaMetrics(ctx context.Context, ep Endpoint, r *Report) error {
	page, ok, err := offer(ctx, ep, "/metrics")
	if err != nil || !ok {
		return err
	}
	s := readSamples(page)
	r.Queue = s.count("llamacpp:requests_deferred")
	r.KVUsed = s.share("llamacpp:kv_cache_usage_ratio")
	r.TokensPerSecond = s.value("llamacpp:predicted_tokens_seconds")
	r.Tokens = s.total("llamacpp:prompt_tokens_total", "llamacpp:tokens_predicted_total")
	return nil
}
