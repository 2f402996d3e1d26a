package poolregistry

import (
	"context"
	"crypto/sha256"
)

// Leave ends a lease: the node is removed at once. The error is an [*Error] with
// [NodeUnknown], [LeaseInvalid] or [LeaseFenced].
func (r *Registry) Leave(_ context.Context, id NodeID, leaseToken string) error {
	lease := sha256.Sum256([]byte(leaseToken))
	_ = r.lock()
	defer r.unlock()
	err := r.state.leave(id, lease)
	r.state.counts.deregistrations[outcomeOf(err)]++
	return err
}

func (s *state) leave(id NodeID, lease [sha256.Size]byte) error {
	e, ok := s.nodes[id]
	if !ok {
		return &Error{Code: NodeUnknown}
	}
	if err := s.checkLease(e, lease, 0, 0); err != nil { // seq 0 proves nothing about a second copy
		return err
	}
	s.remove(e, "left")
	return nil
}
