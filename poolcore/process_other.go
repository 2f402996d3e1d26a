//go:build !linux

package poolcore

import (
	"fmt"
	"os"
	"time"

	"github.com/llorch/llorch/poolcore/engine"
)

const workerEnv = "LLORCH_WORKER_ID"

func processSupported() error {
	return fmt.Errorf("engine processes need Linux: %w", Unsupported)
}

// process does not exist here: checkPool refuses every kind that needs one.
type process struct {
	start time.Time
	done  chan struct{}
	code  int
	sig   string
}

func startProcess(engine.Command, string, []string, *os.File, string) (*process, error) {
	return nil, Unsupported
}

func (*process) stop(time.Duration) bool { return true }

func (*process) pid() int { return 0 }

func killTagged(string) {}
