package store

import (
	"context"
	"errors"
	"time"
)

// Erase forgets a person.
func (m *Memory) Erase(ctx context.Context, e Epoch, ref SubjectRef) (Erased, error) {
	return Erased{}, errors.ErrUnsupported
}

// PurgeOutputs deletes old outputs.
func (m *Memory) PurgeOutputs(ctx context.Context, e Epoch, before time.Time, limit int) (int, error) {
	return 0, errors.ErrUnsupported
}
