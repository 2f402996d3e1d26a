// Package placement chooses a worker for a task and says why. It is pure:
// [Decide] is a function of (View, Request, Policy), independent of the order of its
// input, without clock, randomness, floats or I/O (ORC-120, 300).
//
// [View] is the picture of all workers with our own reservations; the filters
// (filter.go) say who may take a task, a strategy (strategy.go) who of them does,
// and [Explain] writes both down. Who may not by the requirements alone is kept per
// set of requirements (key.go) until the next report.
package placement

import (
	"cmp"
	"slices"
	"strings"
)

// Key identifies a worker.
type Key struct {
	Node   string `json:"node"`
	Pool   string `json:"pool"`
	Worker string `json:"worker"`
}

func (k Key) String() string { return k.Node + "/" + k.Pool + "/" + k.Worker }

// Place returns the worker's place in its pool, such as r0: the ids that poolcore
// gives are "<pool>-<place>-<random>", new with every process. Other ids are
// their own place.
func (k Key) Place() string {
	place, ok := strings.CutPrefix(k.Worker, k.Pool+"-")
	if at := strings.LastIndexByte(place, '-'); ok && at > 0 {
		return place[:at]
	}
	return k.Worker
}

// Compare orders keys by node, pool, worker.
func (k Key) Compare(o Key) int {
	return cmp.Or(cmp.Compare(k.Node, o.Node), cmp.Compare(k.Pool, o.Pool), cmp.Compare(k.Worker, o.Worker))
}

// Worker is one engine process as the scheduler knows it. A published Worker is
// never written again.
type Worker struct {
	Key
	Epoch      uint64   // of the node; work sent under a smaller one is lost
	URL        string   // base of its HTTP API
	Engine     string   // llamacpp, vllm, ollama, … ; "" unknown
	Version    string   // of the engine
	Models     []string // names it serves, sorted
	ServedAs   string   // the name that the engine itself uses for its one model; "" = as asked
	Static     bool     // from a fixed list: dialled as it is, without credentials
	OnDisk     []OnDisk // models that it could load instead, sorted by name; an engine that loads on demand lists them in Models too
	Digest     string   // of its model, "sha256:<hex>"; "" unknown
	Quant      string
	Workloads  []string // chat, completion, embedding, rerank; nil = unknown, then none is refused
	Features   []string // sorted
	Country    string   // of the node, ISO 3166-1; "" unknown
	Group      string   // EU, US, ASIA, OTHER; "" or UNKNOWN never satisfies a restriction
	Compute    int      // lowest compute capability of its GPUs, 10 × major + minor; 0 = unknown
	Mask       []string // its device mask, sorted
	OnDemand   bool     // loads models by itself (Ollama, llama.cpp router mode)
	Many       bool     // holds several models at once; else loading one ends the one before
	CtxMax     int      // tokens; 0 = unknown, then no task is refused for it
	SlotsTotal int
	SlotsBusy  int    // as the engine reported
	VRAMFree   uint64 // bytes
	VRAMTotal  uint64 // bytes of the mask; 0 = unknown, and then VRAMFree is
	VRAMUsed   uint64 // bytes that this engine holds; 0 = unknown
	TokensPerS int64  // milli-tokens per second as hinted; 0 = unknown
	FirstToken int64  // ns to the first token as hinted; 0 = unknown
	Online     bool   // the node may be sent new work
	Ready      bool
	Draining   bool
	Gone       bool   // the node is offline or the engine failed: what runs there is lost
	Why        string // why not online or not ready, one word for people
}

// OnDisk is a model that a worker's pool could load.
type OnDisk struct {
	Model string
	Need  uint64 // bytes of GPU memory that loading it took; 0 = not learned
	Fits  int8   // +1 the node says it fits, −1 it does not, 0 unknown
}

// open reports whether w may be given work at all.
func (w *Worker) open() bool { return w.Online && w.Ready && !w.Draining }

// In reports whether w stands in one of the regions: countries or groups; nil = all.
// A region that is not known is in none (ORC-301).
func (w *Worker) In(regions []string) bool { return regions == nil || w.region(regions) != "" }

// region returns the allowed region that w satisfies, or "". Without a rule it is
// the most exact that is known.
func (w *Worker) region(allowed []string) string {
	for _, r := range [...]string{w.Country, w.Group} {
		if known := r != "" && r != unknown; known && (allowed == nil || slices.Contains(allowed, r)) {
			return r
		}
	}
	if allowed == nil {
		return unknown
	}
	return ""
}

const unknown = "UNKNOWN" // the region of a node that states none

// disk returns the entry of a model that w could load.
func (w *Worker) disk(model string) (OnDisk, bool) {
	for _, d := range w.OnDisk {
		if d.Model == model {
			return d, true
		}
	}
	return OnDisk{}, false
}
