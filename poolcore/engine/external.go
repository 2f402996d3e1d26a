package engine

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"strings"
)

// External is a server that somebody else runs: bound by its URL, asked how it is,
// never started or stopped.
type External struct{}

var (
	_ Kind     = External{}
	_ Profiled = External{}
)

// Name returns "external".
func (External) Name() string { return "external" }

// Profile says that there is no process.
func (External) Profile() Profile { return Profile{External: true, Nameless: true} }

// Command returns ErrUnsupported: there is nothing to start.
func (External) Command(Request) (Command, error) { return Command{}, ErrUnsupported }

// Probe is ready when /v1/models lists the wanted model or, when none is named,
// when the health route answers 2xx.
func (External) Probe(ctx context.Context, ep Endpoint) (Report, error) {
	return answered(probeExternal(ctx, ep))
}

func probeExternal(ctx context.Context, ep Endpoint) (Report, error) {
	route := cmp.Or(ep.Path, "/health")
	if !strings.HasPrefix(route, "/") {
		return Report{}, fmt.Errorf("probe health route: %w", ErrBadEndpoint)
	}
	if ep.Model == "" {
		status, _, err := get(ctx, ep, route)
		if err != nil {
			return Report{}, err
		}
		return Report{Live: true, Ready: status/100 == 2, Loading: status == http.StatusServiceUnavailable, Detail: fmt.Sprint("status ", status)}, nil
	}
	models, err := listModels(ctx, ep)
	if err != nil {
		return Report{}, err
	}
	m, ok := findModel(models, ep.Model)
	if !ok {
		return Report{Live: true, Loading: true, Detail: "model is not listed"}, nil
	}
	return Report{Live: true, Ready: true, Detail: "ok", Model: text(m.ID), CtxMax: between(&m.MaxModelLen, 1, maxTokens)}, nil
}

// Classify returns ClassUnknown: nothing is known about a process that is not ours.
func (External) Classify(Exit) string { return ClassUnknown }
