package poolregistry

import (
	"cmp"
	"encoding/json"
	"slices"
	"sync/atomic"
	"time"
)

// Liveness says what the registry believes about a node.
type Liveness string

// The states of a node; the package comment holds the table of transitions.
const (
	Registering Liveness = "registering" // has a lease, has not beaten yet
	Online      Liveness = "online"
	Suspect     Liveness = "suspect" // silent or refused: no new work, running work goes on
	Offline     Liveness = "offline" // work under its epoch counts as lost
	Failed      Liveness = "failed"  // an operator or the node itself said so: no new work until it is cleared
)

// A Node is one machine as the registry sees it. A node in a [View] is never
// written again; readers compare pointers to see what changed.
type Node struct {
	ID            NodeID            `json:"node_id"`
	InstanceID    string            `json:"instance_id"` // UUID of the agent process
	Epoch         uint64            `json:"epoch"`       // rises with every incarnation and every return from offline
	Address       string            `json:"address"`     // of the node's own API; empty = in this process
	Version       string            `json:"version,omitzero"`
	Region        Region            `json:"region"`
	Labels        map[string]string `json:"labels,omitzero"`
	Capabilities  Capabilities      `json:"capabilities"`
	Pools         []Pool            `json:"pools"`    // sorted by ID
	Liveness      Liveness          `json:"liveness"` // also written as status
	Reason        string            `json:"reason"`   // why Liveness is what it is: registered, beat, silent, refused, fatal, cleared, or the operator's words
	Schedule      Schedule          `json:"schedule"` // what an operator wants of the node
	Since         time.Time         `json:"since"`    // when Liveness last changed
	ClockSkewMS   int64             `json:"clock_skew_ms"`
	RegisteredAt  time.Time         `json:"registered_at"`
	GuardHeld     bool              `json:"guard_held,omitzero"`     // would be offline, but most nodes fell silent together
	ConflictSince time.Time         `json:"conflict_since,omitzero"` // since when a second live copy of this id is seen; gone 10 min after the last sign of it
	Events        []Event           `json:"events"`                  // the last 16 worker failures, oldest first

	// Drain belongs to the schedules draining and drained.
	Drain *struct {
		DeadlineMS int64 `json:"deadline_ms,omitzero"` // Unix ms when the drain is forced; 0 = never
		Forced     bool  `json:"forced"`               // the deadline came before the work had ended
	} `json:"drain,omitzero"`

	// Principal is who registered the node; it is never part of the JSON.
	Principal string `json:"-"`

	heard *heard // nil in a decoded node
}

// heard is the instant of the newest beat. It is shared by all versions of a
// node, so that ages are exact although an unchanged beat publishes nothing.
type heard struct {
	start time.Time    // of the registry, with a monotonic reading
	at    atomic.Int64 // nanoseconds after start; 0 = no beat yet
}

// LastHeartbeat returns when the node was last heard of, up to this moment, or
// the zero time if it has not beaten yet or was decoded from JSON.
func (n *Node) LastHeartbeat() time.Time {
	if n.heard == nil {
		return time.Time{}
	}
	if at := n.heard.at.Load(); at != 0 {
		return n.heard.start.Add(time.Duration(at))
	}
	return time.Time{}
}

// Placeable reports whether new work may be sent to the node, and if not why:
// no_beat_yet, suspect, offline, failed, cordoned or draining.
func (n *Node) Placeable() (ok bool, reason string) {
	switch n.Liveness {
	case Online:
	case Suspect, Offline, Failed:
		return false, string(n.Liveness)
	default:
		return false, "no_beat_yet"
	}
	switch n.Schedule {
	case Open, "":
		return true, ""
	case Cordoned:
		return false, "cordoned"
	}
	return false, "draining"
}

// Status is both axes in one word, for simple clients: the liveness, or draining
// for an online node whose schedule is draining or drained.
func (n *Node) Status() string {
	if n.Liveness == Online && (n.Schedule == Draining || n.Schedule == Drained) {
		return "draining"
	}
	return string(n.Liveness)
}

// Pool returns the pool with that id.
func (n *Node) Pool(id PoolID) (*Pool, bool) {
	if i, ok := slices.BinarySearchFunc(n.Pools, id, func(p Pool, id PoolID) int { return compare(p.ID, id) }); ok {
		return &n.Pools[i], true
	}
	return nil, false
}

// MarshalJSON writes the node with its status, whether it is placeable, and the
// age of its last heartbeat at this moment.
func (n *Node) MarshalJSON() ([]byte, error) { return n.encode(n.LastHeartbeat()) }

// encode writes the node; the zero time leaves out when it was heard of.
func (n *Node) encode(heard time.Time) ([]byte, error) {
	type plain Node
	ok, _ := n.Placeable()
	out := struct {
		*plain
		Schedule         Schedule `json:"schedule"`
		Status           string   `json:"status"`
		Placeable        bool     `json:"placeable"`
		Since            string   `json:"since"`
		RegisteredAt     string   `json:"registered_at"`
		RegisteredAtMS   int64    `json:"registered_at_ms"`
		LastHeartbeatMS  *int64   `json:"last_heartbeat_ms,omitzero"`
		LastHeartbeatAge *int64   `json:"last_heartbeat_age_ms,omitzero"`
		ConflictSince    string   `json:"conflict_since,omitzero"`
	}{
		plain: (*plain)(n), Schedule: cmp.Or(n.Schedule, Open), Status: n.Status(), Placeable: ok,
		Since: instant(n.Since), RegisteredAt: instant(n.RegisteredAt),
		RegisteredAtMS: n.RegisteredAt.UnixMilli(), ConflictSince: instant(n.ConflictSince),
	}
	if !heard.IsZero() {
		now := time.Now()
		age := max(0, now.Sub(heard)) // monotonic
		out.LastHeartbeatMS = new(now.Add(-age).UnixMilli())
		out.LastHeartbeatAge = new(age.Milliseconds())
	}
	return json.Marshal(out)
}

// An Event is a failure of a worker, as its node reports it. One of class
// "fatal" is a failure of the whole node, which is then failed; it needs no
// worker and no pool.
type Event struct {
	ID                uint64   `json:"event_id"` // rises per agent process; one already seen is dropped
	WorkerID          WorkerID `json:"worker_id,omitzero"`
	PoolID            PoolID   `json:"pool_id,omitzero"`
	GPU               string   `json:"gpu,omitzero"`
	ExitCode          *int     `json:"exit_code,omitzero"`
	Signal            string   `json:"signal,omitzero"`
	Class             string   `json:"class,omitzero"`
	Message           string   `json:"message,omitzero"` // at most 256 bytes
	VRAMReleasedBytes uint64   `json:"vram_released_bytes,omitzero"`
	UptimeMS          int64    `json:"uptime_ms,omitzero"`
}

// A transition is one row of the state table of a node.
type transition struct {
	from, event string
	to          Liveness // "" = removed
}

// transitions is the state table of liveness; the package comment shows it and a
// test compares the two.
func transitions() []transition {
	var rows []transition
	add := func(event string, to Liveness, froms ...string) {
		for _, from := range froms {
			rows = append(rows, transition{from, event, to})
		}
	}
	add("register", Registering, "-", "registering", "online", "suspect", "offline", "failed")
	add("beat", Online, "registering", "online", "suspect", "offline")
	add("beat", Failed, "failed")
	add("silent", Suspect, "registering", "online")
	add("refused", Suspect, "online")
	add("silent", Offline, "suspect")
	add("fail", Failed, "registering", "online", "suspect")
	add("clear", Registering, "failed")
	add("forget", "", "offline", "failed")
	add("leave", "", "registering", "online", "suspect", "offline", "failed")
	add("release", "", "registering", "online", "suspect", "offline", "failed")
	return rows
}

// next returns the state after event, or false where the table has no row.
func (l Liveness) next(event string) (Liveness, bool) {
	for _, t := range transitions() {
		if t.from == string(l) && t.event == event {
			return t.to, true
		}
	}
	return l, false
}
