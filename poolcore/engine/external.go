package engine

import (
	"context"
	"fmt"
	"net/http"
	"slices"
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
func (External) Profile() Profile { return Profile{External: true} }

// Command returns ErrUnsupported: there is nothing to start.
func (External) Command(Request) (Command, error) { return Command{}, ErrUnsupported }

// Probe is ready when /v1/models lists the wanted model or, when none is named,
// when /health answers 2xx.
func (External) Probe(ctx context.Context, ep Endpoint) (Report, error) {
	if ep.Model == "" {
		status, _, err := get(ctx, ep, "/health")
		if err != nil {
			return Report{}, err
		}
		return Report{Ready: status/100 == 2, Loading: status == http.StatusServiceUnavailable, Detail: fmt.Sprint("status ", status)}, nil
	}
	models, err := listModels(ctx, ep)
	if err != nil {
		return Report{}, err
	}
	if !slices.Contains(models, ep.Model) {
		return Report{Loading: true, Detail: "model is not listed"}, nil
	}
	return Report{Ready: true, Detail: "ok"}, nil
}

// Classify returns ClassUnknown: nothing is known about a process that is not ours.
func (External) Classify(Exit) string { return ClassUnknown }
