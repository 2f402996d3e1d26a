package sched_test

import (
	"slices"

	"github.com/llorch/llorch/orchestrator/queue"
)

// shares watches how two tenants that both have work share what there is (I9, G7).
type shares struct {
	served map[queue.Tenant]int64
	since  map[[2]queue.Tenant][2]int64 // served of both when both began to wait
	most   int64                        // the dearest task
}

func (s *shares) reset() {
	*s = shares{served: map[queue.Tenant]int64{}, since: map[[2]queue.Tenant][2]int64{}, most: s.most}
}

// before notes who has work at the beginning of a step.
func (s *shares) before(c *cluster) {
	if !c.fair {
		return
	}
	for p := range pairs() {
		both := c.backlogged(p[0]) && c.backlogged(p[1])
		if _, ok := s.since[p]; !both {
			delete(s.since, p)
		} else if !ok {
			s.since[p] = [2]int64{s.served[p[0]], s.served[p[1]]}
		}
	}
}

func pairs() func(func([2]queue.Tenant) bool) {
	return func(yield func([2]queue.Tenant) bool) {
		ids := tenantIDs()
		for i, a := range ids {
			for _, b := range ids[i+1:] {
				if !yield([2]queue.Tenant{a, b}) {
					return
				}
			}
		}
	}
}

func (c *cluster) backlogged(t queue.Tenant) bool {
	return slices.ContainsFunc(c.jobs, func(j *job) bool { return j.task.Tenant == t && j.waits() })
}

func (s *shares) returned(j *job) { s.served[j.task.Tenant] -= j.task.Cost }

// assigned adds a dispatch and compares.
func (s *shares) assigned(c *cluster, j *job) {
	s.served[j.task.Tenant] += j.task.Cost
	if !c.fair {
		return
	}
	for p := range pairs() {
		base, ok := s.since[p]
		if !ok || p[0] != j.task.Tenant && p[1] != j.task.Tenant {
			continue
		}
		a, b := c.weight(p[0]), c.weight(p[1])
		x, y := (s.served[p[0]]-base[0])/a, (s.served[p[1]]-base[1])/b
		if d := max(x-y, y-x); d > s.most/a+s.most/b+2 {
			c.fail(9, "two tenants with work are %d apart, at most %d", d, s.most/a+s.most/b)
		}
		if !c.backlogged(j.task.Tenant) {
			delete(s.since, p)
		}
	}
}

func (c *cluster) weight(t queue.Tenant) int64 { return int64(max(1, c.limit[t].Weight)) }
