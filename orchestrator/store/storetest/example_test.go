package storetest_test

import (
	"testing"

	"github.com/llorch/llorch/orchestrator/store"
	"github.com/llorch/llorch/orchestrator/store/storetest"
)

// ExampleRun is the whole test of a store that forgets at Close. A durable one
// also sets Caps.Durable and Caps.Reopen.
func ExampleRun() {
	test := func(t *testing.T) {
		open := func(testing.TB) store.Store { return store.NewMemory() }
		storetest.Run(t, open, storetest.Caps{})
	}
	_ = test // go test calls it
}
