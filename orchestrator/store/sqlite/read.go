package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/llorch/llorch/orchestrator/store"
)

// query runs a read on one of the reader connections.
func (s *Store) query(ctx context.Context, verb string, read func() error) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%s: %w", verb, err)
	}
	if err := s.enter(); err != nil {
		return fmt.Errorf("%s: %w", verb, err)
	}
	defer s.gate.RUnlock()
	err := read()
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil: // the engine's own word for it is "interrupted"
		err = ctx.Err()
	case !errors.Is(err, store.ErrCorrupt):
		err = classify(err)
	}
	return fmt.Errorf("%s: %w", verb, err)
}

// Task implements [store.Tasks].
func (s *Store) Task(ctx context.Context, id store.TaskID) (r store.Record, err error) {
	found := false
	err = s.query(ctx, "read task", func() (err error) {
		r, found, err = one(s.read.QueryRowContext(ctx, "SELECT "+columns+" FROM task WHERE id = ?", id[:]), scanRecord)
		return err
	})
	if err == nil && !found {
		err = store.ErrNotFound
	}
	if err != nil {
		return store.Record{}, err
	}
	return r, nil
}

// Output implements [store.Tasks].
func (s *Store) Output(ctx context.Context, id store.TaskID) (output []byte, err error) {
	err = s.query(ctx, "read output", func() (err error) {
		output, _, err = one(s.read.QueryRowContext(ctx, "SELECT output FROM body WHERE seq = (SELECT seq FROM task WHERE id = ?)", id[:]), scanBytes)
		return err
	})
	if err == nil && output == nil {
		err = store.ErrNotFound
	}
	return output, err
}

func scanBytes(row scanner) (b []byte, err error) {
	err = row.Scan(&b)
	return b, err
}

// Tasks implements [store.Tasks].
func (s *Store) Tasks(ctx context.Context, f store.Filter) (page []store.Record, err error) {
	size, err := f.Size()
	if err != nil {
		return nil, fmt.Errorf("list tasks: %w", err)
	}
	text, args := pageQuery(f, size)
	err = s.query(ctx, "list tasks", func() error {
		rows, err := s.read.QueryContext(ctx, text, args...)
		if err != nil {
			return err
		}
		page, err = collect(rows, scanRecord)
		return err
	})
	if err != nil {
		return nil, err
	}
	return page, nil
}

func pageQuery(f store.Filter, size int) (string, []any) {
	where, args := conditions(f)
	order := " ORDER BY seq DESC"
	if f.Oldest {
		order = " ORDER BY seq"
	}
	return "SELECT " + columns + " FROM task" + where + order + " LIMIT ?", append(args, size)
}

// conditions writes the WHERE clause of f. Live states are also written as the
// text of the partial index, which the planner recognises by its words.
func conditions(f store.Filter) (string, []any) {
	var (
		parts []string
		args  []any
	)
	add := func(part string, values ...any) {
		parts = append(parts, part)
		args = append(args, values...)
	}
	if f.Tenant != "" {
		add("tenant = ?", f.Tenant)
	}
	if f.Subject != (store.SubjectRef{}) {
		add("subject = ?", f.Subject[:])
	}
	if len(f.States) > 0 {
		if !slices.ContainsFunc(f.States, store.State.Terminal) {
			add("state IN " + liveStates)
		}
		marks := strings.TrimSuffix(strings.Repeat("?,", len(f.States)), ",")
		add("state IN (" + marks + ")")
		for _, s := range f.States {
			args = append(args, string(s))
		}
	}
	if f.Model != "" {
		add("model = ?", f.Model)
	}
	if f.Session != "" {
		add("session = ?", f.Session)
	}
	if f.IdemKey != "" {
		add("idem = ?", f.IdemKey)
	}
	if !f.Since.IsZero() {
		add("created >= ?", f.Since.UnixMicro())
	}
	if f.Before != 0 {
		add("seq < ?", signed(f.Before))
	}
	if f.After != 0 {
		add("seq > ?", signed(f.After))
	}
	if len(parts) == 0 {
		return "", nil
	}
	return " WHERE " + strings.Join(parts, " AND "), args
}

// signed maps a bound above every seq to the highest one.
func signed(seq uint64) int64 { return int64(min(seq, 1<<63-1)) }

// collect reads all rows and closes them.
func collect[T any](rows *sql.Rows, scan func(scanner) (T, error)) (all []T, err error) {
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		v, err := scan(rows)
		if err != nil {
			return nil, err
		}
		if len(all) == cap(all) {
			all = slices.Grow(all, len(all)+16) // doubles: records are large, append would copy them more often
		}
		all = append(all, v)
	}
	return all, rows.Err()
}
