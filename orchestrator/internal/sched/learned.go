package sched

import (
	"encoding/json"
	"fmt"

	"github.com/llorch/llorch/orchestrator/queue"
)

// estimates is what a core has learned that outlives the program (ORC-654).
type estimates struct {
	Learned learned     `json:"learned"`
	Ledger  queue.State `json:"ledger"` // what tenants had
}

// Estimates encodes what the core has learned: how long things take, and what each
// tenant has had.
func (c *Core) Estimates() ([]byte, error) {
	return json.Marshal(estimates{c.est.state(), c.queue.Ledger()})
}

// LoadEstimates gives an empty core what another one had learned. Text that no core
// wrote is an error and changes nothing.
func (c *Core) LoadEstimates(text []byte) error {
	var e estimates
	if err := json.Unmarshal(text, &e); err != nil {
		return fmt.Errorf("sched: estimates: %w", err)
	}
	if !e.Learned.valid() {
		return fmt.Errorf("sched: estimates: a figure is out of range")
	}
	if c.queue.Len() == 0 {
		if err := c.queue.Load(e.Ledger); err != nil {
			return fmt.Errorf("sched: estimates: %w", err)
		}
	}
	c.est.load(e.Learned)
	return nil
}

// maxFigure is a year in ns: no sum or product of such with a task's tokens is wrong.
const maxFigure = 365 * 24 * 3600 * 1_000_000_000

func (l *learned) valid() bool {
	for _, x := range l.Speeds {
		v := x.Value
		if !v.Prefill.valid() || !v.Decode.valid() || !v.Overhead.valid() || !v.Load.valid() {
			return false
		}
	}
	for _, x := range l.Shapes {
		if !x.Value.Output.valid() || !x.Value.Said.valid() || !x.Value.Text.valid() {
			return false
		}
	}
	return true
}

func (f figure) valid() bool {
	return f.Mean >= 0 && f.Dev >= 0 && f.Mean <= maxFigure && f.Dev <= maxFigure && (f.Known || f == figure{})
}
