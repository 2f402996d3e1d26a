package server

import (
	"net/http"

	"github.com/llorch/llorch/authmin"
	"github.com/llorch/llorch/orchestrator"
	"github.com/llorch/llorch/orchestrator/taskapi"
	"github.com/llorch/llorch/poolregistry/nodeapi"
)

// KeyName is the name of every key from LLORCH_API_TOKEN: they are one user, so
// that a task stays its owner's when the token is rotated.
const KeyName = "api"

// TaskPrincipal is the Authorize of taskhttp: it believes only what the gate put
// into the request's context. Every key holds every role.
func TaskPrincipal(r *http.Request) (orchestrator.Principal, error) {
	p, ok := authmin.PrincipalFrom(r.Context())
	if !ok || p.Name == "" && !p.Local {
		return orchestrator.Principal{}, taskapi.NewError(taskapi.Unauthenticated)
	}
	out := orchestrator.Principal{User: p.Name, Roles: orchestrator.RoleUser | orchestrator.RoleOperator | orchestrator.RolePrivacy, Fingerprint: p.FP6}
	if p.Local {
		out.User = "local"
	}
	if p.Client.IsValid() {
		out.Addr = p.Client.String()
	}
	return out, nil
}

// NodePrincipal is the Authorize of nodehttp and poolhttp.
func NodePrincipal(r *http.Request) (nodeapi.Principal, error) {
	p, ok := authmin.PrincipalFrom(r.Context())
	if !ok || p.Name == "" && !p.Local {
		return nodeapi.Principal{}, taskapi.NewError(taskapi.Unauthenticated)
	}
	out := nodeapi.Principal{ID: p.Name, Role: nodeapi.RoleOperator}
	if p.Local {
		out.ID = "local"
	}
	return out, nil
}
