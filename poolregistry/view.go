package poolregistry

import (
	"cmp"
	"context"
	"crypto/sha256"
	"iter"
	"slices"
	"time"
)

// A View is the registry's picture of all nodes at one instant. It is read
// only, and old views stay valid.
type View struct {
	Gen                      uint64  // rises with every published view
	Nodes                    []*Node // sorted by ID
	Online, Suspect, Offline int     // how many nodes are in that state
	Failed                   int     // likewise
	GuardHeld                bool    // most nodes fell silent together: nobody goes offline for it
	Detecting                bool    // Run is running; without it nothing expires

	hash func() [32]byte // computed once; nil in a view that the registry did not make
}

// Hash returns the SHA-256 of the JSON of the nodes without what depends on when
// it is written. Equal nodes have the equal hash in every process. It is
// computed once per view, on demand.
func (v *View) Hash() [32]byte {
	if v.hash == nil {
		return hashOf(v.Nodes)
	}
	return v.hash()
}

func hashOf(nodes []*Node) [32]byte {
	h := sha256.New()
	_, _ = h.Write([]byte{'['})
	for i, n := range nodes {
		if i > 0 {
			_, _ = h.Write([]byte{','})
		}
		raw, _ := n.encode(time.Time{}) // cannot fail: what JSON cannot write is not let in
		_, _ = h.Write(raw)
	}
	_, _ = h.Write([]byte{']'})
	return [32]byte(h.Sum(nil))
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
