package queue

// Room returns what Push would answer to an item now, and changes nothing.
func (q *Queue) Room(it Item) error {
	it.bound()
	switch {
	case q.byID[it.ID] != nil:
		return ErrDuplicate
	case q.cfg.Bytes >= 0 && len(q.byID) > 0 && it.Bytes > q.cfg.Bytes-q.bytes:
		return ErrBytes
	case q.crowded(it.Tenant):
		return ErrTenantFull
	case q.cfg.Capacity == Unbounded, q.cfg.Capacity != RejectAll && (len(q.byID) < q.cfg.Capacity || q.victim(it.Class) != nil):
		return nil
	}
	return ErrFull
}
