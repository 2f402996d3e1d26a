package sqlite

import (
	"context"
	"encoding/hex"
	"fmt"
	"time"

	"github.com/llorch/llorch/orchestrator/store"
)

// eraseStep is how many tasks one transaction of an erasure takes, so that other
// writers do not wait for all of them.
const eraseStep = 256

// Erase implements [store.Upkeep]. It commits step by step, and other writers go
// on between two steps; at the end what was erased is in no file any more. When a
// reader of an old state prevents that for 5 s, Erase answers [store.ErrUnknown]:
// repeat it.
func (s *Store) Erase(ctx context.Context, e store.Epoch, ref store.SubjectRef) (store.Erased, error) {
	if ref == (store.SubjectRef{}) {
		return store.Erased{}, fmt.Errorf("erase: subject: %w", store.ErrInvalid)
	}
	var all store.Erased
	for first, more := true, true; more; first = false {
		var (
			step    store.Erased
			refusal error
		)
		o := &op{epoch: e, fenced: true, items: eraseStep}
		o.run = func(t *tx) (err error) {
			step, refusal = store.Erased{}, nil
			if first {
				if refusal, err = t.noLive(ref); err != nil || refusal != nil {
					return err
				}
			}
			more, refusal, err = t.erase(e, ref, &step)
			return err
		}
		err := s.write(ctx, o)
		if err == nil {
			err = refusal
		}
		if err != nil {
			return store.Erased{}, fmt.Errorf("erase: %w", err)
		}
		all.Tasks += step.Tasks
		all.Outputs += step.Outputs
		all.Bodies += step.Bodies
		all.Documents += step.Documents
	}
	if err := s.scrub(ctx, e); err != nil {
		return store.Erased{}, fmt.Errorf("erase: %w", err)
	}
	return all, nil
}

// noLive refuses a person with a live task.
func (t *tx) noLive(ref store.SubjectRef) (refusal, err error) {
	var live bool
	if err := t.stmts.personLive.QueryRowContext(context.Background(), ref[:]).Scan(&live); err != nil {
		return nil, err
	}
	if live {
		return store.ErrTransition, nil
	}
	return nil, nil
}

// erase takes the next tasks of a person; with the last ones go the documents.
func (t *tx) erase(e store.Epoch, ref store.SubjectRef, done *store.Erased) (more bool, refusal, err error) {
	ctx := context.Background()
	rows, err := t.stmts.person.QueryContext(ctx, ref[:], eraseStep)
	if err != nil {
		return false, nil, err
	}
	own, err := collect(rows, scanRecord)
	if err != nil {
		return false, nil, err
	}
	for _, r := range own {
		if !r.State.Terminal() { // began since the first step
			return false, store.ErrTransition, nil
		}
	}
	for _, r := range own {
		if err := t.forget(e, r, done); err != nil {
			return false, nil, err
		}
	}
	if len(own) == eraseStep {
		return true, nil, nil
	}
	for _, k := range store.PersonalKinds() {
		res, err := t.stmts.dropDocs.ExecContext(ctx, string(k), hex.EncodeToString(ref[:]))
		if err != nil {
			return false, nil, err
		}
		n, err := res.RowsAffected()
		if err != nil {
			return false, nil, err
		}
		done.Documents += int(n)
	}
	return false, nil, nil
}

// forget takes from one task what is personal.
func (t *tx) forget(e store.Epoch, r store.Record, done *store.Erased) error {
	ctx := context.Background()
	had, _, err := one(t.stmts.dropOutput.QueryRowContext(ctx, int64(r.Seq)), func(row scanner) (had [2]int, err error) {
		err = row.Scan(&had[0], &had[1])
		return had, err
	})
	if err != nil {
		return err
	}
	r.Forget(e)
	args, err := fixedArgs(&r)
	if err != nil {
		return err
	}
	if _, err := t.stmts.setFixed.ExecContext(ctx, append(append([]any{int64(e)}, args...), int64(r.Seq))...); err != nil {
		return err
	}
	done.Tasks++
	done.Outputs += had[0]
	done.Bodies += had[1]
	return nil
}

// PurgeOutputs implements [store.Upkeep].
func (s *Store) PurgeOutputs(ctx context.Context, e store.Epoch, before time.Time, limit int) (int, error) {
	return s.purge(ctx, "purge outputs", e, before, limit, s.writer.stmts.oldOutputs)
}
