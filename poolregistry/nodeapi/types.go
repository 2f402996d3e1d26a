// Package nodeapi holds the wire types between nodes, the registry and whoever
// commands a pool: envelopes, the error body, the routes and the caller of a
// request. It has no behaviour.
//
// Registration, Grant, Beat and BeatReply of package poolregistry are the bodies
// of the node routes.
package nodeapi

import "github.com/llorch/llorch/poolregistry"

// A Role says what the caller of a request may do.
type Role string

// The roles. An operator may do everything that a node or a reader may.
const (
	RoleNode     Role = "node"     // registers, beats and leaves for itself; reads
	RoleOperator Role = "operator" // commands nodes and pools
	RoleReader   Role = "reader"   // reads
)

// A Principal is the caller of a request, as Authorize found it.
type Principal struct {
	ID   string // stable over requests; node ids belong to it
	Role Role
}

// A FailRequest is the body of [RouteFail].
type FailRequest struct {
	Reason string `json:"reason"` // one line of 1 to 256 bytes, for people
}

// A StaticWorker is the body of [RouteStatic]: an engine on a machine without a
// node daemon. It becomes the node "static-<id>" with one pool and one worker,
// both called id.
type StaticWorker struct {
	ID     string `json:"id"`   // a pool id; the same one again replaces the worker
	Host   string `json:"host"` // name or IP address
	Port   int    `json:"port"`
	Model  string `json:"model"`           // what the engine serves, at most 512 bytes
	Region string `json:"region,omitzero"` // as poolregistry.ParseRegion reads it
	Slots  int    `json:"slots,omitzero"`  // requests at once, 0 to 4096; 0 = 1
}

// A Health is the answer to [RouteHealth].
type Health struct {
	Status  string `json:"status"` // ok
	Version string `json:"version,omitzero"`
}

// A NodeList is the answer to [RouteNodes].
type NodeList struct {
	Nodes     []*poolregistry.Node `json:"nodes"` // sorted by node_id
	Total     int                  `json:"total"` // nodes known, whatever the filter and the page
	Online    int                  `json:"online"`
	Suspect   int                  `json:"suspect"`
	Offline   int                  `json:"offline"`
	Failed    int                  `json:"failed"`
	GuardHeld bool                 `json:"guard_held"`
	Detecting bool                 `json:"detecting"`
	Next      poolregistry.NodeID  `json:"next,omitzero"` // pass it as after for the next page; absent on the last
}
