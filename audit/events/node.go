package events

// NodeRegistered: a node joined. A node without special capabilities has none
// to list.
type NodeRegistered struct {
	Capabilities   []string `json:"capabilities,omitzero"`
	GPUCount       uint32   `json:"gpu_count"`
	NodeID         string   `json:"node_id"`
	TotalVRAMBytes uint64   `json:"total_vram_bytes"`
}

// NodeDeregistered: a node left, or was taken out.
type NodeDeregistered struct {
	NodeID        string   `json:"node_id"`
	PoolsAffected []string `json:"pools_affected,omitzero"`
}
