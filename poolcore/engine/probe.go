package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"

	"github.com/llorch/llorch/inputvalidation"
)

// maxAnswer bounds what is read from an engine, maxSlots and maxTokens what it may
// claim, maxText the bytes of a text that is kept.
const (
	maxAnswer = 1 << 20
	maxSlots  = 4096
	maxTokens = 16 << 20
	maxText   = 128
)

// errOverloaded is how an answer 429 travels from a route to [answered].
var errOverloaded = errors.New("engine: overloaded")

// answered turns a refusal for want of capacity into a report: the engine lives.
func answered(r Report, err error) (Report, error) {
	switch {
	case errors.Is(err, errOverloaded):
		return Report{Live: true, Overloaded: true, Detail: "overloaded"}, nil
	case err != nil:
		return Report{}, err
	}
	return r, nil
}

// model is one row of /v1/models. llama-server, vLLM and others agree on id.
type model struct {
	ID          string `json:"id"`
	Root        string `json:"root"`
	MaxModelLen int    `json:"max_model_len"`
}

func listModels(ctx context.Context, ep Endpoint) ([]model, error) {
	var list struct {
		Data []model `json:"data"`
	}
	return list.Data, need(ctx, ep, "/v1/models", &list)
}

// firstModel is the one that the server answers under.
func firstModel(ctx context.Context, ep Endpoint) (model, error) {
	models, err := listModels(ctx, ep)
	if err == nil && (len(models) == 0 || models[0].ID == "") {
		err = fmt.Errorf("probe /v1/models: no model: %w", ErrBadAnswer)
	}
	if err != nil {
		return model{}, err
	}
	return models[0], nil
}

func findModel(models []model, id string) (model, bool) {
	i := slices.IndexFunc(models, func(m model) bool { return m.ID == id })
	if i < 0 {
		return model{}, false
	}
	return models[i], true
}

// need reads a route that every engine of the kind has.
func need(ctx context.Context, ep Endpoint, path string, into any) error {
	status, body, err := get(ctx, ep, path)
	if err == nil && status != http.StatusOK {
		err = fmt.Errorf("probe %s: status %d: %w", path, status, ErrBadAnswer)
	}
	if err != nil {
		return err
	}
	return decode(path, body, into)
}

// offer reads a route that releases lack or operators close. ok is false then.
func offer(ctx context.Context, ep Endpoint, path string) (body []byte, ok bool, err error) {
	status, body, err := get(ctx, ep, path)
	return body, err == nil && status == http.StatusOK, err
}

// offerJSON is offer for a JSON answer.
func offerJSON(ctx context.Context, ep Endpoint, path string, into any) error {
	body, ok, err := offer(ctx, ep, path)
	if err != nil || !ok {
		return err
	}
	return decode(path, body, into)
}

func decode(path string, body []byte, into any) error {
	if json.Unmarshal(body, into) != nil { // its text may repeat the answer
		return fmt.Errorf("probe %s: %w", path, ErrBadAnswer)
	}
	return nil
}

// between returns n where it can be true, else nothing.
func between(n *int, low, high int) *int {
	if n == nil || *n < low || *n > high {
		return nil
	}
	return n
}

// text makes a text of an engine fit for logs and answers.
func text(s string) string { return inputvalidation.EscapeMax(s, maxText) }

// get returns status and body; the body is bounded and never part of an error.
// A redirect is no answer: it would take the key elsewhere.
func get(ctx context.Context, ep Endpoint, path string) (int, []byte, error) {
	return send(ctx, ep, http.MethodGet, path, nil)
}

func send(ctx context.Context, ep Endpoint, method, path string, payload io.Reader) (int, []byte, error) {
	req, err := http.NewRequestWithContext(ctx, method, ep.URL+path, payload)
	if err != nil {
		return 0, nil, fmt.Errorf("probe %s: %w", path, ErrBadEndpoint)
	}
	if payload != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if ep.Token != "" {
		req.Header.Set("Authorization", "Bearer "+ep.Token)
	}
	client := http.Client{}
	if ep.Client != nil {
		client = *ep.Client
	}
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	res, err := client.Do(req)
	if err != nil {
		return 0, nil, fmt.Errorf("probe %s: %w", path, err)
	}
	defer res.Body.Close()
	switch {
	case res.StatusCode == http.StatusTooManyRequests:
		return 0, nil, fmt.Errorf("probe %s: %w", path, errOverloaded)
	case res.StatusCode/100 == 3:
		return 0, nil, fmt.Errorf("probe %s: redirect refused: %w", path, ErrBadAnswer)
	}
	body, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer+1))
	if err != nil {
		return 0, nil, fmt.Errorf("probe %s: read answer: %w", path, err)
	}
	if len(body) > maxAnswer {
		return 0, nil, fmt.Errorf("probe %s: answer too large: %w", path, ErrBadAnswer)
	}
	return res.StatusCode, body, nil
}
