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

// A NodeList is the answer to [RouteNodes].
type NodeList struct {
	Nodes     []*poolregistry.Node `json:"nodes"` // sorted by node_id
	Total     int                  `json:"total"` // nodes known, whatever the filter and the page
	Online    int                  `json:"online"`
	Suspect   int                  `json:"suspect"`
	Offline   int                  `json:"offline"`
	GuardHeld bool                 `json:"guard_held"`
	Detecting bool                 `json:"detecting"`
	Next      poolregistry.NodeID  `json:"next,omitzero"` // pass it as after for the next page; absent on the last
}
