package store

import (
	"context"
	"errors"
	"slices"
)

// MoreError comes with the part of a page that [Tasks.Tasks] found before it had
// read enough; the rest of the page begins after Next.
type MoreError struct {
	Next uint64 // seq of the last record that was read
}

// Error implements error.
func (e *MoreError) Error() string { return "store: more records remain to be read" }

// Scans reports whether f selects by reading records one by one. Every other
// filter is answered by an index: Tenant, Subject, live States, and Tenant with
// IdemKey.
func (f Filter) Scans() bool {
	if f.IdemKey != "" && f.Tenant != "" {
		return false
	}
	return f.Model != "" || f.Session != "" || f.IdemKey != "" || !f.Since.IsZero() || slices.ContainsFunc(f.States, State.Terminal)
}

// after returns f for the records that come after seq in its order.
func (f Filter) after(seq uint64) Filter {
	if f.Oldest {
		f.After = seq
	} else {
		f.Before = seq
	}
	return f
}

// Page returns a whole page: it asks t again after each [*MoreError].
func Page(ctx context.Context, t Tasks, f Filter) ([]Record, error) {
	size, err := f.Size()
	if err != nil {
		return nil, err
	}
	var all []Record
	for {
		f.Limit = size - len(all)
		part, err := t.Tasks(ctx, f)
		more, ok := errors.AsType[*MoreError](err)
		if err != nil && !ok {
			return nil, err
		}
		all = append(all, part...)
		if !ok || len(all) >= size {
			return all, nil
		}
		f = f.after(more.Next)
	}
}
