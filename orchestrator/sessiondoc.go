package orchestrator

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/llorch/llorch/orchestrator/store"
)

// sessionDoc is what outlives the process: what is reserved counts as spent.
type sessionDoc struct {
	Budget int `json:"budget_tokens"`
	Spent  int `json:"spent_tokens"`
}

// saveSession brings the document of a session to its present state: none if it
// is gone or has no budget. Calls for one session wait for each other.
func (o *Orchestrator) saveSession(ctx context.Context, s *session) error {
	s.saving <- struct{}{}
	defer func() { <-s.saving }()
	var err error
	for range persistTries {
		if err = o.saveOnce(ctx, s); !errors.Is(err, store.ErrVersion) {
			return err
		}
		d, e := o.store.Doc(ctx, store.KindSession, s.key.doc()) // of a session of that name that went
		if e != nil && !errors.Is(e, store.ErrNotFound) {
			return e
		}
		s.version = d.Version
	}
	return err
}

func (o *Orchestrator) saveOnce(ctx context.Context, s *session) error {
	o.talks.mu.Lock()
	d, gone := sessionDoc{s.budget, s.spent + s.held}, s.gone
	o.talks.mu.Unlock()
	switch {
	case d.Budget == 0:
		return nil
	case gone:
		err := o.store.DeleteDoc(ctx, store.KindSession, s.key.doc(), s.version)
		if errors.Is(err, store.ErrVersion) {
			return nil // a session of that name was made anew
		}
		return err
	}
	data, err := json.Marshal(d)
	if err != nil {
		return err
	}
	v, err := o.putDoc(ctx, store.Doc{Kind: store.KindSession, Key: s.key.doc(), Data: data}, s.version)
	if err == nil {
		s.version = v
	}
	return err
}

// saveSessions saves where nobody waits for the outcome.
func (o *Orchestrator) saveSessions(ctx context.Context, list []*session) {
	for _, s := range list {
		if err := o.saveSession(ctx, s); err != nil && !errors.Is(err, context.Canceled) {
			o.log.WarnContext(ctx, "The budget of a session could not be stored.", slog.String("event", "store_degraded"), slog.Any("err", err))
		}
	}
}

// loadSessions takes up the budgets of earlier runs. Their time to live begins anew;
// what no table can hold is deleted.
func (o *Orchestrator) loadSessions(ctx context.Context) error {
	var gone []*session
	for d, err := range o.store.Docs(ctx, store.KindSession, "") {
		if err != nil {
			return fmt.Errorf("read sessions: %w", err)
		}
		var x sessionDoc
		ref, id, ok := strings.Cut(d.Key, "/")
		raw, err := hex.DecodeString(ref)
		if !ok || err != nil || len(raw) != len(store.SubjectRef{}) || json.Unmarshal(d.Data, &x) != nil || x.Budget <= 0 {
			continue // not of this kind: left alone
		}
		o.talks.mu.Lock()
		s, dropped := o.talks.addLocked(sessionKey{store.SubjectRef(raw), id}, x.Budget, time.Now())
		s.spent, s.version = max(0, x.Spent), d.Version
		o.talks.mu.Unlock()
		gone = append(gone, dropped...)
	}
	o.saveSessions(ctx, gone)
	return nil
}

// keepSessions drops sessions that nobody used for too long.
func (o *Orchestrator) keepSessions(ctx context.Context) {
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			o.saveSessions(ctx, o.talks.expire(now))
		}
	}
}
