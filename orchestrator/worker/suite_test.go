package worker_test

import (
	"testing"

	"github.com/llorch/llorch/orchestrator/worker"
	"github.com/llorch/llorch/orchestrator/worker/workertest"
)

func newDialer(t *testing.T, cfg worker.Config) *worker.Dialer {
	t.Helper()
	d, err := worker.NewDialer(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close() })
	return d
}

// TestAdapterSuite covers ORC-402, ORC-445, ORC-446, ORC-447 and ORC-448 over real sockets.
func TestAdapterSuite(t *testing.T) {
	workertest.RunAdapterSuite(t, func(t *testing.T) worker.Adapter { return newDialer(t, worker.Config{}) })
}
