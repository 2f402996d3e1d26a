package nodeapi

import "github.com/llorch/llorch/poolregistry"

// PreloadRequest asks for a pool to run: exactly one of its members is set.
type PreloadRequest struct {
	Prepared *Prepared `json:"prepared,omitzero"`
	Spec     *PoolSpec `json:"spec,omitzero"`
}

// Prepared describes an engine whose command line somebody else has prepared. The
// node still starts only programs and flags of its own allow-lists.
type Prepared struct {
	BinaryPath    string   `json:"binary_path"`
	Flags         []string `json:"flags,omitzero"`
	Port          int      `json:"port,omitzero"`
	Host          string   `json:"host,omitzero"`
	ModelPath     string   `json:"model_path,omitzero"`
	EngineVersion string   `json:"engine_version,omitzero"`
	PoolID        string   `json:"pool_id,omitzero"` // must be the route's
	ReplicaID     string   `json:"replica_id,omitzero"`
	DeviceMask    string   `json:"device_mask,omitzero"`
}

// PoolSpec says what a pool is to run; its members are those of a pool's
// configuration on the node. Zero members take the node's defaults.
type PoolSpec struct {
	Engine         string            `json:"engine"`
	Model          string            `json:"model,omitzero"`
	ModelPath      string            `json:"model_path,omitzero"` // only below the node's own model folders
	Binary         string            `json:"binary,omitzero"`
	URL            string            `json:"url,omitzero"`
	EngineVersion  string            `json:"engine_version,omitzero"`
	Quant          string            `json:"quant,omitzero"`
	KVType         string            `json:"kv_type,omitzero"`
	Replicas       int               `json:"replicas,omitzero"`
	Ctx            int               `json:"ctx,omitzero"`
	Slots          int               `json:"slots,omitzero"`
	Devices        string            `json:"devices,omitzero"` // a mask: "0,1", "GPU-…", "cpu"; "" = all
	TensorSplit    []float64         `json:"tensor_split,omitzero"`
	Flags          []string          `json:"flags,omitzero"`
	Env            map[string]string `json:"env,omitzero"`
	Port           int               `json:"port,omitzero"`
	VRAMDeclared   uint64            `json:"vram_declared_bytes,omitzero"`
	Deterministic  bool              `json:"deterministic,omitzero"`
	WarmUp         bool              `json:"warm_up,omitzero"`
	StopAfterDrain bool              `json:"stop_after_drain,omitzero"`
	StopGraceMS    int64             `json:"stop_grace_ms,omitzero"`
	StartTimeoutMS int64             `json:"start_timeout_ms,omitzero"`
}

// PreloadReply is the answer to a preload that ended within the wait.
type PreloadReply struct {
	PoolID      poolregistry.PoolID   `json:"pool_id"`
	PID         int                   `json:"pid,omitzero"` // absent for external engines
	HandoffPath string                `json:"handoff_path,omitzero"`
	WorkerID    poolregistry.WorkerID `json:"worker_id"`
	URL         string                `json:"url"`
}

// DrainRequest bounds a drain; 0 = now.
type DrainRequest struct {
	DeadlineMS int64 `json:"deadline_ms"`
}

// ReloadRequest asks for another model or engine version in the same pool.
type ReloadRequest struct {
	NewModelRef      string   `json:"new_model_ref,omitzero"` // "" = as it is; so with every member
	NewModelPath     string   `json:"new_model_path,omitzero"`
	NewEngineVersion string   `json:"new_engine_version,omitzero"`
	Binary           string   `json:"binary,omitzero"`
	Flags            []string `json:"flags,omitzero"`
	Ctx              int      `json:"ctx,omitzero"`
	Slots            int      `json:"slots,omitzero"`
	Strategy         string   `json:"strategy,omitzero"`    // auto, alongside, in_place; "" = auto
	DeadlineMS       int64    `json:"deadline_ms,omitzero"` // of the drain; 0 = 30 s
	Force            bool     `json:"force,omitzero"`       // end what still runs at the deadline
}

// PurgeRequest says what to remove from a node.
type PurgeRequest struct {
	PurgeEngine     bool     `json:"purge_engine,omitzero"`
	PurgeModels     []string `json:"purge_models,omitzero"`
	DrainFirst      *bool    `json:"drain_first,omitzero"` // nil = true, 30 s
	DeleteCacheDirs bool     `json:"delete_cache_dirs,omitzero"`
	Force           bool     `json:"force,omitzero"` // also models that other pools use
}

// Operation is something that takes a while; it is polled.
type Operation struct {
	ID       string              `json:"id"`
	Kind     string              `json:"kind"`  // preload, drain, reload, purge, restart, fetch, verify
	State    string              `json:"state"` // queued, running, done, failed, cancelled
	Phase    string              `json:"phase,omitzero"`
	PoolID   poolregistry.PoolID `json:"pool_id,omitzero"`
	Progress *Progress           `json:"progress,omitzero"`
	Error    *ErrorDetail        `json:"error,omitzero"`  // of a failed one
	Result   any                 `json:"result,omitzero"` // PreloadReply of a preload, DrainResult of a drain
}

// Progress is how far an operation has come.
type Progress struct {
	BytesDone  int64   `json:"bytes_done"`
	BytesTotal int64   `json:"bytes_total"` // −1: not known
	Pct        float64 `json:"pct"`
	Human      string  `json:"human"`
}

// DrainResult says how a drain ended.
type DrainResult struct {
	Forced     bool  `json:"forced"`
	DurationMS int64 `json:"duration_ms"`
	ActiveLeft int   `json:"active_left"`
}
