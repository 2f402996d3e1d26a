package sqlite

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/llorch/llorch/orchestrator/store"
)

const (
	// scrubPages is how many pages one transaction of a scrub looks at: 1 MiB, a few
	// milliseconds for which other writers wait.
	scrubPages = 256
	// maxPages bounds the file to 128 GiB. It keeps the first byte of a page that is
	// not part of a table, where the number of another page stands, apart from the
	// kinds of those that are, see unused.
	maxPages = 1<<25 - 1
	// scrubWait is how long a scrub waits for readers of an old state, and
	// scrubAgain how often it looks.
	scrubWait  = 5 * time.Second
	scrubAgain = 20 * time.Millisecond
)

// scrub overwrites what erased rows have left in the file and empties the log.
// secure_delete alone leaves copies behind: where the engine had moved a row to
// another page before it was deleted. A copy lies between the cells of its page and
// is never moved again, so that one pass in steps finds all; VACUUM would do it
// too, but holds every other write up for as long as the file is large.
func (s *Store) scrub(ctx context.Context, e store.Epoch) error {
	err := s.blank(ctx, e)
	if err == nil {
		err = s.emptyLog(ctx, e)
	}
	if err != nil {
		return fmt.Errorf("%w: erased but not overwritten: %w", store.ErrUnknown, err)
	}
	return nil
}

func (s *Store) blank(ctx context.Context, e store.Epoch) (err error) {
	for from, more := int64(1), true; more && err == nil; from += scrubPages {
		err = s.write(ctx, &op{epoch: e, fenced: true, items: scrubPages, run: func(t *tx) (err error) {
			more, err = t.blank(from, from+scrubPages)
			return err
		}})
	}
	return err
}

func (s *Store) emptyLog(ctx context.Context, e store.Epoch) error {
	wait, cancel := context.WithTimeout(ctx, s.patience)
	defer cancel()
	for {
		err := s.write(ctx, &op{epoch: e, fenced: true, empty: true, run: func(*tx) error { return nil }})
		if !errors.Is(err, errBusyLog) {
			return err
		}
		select {
		case <-time.After(scrubAgain):
		case <-wait.Done():
			return err
		}
	}
}

// blank overwrites the unused parts of the pages in [from, to) and reports whether
// there are pages behind them.
func (t *tx) blank(from, to int64) (more bool, err error) {
	ctx := context.Background()
	for ; from < to; from++ {
		page, found, err := one(t.stmts.page.QueryRowContext(ctx, from), scanBytes)
		if err != nil || !found {
			return false, err
		}
		part := unused(page, from == 1)
		if bytes.Count(part, []byte{0}) == len(part) {
			continue
		}
		clear(part)
		if _, err := t.stmts.setPage.ExecContext(ctx, page, from); err != nil {
			return false, err
		}
	}
	return true, nil
}

// unused returns the part of a page that lies between the pointers to its cells
// and the cells; nil for a page that is not part of a table or an index. It is
// section 1.6 of SQLite's file format.
func unused(page []byte, first bool) []byte {
	at := 0
	if first {
		at = 100 // behind the header of the file
	}
	if len(page) < at+12 {
		return nil
	}
	begin := at + 8
	switch page[at] {
	case 2, 5: // inner pages
		begin += 4
	case 10, 13: // leaves
	default:
		return nil
	}
	begin += 2 * int(binary.BigEndian.Uint16(page[at+3:]))
	end := int(binary.BigEndian.Uint16(page[at+5:]))
	if end == 0 {
		end = 1 << 16
	}
	if begin > end || end > len(page) {
		return nil
	}
	return page[begin:end]
}
