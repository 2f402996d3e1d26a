package poolregistry

// Refused says that a connection to the node's own address was refused: its
// machine answers and its program does not. An online node becomes suspect at
// once, and the guard does not hold it. Timeouts and resets are no such
// evidence. It never waits for I/O; an unknown node is ignored.
func (r *Registry) Refused(id NodeID) {
	now := r.lock()
	defer r.unlock()
	if e, ok := r.state.nodes[id]; ok && e.times.Liveness != Offline {
		e.times.Refused = true
		r.state.fire(e, "refused", "refused", now)
		r.state.remind(e)
	}
}

// Progress says that bytes arrived from the node just now. A suspect node does
// not go offline within SuspectAfter of it, at most ten OfflineAfter after its
// last beat. It never makes a node placeable and never waits for I/O; an unknown
// node is ignored.
func (r *Registry) Progress(id NodeID) {
	now := r.lock()
	defer r.unlock()
	if e, ok := r.state.nodes[id]; ok {
		e.times.Progress = now
	}
}
