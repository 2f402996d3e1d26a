package poolregistry

import (
	"cmp"
	"context"
	"iter"
	"slices"
)

// A View is the registry's picture of all nodes at one instant. It is read
// only, and old views stay valid.
type View struct {
	Gen                      uint64  // rises with every published view
	Nodes                    []*Node // sorted by ID
	Online, Suspect, Offline int     // how many nodes are in that state
	GuardHeld                bool    // most nodes fell silent together: nobody goes offline for it
	Detecting                bool    // Run is running; without it nothing expires
}

// Node returns the node with that id, by binary search.
func (v *View) Node(id NodeID) (*Node, bool) {
	if i, ok := slices.BinarySearchFunc(v.Nodes, id, func(n *Node, id NodeID) int { return compare(n.ID, id) }); ok {
		return v.Nodes[i], true
	}
	return nil, false
}

func compare[T ~string](a, b T) int { return cmp.Compare(a, b) }

// View returns the newest view. It takes no lock unless a node is due to change
// at this very instant: a node that has been silent for too long is never shown
// as live, however late the detection timer is.
func (r *Registry) View() *View {
	if int64(r.now()) >= r.due.Load() {
		r.lock()
		r.unlock()
	}
	return r.view.Load()
}

// Watch yields the newest view, and again whenever it changed. A slow reader
// skips views, costs nothing and delays nobody. The sequence ends with ctx or
// when the loop is left. Views change by themselves only while Run is running.
func (r *Registry) Watch(ctx context.Context) iter.Seq[*View] {
	return func(yield func(*View) bool) {
		var last *View
		for {
			changed := *r.changed.Load() // before the view, so that no change is missed
			if v := r.View(); v != last {
				if last = v; ctx.Err() != nil || !yield(v) {
					return
				}
				continue
			}
			select {
			case <-ctx.Done():
				return
			case <-changed:
			}
		}
	}
}
