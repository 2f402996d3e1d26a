package sqlite

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"github.com/llorch/llorch/orchestrator/store"
)

// CheckVersion is checkVersion.
func CheckVersion(version string) error { return checkVersion(version) }

// OpenSlow is Open with commits that take longer.
func OpenSlow(ctx context.Context, c Config, perCommit time.Duration) (*Store, error) {
	s, err := Open(ctx, c)
	if err == nil {
		s.writer.beforeCommit = func() error { <-time.After(perCommit); return nil }
	}
	return s, err
}

// BeforeCommit has f called by the writer before each COMMIT; an error of f
// stands for a lost answer. Nothing may be writing.
func (s *Store) BeforeCommit(f func() error) { s.writer.beforeCommit = f }

// CommitNow is COMMIT; call it in BeforeCommit only.
func (s *Store) CommitNow() error {
	_, err := s.writer.conn.ExecContext(context.Background(), "COMMIT")
	return err
}

// LimitPages bounds the file, which then is a full disk; nothing may be writing.
func (s *Store) LimitPages(n int) error {
	_, err := s.writer.conn.ExecContext(context.Background(), fmt.Sprintf("PRAGMA max_page_count = %d", n))
	return err
}

// Waiting reports how many calls wait before the writer.
func (s *Store) Waiting() int { return len(s.ops) }

// Plan returns the engine's plan for a page.
func (s *Store) Plan(ctx context.Context, f store.Filter) (string, error) {
	text, args := pageQuery(f, sql.NullInt64{}, 100)
	return s.PlanOf(ctx, text, args...)
}

// PlanOf returns the first line of the engine's plan for a query.
func (s *Store) PlanOf(ctx context.Context, text string, args ...any) (plan string, err error) {
	var a, b, c int
	err = s.read.QueryRowContext(ctx, "EXPLAIN QUERY PLAN "+text, args...).Scan(&a, &b, &c, &plan)
	return plan, err
}

// Joined waits for the background check.
func (s *Store) Joined() { s.checked.Wait() }

// Impatient has the writer and erasures wait for nobody; nothing may be writing.
func (s *Store) Impatient() error {
	s.Patience(0)
	_, err := s.writer.conn.ExecContext(context.Background(), "PRAGMA busy_timeout = 20")
	return err
}

// Patience sets how long erasures wait for readers.
func (s *Store) Patience(d time.Duration) { s.patience = d }
