package poolregistry_test

import (
	"cmp"
	"context"

	"pgregory.net/rapid"

	. "github.com/llorch/llorch/poolregistry"
)

func newContext(t *rapid.T) (context.Context, context.CancelFunc) {
	return context.WithCancel(t.Context())
}

func compareIDs(a, b NodeID) int { return cmp.Compare(a, b) }
