package orchestrator

import (
	"context"

	"github.com/llorch/llorch/orchestrator/internal/sched"
	"github.com/llorch/llorch/orchestrator/placement"
)

// SessionUse opens what one task has of its session.
type SessionUse struct{ sessionUse }

func (u SessionUse) Settle(tokens int) { u.settle(tokens) }
func (u SessionUse) Cancel()           { u.cancel() }

// TakeSession makes check 10 of ORC-240 alone.
func TakeSession(o *Orchestrator, p Principal, id string, budget, need int) (SessionUse, error) {
	ref, err := RefOf(o, p.Subject())
	if err != nil {
		return SessionUse{}, err
	}
	u, err := o.takeSession(context.Background(), p, &Spec{Session: id, Budget: budget}, ref, need)
	return SessionUse{u}, err
}

// PlacedSession says where a turn runs.
func PlacedSession(o *Orchestrator, p Principal, id string, w placement.Key) error {
	ref, err := RefOf(o, p.Subject())
	o.talks.placed(ref, id, w)
	return err
}

// CountSessions returns how many are in memory.
func CountSessions(o *Orchestrator) int {
	o.talks.mu.Lock()
	defer o.talks.mu.Unlock()
	return o.talks.order.Len()
}

// ResolveModel makes check 9 of ORC-240 alone.
func ResolveModel(o *Orchestrator, name string) (model, digest string, err error) {
	return o.resolveModel(&Spec{Model: name})
}

// Digests returns those that count in placement, by node.
func Digests(o *Orchestrator) map[string]string {
	out := make(map[string]string)
	o.look(func(c *sched.Core) {
		for w := range c.View().Workers() {
			out[w.Node] = w.Digest
		}
	})
	return out
}
