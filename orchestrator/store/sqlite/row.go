package sqlite

import (
	"bytes"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/llorch/llorch/orchestrator/store"
)

// scanner is a *sql.Row or *sql.Rows.
type scanner interface{ Scan(dest ...any) error }

// errRow reports a row that this package can not have written.
var errRow = fmt.Errorf("%w: a stored row does not have its form", store.ErrCorrupt)

// scanRecord reads the columns named by [columns].
func scanRecord(row scanner) (store.Record, error) {
	var (
		r                       store.Record
		id, subject, hash, meta []byte
		idem                    sql.NullString
		created, deadline       sql.NullInt64
		m                       movingColumns
	)
	err := row.Scan(
		&r.Seq, &id, &r.Tenant, &subject, &r.Class, &r.Model, &r.Session, &idem, &hash, &created, &deadline, &meta,
		&r.State, &r.Epoch, &r.Attempt, &r.Emitted, &r.CancelReason, &m.started, &m.finished, &r.Worker, &m.outcome,
	)
	if err != nil {
		return r, err
	}
	if copy(r.ID[:], id) != len(r.ID) || copy(r.Subject[:], subject) != len(r.Subject) || copy(r.BodyHash[:], hash) != len(r.BodyHash) {
		return r, errRow
	}
	r.IdemKey, r.Created, r.Deadline = idem.String, fromMicros(created), fromMicros(deadline)
	if json.Unmarshal(meta, &r.Meta) != nil || r.Meta.V < 1 {
		return r, errRow
	}
	if r.Meta.V > store.MetaVersion {
		return r, fmt.Errorf("%w: a task's meta has version %d", store.ErrSchemaTooNew, r.Meta.V)
	}
	return r, m.into(&r)
}

// scanMoving reads seq and the columns named by [moving]; the rest of the record stays zero.
func scanMoving(row scanner) (store.Record, error) {
	var (
		r store.Record
		m movingColumns
	)
	err := row.Scan(&r.Seq,
		&r.State, &r.Epoch, &r.Attempt, &r.Emitted, &r.CancelReason, &m.started, &m.finished, &r.Worker, &m.outcome)
	if err != nil {
		return r, err
	}
	return r, m.into(&r)
}

// movingColumns hold what needs a conversion after the scan.
type movingColumns struct {
	started, finished sql.NullInt64
	outcome           []byte
}

func (m *movingColumns) into(r *store.Record) error {
	r.Started, r.Finished = fromMicros(m.started), fromMicros(m.finished)
	if m.outcome != nil && json.Unmarshal(m.outcome, &r.Outcome) != nil {
		return errRow
	}
	return nil
}

// fixedArgs are the values for [fixed].
func fixedArgs(r *store.Record) ([]any, error) {
	meta, err := encode(r.Meta)
	if err != nil {
		return nil, err
	}
	return []any{
		r.ID[:], r.Tenant, r.Subject[:], r.Class, r.Model, r.Session, orNull(r.IdemKey),
		r.BodyHash[:], micros(r.Created), micros(r.Deadline), meta,
	}, nil
}

// movingArgs are the values for [moving].
func movingArgs(r *store.Record) ([]any, error) {
	var outcome any
	if r.State.Terminal() {
		text, err := encode(r.Outcome)
		if err != nil {
			return nil, err
		}
		outcome = text
	}
	return []any{
		string(r.State), int64(r.Epoch), r.Attempt, r.Emitted, r.CancelReason,
		micros(r.Started), micros(r.Finished), r.Worker, outcome,
	}, nil
}

// encode writes v as JSON without changing the text inside raw members.
func encode(v any) (string, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return "", err
	}
	return string(bytes.TrimRight(b.Bytes(), "\n")), nil
}

// one runs a query for at most one row; found is false when there is none.
func one[T any](row *sql.Row, scan func(scanner) (T, error)) (v T, found bool, err error) {
	v, err = scan(row)
	if errors.Is(err, sql.ErrNoRows) {
		return v, false, nil
	}
	return v, err == nil, err
}

// micros is NULL for the zero time.
func micros(t time.Time) any {
	if t.IsZero() {
		return nil
	}
	return t.UnixMicro()
}

func fromMicros(n sql.NullInt64) time.Time {
	if !n.Valid {
		return time.Time{}
	}
	return time.UnixMicro(n.Int64).UTC()
}

func orNull(s string) any {
	if s == "" {
		return nil
	}
	return s
}

// recordArgs are the values for a whole row, seq aside.
func recordArgs(r *store.Record) ([]any, error) {
	args, err := fixedArgs(r)
	if err != nil {
		return nil, err
	}
	moves, err := movingArgs(r)
	return append(args, moves...), err
}
