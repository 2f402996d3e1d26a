package engine

// Report is what an engine says about itself. A nil number is one that the engine
// does not tell: never a guess.
type Report struct {
	Live    bool // something answered that speaks this kind's protocol
	Ready   bool // loaded and able to take requests
	Loading bool // alive, not ready yet
	// Overloaded: it refused to answer for want of capacity. That is a sign of
	// life; Ready and the rest then say nothing.
	Overloaded bool
	Detail     string   // a word for its state; a change of it is progress
	Progress   *float64 // share that is loaded, 0 to 1
	Model      string   // what it serves, in its own words
	Alias      string   // the name it answers under; kinds without one leave it empty
	Version    string

	CtxMax          *int     // tokens of one request
	SlotsTotal      *int     // 1 to 4,096
	SlotsBusy       *int     // requests running
	Queue           *int     // requests waiting inside the engine
	KVUsed          *float64 // share of the KV cache, 0 to 1
	TokensPerSecond *float64
	// Tokens counts what was processed since the start: a worker whose count
	// rises works, however slowly it answers.
	Tokens  *uint64
	Offload *Offload
}

// Offload is how much of a model is on the GPU: layers or bytes.
type Offload struct{ Done, Total uint64 }

// Partial reports whether a part of the model stayed off the GPU.
func (o Offload) Partial() bool { return o.Done < o.Total }
