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
	if err == nil {
		return nil
	}
	if ctx.Err() != nil { // the engine's own word for it is "interrupted"
		err = ctx.Err()
	}
	return fmt.Errorf("%s: %w", verb, classify(err))
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
	var more error
	err = s.query(ctx, "list tasks", func() error {
		page, more, err = s.page(ctx, f, size)
		return err
	})
	if err != nil {
		return nil, err
	}
	return page, more
}

// page reads what f selects. A filter that scans ends at the record after which
// it has read enough; records only vanish meanwhile, so none is passed over.
func (s *Store) page(ctx context.Context, f store.Filter, size int) (page []store.Record, more, err error) {
	var last sql.NullInt64
	if f.Scans() {
		text, args := lastQuery(f)
		if err := s.read.QueryRowContext(ctx, text, args...).Scan(&last); err != nil && !errors.Is(err, sql.ErrNoRows) {
			return nil, nil, err
		}
	}
	text, args := pageQuery(f, last, size)
	rows, err := s.read.QueryContext(ctx, text, args...)
	if err != nil {
		return nil, nil, err
	}
	if page, err = collect(rows, scanRecord); err != nil {
		return nil, nil, err
	}
	if last.Valid && len(page) < size {
		more = &store.MoreError{Next: uint64(last.Int64)}
	}
	return page, more, nil
}

// lastQuery asks for the seq at which a scan has read MaxPage records.
func lastQuery(f store.Filter) (string, []any) {
	where, args := indexed(f).text()
	return "SELECT seq FROM task" + where + order(f) + " LIMIT 1 OFFSET ?", append(args, store.MaxPage-1)
}

func pageQuery(f store.Filter, last sql.NullInt64, size int) (string, []any) {
	c := indexed(f)
	c.read(f)
	switch {
	case last.Valid && f.Oldest:
		c.add("seq <= ?", last.Int64)
	case last.Valid:
		c.add("seq >= ?", last.Int64)
	}
	where, args := c.text()
	return "SELECT " + columns + " FROM task" + where + order(f) + " LIMIT ?", append(args, size)
}

func order(f store.Filter) string {
	if f.Oldest {
		return " ORDER BY seq"
	}
	return " ORDER BY seq DESC"
}

// conditions are the parts of a WHERE clause.
type conditions struct {
	parts []string
	args  []any
}

func (c *conditions) add(part string, values ...any) {
	c.parts = append(c.parts, part)
	c.args = append(c.args, values...)
}

func (c *conditions) text() (string, []any) {
	if len(c.parts) == 0 {
		return "", nil
	}
	return " WHERE " + strings.Join(c.parts, " AND "), c.args
}

// indexed returns what an index answers. Live states are written as the text of
// the partial index, which the planner recognises by its words.
func indexed(f store.Filter) *conditions {
	c := new(conditions)
	switch {
	case f.Tenant != "" && f.IdemKey != "":
		c.add("tenant = ? AND idem = ?", f.Tenant, f.IdemKey)
	case f.Subject != store.SubjectRef{}:
		c.add("subject = ?", f.Subject[:])
	case f.Tenant != "":
		c.add("tenant = ?", f.Tenant)
	}
	if len(f.States) > 0 && !slices.ContainsFunc(f.States, store.State.Terminal) {
		c.add("state IN " + liveStates)
	}
	if f.Before != 0 {
		c.add("seq < ?", signed(f.Before))
	}
	if f.After != 0 {
		c.add("seq > ?", signed(f.After))
	}
	return c
}

// read adds what is read record by record; the sign keeps the planner from
// another index than that of indexed.
func (c *conditions) read(f store.Filter) {
	if f.Subject != (store.SubjectRef{}) {
		c.add("+subject = ?", f.Subject[:])
	}
	if f.Tenant != "" {
		c.add("+tenant = ?", f.Tenant)
	}
	if len(f.States) > 0 {
		c.add("+state IN ("+strings.TrimSuffix(strings.Repeat("?,", len(f.States)), ",")+")", anys(f.States)...)
	}
	if f.Model != "" {
		c.add("model = ?", f.Model)
	}
	if f.Session != "" {
		c.add("session = ?", f.Session)
	}
	if f.IdemKey != "" {
		c.add("+idem = ?", f.IdemKey)
	}
	if !f.Since.IsZero() {
		c.add("created >= ?", f.Since.UnixMicro())
	}
}

func anys(states []store.State) (out []any) {
	for _, s := range states {
		out = append(out, string(s))
	}
	return out
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
