package poolregistry

import (
	"encoding/json"
	"time"
)

// A WorkerStatus is starting, ready, busy, draining, stopping, stuck, failed or
// stopped. The program that runs the engines decides it.
type WorkerStatus string

// A Worker is one engine process of a pool. It holds no secret: a worker's
// credential is read once per worker from its node.
type Worker struct {
	ID            WorkerID     `json:"worker_id"`
	Status        WorkerStatus `json:"status"`
	Reason        string       `json:"reason,omitzero"` // why it is not ready; "address" = its URL is outside the policy
	URL           string       `json:"url,omitzero"`    // base URL; empty until there is one
	ModelRef      string       `json:"model_ref,omitzero"`
	ModelDigest   string       `json:"model_digest,omitzero"`
	Quant         string       `json:"quant,omitzero"`
	Engine        string       `json:"engine,omitzero"`
	EngineVersion string       `json:"engine_version,omitzero"`
	Protocol      string       `json:"protocol,omitzero"` // openai
	Capabilities  []string     `json:"capabilities,omitzero"`
	CtxMax        int          `json:"ctx_max,omitzero"` // tokens, at most 16 Mi; 0 = unknown
	SlotsFree     int          `json:"slots_free"`       // 0 to SlotsTotal
	SlotsTotal    int          `json:"slots_total"`      // 0 to 4096
	VRAMBytes     uint64       `json:"vram_bytes,omitzero"`
	GPUUUIDs      []string     `json:"gpu_uuids,omitzero"`
	TokensPerS    float64      `json:"tokens_per_s,omitzero"`   // 0 = unknown
	FirstTokenMS  float64      `json:"first_token_ms,omitzero"` // 0 = unknown
	KVUsedRatio   *float64     `json:"kv_used_ratio,omitzero"`  // 0 to 1; nil = unknown
	RestartCount  int          `json:"restart_count,omitzero"`
	StartedAt     time.Time    `json:"started_at,omitzero"`
}

// Usable reports whether the worker takes requests: it is ready or busy. A busy
// worker may have no free slot.
func (w *Worker) Usable() bool { return w.Status == "ready" || w.Status == "busy" }

// MarshalJSON writes instants in UTC with millisecond digits.
func (w Worker) MarshalJSON() ([]byte, error) {
	type plain Worker
	return json.Marshal(struct {
		plain
		StartedAt string `json:"started_at,omitzero"`
	}{plain(w), instant(w.StartedAt)})
}

// instant formats a wall-clock instant for the wire; the zero time is "".
func instant(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format("2006-01-02T15:04:05.000Z07:00")
}
