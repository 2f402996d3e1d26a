package poolregistry

import (
	"cmp"
	"errors"
	"maps"
	"time"

	"github.com/llorch/llorch/poolregistry/internal/wirecode"
)

// outcomeOf is the result of a call, for counters: success, error, or what the
// table of codes says.
func outcomeOf(err error) string {
	if err == nil {
		return "success"
	}
	e, ok := errors.AsType[*Error](err)
	if !ok {
		return "error"
	}
	return cmp.Or(wirecode.Find(string(e.Code)).Outcome, "error")
}

// maxNamed is how many nodes have heartbeat counters of their own.
const maxNamed = 256

// delayBounds are the upper bounds, in seconds, of the detection delay buckets:
// around the timeouts of Fast and Default, then up to the longest one.
func delayBounds() []float64 { return []float64{1, 3, 3.5, 5, 10, 20, 30, 31, 60, 300, 3600} }

// counts are the plain counters of a registry.
type counts struct {
	registrations, deregistrations, otherBeats map[string]uint64 // by outcome

	guardTrips, conflicts, skewed, clamped, stalls uint64
	stalled                                        time.Duration

	delays   [11]uint64 // per bound of delayBounds, not cumulative
	delayN   uint64
	delaySum time.Duration
}

func (c *counts) detected(silence time.Duration) {
	c.delayN++
	c.delaySum += silence
	for i, bound := range delayBounds() {
		if silence.Seconds() <= bound {
			c.delays[i]++
			return
		}
	}
}

func (s *state) countBeat(id NodeID, outcome string) {
	if e, ok := s.nodes[id]; ok && e.beats != nil {
		e.beats[outcome]++
		return
	}
	s.counts.otherBeats[outcome]++
}

// Stats are the counters and gauges of a [Registry] since New. Outcomes are
// success, unauthorized, invalid, unknown, fenced, replayed, limited, error;
// outcomes that never occurred are left out.
type Stats struct {
	Registrations   map[string]uint64            // by outcome
	Deregistrations map[string]uint64            // by outcome
	Heartbeats      map[NodeID]map[string]uint64 // at most 256 registered nodes, by outcome
	OtherHeartbeats map[string]uint64            // of all other nodes, also unknown ones

	GuardHeld  bool
	GuardTrips uint64
	Conflicts  uint64 // proofs that a second copy of an id was alive
	Skewed     uint64 // times a node's clock was found more than 30 s off
	Clamped    uint64 // senseless numbers in beats that were corrected
	Stalls     uint64
	Stalled    time.Duration // sum of all pauses of this process while Run was running

	// DetectionDelay is the credited silence at each offline decision: counts
	// per upper bound in seconds, cumulative.
	DetectionDelay struct {
		Count   uint64
		Sum     time.Duration
		Buckets map[float64]uint64
	}
}

// Stats returns a copy of the counters.
func (r *Registry) Stats() Stats {
	_ = r.lock()
	defer r.unlock()
	c := &r.state.counts
	st := Stats{
		Registrations: maps.Clone(c.registrations), Deregistrations: maps.Clone(c.deregistrations),
		Heartbeats: map[NodeID]map[string]uint64{}, OtherHeartbeats: maps.Clone(c.otherBeats),
		GuardHeld: r.state.guard.held, GuardTrips: c.guardTrips, Conflicts: c.conflicts, Skewed: c.skewed,
		Clamped: c.clamped, Stalls: c.stalls, Stalled: c.stalled,
	}
	for id, e := range r.state.nodes {
		if e.beats != nil {
			st.Heartbeats[id] = maps.Clone(e.beats)
		}
	}
	d := &st.DetectionDelay
	d.Count, d.Sum, d.Buckets = c.delayN, c.delaySum, map[float64]uint64{}
	var sum uint64
	for i, bound := range delayBounds() {
		sum += c.delays[i]
		d.Buckets[bound] = sum
	}
	return st
}
