package nodeapi

import "strings"

// A Route is one row of the table that assemblies and tests are made of. A
// handler's own table (nodehttp.Routes, poolhttp.Routes) holds every route it
// serves.
type Route struct {
	Method string
	Path   string // a pattern of net/http without its method
	Role   Role   // the least role; any role may read where it is RoleReader
	Strict bool   // changes something or shows a credential: nobody gets in without a token for being local
	Open   bool   // answered without Authorize: it has a secret of its own, or none is needed
}

// Pattern returns the route as a pattern of net/http.
func (r Route) Pattern() string { return r.Method + " " + r.Path }

// NewRoute makes the row of a pattern such as [RouteNodes].
func NewRoute(pattern string, role Role) Route {
	method, path, _ := strings.Cut(pattern, " ")
	return Route{Method: method, Path: path, Role: role, Strict: method != "GET" || role == RoleOperator}
}

// The routes of package nodehttp, as patterns of net/http.
const (
	RouteRegister     = "POST /v2/nodes/register"
	RouteHeartbeat    = "POST /v2/nodes/{id}/heartbeat"
	RouteLeave        = "DELETE /v2/nodes/{id}"
	RouteNodes        = "GET /v2/nodes"
	RouteNode         = "GET /v2/nodes/{id}"
	RouteCordon       = "POST /v2/nodes/{id}/cordon"
	RouteUncordon     = "POST /v2/nodes/{id}/uncordon"
	RouteNodeDrain    = "POST /v2/nodes/{id}/drain"
	RouteFail         = "POST /v2/nodes/{id}/fail"
	RouteClear        = "POST /v2/nodes/{id}/clear"
	RouteRelease      = "POST /v2/nodes/{id}/release"
	RouteGuardRelease = "POST /v2/nodes/guard/release"
	RouteAvailability = "GET /v2/catalog/availability"
	RouteStatic       = "POST /workers/register"
	RouteStaticV2     = "POST /v2/workers/register" // the same
)

// The pool routes of a node's own API. What may be "/" in an id is path-escaped.
const (
	RoutePools        = "GET /pools"
	RoutePoolStatus   = "GET /pools/{id}/status"
	RoutePoolWorkers  = "GET /pools/{id}/workers" // with credentials: for operators
	RoutePreload      = "POST /pools/{id}/preload"
	RoutePoolDrain    = "POST /pools/{id}/drain"
	RouteUndrain      = "POST /pools/{id}/undrain"
	RouteReload       = "POST /pools/{id}/reload"
	RoutePurge        = "POST /pools/{id}/purge"
	RouteRestart      = "POST /pools/{id}/restart"
	RouteBreakerReset = "POST /pools/{id}/breaker/reset"
	RouteModelVerify  = "POST /models/{id}/verify"
	RouteOperation    = "GET /operations/{id}"
	RouteCancel       = "DELETE /operations/{id}"
)

// The other routes of a node's own API: its workers one by one, its models, and
// what it is.
const (
	RouteHealth      = "GET /health" // open: {"status":"ok","version":…}
	RouteState       = "GET /v2/state"
	RouteWorkerStart = "POST /v2/workers/start"
	RouteWorkerStop  = "POST /v2/workers/stop"
	RouteWorker      = "GET /v2/workers/{id}"
	RouteWorkerDrain = "POST /v2/workers/{id}/drain"
	RouteWorkerLogs  = "GET /v2/workers/{id}/logs"
	RouteWorkerReady = "POST /v2/internal/workers/ready" // open: the callback carries a secret of its own
	RouteModels      = "GET /models"
	RouteModel       = "GET /models/{id}"
	RouteModelFetch  = "POST /models/fetch"
	RouteModelDelete = "DELETE /models/{id}"
	RouteModelState  = "POST /models/{id}/state"
)

// HeaderLease carries the lease token of [RouteLeave].
const HeaderLease = "X-Node-Lease"

// HeaderCorrelation carries the correlation id of a request and its response.
const HeaderCorrelation = "X-Correlation-Id"

// HeaderTimeout carries how many milliseconds the caller is going to wait.
const HeaderTimeout = "X-Request-Timeout-Ms"
