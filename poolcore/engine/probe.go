package engine

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
)

// maxAnswer bounds what is read from an engine; maxSlots what it may claim.
const (
	maxAnswer = 1 << 20
	maxSlots  = 4096
)

// probeServer asks a llama-server: is it loaded, who is it, how many slots has it.
func probeServer(ctx context.Context, ep Endpoint) (Report, error) {
	status, _, err := get(ctx, ep, "/health")
	if err != nil {
		return Report{}, err
	}
	switch status {
	case http.StatusOK:
	case http.StatusServiceUnavailable:
		return Report{Loading: true, Detail: "loading"}, nil
	default:
		return Report{}, fmt.Errorf("probe /health: status %d: %w", status, ErrBadAnswer)
	}
	models, err := listModels(ctx, ep)
	if err != nil {
		return Report{}, err
	}
	if len(models) == 0 {
		return Report{}, fmt.Errorf("probe /v1/models: no model: %w", ErrBadAnswer)
	}
	r := Report{Ready: true, Detail: "ok", Alias: models[0]}
	r.SlotsTotal, err = totalSlots(ctx, ep)
	return r, err
}

// totalSlots reads /props; servers that keep it closed have no answer for us.
func totalSlots(ctx context.Context, ep Endpoint) (*int, error) {
	status, body, err := get(ctx, ep, "/props")
	if err != nil {
		return nil, err
	}
	if status != http.StatusOK {
		return nil, nil
	}
	var props struct {
		TotalSlots *int `json:"total_slots"`
	}
	if err := json.Unmarshal(body, &props); err != nil {
		return nil, fmt.Errorf("probe /props: %w", ErrBadAnswer)
	}
	if n := props.TotalSlots; n == nil || *n < 1 || *n > maxSlots {
		return nil, nil
	}
	return props.TotalSlots, nil
}

func listModels(ctx context.Context, ep Endpoint) ([]string, error) {
	status, body, err := get(ctx, ep, "/v1/models")
	if err != nil {
		return nil, err
	}
	if status != http.StatusOK {
		return nil, fmt.Errorf("probe /v1/models: status %d: %w", status, ErrBadAnswer)
	}
	var list struct {
		Data []struct {
			ID string `json:"id"`
		} `json:"data"`
	}
	if err := json.Unmarshal(body, &list); err != nil {
		return nil, fmt.Errorf("probe /v1/models: %w", ErrBadAnswer)
	}
	ids := make([]string, 0, len(list.Data))
	for _, m := range list.Data {
		ids = append(ids, m.ID)
	}
	return ids, nil
}

// get returns status and body; the body is bounded and never part of an error.
func get(ctx context.Context, ep Endpoint, path string) (int, []byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, ep.URL+path, http.NoBody)
	if err != nil {
		return 0, nil, fmt.Errorf("probe %s: %w", path, err)
	}
	if ep.Token != "" {
		req.Header.Set("Authorization", "Bearer "+ep.Token)
	}
	res, err := ep.Client.Do(req)
	if err != nil {
		return 0, nil, fmt.Errorf("probe %s: %w", path, err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer+1))
	if err != nil {
		return 0, nil, fmt.Errorf("probe %s: read answer: %w", path, err)
	}
	if len(body) > maxAnswer {
		return 0, nil, fmt.Errorf("probe %s: answer too large: %w", path, ErrBadAnswer)
	}
	return res.StatusCode, body, nil
}
