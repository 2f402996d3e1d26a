package poolregistry

import (
	"bytes"
	"encoding/json"
	"slices"
)

// A PoolState is initializing, ready, draining, failed or offline. The zero
// value reads as initializing.
type PoolState string

// A Pool is a group of workers for one engine, model and device mask on one
// node. The zero value is initializing and not available.
type Pool struct {
	ID              PoolID     `json:"pool_id"`
	State           PoolState  `json:"state"`
	Reason          string     `json:"reason,omitzero"` // why it is not ready; "absent" = the last beat did not mention it
	Engine          string     `json:"engine,omitzero"`
	EngineVersion   string     `json:"engine_version,omitzero"`
	EngineDigest    string     `json:"engine_digest,omitzero"`
	Live            bool       `json:"live"`
	Ready           bool       `json:"ready"`
	Draining        bool       `json:"draining"`
	SlotsFree       int        `json:"slots_free"`       // 0 to SlotsTotal
	SlotsTotal      int        `json:"slots_total"`      // 0 to 4096
	ActiveLeases    int        `json:"active_leases"`    // the scheduler's own count, sent back to it
	Idle            bool       `json:"idle"`             // the engine's own report
	VRAMFreeBytes   uint64     `json:"vram_free_bytes"`  // at most VRAMTotalBytes
	VRAMTotalBytes  uint64     `json:"vram_total_bytes"` // 0 = no GPU memory is known
	DeviceMask      []string   `json:"device_mask,omitzero"`
	ModelsAvailable []Model    `json:"models_available,omitzero"` // on disk; nil in a beat = unchanged
	ModelsLoaded    []string   `json:"models_loaded,omitzero"`
	Batching        bool       `json:"batching,omitzero"`
	Breaker         string     `json:"breaker,omitzero"` // closed, open, half_open
	Restarts        int        `json:"restarts,omitzero"`
	LastError       *PoolError `json:"last_error,omitzero"`
	Workers         []Worker   `json:"workers,omitzero"` // sorted by ID
}

// A PoolError is the newest trouble of a pool.
type PoolError struct {
	Code    string `json:"code"`
	Message string `json:"message,omitzero"` // at most 256 bytes
}

// A Model is a model that a node has on disk. In JSON a bare string is accepted
// for one that has only a name.
type Model struct {
	Ref       string `json:"model"`
	NeedBytes uint64 `json:"need_bytes,omitzero"` // GPU memory that loading it took; 0 = not learned yet
	Fits      *bool  `json:"fits,omitzero"`       // nil = not known
}

// Available reports whether the pool takes work now: ready, not draining, and a
// slot is free.
func (p *Pool) Available() bool { return p.Ready && !p.Draining && p.SlotsFree > 0 }

// CanFit reports whether n bytes of GPU memory are free; exactly n fits.
func (p *Pool) CanFit(n uint64) bool { return p.VRAMFreeBytes >= n }

// UnmarshalJSON accepts an object, or a string that is the pool's id.
func (p *Pool) UnmarshalJSON(b []byte) error {
	if id, ok, err := bareString(b); ok {
		*p = Pool{ID: PoolID(id)}
		return err
	}
	type plain Pool
	return json.Unmarshal(b, (*plain)(p))
}

// UnmarshalJSON accepts an object, or a string that is the model's reference.
func (m *Model) UnmarshalJSON(b []byte) error {
	if ref, ok, err := bareString(b); ok {
		*m = Model{Ref: ref}
		return err
	}
	type plain Model
	return json.Unmarshal(b, (*plain)(m))
}

func bareString(b []byte) (s string, ok bool, err error) {
	if !bytes.HasPrefix(b, []byte{'"'}) {
		return "", false, nil
	}
	return s, true, json.Unmarshal(b, &s)
}

// MarshalText writes the zero state by its name.
func (s PoolState) MarshalText() ([]byte, error) {
	if s == "" {
		return []byte("initializing"), nil
	}
	return []byte(s), nil
}

func (p Pool) clone() Pool {
	p.DeviceMask, p.ModelsLoaded = slices.Clone(p.DeviceMask), slices.Clone(p.ModelsLoaded)
	p.LastError = clonePtr(p.LastError)
	return p
}

func clonePtr[T any](p *T) *T {
	if p == nil {
		return nil
	}
	return new(*p)
}

func (m Model) same(o Model) bool {
	fits := m.Fits == o.Fits || m.Fits != nil && o.Fits != nil && *m.Fits == *o.Fits
	return fits && m.Ref == o.Ref && m.NeedBytes == o.NeedBytes
}
