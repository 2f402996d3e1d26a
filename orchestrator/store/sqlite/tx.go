package sqlite

import (
	"context"
	"database/sql"
	"errors"

	"github.com/llorch/llorch/orchestrator/store"
)

// tx is a transaction of the writer.
type tx struct {
	stmts *statements
	term  store.Epoch // as this transaction will leave it
	apart bool        // each item of a batch has its own savepoint, and fails alone
}

// admit refuses an op whose caller is gone or whose term is over.
func (t *tx) admit(o *op) error {
	if err := o.ctx.Err(); err != nil {
		return err
	}
	if o.fenced && (o.epoch == 0 || o.epoch != t.term) {
		return store.ErrFenced
	}
	return nil
}

// item does one item of a batch. Apart, an item at which the engine fails is
// undone and refused; err is for what ends the whole transaction.
func (t *tx) item(do func() error) (refusal, err error) {
	if !t.apart {
		return nil, do()
	}
	ctx := context.Background()
	if _, err := t.stmts.savepoint.ExecContext(ctx); err != nil {
		return nil, err
	}
	failed := do()
	if failed != nil {
		if _, err := t.stmts.undo.ExecContext(ctx); err != nil {
			return nil, failed // the engine has ended the transaction
		}
		failed = classify(failed)
	}
	_, err = t.stmts.release.ExecContext(ctx)
	return failed, err
}

// each does the items of a batch in their order; refuse makes the answer to one
// at which the engine failed.
func each[Q, A any](t *tx, batch []Q, do func(*tx, Q) (A, error), refuse func(error) A) ([]A, error) {
	out := make([]A, len(batch))
	for i, q := range batch {
		refusal, err := t.item(func() (err error) {
			out[i], err = do(t, q)
			return err
		})
		if err != nil {
			return nil, err
		}
		if refusal != nil {
			out[i] = refuse(refusal)
		}
	}
	return out, nil
}

// statements are the writer's, prepared once.
type statements struct {
	begin, commit, logSize, passive  *sql.Stmt
	savepoint, undo, release         *sql.Stmt
	insert, insertBody               *sql.Stmt
	byID, byKey, load                *sql.Stmt
	move, body, endBody, dropBody    *sql.Stmt
	lead, purge                      *sql.Stmt
	docVersion, insertDoc, deleteDoc *sql.Stmt
	personLive, person, setFixed     *sql.Stmt
	dropOutput, dropDocs, oldOutputs *sql.Stmt
	page, setPage                    *sql.Stmt
	all                              []*sql.Stmt
}

const (
	liveStates = "('queued', 'running', 'cancelling')"
	// moving are the columns that the moves of a task read and write.
	moving = "state, epoch, attempt, emitted, reason, started, finished, worker, outcome"
	// fixed are those that Submit writes once.
	fixed   = "id, tenant, subject, class, model, session, idem, body_hash, created, deadline, meta"
	columns = "seq, " + fixed + ", " + moving
)

func (s *statements) prepare(ctx context.Context, c *sql.Conn) error {
	for _, p := range []struct {
		to   **sql.Stmt
		text string
	}{
		{&s.begin, "BEGIN IMMEDIATE"},
		{&s.commit, "COMMIT"},
		{&s.savepoint, "SAVEPOINT item"},
		{&s.undo, "ROLLBACK TO item"},
		{&s.release, "RELEASE item"},
		{&s.logSize, "PRAGMA wal_checkpoint(NOOP)"},
		{&s.passive, "PRAGMA wal_checkpoint(PASSIVE)"},
		{&s.insert, "INSERT INTO task (" + fixed + ", " + moving + ") VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?) ON CONFLICT DO NOTHING"},
		{&s.insertBody, "INSERT INTO body (seq, sealed, output, ended) VALUES (?,?,?,?)"},
		{&s.byID, "SELECT " + columns + " FROM task WHERE id = ?"},
		{&s.byKey, "SELECT " + columns + " FROM task WHERE tenant = ? AND idem = ?"},
		{&s.load, "SELECT seq, " + moving + " FROM task WHERE id = ?"},
		{&s.move, "UPDATE task SET (" + moving + ") = (?,?,?,?,?,?,?,?,?) WHERE seq = ?"},
		{&s.body, "SELECT sealed FROM body WHERE seq = ?"},
		{&s.endBody, "INSERT INTO body (seq, output, ended) VALUES (?1, ?2, ?3) ON CONFLICT (seq) DO UPDATE SET sealed = NULL, output = ?2, ended = ?3"},
		{&s.dropBody, "DELETE FROM body WHERE seq = ?"},
		{&s.lead, "UPDATE term SET epoch = ?, holder = ?, begun = ?"},
		{&s.purge, "DELETE FROM task WHERE seq IN (SELECT seq FROM task WHERE finished < ? ORDER BY finished, seq LIMIT ?)"},
		{&s.docVersion, "SELECT version FROM doc WHERE kind = ? AND key = ?"},
		{&s.insertDoc, "INSERT OR REPLACE INTO doc (kind, key, data) VALUES (?,?,?)"},
		{&s.deleteDoc, "DELETE FROM doc WHERE kind = ? AND key = ?"},
		{&s.personLive, "SELECT EXISTS (SELECT 1 FROM task WHERE subject = ? AND state IN " + liveStates + ")"},
		{&s.person, "SELECT " + columns + " FROM task WHERE subject = ? ORDER BY seq LIMIT ?"},
		{&s.setFixed, "UPDATE task SET (epoch, " + fixed + ") = (?,?,?,?,?,?,?,?,?,?,?,?) WHERE seq = ?"},
		{&s.dropOutput, "DELETE FROM body WHERE seq = ? RETURNING output IS NOT NULL, sealed IS NOT NULL"},
		{&s.dropDocs, "DELETE FROM doc WHERE kind = ?1 AND (key = ?2 OR key >= ?2 || '/' AND key < ?2 || '0')"},
		{&s.page, "SELECT data FROM sqlite_dbpage WHERE pgno = ?"},
		{&s.setPage, "UPDATE sqlite_dbpage SET data = ? WHERE pgno = ?"},
		{&s.oldOutputs, "DELETE FROM body WHERE seq IN (SELECT seq FROM body WHERE ended < ? ORDER BY ended, seq LIMIT ?)"},
	} {
		stmt, err := c.PrepareContext(ctx, p.text)
		if err != nil {
			return errors.Join(err, s.close())
		}
		*p.to = stmt
		s.all = append(s.all, stmt)
	}
	return nil
}

func (s *statements) close() error {
	var errs []error
	for _, stmt := range s.all {
		errs = append(errs, stmt.Close())
	}
	s.all = nil
	return errors.Join(errs...)
}
