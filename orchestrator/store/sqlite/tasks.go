package sqlite

import (
	"context"
	"fmt"
	"time"

	"github.com/llorch/llorch/orchestrator/store"
)

// Submit implements [store.Tasks].
func (s *Store) Submit(ctx context.Context, e store.Epoch, batch []store.NewTask) ([]store.Submitted, error) {
	size := 0
	for _, n := range batch {
		size += len(n.Body)
		if n.Final != nil {
			size += len(n.Final.Output)
		}
	}
	return writeEach(ctx, s, "submit tasks", e, batch, size,
		func(t *tx, n store.NewTask) (store.Submitted, error) { return t.submit(e, &n) },
		func(err error) store.Submitted { return store.Submitted{Err: err} })
}

func (t *tx) submit(e store.Epoch, n *store.NewTask) (store.Submitted, error) {
	r, err := n.Stored(e, time.Now())
	if err != nil {
		return store.Submitted{Err: err}, nil
	}
	args, err := recordArgs(&r)
	if err != nil {
		return store.Submitted{Err: fmt.Errorf("meta: %w", store.ErrInvalid)}, nil
	}
	ctx := context.Background()
	res, err := t.stmts.insert.ExecContext(ctx, args...)
	if err != nil {
		return store.Submitted{}, err
	}
	if rows, err := res.RowsAffected(); err != nil {
		return store.Submitted{}, err
	} else if rows == 0 {
		return t.taken(&r, n)
	}
	seq, err := res.LastInsertId()
	if err != nil {
		return store.Submitted{}, err
	}
	switch {
	case n.Final == nil:
		_, err = t.stmts.insertBody.ExecContext(ctx, seq, n.Body, nil, nil)
	case len(n.Final.Output) > 0:
		_, err = t.stmts.insertBody.ExecContext(ctx, seq, nil, n.Final.Output, micros(r.Finished))
	}
	return store.Submitted{Seq: uint64(seq)}, err
}

// taken answers a task whose id or key exists.
func (t *tx) taken(r *store.Record, n *store.NewTask) (store.Submitted, error) {
	ctx := context.Background()
	old, found, err := one(t.stmts.byID.QueryRowContext(ctx, r.ID[:]), scanRecord)
	if err == nil && !found {
		old, found, err = one(t.stmts.byKey.QueryRowContext(ctx, r.Tenant, r.IdemKey), scanRecord)
	}
	switch {
	case err != nil:
		return store.Submitted{}, err
	case !found:
		return store.Submitted{}, errRow
	case !old.Repeats(*n):
		return store.Submitted{Err: store.ErrConflict}, nil
	}
	return store.Submitted{Seq: old.Seq, Duplicate: &old}, nil
}

// Start implements [store.Tasks].
func (s *Store) Start(ctx context.Context, e store.Epoch, batch []store.StartReq) ([]store.Started, error) {
	return writeEach(ctx, s, "start tasks", e, batch, 0, func(t *tx, q store.StartReq) (store.Started, error) {
		r, refusal, err := t.move(q.ID, func(r *store.Record) (bool, error) { return r.Start(q, e, time.Now()) })
		if err != nil || refusal != nil {
			return store.Started{Err: refusal}, err
		}
		var body []byte
		err = t.stmts.body.QueryRowContext(context.Background(), int64(r.Seq)).Scan(&body)
		return store.Started{Body: body}, err
	}, func(err error) store.Started { return store.Started{Err: err} })
}

// Mark implements [store.Tasks].
func (s *Store) Mark(ctx context.Context, e store.Epoch, batch []store.MarkReq) ([]error, error) {
	return writeEach(ctx, s, "mark tasks", e, batch, 0, func(t *tx, q store.MarkReq) (error, error) {
		_, refusal, err := t.move(q.ID, func(r *store.Record) (bool, error) { return r.Mark(q, e) })
		return refusal, err
	}, refuse)
}

// Complete implements [store.Tasks].
func (s *Store) Complete(ctx context.Context, e store.Epoch, batch []store.Completion) ([]error, error) {
	size := 0
	for _, c := range batch {
		size += len(c.Output)
	}
	return writeEach(ctx, s, "complete tasks", e, batch, size, func(t *tx, c store.Completion) (error, error) {
		ended := false
		r, refusal, err := t.move(c.ID, func(r *store.Record) (changed bool, err error) {
			ended, err = r.Complete(c, e, time.Now())
			return ended, err
		})
		if err != nil || !ended {
			return refusal, err
		}
		return nil, t.endBody(&r, c.Output)
	}, refuse)
}

// Cancel implements [store.Tasks].
func (s *Store) Cancel(ctx context.Context, e store.Epoch, batch []store.CancelReq) ([]store.CancelState, error) {
	return writeEach(ctx, s, "cancel tasks", e, batch, 0, func(t *tx, q store.CancelReq) (store.CancelState, error) {
		changed := false
		r, refusal, err := t.move(q.ID, func(r *store.Record) (bool, error) {
			changed = r.Cancel(q, e, time.Now())
			return changed, nil
		})
		if err == nil && changed && r.State.Terminal() {
			err = t.endBody(&r, nil)
		}
		return store.CancelState{State: r.State, Err: refusal}, err
	}, func(err error) store.CancelState { return store.CancelState{Err: err} })
}

// move loads a task, lets change move it and writes it back when it changed.
// refusal is the answer to the caller; err is the engine's.
func (t *tx) move(id store.TaskID, change func(*store.Record) (bool, error)) (r store.Record, refusal, err error) {
	ctx := context.Background()
	r, found, err := one(t.stmts.load.QueryRowContext(ctx, id[:]), scanMoving)
	if err != nil {
		return r, nil, err
	}
	if !found {
		return r, store.ErrNotFound, nil
	}
	changed, refusal := change(&r)
	if refusal != nil || !changed {
		return r, refusal, nil
	}
	args, err := movingArgs(&r)
	if err != nil {
		return r, nil, err
	}
	_, err = t.stmts.move.ExecContext(ctx, append(args, int64(r.Seq))...)
	return r, nil, err
}

// endBody deletes the sealed body and stores the output, if there is one.
func (t *tx) endBody(r *store.Record, output []byte) error {
	var err error
	if len(output) > 0 {
		_, err = t.stmts.endBody.ExecContext(context.Background(), int64(r.Seq), output, micros(r.Finished))
	} else {
		_, err = t.stmts.dropBody.ExecContext(context.Background(), int64(r.Seq))
	}
	return err
}

// refuse is the answer to an item where the answer is an error.
func refuse(err error) error { return err }

// writeEach runs do for every item of a batch in one op; size is in bytes.
func writeEach[Q, A any](
	ctx context.Context, s *Store, verb string, e store.Epoch, batch []Q, size int, do func(*tx, Q) (A, error), refuse func(error) A,
) ([]A, error) {
	var out []A
	err := s.write(ctx, &op{epoch: e, fenced: true, items: len(batch), bytes: size, run: func(t *tx) (err error) {
		out, err = each(t, batch, do, refuse)
		return err
	}})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", verb, err)
	}
	return out, nil
}
