package poolregistry

import "slices"

const maxNodeEvents = 16

// content replaces what the registry knows about a node's pools, GPUs and
// failures by what the beat says. It returns the pools that are not registered.
func (s *state) content(e *entry, b Beat) (unknown []PoolID) {
	pools, same := mergePools(e.node.Pools, b.Pools)
	for _, p := range b.Pools {
		if _, ok := e.node.Pool(p.ID); !ok {
			unknown = append(unknown, p.ID)
		}
	}
	gpus, sameGPUs := mergeGPUs(e.node.Capabilities.GPUs, b.GPUs)
	events := b.Events
	for len(events) > 0 && events[0].ID <= e.lastEvent {
		events = events[1:]
	}
	if same && sameGPUs && len(events) == 0 {
		return unknown
	}
	s.change(e, func(n *Node) {
		n.Pools, n.Capabilities.GPUs = pools, gpus
		for _, ev := range events {
			if ev.ID <= e.lastEvent {
				continue // twice in one beat
			}
			e.lastEvent = ev.ID
			n.Events = append(slices.Clone(n.Events), ev)
		}
		n.Events = n.Events[max(0, len(n.Events)-maxNodeEvents):]
	})
	return unknown
}

// mergePools returns the registered pools with the content of the beat, and
// whether that is what they were. A pool that the beat does not mention stays
// listed, not ready; one that names no models keeps those it had.
func mergePools(have, beat []Pool) (merged []Pool, same bool) {
	merged, same = make([]Pool, len(have)), true
	for i := range have {
		old := &have[i]
		j, ok := slices.BinarySearchFunc(beat, old.ID, func(p Pool, id PoolID) int { return compare(p.ID, id) })
		if ok {
			merged[i] = beat[j]
			if merged[i].ModelsAvailable == nil {
				merged[i].ModelsAvailable = old.ModelsAvailable
			}
		} else {
			merged[i] = *old
			merged[i].Live, merged[i].Ready, merged[i].Reason = false, false, "absent"
		}
		same = same && merged[i].same(old)
	}
	if same {
		return have, true
	}
	return merged, false
}

// mergeGPUs matches by uuid where the beat has one, else by index; a GPU that
// was not registered is ignored.
func mergeGPUs(have, beat []GPU) (merged []GPU, same bool) {
	merged, same = have, true
	for _, b := range beat {
		i := slices.IndexFunc(merged, func(g GPU) bool {
			if b.UUID != "" {
				return g.UUID == b.UUID
			}
			return g.DeviceID == b.DeviceID
		})
		if i < 0 {
			continue
		}
		g := merged[i].merge(b)
		if g.same(merged[i]) {
			continue
		}
		if same {
			merged, same = slices.Clone(merged), false
		}
		merged[i] = g
	}
	return merged, same
}
