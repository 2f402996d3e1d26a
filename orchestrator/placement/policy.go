package placement

// Policy says how to choose among workers that pass every filter. It is data:
// swapped at run time, recorded, compared. The zero value is the default.
type Policy struct {
	Strategy string   `json:"strategy,omitempty"` // least-loaded (default), most-vram-free, round-robin, predicted
	TieRule  string   `json:"tie_rule,omitempty"` // "" = node, pool, worker; rotate
	Weights  Weights  `json:"weights,omitzero"`   // of the terms, for predicted; zero = 1,000,000 each
	Scorers  []Scored `json:"scorers,omitempty"`  // custom ones, by name
}

// Weights are parts per million.
type Weights struct {
	Queue   int64 `json:"queue,omitempty"`
	Prefill int64 `json:"prefill,omitempty"`
	Decode  int64 `json:"decode,omitempty"`
	Load    int64 `json:"load,omitempty"`
}

// Scored names a custom scorer and its weight in parts per million.
type Scored struct {
	Name   string `json:"name"`
	Weight int64  `json:"weight"`
}

// Scorer is a custom term: nanoseconds, the smaller the better. It must be pure.
type Scorer func(r Request, w *Worker) int64
