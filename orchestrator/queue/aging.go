package queue

import (
	"iter"
	"time"
)

// promoteEvery is the least number of picks from one promotion to the next (ORC-213).
const promoteEvery = 4

// aged returns the oldest item that waited longer than AgingAfter and can be
// picked, if a promotion is due.
func (q *Queue) aged(open func(KeyID) bool) *entry {
	if q.cfg.AgingAfter < 0 || q.picks < promoteEvery-1 {
		return nil
	}
	limit := q.now - Instant(q.cfg.AgingAfter)
	var best *entry
	for c := range q.ranks {
		for _, g := range q.ranks[c].groups {
			for e := g.head; e != nil && e.item.Arrived <= limit; e = e.next {
				if best != nil && best.item.Seq < e.item.Seq {
					break
				}
				if e.open && !e.lane.flow.tenant.held {
					if g.ask(q.turn, open) {
						best = e
					}
					break
				}
			}
		}
	}
	return best
}

// Oldest returns how long the oldest item of a class has waited, 0 if there is none.
func (q *Queue) Oldest(now Instant, c Class) time.Duration {
	var age Instant
	for _, g := range q.ranks[min(c, classes-1)].groups {
		age = max(age, now-g.head.item.Arrived)
	}
	return time.Duration(age)
}

// Late yields the items whose Latest is over, by class and arrival (ORC-218). It
// looks at every item: a caller with many sets a timer for each Latest instead.
func (q *Queue) Late(now Instant) iter.Seq[Item] {
	return func(yield func(Item) bool) {
		for _, it := range q.All() {
			if it.Latest != 0 && it.Latest < now && !yield(it) {
				return
			}
		}
	}
}
