package orchestrator

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/llorch/llorch/orchestrator/store"
	"github.com/llorch/llorch/orchestrator/taskapi"
)

// Ledgers: how often they are written, and how long kept.
const (
	ledgersEvery = time.Second
	keptDays     = 400
)

// ledger is what a tenant used on one UTC day: one document per tenant and day
// (ORC-243).
type ledger struct {
	Tasks int              `json:"tasks"` // that ended
	In    int64            `json:"tokens_in"`
	Out   int64            `json:"tokens_out"`
	Open  map[string]int64 `json:"open,omitempty"` // charged at dispatch and not settled, by task; of a crash, for ever
}

// day is a ledger in memory. The lock of the table guards it, except turn.
type day struct {
	key     string
	name    string        // yyyy-mm-dd
	turn    chan struct{} // holds one: reads and writes of the document go one by one
	version store.Version
	loaded  bool // else ledger is what came on top of the document
	ledger  ledger
	held    int64  // reserved by tasks that were not dispatched yet
	live    int    // tasks that will settle here
	gen     uint64 // changes
	saved   uint64 // of them, those that are stored
}

// used is what is spent or promised.
func (d *day) used() int64 {
	n := d.ledger.In + d.ledger.Out + d.held
	for _, open := range d.ledger.Open {
		n += open
	}
	return n
}

func (t *tenant) unsaved() bool {
	for _, d := range t.days {
		if d.live > 0 || d.gen != d.saved {
			return true
		}
	}
	return false
}

// use is what a task took at its admission and gives back at its end. The lock of
// the table of tenants guards it.
type use struct {
	tenant  *tenant
	day     *day
	tokens  int64 // reserved of the day; 0 = no quota
	rate    int   // reserved of the minute
	prompt  int   // estimate
	charged bool  // tokens stand in the ledger
	settled bool
	session sessionUse
}

// day returns the ledger of a tenant for the day of an instant, as far as it is known.
func (ts *tenants) day(t *tenant, at time.Time) *day {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	name := at.UTC().Format(time.DateOnly)
	d := t.days[name]
	if d == nil {
		d = &day{key: t.prefix() + name, name: name, turn: make(chan struct{}, 1), ledger: ledger{Open: make(map[string]int64)}}
		t.days[name] = d
	}
	return d
}

// today is the ledger that a task of now is charged to. It is read before the
// first task of the day, if there is a quota to keep.
func (o *Orchestrator) today(ctx context.Context, t *tenant, now time.Time) (*day, error) {
	d := o.tenants.day(t, now)
	if o.tenants.policyOf(t).TokensPerDay <= 0 {
		return d, nil
	}
	return d, o.withTurn(ctx, d, func() error { return o.loadDay(ctx, d) })
}

func (o *Orchestrator) withTurn(ctx context.Context, d *day, do func() error) error {
	select {
	case d.turn <- struct{}{}:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	defer func() { <-d.turn }()
	return do()
}

// loadDay reads the document once; the caller has the turn.
func (o *Orchestrator) loadDay(ctx context.Context, d *day) error {
	o.tenants.mu.Lock()
	loaded := d.loaded
	o.tenants.mu.Unlock()
	if loaded {
		return nil
	}
	doc, err := o.store.Doc(ctx, store.KindLedger, d.key)
	var old ledger
	switch {
	case errors.Is(err, store.ErrNotFound):
	case err != nil:
		return fmt.Errorf("read ledger: %w", err)
	default:
		if err := json.Unmarshal(doc.Data, &old); err != nil {
			return fmt.Errorf("decode ledger: %w", err)
		}
	}
	o.tenants.mu.Lock()
	defer o.tenants.mu.Unlock()
	d.loaded, d.version = true, doc.Version
	d.ledger.Tasks += old.Tasks
	d.ledger.In += old.In
	d.ledger.Out += old.Out
	maps.Copy(d.ledger.Open, old.Open)
	return nil
}

// quotaLeft refuses what would go beyond the quota of the day. The caller holds the lock.
func quotaLeft(p TenantPolicy, d *day, n int64, now time.Time) error {
	if p.TokensPerDay <= 0 || d.used()+n <= p.TokensPerDay {
		return nil
	}
	e := taskapi.NewError(taskapi.QuotaExceeded).With("quota", "tokens_per_day").With("limit", p.TokensPerDay)
	e.RetryAfter = now.UTC().Truncate(24 * time.Hour).Add(24 * time.Hour).Sub(now)
	return e
}

// charge writes what a task may use into the ledger of its day, before it runs. A
// repeated attempt is not charged again.
func (o *Orchestrator) charge(ctx context.Context, r *run) error {
	u := &r.use
	if u.tokens == 0 {
		return nil
	}
	o.tenants.mu.Lock()
	if !u.charged && !u.settled {
		u.charged = true
		u.day.held -= u.tokens
		u.day.ledger.Open[r.id.String()] = u.tokens
		u.day.gen++
	}
	o.tenants.mu.Unlock()
	return o.saveDay(ctx, u.day)
}

// settle replaces what a task took at its admission by what it used (ORC-242,
// 243): of its tenant's day and minute, and of its session. Once.
func (o *Orchestrator) settle(r *run, e ending) {
	in, out := e.completion.Outcome.TokensIn, e.completion.Outcome.TokensOut
	r.mu.Lock()
	if r.emitted && in == 0 {
		in = r.use.prompt // the engine read it
	}
	r.mu.Unlock()
	o.giveBack(r, in, out, true)
}

// giveBack ends the use of a task; one that never was has no part in the count.
func (o *Orchestrator) giveBack(r *run, in, out int, ended bool) {
	u := &r.use
	o.tenants.mu.Lock()
	if u.tenant == nil || u.settled {
		o.tenants.mu.Unlock()
		return
	}
	u.settled = true
	u.tenant.live--
	u.tenant.limits.settle(u.rate, in+out, time.Now())
	if d := u.day; d != nil {
		if u.charged {
			delete(d.ledger.Open, r.id.String())
		} else {
			d.held -= u.tokens
		}
		d.live--
		if ended {
			d.ledger.Tasks++
		}
		if ended || u.charged {
			d.ledger.In += int64(in)
			d.ledger.Out += int64(out)
			d.gen++
		}
	}
	o.tenants.mu.Unlock()
	if ended {
		u.session.settle(in + out)
	} else {
		u.session.cancel()
	}
}

// resume gives a task of an earlier run its place in the ledger of the day on which
// it was accepted; a charge of before the restart stands.
func (o *Orchestrator) resume(ctx context.Context, r *run) {
	t, err := o.tenant(ctx, r.owner.Tenant, true)
	if err != nil {
		return // the key of references was read before anything is recovered
	}
	d, err := o.today(ctx, t, r.rec.Created)
	if err != nil {
		o.log.WarnContext(ctx, "A ledger could not be read; tasks of an earlier run count twice in it.", slog.String("event", "store_degraded"), slog.Any("err", err))
	}
	o.tenants.mu.Lock()
	defer o.tenants.mu.Unlock()
	r.use.tenant, r.use.day, r.use.prompt = t, d, r.spec.Ctx
	d.live++
	if n, ok := d.ledger.Open[r.id.String()]; ok {
		r.use.tokens, r.use.charged = n, true
	} else if t.policy.TokensPerDay > 0 {
		r.use.tokens = r.spec.mostTokens(r.use.prompt)
		d.held += r.use.tokens
	}
}

// saveDay stores a ledger with all its changes up to now. Of several callers one writes.
func (o *Orchestrator) saveDay(ctx context.Context, d *day) error {
	return o.withTurn(ctx, d, func() error {
		if err := o.loadDay(ctx, d); err != nil {
			return err
		}
		o.tenants.mu.Lock()
		gen, version, fresh := d.gen, d.version, d.saved == d.gen
		text, err := json.Marshal(d.ledger)
		o.tenants.mu.Unlock()
		if fresh || err != nil {
			return err
		}
		doc := store.Doc{Kind: store.KindLedger, Key: d.key, Data: text}
		v, err := o.putDoc(ctx, doc, version)
		if errors.Is(err, store.ErrVersion) { // a write of ours that nobody learnt of: there is no other writer
			if old, e := o.store.Doc(ctx, doc.Kind, doc.Key); e == nil {
				v, err = o.putDoc(ctx, doc, old.Version)
			}
		}
		if err != nil {
			return fmt.Errorf("write ledger: %w", err)
		}
		if version == 0 {
			o.dropDays(ctx, d)
		}
		o.tenants.mu.Lock()
		defer o.tenants.mu.Unlock()
		d.version, d.saved = v, gen
		return nil
	})
}

// dropDays deletes a tenant's ledgers that are too old, when one of a new day is
// begun. What fails is tried again the day after.
func (o *Orchestrator) dropDays(ctx context.Context, d *day) {
	at, err := time.Parse(time.DateOnly, d.name)
	if err != nil {
		return
	}
	prefix := strings.TrimSuffix(d.key, d.name)
	oldest := prefix + at.AddDate(0, 0, -keptDays).Format(time.DateOnly)
	var gone []store.Doc
	for old, err := range o.store.Docs(ctx, store.KindLedger, prefix) {
		if err != nil || old.Key >= oldest {
			break // by key
		}
		gone = append(gone, old)
	}
	for _, old := range gone {
		_ = o.store.DeleteDoc(ctx, old.Kind, old.Key, old.Version)
	}
}

// keepLedgers writes what was settled, once a second.
func (o *Orchestrator) keepLedgers(ctx context.Context) {
	tick := time.NewTicker(ledgersEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			o.saveLedgers(ctx, now)
		}
	}
}

// saveLedgers writes every ledger that changed and forgets those of past days.
func (o *Orchestrator) saveLedgers(ctx context.Context, now time.Time) {
	for _, d := range o.tenants.changed(now) {
		if err := o.saveDay(ctx, d); err != nil {
			o.log.WarnContext(ctx, "A ledger could not be written; trying again.", slog.String("event", "store_degraded"), slog.Any("err", err))
			return
		}
	}
}

func (ts *tenants) changed(now time.Time) (out []*day) {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	today := now.UTC().Format(time.DateOnly)
	for e := ts.order.Front(); e != nil; e = e.Next() {
		for name, d := range e.Value.(*tenant).days {
			switch {
			case d.gen != d.saved:
				out = append(out, d)
			case d.live == 0 && name < today && len(d.turn) == 0:
				delete(e.Value.(*tenant).days, name)
			}
		}
	}
	return out
}

// Usage returns the tokens of the caller's tenant per UTC day, newest first, of the
// last 400 days. A running task counts when it ends.
func (o *Orchestrator) Usage(ctx context.Context, p Principal) ([]Usage, error) {
	if !p.Has(RoleUser) {
		return nil, taskapi.NewError(taskapi.Forbidden)
	}
	t, err := o.tenant(ctx, p.tenant(), false)
	if err != nil {
		return nil, wireError(err)
	}
	for _, d := range o.tenants.changed(time.Now()) {
		if strings.HasPrefix(d.key, t.prefix()) {
			if err := o.saveDay(ctx, d); err != nil {
				return nil, wireError(err)
			}
		}
	}
	var out []Usage
	for d, err := range o.store.Docs(ctx, store.KindLedger, t.prefix()) {
		var l ledger
		if err == nil {
			err = json.Unmarshal(d.Data, &l)
		}
		if err != nil {
			return nil, wireError(fmt.Errorf("read ledgers: %w", err))
		}
		out = append(out, Usage{Day: strings.TrimPrefix(d.Key, t.prefix()), Tasks: l.Tasks, TokensIn: l.In, TokensOut: l.Out})
	}
	slices.SortFunc(out, func(a, b Usage) int { return cmp.Compare(b.Day, a.Day) })
	return out[:min(len(out), keptDays)], nil
}
