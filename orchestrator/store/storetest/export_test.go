package storetest

import (
	"testing"

	"github.com/llorch/llorch/orchestrator/store"
)

// Each calls f for every sentence that a store with these caps has to keep.
func Each(open func(testing.TB) store.Store, caps Caps, f func(name string, run func(testing.TB))) {
	for _, c := range checks() {
		if c.needs == nil || c.needs(caps) {
			f(c.name, func(t testing.TB) { c.run(t, suite{open: open, caps: caps}) })
		}
	}
}
