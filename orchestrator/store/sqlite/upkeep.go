package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/llorch/llorch/orchestrator/store"
)

// Lead implements [store.Upkeep]. The file lock is the right to lead, so a new
// term begins at once.
func (s *Store) Lead(ctx context.Context, r store.LeaseRequest) (store.Lease, error) {
	var (
		next    store.Epoch
		refusal error
	)
	err := s.write(ctx, &op{items: 1, run: func(t *tx) error {
		if next, refusal = r.Next(t.term); refusal != nil {
			return nil
		}
		_, err := t.stmts.lead.ExecContext(context.Background(), int64(next), r.Holder, time.Now().UnixMicro())
		if err == nil {
			t.term = next
		}
		return err
	}})
	if err == nil {
		err = refusal
	}
	if err != nil {
		return store.Lease{}, fmt.Errorf("lead: %w", err)
	}
	return store.Lease{Epoch: next, Holder: r.Holder, URL: r.URL}, nil
}

// Purge implements [store.Upkeep].
func (s *Store) Purge(ctx context.Context, e store.Epoch, before time.Time, limit int) (int, error) {
	return s.purge(ctx, "purge tasks", e, before, limit, s.writer.stmts.purge)
}

// purge runs a statement that deletes up to limit rows older than an instant.
func (s *Store) purge(ctx context.Context, verb string, e store.Epoch, before time.Time, limit int, text *sql.Stmt) (int, error) {
	if limit < 0 || limit > store.MaxPage {
		return 0, fmt.Errorf("%s: limit: %w", verb, store.ErrInvalid)
	}
	var gone int64
	err := s.write(ctx, &op{epoch: e, fenced: true, items: limit, run: func(*tx) error {
		res, err := text.ExecContext(context.Background(), before.UnixMicro(), limit)
		if err == nil {
			gone, err = res.RowsAffected()
		}
		return err
	}})
	if err != nil {
		return 0, fmt.Errorf("%s: %w", verb, err)
	}
	return int(gone), nil
}

// check looks for damage after an unclean stop. Damage ends the store's work:
// every later call answers ErrCorrupt, and nothing is repaired.
func (s *Store) check(ctx context.Context) {
	var result string
	err := s.read.QueryRowContext(ctx, "PRAGMA quick_check(1)").Scan(&result)
	switch {
	case ctx.Err() != nil:
	case err != nil && !errors.Is(classify(err), store.ErrCorrupt):
		s.log.WarnContext(ctx, "integrity check did not run", slog.Int("code", code(err)))
	case err != nil || result != "ok":
		s.damage.Store(true)
		s.log.ErrorContext(ctx, "integrity check failed", slog.String("found", result), slog.Int("code", code(err)))
	default:
		s.log.InfoContext(ctx, "integrity check passed")
	}
}
