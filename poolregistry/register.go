package poolregistry

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"reflect"
	"time"
)

// Register gives a node a lease on its id, or refuses with an [*Error].
//
// The same incarnation (instance and lease token) may register again: it keeps
// epoch and token, and its description is replaced. A new incarnation gets a
// larger epoch and a new token, and the old token is void. It takes over a live
// id only with the current lease token, or as the repetition of a registration
// whose answer got lost; an offline or failed one also without, if the principal
// is the same. The schedule of an id outlives its incarnations: the stricter of
// what the registry keeps and what a new one remembers holds.
func (r *Registry) Register(_ context.Context, reg Registration) (Grant, error) {
	c := checker{limits: r.state.cfg.Limits, policy: r.state.cfg.Address}
	reg, err := c.registration(reg)
	raw := make([]byte, 16)
	_, _ = rand.Read(raw) // never fails: see crypto/rand
	token := base64.RawURLEncoding.EncodeToString(raw)

	now := r.lock()
	defer r.unlock()
	var grant Grant
	if err == nil {
		grant, err = r.state.register(reg, token, now)
	}
	r.state.counts.registrations[outcomeOf(err)]++
	return grant, err
}

// register is the decision; token is the new lease token, if one is needed.
func (s *state) register(reg Registration, token string, now time.Duration) (Grant, error) {
	e, known := s.nodes[reg.NodeID]
	if !known {
		if len(s.nodes) >= s.cfg.Limits.Nodes {
			return Grant{}, &Error{Code: NodeLimit, RetryAfter: time.Minute}
		}
		e = &entry{node: &Node{ID: reg.NodeID, heard: &heard{start: s.start}}, wish: s.kept[reg.NodeID]}
		delete(s.kept, reg.NodeID)
		s.describe(e, reg, s.nextEpoch(s.epochFloor, reg.PrevEpoch), now)
		s.insert(e)
		return s.grant(e, token, now), nil
	}
	digest := sha256.Sum256([]byte(reg.LeaseToken))
	holds := reg.LeaseToken != "" && subtle.ConstantTimeCompare(digest[:], e.lease[:]) == 1
	switch {
	case holds && reg.InstanceID == e.node.InstanceID:
		return s.refresh(e, reg, now), nil
	case holds:
	case reg.Principal != e.node.Principal:
		return Grant{}, &Error{Code: NodeIDTaken, RetryAfter: s.forgottenIn(e, now)}
	case e.times.Liveness == Offline || e.times.Liveness == Failed:
	case e.times.Liveness == Registering && e.seq == 0 && reg.InstanceID == e.node.InstanceID:
		// Its first answer got lost, so it could never beat. One that was cleared is
		// registering too, and has beaten.
	default:
		return Grant{}, &Error{Code: NodeIDTaken, RetryAfter: s.offlineIn(e, now)}
	}
	e.prevLease, e.prevSeq, e.hasPrev = e.lease, e.seq, true
	s.describe(e, reg, s.nextEpoch(e.node.Epoch, reg.PrevEpoch), now)
	return s.grant(e, token, now), nil
}

// describe starts a new incarnation.
func (s *state) describe(e *entry, reg Registration, epoch uint64, now time.Duration) {
	from := e.times.Liveness
	conflict := e.node.ConflictSince
	s.tally[from]--
	s.tally[Registering]++
	n := &Node{
		ID: reg.NodeID, Epoch: epoch, RegisteredAt: s.wall(), Since: s.wall(),
		Liveness: Registering, Reason: "registered", ConflictSince: conflict,
		heard: &heard{start: s.start}, Events: []Event{},
	}
	n.fill(reg)
	s.adopt(e, reg.Schedule, now)
	n.wanted(e.wish)
	s.setNode(e, n)
	interval := s.cfg.Timing.interval(len(s.nodes) + 1)
	e.intervals = [2]time.Duration{interval, interval}
	e.times = NodeTimes{Liveness: Registering, LastBeat: now, Credit: s.observer.Credit, Granted: interval}
	e.seq, e.lastEvent, e.skewN, e.skewed = 0, 0, 0, false
	e.tokens, e.tokensAt = burst, now
	e.onlineAt, e.lostAt, e.changedAt = forever, forever, now
	s.urgent = true
	s.remind(e)
	s.noteMove(e, from, Registering, n.Reason, 0)
}

// refresh is a registration of the incarnation that holds the lease already.
func (s *state) refresh(e *entry, reg Registration, now time.Duration) Grant {
	for i := range reg.Pools {
		reg.Pools[i].keep(e.node)
	}
	s.change(e, func(n *Node) { n.fill(reg) })
	s.urgent = true
	e.heardAt(s, now)
	grant := s.grantOf(e)
	grant.LeaseToken = reg.LeaseToken
	return grant
}

// fill takes over what the node says about itself.
func (n *Node) fill(reg Registration) {
	n.InstanceID, n.Address, n.Version = reg.InstanceID, reg.Address, reg.Version
	n.Region, n.Labels, n.Capabilities, n.Pools = reg.Region, reg.Labels, reg.Capabilities, reg.Pools
	n.Principal = reg.Principal
}

// keep gives a pool that was registered by name only the content it had.
func (p *Pool) keep(n *Node) {
	bare := Pool{ID: p.ID, State: p.State, ModelsAvailable: p.ModelsAvailable}
	old, ok := n.Pool(p.ID)
	if !ok || p.State != "initializing" || !reflect.DeepEqual(p, &bare) {
		return
	}
	models := p.ModelsAvailable
	if *p = *old; models != nil {
		p.ModelsAvailable = models
	}
}

func (s *state) grant(e *entry, token string, now time.Duration) Grant {
	e.lease = sha256.Sum256([]byte(token))
	grant := s.grantOf(e)
	grant.LeaseToken = token
	return grant
}

func (s *state) grantOf(e *entry) Grant {
	_, offline := s.cfg.Timing.scaled(e.times.Granted)
	return Grant{
		Success: true, Message: "registered", NodeID: e.node.ID, Epoch: e.node.Epoch,
		HeartbeatIntervalMS: s.spread(e).Milliseconds(), TimeoutMS: offline.Milliseconds(),
		Status: e.times.Liveness,
	}
}

// offlineIn is how long a live node may stay silent until its id is free again.
func (s *state) offlineIn(e *entry, now time.Duration) time.Duration {
	times := e.times
	times.Liveness, times.Refused = Suspect, true
	return min(max(times.due(s.observer, s.cfg.Timing)-now, time.Second), time.Hour)
}

// forgottenIn is how long a node may stay silent until its id is forgotten.
func (s *state) forgottenIn(e *entry, now time.Duration) time.Duration {
	switch {
	case s.cfg.ForgetAfter < 0:
		return time.Hour
	case e.times.Liveness == Offline || e.times.Liveness == Failed:
		return max(s.forgetAt(e)-now, time.Second)
	}
	return s.offlineIn(e, now) + s.cfg.ForgetAfter
}
