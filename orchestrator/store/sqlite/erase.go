package sqlite

import (
	"context"
	"errors"
	"time"

	"github.com/llorch/llorch/orchestrator/store"
)

// Erase forgets a person.
func (s *Store) Erase(ctx context.Context, e store.Epoch, ref store.SubjectRef) (store.Erased, error) {
	return store.Erased{}, errors.ErrUnsupported
}

// PurgeOutputs deletes old outputs.
func (s *Store) PurgeOutputs(ctx context.Context, e store.Epoch, before time.Time, limit int) (int, error) {
	return 0, errors.ErrUnsupported
}
