package poolregistry

import "github.com/llorch/llorch/inputvalidation"

// A NodeID names a machine that runs a node daemon: 1 to 253 bytes of
// [A-Za-z0-9._-], first and last alphanumeric, without "..". Ids are compared
// byte for byte. Only [ParseNodeID] makes one from outside text.
type NodeID string

// A PoolID names a group of workers of one node: 1 to 63 bytes, spelled like a
// [NodeID]. Pools of different nodes may have the same id; see [PoolKey].
type PoolID string

// A WorkerID names one engine process: 1 to 128 bytes, spelled like a [NodeID].
type WorkerID string

// A PoolKey names one pool of one node.
type PoolKey struct {
	Node NodeID
	Pool PoolID
}

// Longest ids, in bytes.
const (
	maxNodeID   = 253
	maxPoolID   = 63
	maxWorkerID = 128
)

// ParseNodeID checks s and returns it as a NodeID. The error is an [*Error]
// with code [InvalidNode]; it never repeats s.
func ParseNodeID(s string) (NodeID, error) { return parseID[NodeID]("node_id", s, maxNodeID) }

// ParsePoolID is [ParseNodeID] for pool ids.
func ParsePoolID(s string) (PoolID, error) { return parseID[PoolID]("pool_id", s, maxPoolID) }

// ParseWorkerID is [ParseNodeID] for worker ids.
func ParseWorkerID(s string) (WorkerID, error) {
	return parseID[WorkerID]("worker_id", s, maxWorkerID)
}

func parseID[T ~string](field, s string, limit int) (T, error) {
	if code := idFault(s, limit); code != "" {
		return "", &Error{Code: InvalidNode, Fields: []string{field + ": " + code}}
	}
	return T(s), nil
}

// idFault returns the fault code of s as an id, or "".
func idFault(s string, limit int) string {
	switch {
	case s == "":
		return faultRequired
	case len(s) > limit:
		return faultTooLong
	case inputvalidation.CheckIdentifier("id", s, inputvalidation.IdentRules{Max: limit, Extra: "._-"}) != nil:
		return faultCharset
	}
	return ""
}
