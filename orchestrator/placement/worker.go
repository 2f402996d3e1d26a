// Package placement chooses a worker for a task and says why. It is pure:
// [Decide] is a function of (View, Request), independent of the order of its
// input, without clock, randomness, floats or I/O (ORC-120, 300).
package placement

import (
	"cmp"
	"iter"
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
	OnDisk     []OnDisk // models that it could load instead, sorted by name; an engine that loads on demand lists them in Models
	Digest     string   // of its model, "sha256:<hex>"; "" unknown
	Quant      string
	Workloads  []string // chat, completion, embedding, rerank; nil = unknown, then none is refused
	Features   []string // sorted
	Country    string   // of the node, ISO 3166-1; "" unknown
	Group      string   // EU, US, ASIA, OTHER; "" or UNKNOWN never satisfies a restriction
	Compute    int      // lowest compute capability of its GPUs, 10 × major + minor; 0 = unknown
	Mask       []string // its device mask, sorted
	OnDemand   bool     // loads models by itself (Ollama, llama.cpp router mode)
	CtxMax     int      // tokens; 0 = unknown, then no task is refused for it
	SlotsTotal int
	SlotsBusy  int    // as the engine reported
	VRAMFree   uint64 // bytes; 0 = unknown
	VRAMTotal  uint64 // bytes of the mask; 0 = unknown
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

// reservation is the right of one attempt to one slot.
type reservation struct {
	task    [16]byte
	attempt int
}

// slot counts what is taken on a worker. What others have there is what the
// worker reported above our own highest count since the report before: a slot
// that we gave back meanwhile is never taken for somebody's.
type slot struct {
	ours    int // reservations now
	peak    int // highest of them since the last report
	foreign int // of others, as of the last report
}

// row is a worker with the slots that a new task may take.
type row struct {
	*Worker
	free int
}

// View is the scheduler's picture of all workers, merged with its own
// reservations. One goroutine owns it.
type View struct {
	gen   uint64
	rows  []row // sorted by key
	slots map[Key]slot
	held  map[reservation]Key
	total int // slots of workers that may be given work
	spare int // of these, the free ones
}

// NewView returns an empty view.
func NewView() *View {
	return &View{slots: make(map[Key]slot), held: make(map[reservation]Key)}
}

// Apply replaces the workers by a newer report. The reservations stay, also
// those on workers that are gone: only [View.Release] ends one.
func (v *View) Apply(workers []*Worker) {
	v.gen++
	old := v.slots
	v.slots = make(map[Key]slot, len(workers))
	for k, s := range old {
		if s.ours > 0 { // the worker may be gone; its slot is not
			v.slots[k] = slot{ours: s.ours, peak: s.ours}
		}
	}
	v.rows = make([]row, len(workers))
	v.total, v.spare = 0, 0
	for i, w := range workers {
		s := v.slots[w.Key]
		s.foreign = max(0, w.SlotsBusy-old[w.Key].peak)
		if s != (slot{}) {
			v.slots[w.Key] = s
		}
		v.rows[i] = row{w, free(w, s)}
		if w.open() {
			v.total += w.SlotsTotal
			v.spare += v.rows[i].free
		}
	}
	slices.SortFunc(v.rows, func(a, b row) int { return a.Key.Compare(b.Key) })
}

// Workers yields the workers in the order of their keys. Read only.
func (v *View) Workers() iter.Seq[*Worker] {
	return func(yield func(*Worker) bool) {
		for _, r := range v.rows {
			if !yield(r.Worker) {
				return
			}
		}
	}
}

// Len returns the number of workers.
func (v *View) Len() int { return len(v.rows) }

// Gen counts the reports applied.
func (v *View) Gen() uint64 { return v.gen }

// Find returns the worker of a key.
func (v *View) Find(k Key) (*Worker, bool) {
	i, ok := v.index(k)
	if !ok {
		return nil, false
	}
	return v.rows[i].Worker, true
}

func (v *View) index(k Key) (int, bool) {
	return slices.BinarySearchFunc(v.rows, k, func(r row, k Key) int { return r.Key.Compare(k) })
}

// Reserve gives the attempt a slot on the worker; false if it holds one.
func (v *View) Reserve(task [16]byte, attempt int, k Key) bool {
	r := reservation{task, attempt}
	if _, ok := v.held[r]; ok {
		return false
	}
	v.held[r] = k
	v.move(k, +1)
	return true
}

// Release gives the attempt's slot back; false if it holds none (ORC-400).
func (v *View) Release(task [16]byte, attempt int) bool {
	r := reservation{task, attempt}
	k, ok := v.held[r]
	if !ok {
		return false
	}
	delete(v.held, r)
	v.move(k, -1)
	return true
}

// move changes our count on a worker and what is free there.
func (v *View) move(k Key, by int) {
	s := v.slots[k]
	s.ours += by
	s.peak = max(s.peak, s.ours)
	v.slots[k] = s
	if i, ok := v.index(k); ok {
		r := &v.rows[i]
		before := r.free
		r.free = free(r.Worker, s)
		if r.open() {
			v.spare += r.free - before
		}
	}
}

// Slots returns the slots of all workers that may be given work, and how many
// of them are free.
func (v *View) Slots() (total, free int) { return v.total, v.spare }

// Reserved returns the number of slots held, on one worker or, with the zero Key, on all.
func (v *View) Reserved(k Key) int {
	if k == (Key{}) {
		return len(v.held)
	}
	return v.slots[k].ours
}

// Active returns the slots held per pool of a node.
func (v *View) Active(node string) map[string]int {
	out := make(map[string]int)
	for _, k := range v.held {
		if k.Node == node {
			out[k.Pool]++
		}
	}
	return out
}

// Free returns the slots of a worker that a new task may take.
func (v *View) Free(k Key) int {
	if i, ok := v.index(k); ok {
		return v.rows[i].free
	}
	return 0
}

// free is what is left on w.
func free(w *Worker, s slot) int { return max(0, w.SlotsTotal-s.ours-s.foreign) }
