package placement

import "slices"

// Constraints narrow the choice of a worker. Zero members do not narrow it.
type Constraints struct {
	Mode       string   `json:"mode,omitempty"`   // auto, pin or prefer; "" = pin if a place is named
	Pool       string   `json:"pool,omitempty"`   // only this pool, by bare name
	Node       string   `json:"node,omitempty"`   // only this node
	Worker     string   `json:"worker,omitempty"` // only this worker
	Prefer     []string `json:"prefer,omitempty"` // pools, with Mode prefer; at most 64
	NoFallback bool     `json:"no_fallback,omitempty"`
	Avoid      []string `json:"avoid,omitempty"` // not these pools; at most 64
	Version    string   `json:"engine_version,omitempty"`
	Features   []string `json:"features,omitempty"`
	Quant      string   `json:"quant,omitempty"`
	MinCompute int      `json:"min_compute,omitempty"` // 10 × major + minor
	Mask       []string `json:"device_mask,omitzero"`  // exactly these; empty = none at all, nil = any
	MinVRAM    uint64   `json:"min_vram_bytes,omitempty"`
	Spread     int      `json:"spread,omitempty"` // at most so many of the session's tasks on one node; 0 = any
}

// The modes (ORC-302).
const (
	modeAuto   = "auto"
	modePin    = "pin"
	modePrefer = "prefer"
)

// mode returns the mode that holds.
func (c *Constraints) mode() string {
	switch {
	case c.Mode != "":
		return c.Mode
	case c.Pool != "" || c.Node != "" || c.Worker != "":
		return modePin
	case len(c.Prefer) > 0:
		return modePrefer
	}
	return modeAuto
}

// admits reports whether the place of a worker may be taken: with preferred only
// the preferred pools.
func (c *Constraints) admits(k Key, preferred bool) bool {
	switch c.mode() {
	case modeAuto:
		return true
	case modePrefer:
		return !preferred || k.Pool == c.Pool || slices.Contains(c.Prefer, k.Pool)
	}
	return (c.Pool == "" || c.Pool == k.Pool) && (c.Node == "" || c.Node == k.Node) && (c.Worker == "" || c.Worker == k.Worker)
}
