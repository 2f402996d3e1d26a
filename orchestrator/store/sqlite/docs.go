package sqlite

import (
	"context"
	"fmt"
	"iter"

	"github.com/llorch/llorch/orchestrator/store"
)

// docPage is how many documents one query of [Store.Docs] reads; with the
// largest documents that is 64 MiB.
const docPage = 16

// PutDoc implements [store.Docs].
func (s *Store) PutDoc(ctx context.Context, d store.Doc, expect store.Version) (store.Version, error) {
	if err := d.Check(); err != nil {
		return 0, fmt.Errorf("put document: %w", err)
	}
	data := d.Data
	if data == nil {
		data = []byte{}
	}
	var (
		next    int64
		changed bool
	)
	err := s.write(ctx, &op{items: 1, bytes: len(data), run: func(t *tx) error {
		present, err := t.docVersion(d.Kind, d.Key)
		changed = present != expect
		if err != nil || changed {
			return err
		}
		res, err := t.stmts.insertDoc.ExecContext(context.Background(), string(d.Kind), d.Key, data)
		if err == nil {
			next, err = res.LastInsertId()
		}
		return err
	}})
	if err == nil && changed {
		err = store.ErrVersion
	}
	if err != nil {
		return 0, fmt.Errorf("put document: %w", err)
	}
	return store.Version(next), nil
}

// DeleteDoc implements [store.Docs].
func (s *Store) DeleteDoc(ctx context.Context, k store.Kind, key string, expect store.Version) error {
	var changed bool
	err := s.write(ctx, &op{items: 1, run: func(t *tx) error {
		present, err := t.docVersion(k, key)
		changed = present != 0 && present != expect
		if err != nil || changed || present == 0 {
			return err
		}
		_, err = t.stmts.deleteDoc.ExecContext(context.Background(), string(k), key)
		return err
	}})
	if err == nil && changed {
		err = store.ErrVersion
	}
	if err != nil {
		return fmt.Errorf("delete document: %w", err)
	}
	return nil
}

// docVersion is 0 when there is no such document.
func (t *tx) docVersion(k store.Kind, key string) (store.Version, error) {
	v, _, err := one(t.stmts.docVersion.QueryRowContext(context.Background(), string(k), key), func(row scanner) (v int64, err error) {
		err = row.Scan(&v)
		return v, err
	})
	return store.Version(v), err
}

// Doc implements [store.Docs].
func (s *Store) Doc(ctx context.Context, k store.Kind, key string) (d store.Doc, err error) {
	found := false
	err = s.query(ctx, "read document", func() (err error) {
		const text = "SELECT kind, key, version, data FROM doc WHERE kind = ? AND key = ?"
		d, found, err = one(s.read.QueryRowContext(ctx, text, string(k), key), scanDoc)
		return err
	})
	if err == nil && !found {
		err = store.ErrNotFound
	}
	if err != nil {
		return store.Doc{}, err
	}
	return d, nil
}

// Docs implements [store.Docs]. It reads page by page and holds nothing between
// two documents.
func (s *Store) Docs(ctx context.Context, k store.Kind, prefix string) iter.Seq2[store.Doc, error] {
	return func(yield func(store.Doc, error) bool) {
		for after := ""; ; {
			page, err := s.docsAfter(ctx, k, prefix, after)
			if err != nil {
				yield(store.Doc{}, err)
				return
			}
			for _, d := range page {
				if err := ctx.Err(); err != nil {
					yield(store.Doc{}, err)
					return
				}
				if !yield(d, nil) {
					return
				}
				after = d.Key
			}
			if len(page) < docPage {
				return
			}
		}
	}
}

// docsAfter reads a page. Keys are never empty, so "" is before them all.
func (s *Store) docsAfter(ctx context.Context, k store.Kind, prefix, after string) (page []store.Doc, err error) {
	text := "SELECT kind, key, version, data FROM doc WHERE kind = ? AND key > ? AND key >= ?"
	args := []any{string(k), after, prefix}
	if end := prefixEnd(prefix); end != "" {
		text += " AND key < ?"
		args = append(args, end)
	}
	err = s.query(ctx, "list documents", func() error {
		rows, err := s.read.QueryContext(ctx, text+" ORDER BY key LIMIT ?", append(args, docPage)...)
		if err != nil {
			return err
		}
		page, err = collect(rows, scanDoc)
		return err
	})
	return page, err
}

// prefixEnd returns the first string after all those with the prefix; "" if there is none.
func prefixEnd(prefix string) string {
	b := []byte(prefix)
	for i := len(b) - 1; i >= 0; i-- {
		if b[i] < 0xff {
			b[i]++
			return string(b[:i+1])
		}
	}
	return ""
}

func scanDoc(row scanner) (d store.Doc, err error) {
	err = row.Scan(&d.Kind, &d.Key, &d.Version, &d.Data)
	return d, err
}
