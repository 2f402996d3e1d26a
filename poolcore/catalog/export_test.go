package catalog

// For the fuzz target and the benchmark.
var (
	ParseIndex  = parseIndex
	EncodeIndex = encodeIndex
	HashReader  = hashReader
	DigestOf    = digestOf
)

// Dir returns where a model's files lie below the catalogue.
func Dir(m Model) string { return m.dir() }

// Meter counts what HashReader reads.
type Meter = meter
