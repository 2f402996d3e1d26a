package poolcore

import (
	"encoding/json"
	"fmt"

	"github.com/llorch/llorch/poolregistry"
)

// journal makes a phase of a reload durable before it returns; nil removes the
// journal.
func (c *hostCrew) journal(pool poolregistry.PoolID, j *reloadJournal) error {
	if c.files == nil {
		return nil // external engines only: there is nothing to roll back
	}
	name := reloadDir + "/" + string(pool) + recordSuffix
	defer c.at("journal/done")
	if j == nil {
		return c.files.remove(name)
	}
	c.at("journal/begin")
	b, err := json.Marshal(j)
	if err != nil {
		return fmt.Errorf("write reload journal: %w", err)
	}
	return c.files.write(name, b)
}
