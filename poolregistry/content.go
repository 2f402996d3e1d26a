package poolregistry

import (
	"reflect"
	"slices"
	"time"
)

const maxNodeEvents = 16

// classFatal is the class of an event after which the whole node is of no use.
const classFatal = "fatal"

// content replaces what the registry knows about a node's pools, GPUs and
// failures by what the beat says. It returns the pools that are not registered.
func (s *state) content(e *entry, b Beat, now time.Duration) (unknown []PoolID) {
	pools, same := mergePools(e.node.Pools, b.Pools)
	for _, p := range b.Pools {
		if _, ok := e.node.Pool(p.ID); !ok {
			unknown = append(unknown, p.ID)
		}
	}
	gpus, sameGPUs := mergeGPUs(e.node.Capabilities.GPUs, b.GPUs)
	events := e.node.Events
	fatal := false
	for _, ev := range b.Events {
		if ev.ID > e.lastEvent { // else it was in an earlier beat, or twice in this one
			e.lastEvent = ev.ID
			events = append(slices.Clone(events), ev)
			fatal = fatal || ev.Class == classFatal
		}
	}
	if !same || !sameGPUs || len(events) > len(e.node.Events) {
		s.change(e, func(n *Node) {
			n.Pools, n.Capabilities.GPUs = pools, gpus
			n.Events = events[max(0, len(events)-maxNodeEvents):]
		})
	}
	if fatal {
		s.fire(e, "fail", classFatal, now)
	}
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
			if m := merged[i].ModelsAvailable; m == nil || slices.EqualFunc(m, old.ModelsAvailable, Model.same) {
				merged[i].ModelsAvailable = old.ModelsAvailable
			}
		} else {
			merged[i] = *old
			merged[i].Live, merged[i].Ready, merged[i].Reason = false, false, "absent"
		}
		same = same && reflect.DeepEqual(&merged[i], old)
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
		if reflect.DeepEqual(g, merged[i]) {
			continue
		}
		if same {
			merged, same = slices.Clone(merged), false
		}
		merged[i] = g
	}
	return merged, same
}
