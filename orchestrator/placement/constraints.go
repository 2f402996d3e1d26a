package placement

// Constraints narrow the choice of a worker. Zero members do not narrow it.
type Constraints struct {
	Pool   string   `json:"pool,omitempty"`   // only this pool, by bare name
	Node   string   `json:"node,omitempty"`   // only this node
	Worker string   `json:"worker,omitempty"` // only this worker
	Avoid  []string `json:"avoid,omitempty"`  // not these pools; at most 64
}
