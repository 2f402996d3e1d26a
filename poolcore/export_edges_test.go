package poolcore

// SetMark has h tell f each step of its edges; before Run.
func SetMark(h *Host, f func(point string)) { h.mark = f }

// Ledger returns who has memory promised, and what of a device is known to be used.
func Ledger(h *Host, device string) (workers []string, used uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	c, ok := h.crew.(*hostCrew)
	if !ok {
		return nil, 0
	}
	return c.memory.ledger.Workers(), c.memory.ledger.Used(device)
}

// TakenPorts is how many ports are reserved.
func TakenPorts(h *Host) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	c, ok := h.crew.(*hostCrew)
	if !ok {
		return 0
	}
	c.ports.mu.Lock()
	defer c.ports.mu.Unlock()
	return len(c.ports.taken)
}
