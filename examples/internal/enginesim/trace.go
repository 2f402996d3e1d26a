package enginesim

import (
	"encoding/json"
	"errors"
	"os"
	"sync"

	"github.com/llorch/llorch/orchestrator/worker/workertest"
)

// trace appends one JSON line per event (SIM-7): what the engine really did.
type trace struct {
	file   *os.File
	failed func(error) // called once, when the trace is no longer complete
	once   sync.Once
}

func openTrace(name string, failed func(error)) (*trace, error) {
	f, err := os.OpenFile(name, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, errors.New("--trace: can not be opened")
	}
	return &trace{file: f, failed: failed}, nil
}

// write is called for one event at a time.
func (t *trace) write(e workertest.Event) {
	b, err := json.Marshal(e)
	if err == nil {
		_, err = t.file.Write(append(b, '\n'))
	}
	if err != nil {
		t.once.Do(func() { t.failed(errors.New("--trace: can not be written")) })
	}
}

func (t *trace) close() { _ = t.file.Close() }
