package nodeagent

import (
	"net/http"
	"time"
)

// Fix takes chance out of an agent: every random spread is r in [0,1).
func (a *Agent) Fix(r float64) { a.rand = func() float64 { return r } }

// SetWall gives the agent another wall clock.
func (a *Agent) SetWall(now func() time.Time) { a.wall = now }

// ParseLease reads a lease file and returns its node and epoch.
func ParseLease(raw []byte) (node, token string, epoch uint64, err error) {
	l, err := parseLease(raw)
	return string(l.NodeID), l.Token, l.Epoch, err
}

// Backoff is the restart schedule.
var Backoff = backoff

// Way returns how the agent reaches its registry, and the transport that it made
// for that.
func (a *Agent) Way() (Registrar, *http.Transport) {
	return a.reg, a.reg.(*client).http.Transport.(*http.Transport)
}
