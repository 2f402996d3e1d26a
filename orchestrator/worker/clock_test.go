package worker

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// TestClockAfterAPause (ORC-570, ORC-571): a clock that rings because this process stood
// still, and not because the engine was silent, waits once more, and then no longer.
func TestClockAfterAPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCall(t.Context(), &Job{})
		defer c.close()
		k := c.clock(30*time.Second, "the engine fell silent")
		k.due.Store(time.Now().Add(-time.Minute).UnixNano()) // as after a pause of 90 s
		began := time.Now()
		<-c.run.Done()
		if took := time.Since(began); took != 35*time.Second {
			t.Errorf("the call ended after %v, want 30 s and the reprieve of 5 s", took)
		}
		if f, ok := errors.AsType[*Failure](context.Cause(c.run)); !ok || f.Class != Timeout {
			t.Errorf("cause %v, want a timeout", context.Cause(c.run))
		}
	})
}
