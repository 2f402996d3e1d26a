package poolregistry

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"time"
)

// A Registration is what a node says about itself when it asks for a lease.
type Registration struct {
	NodeID       NodeID            `json:"node_id"`
	InstanceID   string            `json:"instance_id"` // UUID, fresh in every agent process
	Address      string            `json:"address,omitzero"`
	Pools        []Pool            `json:"pools,omitzero"` // in JSON names and objects, also mixed
	Capabilities Capabilities      `json:"capabilities,omitzero"`
	Version      string            `json:"version,omitzero"`
	Region       Region            `json:"region,omitzero"`
	Labels       map[string]string `json:"labels,omitzero"` // at most 32
	// ModelsAvailable goes to every pool that names no models itself.
	ModelsAvailable []Model `json:"models_available,omitzero"`
	// Schedule is what the node remembers of an operator's wish; the stricter of
	// this and the registry's own holds.
	Schedule   Schedule `json:"schedule,omitzero"`
	PrevEpoch  uint64   `json:"prev_epoch,omitzero"` // the highest epoch this node remembers; below 2^52
	LeaseToken string   `json:"lease_token,omitzero"`

	// Principal is who asks. The caller of the registry sets it.
	Principal string `json:"-"`
	// InProcess says that the node lives in this process; only then may Address
	// be empty.
	InProcess bool `json:"-"`
}

// A Grant is the answer to a Registration: the right to a node id.
type Grant struct {
	Success             bool     `json:"success"`
	Message             string   `json:"message"`
	NodeID              NodeID   `json:"node_id"`
	Epoch               uint64   `json:"epoch"`
	LeaseToken          string   `json:"lease_token"` // 128 random bits
	HeartbeatIntervalMS int64    `json:"heartbeat_interval_ms"`
	TimeoutMS           int64    `json:"timeout_ms"` // silence after which the node is offline
	Status              Liveness `json:"status"`
}

// A Beat says that a node lives, and how its pools are.
type Beat struct {
	NodeID     NodeID    `json:"node_id"`
	LeaseToken string    `json:"lease_token"`
	Seq        uint64    `json:"seq"` // from 1, larger on every attempt
	Timestamp  time.Time `json:"timestamp,omitzero"`
	UptimeMS   int64     `json:"uptime_ms,omitzero"`
	Schedule   Schedule  `json:"schedule,omitzero"` // what the node believes: what the last reply said
	StaleMS    int64     `json:"stale_ms,omitzero"` // age of the content, if it could not be taken afresh
	Pools      []Pool    `json:"pools"`
	GPUs       []GPU     `json:"gpus,omitzero"` // only changing fields; matched by uuid, else by device_id
	Events     []Event   `json:"events,omitzero"`

	// Unread says, as "path: fault code", what the caller could not decode. Such a
	// beat is a sign of life and nothing more; the error is InvalidBeat.
	Unread []string `json:"-"`
}

// A BeatReply is the answer to a Beat.
type BeatReply struct {
	Success         bool           `json:"success"`
	NextHeartbeatMS int64          `json:"next_heartbeat_ms"`
	TimeoutMS       int64          `json:"timeout_ms"`
	Epoch           uint64         `json:"epoch"` // larger than before if the node returned from offline
	Status          Liveness       `json:"status"`
	Schedule        Schedule       `json:"schedule"`
	DrainMS         int64          `json:"drain_ms,omitzero"`      // until the drain is forced; while draining
	Active          map[PoolID]int `json:"active"`                 // what the scheduler has running there
	UnknownPools    []PoolID       `json:"unknown_pools,omitzero"` // not registered, ignored
	Reregister      bool           `json:"reregister,omitzero"`
}

// MarshalJSON writes the timestamp in UTC with millisecond digits.
func (b Beat) MarshalJSON() ([]byte, error) {
	type plain Beat
	return json.Marshal(struct {
		plain
		Timestamp string `json:"timestamp,omitzero"`
	}{plain(b), instant(b.Timestamp)})
}

// The lease token is a secret: it is in the JSON and in no other rendering.

// Format writes the registration without its lease token.
func (r Registration) Format(f fmt.State, _ rune) {
	fmt.Fprintf(f, "registration{node_id:%q instance_id:%q}", string(r.NodeID), r.InstanceID)
}

// LogValue returns the registration without its lease token.
func (r Registration) LogValue() slog.Value { return slog.StringValue(fmt.Sprint(r)) }

// Format writes the grant without its lease token.
func (g Grant) Format(f fmt.State, _ rune) {
	fmt.Fprintf(f, "grant{node_id:%q epoch:%d status:%s}", string(g.NodeID), g.Epoch, g.Status)
}

// LogValue returns the grant without its lease token.
func (g Grant) LogValue() slog.Value { return slog.StringValue(fmt.Sprint(g)) }

// Format writes the beat without its lease token.
func (b Beat) Format(f fmt.State, _ rune) {
	fmt.Fprintf(f, "beat{node_id:%q seq:%d pools:%d}", string(b.NodeID), b.Seq, len(b.Pools))
}

// LogValue returns the beat without its lease token.
func (b Beat) LogValue() slog.Value { return slog.StringValue(fmt.Sprint(b)) }
