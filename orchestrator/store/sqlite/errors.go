package sqlite

import (
	"context"
	"errors"
	"fmt"

	"modernc.org/sqlite"
	lib "modernc.org/sqlite/lib"

	"github.com/llorch/llorch/orchestrator/store"
)

// errDamaged ends the work of a store whose integrity check failed.
var errDamaged = fmt.Errorf("%w: the integrity check after an unclean stop failed", store.ErrCorrupt)

// classify gives an error of the engine the class that callers branch on. It is
// for everything but COMMIT: nothing was written.
func classify(err error) error {
	if err == nil || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	if errors.Is(err, store.ErrCorrupt) || errors.Is(err, store.ErrSchemaTooNew) {
		return err
	}
	switch code(err) {
	case lib.SQLITE_CORRUPT, lib.SQLITE_NOTADB:
		return fmt.Errorf("%w: %w", store.ErrCorrupt, err)
	default:
		return fmt.Errorf("%w: %w", store.ErrUnavailable, err)
	}
}

// classifyCommit is classify for COMMIT, after which only a busy engine is known
// to have written nothing.
func classifyCommit(err error) error {
	if err == nil {
		return nil
	}
	switch code(err) {
	case lib.SQLITE_BUSY:
		return fmt.Errorf("%w: %w", store.ErrUnavailable, err)
	default:
		return fmt.Errorf("%w: %w", store.ErrUnknown, err)
	}
}

// code returns the primary result code of err, or 0.
func code(err error) int {
	if e, ok := errors.AsType[*sqlite.Error](err); ok {
		return e.Code() & 0xff
	}
	return 0
}
