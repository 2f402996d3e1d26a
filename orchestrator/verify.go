package orchestrator

import (
	"context"
	"crypto/rand"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/llorch/llorch/orchestrator/internal/sched"
	"github.com/llorch/llorch/orchestrator/observe"
	"github.com/llorch/llorch/orchestrator/store"
	"github.com/llorch/llorch/orchestrator/taskapi"
)

const (
	verifyEvery = 2 * time.Second  // how often nodes are asked how far they are
	verifyMost  = time.Hour        // then what is not known yet is a warning
	verifyCall  = 10 * time.Second // of one call to a node
	keptChecks  = 256              // verifications that can be polled, the oldest goes
)

// checks holds the verifications, the newest last.
type checks struct {
	mu   sync.Mutex
	list []*verification
}

// verification is one model hashed on every node that has it. The lock of checks
// guards what changes.
type verification struct {
	id, model, digest string
	began             time.Time
	parts             map[string]*part // by node; complete before any is polled
	done              bool
}

// part is the verification on one node.
type part struct {
	Operation
	result string // "" = not ended
}

// begin takes up a verification of a model unless one is under way.
func (c *checks) begin(m Model) (*verification, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if slices.ContainsFunc(c.list, func(v *verification) bool { return v.model == m.ID && !v.done }) {
		return nil, taskapi.NewError(taskapi.OperationRunning)
	}
	if len(c.list) >= keptChecks {
		at := max(0, slices.IndexFunc(c.list, func(v *verification) bool { return v.done }))
		c.list = slices.Delete(c.list, at, at+1)
	}
	v := &verification{id: "verify-" + rand.Text(), model: m.ID, digest: m.Digest, began: time.Now()}
	c.list = append(c.list, v)
	return v, nil
}

// running returns those that have begun on their nodes and have not ended.
func (c *checks) running() (out []*verification) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, v := range c.list {
		if !v.done && v.parts != nil {
			out = append(out, v)
		}
	}
	return out
}

// operation returns how a verification stands.
func (c *checks) operation(id string) (Operation, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	at := slices.IndexFunc(c.list, func(v *verification) bool { return v.id == id })
	if at < 0 {
		return Operation{}, false
	}
	v := c.list[at]
	op := Operation{ID: id, Do: DoVerify, State: "running", Phase: "verifying"}
	for _, p := range v.parts {
		op.Bytes, op.Total = op.Bytes+p.Bytes, op.Total+max(0, p.Total)
	}
	if v.done {
		op.State, op.Phase, op.Result = "done", "", v.verdicts()
	}
	return op, true
}

// verdicts returns what the nodes said, by node.
func (v *verification) verdicts() map[string]string {
	out := make(map[string]string, len(v.parts))
	for node, p := range v.parts {
		out[node] = p.result
	}
	return out
}

// verdict reads how an operation of a node ended; "" while it has not. What ends
// otherwise than by a comparison decides nothing.
func verdict(op Operation) string {
	word := op.Result
	if m, ok := word.(map[string]any); ok {
		word = m["verification"]
	}
	switch {
	case !op.Ended():
		return ""
	case op.Code == "DIGEST_MISMATCH" || op.Code == "MODEL_UNVERIFIED" || word == verdictFail:
		return verdictFail
	case op.State == "done" && word == verdictPass:
		return verdictPass
	}
	return verdictWarn
}

// VerifyModel asks every node that has the model to hash it. The operation can be
// polled; its result is a map of node to pass, warn or fail. While a node's last
// verdict is fail, its workers do not count as having the digest. Operators only.
func (o *Orchestrator) VerifyModel(ctx context.Context, p Principal, id string) (Operation, error) {
	if err := o.operator(ctx, p, "models", "model.verify"); err != nil {
		return Operation{}, err
	}
	if err := o.Ready(); err != nil {
		return Operation{}, err
	}
	m, ok := o.catalog.now.Load().byID[id]
	if !ok {
		return Operation{}, taskapi.NewError(taskapi.ModelNotFound)
	}
	pools := o.catalog.holders(id)
	if len(pools) == 0 || o.cfg.Control == nil {
		return Operation{}, taskapi.NewError(taskapi.ModelNotAvailable)
	}
	v, err := o.catalog.checks.begin(m.Model)
	if err != nil {
		return Operation{}, err
	}
	ctx = context.WithoutCancel(ctx)
	parts := make(map[string]*part, len(pools))
	var wg sync.WaitGroup
	for _, pool := range pools {
		x := new(part)
		parts[string(pool.Node)] = x
		wg.Go(func() {
			call, cancel := context.WithTimeout(ctx, verifyCall)
			defer cancel()
			op, err := o.cfg.Control.Do(call, pool, Command{Do: DoVerify, Model: id, Digest: m.Digest})
			if err != nil {
				op = Operation{State: "failed", Code: string(codeOf(err))}
			}
			x.Operation, x.result = op, verdict(op)
		})
	}
	wg.Wait()
	o.catalog.checks.mu.Lock()
	v.parts = parts
	o.catalog.checks.mu.Unlock()
	o.catalog.nudge()
	op, _ := o.catalog.checks.operation(v.id)
	return op, nil
}

// poll asks the nodes of a verification how far they are, and keeps the verdicts
// when all have ended.
func (o *Orchestrator) poll(ctx context.Context, v *verification) {
	late, open := time.Since(v.began) > verifyMost, false
	for _, p := range v.parts {
		if p.result != "" {
			continue
		}
		call, cancel := context.WithTimeout(ctx, verifyCall)
		op, err := o.cfg.Control.Operation(call, p.ID)
		cancel()
		switch {
		case err == nil:
		case late || codeOf(err) == taskapi.NotFound || codeOf(err) == taskapi.PoolNotFound:
			op = Operation{State: "failed", Code: string(codeOf(err))}
		default:
			op = p.Operation
		}
		o.catalog.checks.mu.Lock()
		if p.Operation, p.result = op, verdict(op); late && p.result == "" {
			p.result = verdictWarn
		}
		open = open || p.result == ""
		o.catalog.checks.mu.Unlock()
	}
	if open || ctx.Err() != nil {
		return
	}
	_, err := o.edit(ctx, v.model, func(_ *entries, m *Model) (*Model, error) {
		if m == nil || m.Digest != v.digest {
			return m, nil
		}
		m.LastVerified, m.Verified = time.Now().UTC(), nil
		for _, node := range slices.Sorted(maps.Keys(v.parts)) {
			m.Verified = append(m.Verified, Verdict{node, v.parts[node].result})
		}
		return m, nil
	})
	if err != nil && !late {
		return // the store: the next round tries again
	}
	for _, node := range slices.Sorted(maps.Keys(v.parts)) {
		o.observe.Observe(observe.Verified{Node: node, Result: v.parts[node].result, Reason: v.parts[node].Code})
	}
	o.catalog.checks.mu.Lock()
	v.done = true
	o.catalog.checks.mu.Unlock()
}

// keepCatalog ends waiting tasks of models whose time is over, and follows
// verifications.
func (o *Orchestrator) keepCatalog(ctx context.Context) {
	t := time.NewTimer(sweepEvery)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-o.catalog.wake:
		case <-t.C:
		}
		next := o.endDeprecated(time.Now())
		for _, v := range o.catalog.checks.running() {
			o.poll(ctx, v)
			next = min(next, verifyEvery)
		}
		t.Reset(next)
	}
}

// endDeprecated ends what waits for retired models whose time is over; it returns
// when to look again. It looks again and again: tasks come back from a failed
// attempt or from an earlier run.
func (o *Orchestrator) endDeprecated(now time.Time) (next time.Duration) {
	next = sweepEvery
	over := make(map[string]string) // to the successor
	for id, m := range o.catalog.now.Load().byID {
		if m.State != taskapi.ModelRetired {
			continue
		}
		if left := m.Deadline.Sub(now); left > 0 {
			next = min(next, left)
			continue
		}
		over[id] = m.Successor
	}
	if len(over) == 0 {
		return next
	}
	for _, r := range o.runs.all() {
		r.mu.Lock()
		successor, ok := over[r.spec.Model]
		waits := ok && r.ended.IsZero() && r.rec.State == store.Queued
		if waits && successor != "" {
			r.detail = map[string]any{"successor": successor}
		}
		id := r.id
		r.mu.Unlock()
		if waits {
			o.loop.post(sched.Cancel{ID: [16]byte(id), Reason: sched.Operator, Code: string(taskapi.ModelDeprecated)})
		}
	}
	return next
}
