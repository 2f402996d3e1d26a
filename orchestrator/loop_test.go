package orchestrator_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/llorch/llorch/orchestrator"
)

// TestFactsFirst: what has happened is applied before what people want, however
// long that waits; requests are bounded, and one that finds no place waits no
// longer than its caller (ORC-103).
func TestFactsFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const facts = 1000 // more than one turn
		order, requests, err := orchestrator.LoopOrder(facts, time.Second)
		if !errors.Is(err, context.DeadlineExceeded) || requests != 1024 {
			t.Errorf("request %d was told %v, want a bound of 1024", requests+1, err)
		}
		if want := strings.Repeat("f", facts) + strings.Repeat("s", requests); order != want {
			t.Errorf("%d facts after %d requests were taken at %d…", facts, requests, strings.Index(order, "f"))
		}
	})
}
