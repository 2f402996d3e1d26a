package taskhttp

import (
	"net/http"

	"github.com/llorch/llorch/orchestrator"
)

// Route is one route of the handler.
type Route struct {
	Method string
	Path   string            // ServeMux pattern without the method
	Role   orchestrator.Role // the caller needs one of these
}

// Routes lists what [New] serves, for the mux and the documents of a program.
func Routes() []Route {
	var out []Route
	for _, rt := range table() {
		out = append(out, rt.Route)
	}
	return out
}

type route struct {
	Route
	handle func(*handler, *call) error // an error it returns is the answer; nil: it has answered
}

// table is the one list of routes (ORC-760).
func table() []route {
	const (
		user   = orchestrator.RoleUser
		either = orchestrator.RoleUser | orchestrator.RoleOperator
	)
	return []route{
		{Route{http.MethodPost, "/v2/tasks", user}, (*handler).submit},
		{Route{http.MethodGet, "/v2/tasks", either}, (*handler).list},
		{Route{http.MethodGet, "/v2/tasks/{id}", either}, (*handler).task},
		{Route{http.MethodGet, "/v2/tasks/{id}/events", either}, (*handler).events},
		{Route{http.MethodPost, "/v2/tasks/{id}/cancel", either}, (*handler).cancel},
		{Route{http.MethodGet, "/v2/tasks/{id}/explain", either}, (*handler).explain},
		{Route{http.MethodPost, "/v1/chat/completions", user}, (*handler).chat},
		{Route{http.MethodPost, "/v1/completions", user}, (*handler).completions},
		{Route{http.MethodGet, "/v1/models", either}, (*handler).models},
		{Route{http.MethodGet, "/v1/models/{id}", either}, (*handler).model},
	}
}
