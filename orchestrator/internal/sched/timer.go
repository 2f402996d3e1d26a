package sched

import (
	"bytes"
	"container/heap"
)

// timers orders tasks by their next instant, then by id.
type timers []*task

func (h timers) Len() int { return len(h) }
func (h timers) Less(i, j int) bool {
	if h[i].wake != h[j].wake {
		return h[i].wake < h[j].wake
	}
	return bytes.Compare(h[i].ID[:], h[j].ID[:]) < 0
}

func (h timers) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].wakeAt, h[j].wakeAt = i, j
}

func (h *timers) Push(x any) {
	t := x.(*task)
	t.wakeAt = len(*h)
	*h = append(*h, t)
}

func (h *timers) Pop() any {
	last := len(*h) - 1
	t := (*h)[last]
	(*h)[last] = nil
	*h = (*h)[:last]
	t.wakeAt = -1
	return t
}

// set moves the task's timer; 0 removes it.
func (h *timers) set(t *task, at Instant) {
	switch {
	case t.wakeAt >= 0 && at == 0:
		heap.Remove(h, t.wakeAt)
	case t.wakeAt >= 0:
		t.wake = at
		heap.Fix(h, t.wakeAt)
	case at != 0:
		t.wake = at
		heap.Push(h, t)
	}
}

// due returns the task whose timer is over, or nil.
func (h timers) due(now Instant) *task {
	if len(h) > 0 && h[0].wake <= now {
		return h[0]
	}
	return nil
}

// next returns the earliest instant, 0 if there is none.
func (h timers) next() Instant {
	if len(h) == 0 {
		return 0
	}
	return h[0].wake
}
