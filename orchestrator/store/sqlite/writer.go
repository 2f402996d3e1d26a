package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/llorch/llorch/orchestrator/store"
)

// Bounds of one transaction, and how often the log is written back.
const (
	groupOps        = 1024     // calls, also the length of the queue before the writer
	groupItems      = 8192     // items of their batches, so that no caller waits for ever
	groupBytes      = 64 << 20 // of bodies, outputs and documents
	checkpointPages = 1000
	idlePages       = 64 << 20 / 4096 // a larger log is emptied when nothing was written for idleAfter
	idleAfter       = time.Second
)

// op is one write call on its way through the writer.
type op struct {
	ctx    context.Context // the caller's; looked at once, before the op joins a transaction
	epoch  store.Epoch     // of the caller's term
	fenced bool            // whether epoch must be the present term
	items  int
	bytes  int
	// run does the work and sets the caller's answers anew each time. An error
	// is the engine's and undoes the transaction; refusals are answers.
	run     func(*tx) error
	state   atomic.Int32
	empty   bool       // empty the log after the commit, before the answer
	refused error      // answer to the whole call: nothing of it was written, or the log could not be emptied
	done    chan error // takes one value
}

// The states of an op. A caller may withdraw a waiting op; whoever moves it out
// of waiting owns it.
const (
	opWaiting int32 = iota
	opTaken
	opWithdrawn
)

// write hands o to the writer and waits for the outcome.
func (s *Store) write(ctx context.Context, o *op) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	o.ctx, o.done = ctx, make(chan error, 1)
	if err := s.enqueue(ctx, o); err != nil {
		return err
	}
	select {
	case err := <-o.done:
		return err
	case <-ctx.Done():
		if o.state.CompareAndSwap(opWaiting, opWithdrawn) {
			return ctx.Err()
		}
		return <-o.done // being committed: the outcome is known soon
	}
}

func (s *Store) enqueue(ctx context.Context, o *op) error {
	if err := s.enter(); err != nil {
		return err
	}
	defer s.gate.RUnlock()
	select {
	case s.ops <- o:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// enter holds the store open for a call; the caller unlocks gate when the error is nil.
func (s *Store) enter() error {
	s.gate.RLock()
	if s.closed {
		s.gate.RUnlock()
		return store.ErrClosed
	}
	if s.damage.Load() {
		s.gate.RUnlock()
		return errDamaged
	}
	return nil
}

// writer owns the one connection that writes. Only its goroutine touches it
// between newWriter and close.
type writer struct {
	log   *slog.Logger
	conn  *sql.Conn
	stmts statements
	term  store.Epoch // the present term, as committed
	owed  bool        // a log that must be emptied is not: a reader was in the way
	// beforeCommit, when not nil, delays commits in tests; its error stands for
	// an answer of COMMIT that was lost.
	beforeCommit func() error
}

// newWriter prepares the statements and reads the present term.
func newWriter(ctx context.Context, c *sql.Conn, log *slog.Logger) (*writer, error) {
	w := &writer{log: log, conn: c}
	if err := w.stmts.prepare(ctx, c); err != nil {
		return nil, err
	}
	if err := c.QueryRowContext(ctx, "SELECT epoch FROM term").Scan(&w.term); err != nil {
		return nil, err
	}
	return w, nil
}

// run commits what arrives in groups until ops is closed and empty. When nothing
// arrives for a while it empties a log that is large or owed.
func (w *writer) run(ops <-chan *op) {
	idle := time.NewTimer(idleAfter)
	defer idle.Stop()
	for {
		select {
		case first, ok := <-ops:
			if !ok {
				return
			}
			w.commit(gather(first, ops))
			w.checkpoint()
			idle.Reset(idleAfter)
		case <-idle.C:
			if w.tidy(); w.owed {
				idle.Reset(idleAfter)
			}
		}
	}
}

// gather takes what waits already, within the bounds of one transaction.
func gather(first *op, ops <-chan *op) []*op {
	group := []*op{first}
	items, bytes := first.items, first.bytes
	for len(group) < groupOps && items < groupItems && bytes < groupBytes {
		select {
		case o, ok := <-ops:
			if !ok {
				return group
			}
			group = append(group, o)
			items += o.items
			bytes += o.bytes
		default:
			return group
		}
	}
	return group
}

// commit runs a group in one transaction and answers it. When the group fails
// before its COMMIT, each op is tried alone and each item apart, so that none
// fails for another.
func (w *writer) commit(group []*op) {
	live := group[:0]
	for _, o := range group {
		if o.state.CompareAndSwap(opWaiting, opTaken) {
			live = append(live, o)
		}
	}
	group = live
	if len(group) == 0 {
		return
	}
	err := w.transact(group, false)
	if err == nil || len(group) == 1 && group[0].items <= 1 || errors.Is(err, store.ErrUnknown) {
		for _, o := range group {
			o.done <- w.outcome(o, err)
		}
		return
	}
	for _, o := range group {
		o.done <- w.outcome(o, w.transact([]*op{o}, true))
	}
}

// outcome is what o's caller hears after its transaction ended with err.
func (w *writer) outcome(o *op, err error) error {
	if err == nil && o.refused != nil {
		return o.refused
	}
	return err
}

// transact runs ops in one transaction. After an error nothing of it is visible.
func (w *writer) transact(ops []*op, apart bool) (err error) {
	ctx := context.Background() // a commit is never cancelled half way
	if _, err := w.stmts.begin.ExecContext(ctx); err != nil {
		w.rollback(ctx)
		return classify(err)
	}
	t := &tx{stmts: &w.stmts, term: w.term, apart: apart}
	for _, o := range ops {
		o.refused = t.admit(o)
		if o.refused != nil {
			continue
		}
		if err := o.run(t); err != nil {
			w.rollback(ctx)
			return classify(err)
		}
	}
	if w.beforeCommit != nil {
		err = w.beforeCommit()
	}
	if err == nil {
		_, err = w.stmts.commit.ExecContext(ctx)
	}
	if err != nil {
		w.rollback(ctx)
		return classifyCommit(err)
	}
	w.term = t.term
	for _, o := range ops {
		if o.empty && o.refused == nil {
			if w.truncate(ctx); w.owed {
				o.refused = errBusyLog
			}
		}
	}
	return nil
}

// rollback ends a failed transaction. The engine may have done so already, then
// the answer is an error without meaning.
func (w *writer) rollback(ctx context.Context) {
	_, _ = w.conn.ExecContext(ctx, "ROLLBACK")
}

// checkpoint writes the log back once it holds enough pages. It runs after the
// callers were answered; nobody's commit depends on it.
func (w *writer) checkpoint() {
	ctx := context.Background()
	var busy, pages, moved int
	if err := w.stmts.logSize.QueryRowContext(ctx).Scan(&busy, &pages, &moved); err != nil || pages-moved < checkpointPages {
		return
	}
	if err := w.stmts.passive.QueryRowContext(ctx).Scan(&busy, &pages, &moved); err != nil {
		w.log.WarnContext(ctx, "checkpoint failed", slog.Int("code", code(err)))
	}
}

// tidy empties the log if it has outgrown its bound or holds erased content.
func (w *writer) tidy() {
	ctx := context.Background()
	var busy, pages, moved int
	if err := w.stmts.logSize.QueryRowContext(ctx).Scan(&busy, &pages, &moved); err == nil && (w.owed || pages > idlePages) {
		w.truncate(ctx)
	}
}

// errBusyLog: the log can not be emptied while somebody reads an old state.
var errBusyLog = errors.New("a reader is in the way")

// truncate writes the whole log back and empties its file. It waits for no reader,
// because every other write would wait with it; what a reader prevents is owed and
// tried again.
func (w *writer) truncate(ctx context.Context) {
	var busy, pages, moved int
	_, err := w.conn.ExecContext(ctx, "PRAGMA busy_timeout = 0")
	if err == nil {
		err = w.conn.QueryRowContext(ctx, "PRAGMA wal_checkpoint(TRUNCATE)").Scan(&busy, &pages, &moved)
	}
	if _, restored := w.conn.ExecContext(ctx, "PRAGMA busy_timeout = 5000"); err == nil {
		err = restored
	}
	if w.owed = err != nil || busy != 0; w.owed {
		w.log.WarnContext(ctx, "log could not be emptied yet", slog.Int("code", code(err)))
	}
}

// close writes the whole log back, so that the next open is a clean one.
func (w *writer) close() error {
	ctx := context.Background()
	var busy, pages, moved int
	err := w.conn.QueryRowContext(ctx, "PRAGMA wal_checkpoint(TRUNCATE)").Scan(&busy, &pages, &moved)
	return errors.Join(classify(err), w.stmts.close(), w.conn.Close())
}
