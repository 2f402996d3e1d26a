package taskhttp

import (
	"net/http"

	"github.com/llorch/llorch/orchestrator"
)

// Group is a set of routes that a program may leave off, see Config.Without.
// Groups are bits.
type Group uint8

// The groups. Routes of none of them are always served.
const (
	OpenAI  Group = 1 << iota // /v1
	Privacy                   // /gdpr
	Admin                     // pools, operations, queue, tenants, decisions, changes of the catalogue
	Health                    // /health, /readyz
)

// Route is one route of the handler.
type Route struct {
	Method string
	Path   string            // ServeMux pattern without the method
	Role   orchestrator.Role // the caller needs one of these; 0 = nobody is asked who they are
	Group  Group             // 0 = none
}

// Routes lists what [New] serves when no group is left off, for the mux and the
// documents of a program.
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
		get, post, del = http.MethodGet, http.MethodPost, http.MethodDelete
		user, operator = orchestrator.RoleUser, orchestrator.RoleOperator
		either         = user | operator
		privacy        = user | orchestrator.RolePrivacy // a user for oneself
		always         = Group(0)
	)
	list := []route{
		{Route{post, "/v2/tasks", user, always}, (*handler).submit},
		{Route{post, "/v2/tasks/preview", user, always}, (*handler).preview},
		{Route{get, "/v2/tasks", either, always}, (*handler).list},
		{Route{get, "/v2/tasks/{id}", either, always}, (*handler).task},
		{Route{del, "/v2/tasks/{id}", either, always}, (*handler).remove},
		{Route{get, "/v2/tasks/{id}/events", either, always}, (*handler).events},
		{Route{post, "/v2/tasks/{id}/cancel", either, always}, (*handler).cancel},
		{Route{get, "/v2/tasks/{id}/explain", either, always}, (*handler).explain},
		{Route{post, "/v2/sessions", user, always}, (*handler).openSession},
		{Route{get, "/v2/sessions/{id}", user, always}, (*handler).session},
		{Route{del, "/v2/sessions/{id}", user, always}, (*handler).endSession},
		{Route{post, "/v2/sessions/{id}/touch", user, always}, (*handler).touchSession},
		{Route{post, "/v2/artifacts", user, always}, (*handler).putArtifact},
		{Route{get, "/v2/artifacts/{id}", user, always}, (*handler).artifact},
		{Route{get, "/v2/catalog/models", either, always}, (*handler).catalog},
		{Route{get, "/v2/catalog/models/{id}", either, always}, (*handler).catalogModel},
		{Route{get, "/v2/meta/capabilities", either, always}, (*handler).capabilities},
		{Route{get, "/v2/meta/version", either, always}, (*handler).version},
		{Route{get, "/openapi.yaml", either, always}, (*handler).openapi},
		{Route{post, "/v1/chat/completions", user, OpenAI}, (*handler).chat},
		{Route{post, "/v1/completions", user, OpenAI}, (*handler).completions},
		{Route{post, "/v1/embeddings", user, OpenAI}, (*handler).embeddings},
		{Route{post, "/v1/rerank", user, OpenAI}, (*handler).rerank},
		{Route{get, "/v1/models", either, OpenAI}, (*handler).models},
		{Route{get, "/v1/models/{id}", either, OpenAI}, (*handler).model},
		{Route{post, "/v2/catalog/models", operator, Admin}, (*handler).putModel},
		{Route{del, "/v2/catalog/models/{id}", operator, Admin}, (*handler).deleteModel},
		{Route{post, "/v2/catalog/models/{id}/verify", operator, Admin}, (*handler).verifyModel},
		{Route{post, "/v2/catalog/models/{id}/state", operator, Admin}, (*handler).modelState},
		{Route{get, "/v2/pools", operator, Admin}, (*handler).pools},
		{Route{get, "/v2/pools/{id}/health", operator, Admin}, (*handler).poolHealth},
	}
	for _, do := range []string{"drain", "undrain", "reload", "restart", "purge"} {
		list = append(list, route{Route{post, "/v2/pools/{id}/" + do, operator, Admin}, command(do)})
	}
	return append(list, []route{
		{Route{get, "/v2/operations/{id}", operator, Admin}, (*handler).operation},
		{Route{get, "/v2/queue", operator, Admin}, (*handler).queue},
		{Route{get, "/v2/tenants", operator, Admin}, (*handler).tenants},
		{Route{get, "/v2/decisions", operator, Admin}, (*handler).decisions},
		{Route{get, "/gdpr/export", privacy, Privacy}, (*handler).export},
		{Route{post, "/gdpr/delete", privacy, Privacy}, (*handler).erase},
		{Route{get, "/gdpr/consent", privacy, Privacy}, (*handler).consents},
		{Route{post, "/gdpr/consent", privacy, Privacy}, (*handler).setConsent},
		{Route{get, "/health", 0, Health}, (*handler).health},
		{Route{get, "/readyz", 0, Health}, (*handler).ready},
	}...)
}
