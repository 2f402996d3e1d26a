package store

// Limit sets the bounds of a memory store.
func (m *Memory) Limit(records, bodies, outputs int) {
	m.limit = memoryLimit{records: records, bodies: bodies, outputs: outputs}
}

// Held counts what a memory store holds on to: records and places in its lists.
func (m *Memory) Held() (records, log, ended int) { return len(m.tasks), len(m.log), len(m.ended) }
