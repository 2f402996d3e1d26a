package storetest

import (
	"testing"
	"time"

	"github.com/llorch/llorch/orchestrator/store"
)

// Caps says what a store claims. The zero value is a store without memory of
// its own: nothing outlives Close.
type Caps struct {
	// Durable is what the store's Durable must report. It needs Reopen.
	Durable bool
	// Reopen closes s and returns a store over the same storage; nil = not possible.
	Reopen func(t testing.TB, s store.Store) store.Store
	// Away puts what s keeps its data in out of its reach and returns a function
	// that brings it back; nil = not possible.
	Away func(t testing.TB, s store.Store) (back func())
	// Slow opens a new store whose every commit takes that much longer; nil =
	// commits cost nothing worth sharing, so group commit is not checked.
	Slow func(t testing.TB, perCommit time.Duration) store.Store
}
