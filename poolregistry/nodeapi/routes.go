package nodeapi

// The routes of package nodehttp, as patterns of net/http.
const (
	RouteRegister  = "POST /v2/nodes/register"
	RouteHeartbeat = "POST /v2/nodes/{id}/heartbeat"
	RouteLeave     = "DELETE /v2/nodes/{id}"
	RouteNodes     = "GET /v2/nodes"
	RouteNode      = "GET /v2/nodes/{id}"
)

// The routes of a node's own API that the holder of a registry calls.
const (
	RoutePools       = "GET /pools"
	RoutePoolStatus  = "GET /pools/{id}/status"
	RoutePoolWorkers = "GET /pools/{id}/workers"
)

// HeaderLease carries the lease token of [RouteLeave].
const HeaderLease = "X-Node-Lease"

// HeaderCorrelation carries the correlation id of a request and its response.
const HeaderCorrelation = "X-Correlation-Id"

// HeaderTimeout carries how many milliseconds the caller is going to wait.
const HeaderTimeout = "X-Request-Timeout-Ms"
