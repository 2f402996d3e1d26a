package placement

import (
	"cmp"
	"iter"
	"math"
	"slices"
)

// reservation is the right of one attempt to one slot.
type reservation struct {
	task    [16]byte
	attempt int
}

// hold is a reservation with what it stands for.
type hold struct {
	reservation
	key     Key
	session [16]byte
	tokens  int64 // estimated, prompt and output
}

// slot counts what is taken on a worker. What others have there is what the
// worker reported above our own highest count since the report before: a slot
// that we gave back meanwhile is never taken for somebody's.
type slot struct {
	ours        int    // reservations now
	peak        int    // highest of them since the last report
	foreign     int    // of others, as of the last report
	tokens      int64  // of our reservations
	last        uint64 // number of its last reservation
	quarantined bool
	pinned      bool // its models stay: no load there now
}

// row is a worker with what a decision looks at.
type row struct {
	*Worker
	slot
	free  int
	vram  int64  // free GPU memory
	fails uint32 // bits of the dynamic filters that it fails for every request
}

// onNode counts a session's reservations on a node.
type onNode struct {
	session [16]byte
	node    string
}

// View is the scheduler's picture of all workers, merged with its own
// reservations. One goroutine owns it; deciding keeps notes in it, too.
type View struct {
	gen     uint64 // reports applied
	seq     uint64 // reservations made
	rows    []row  // sorted by key
	gone    []row  // sorted by key: no longer reported, yet with reservations
	held    []hold
	at      map[reservation]int // place in held
	spread  map[onNode]int
	cursors []cursor       // sorted by key
	memo    map[pass]*memo // until the next report
	windows []int          // the context windows of the workers, sorted
	opened  uint64         // see Opened
	total   int            // slots of workers that may be given work
	spare   int            // of these, the free ones
	rates   func(model string, w *Worker) Rates
	scorers map[string]Scorer
	broken  []string // scorers that panicked, sorted
}

// NewView returns an empty view.
func NewView() *View {
	return &View{at: make(map[reservation]int), spread: make(map[onNode]int), memo: make(map[pass]*memo)}
}

// Apply replaces the workers by a newer report; of two with one key the one with
// the larger epoch counts. The reservations stay, also those on workers that are
// gone: only [View.Release] ends one. Quarantine and use of a worker that is gone
// are forgotten.
func (v *View) Apply(workers []*Worker) {
	list := slices.DeleteFunc(slices.Clone(workers), func(w *Worker) bool { return w == nil })
	slices.SortStableFunc(list, func(a, b *Worker) int { return cmp.Or(a.Key.Compare(b.Key), cmp.Compare(b.Epoch, a.Epoch)) })
	list = slices.CompactFunc(list, func(a, b *Worker) bool { return a.Key == b.Key })
	next := make([]row, len(list))
	for i, w := range list {
		next[i] = row{Worker: w}
		peak := 0
		if old := v.row(w.Key); old != nil {
			next[i].slot, peak = old.slot, old.peak
		}
		s := &next[i].slot
		s.peak, s.foreign = s.ours, max(0, w.SlotsBusy-peak)
	}
	var gone []row
	for _, r := range slices.Concat(v.rows, v.gone) {
		if _, ok := find(next, r.Key); !ok && r.ours > 0 {
			gone = append(gone, row{Worker: r.Worker, slot: slot{ours: r.ours, peak: r.ours, tokens: r.tokens}})
		}
	}
	slices.SortFunc(gone, func(a, b row) int { return a.Key.Compare(b.Key) })
	v.rows, v.gone = next, gone
	v.gen++
	v.settle()
}

// settle computes what follows from the rows.
func (v *View) settle() {
	clear(v.memo)
	v.opened++
	v.total, v.spare, v.windows = 0, 0, nil
	for i := range v.rows {
		r := &v.rows[i]
		r.judge()
		if at, known := slices.BinarySearch(v.windows, r.CtxMax); !known {
			v.windows = slices.Insert(v.windows, at, r.CtxMax)
		}
		if r.open() {
			v.total += max(0, r.SlotsTotal)
			v.spare += r.free
		}
	}
}

// judge notes what is free on r and which dynamic filters it fails.
func (r *row) judge() {
	r.vram = int64(min(r.VRAMFree, math.MaxInt64))
	r.free = max(0, r.SlotsTotal-r.ours-r.foreign)
	r.fails = bit(online, !r.Online) | bit(ready, !r.Ready) | bit(draining, r.Draining) | bit(quarantine, r.quarantined) | bit(slots, r.free == 0)
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
	i, ok := find(v.rows, k)
	if !ok {
		return nil, false
	}
	return v.rows[i].Worker, true
}

func find(rows []row, k Key) (int, bool) {
	return slices.BinarySearchFunc(rows, k, func(r row, k Key) int { return r.Key.Compare(k) })
}

// row returns the row of a key, also of one that is gone; nil without one.
func (v *View) row(k Key) *row {
	for _, rows := range [...][]row{v.rows, v.gone} {
		if i, ok := find(rows, k); ok {
			return &rows[i]
		}
	}
	return nil
}

// Reserve gives the attempt a slot on the worker; false if it holds one.
func (v *View) Reserve(task [16]byte, attempt int, k Key) bool {
	return v.Assign(task, attempt, k, Request{})
}

// Assign is Reserve for a request: its session and tokens count at the worker, and
// the turn of its requirements goes on (round-robin).
func (v *View) Assign(task [16]byte, attempt int, k Key, r Request) bool {
	h := hold{reservation{task, attempt}, k, r.Session, int64(max(0, r.Prompt)) + int64(max(0, r.Expected))}
	if !v.hold(h) {
		return false
	}
	v.seq++
	v.row(k).last = v.seq
	if r.Model != "" {
		v.turn(v.key(&r), k)
	}
	return true
}

// hold books a reservation; false if the attempt holds one.
func (v *View) hold(h hold) bool {
	if _, ok := v.at[h.reservation]; ok {
		return false
	}
	v.at[h.reservation] = len(v.held)
	v.held = append(v.held, h)
	if v.row(h.key) == nil {
		i, _ := find(v.gone, h.key)
		v.gone = slices.Insert(v.gone, i, row{Worker: &Worker{Key: h.key}})
	}
	v.move(h, +1)
	return true
}

// Release gives the attempt's slot back; false if it holds none (ORC-400).
func (v *View) Release(task [16]byte, attempt int) bool {
	i, ok := v.at[reservation{task, attempt}]
	if !ok {
		return false
	}
	h, end := v.held[i], len(v.held)-1
	v.held[i] = v.held[end]
	v.at[v.held[i].reservation] = i
	v.held[end] = hold{}
	v.held = v.held[:end]
	delete(v.at, h.reservation)
	v.move(h, -1)
	if i, ok := find(v.gone, h.key); ok && v.gone[i].ours == 0 {
		v.gone = slices.Delete(v.gone, i, i+1)
	}
	return true
}

// move changes our count on a worker and what is free there.
func (v *View) move(h hold, by int) {
	r := v.row(h.key)
	if r.ours += by; by < 0 {
		v.opened++
	}
	r.tokens += int64(by) * h.tokens
	r.peak = max(r.peak, r.ours)
	before := r.free
	r.judge()
	if _, listed := find(v.rows, h.key); listed && r.open() { // one that is gone has no free slots
		v.spare += r.free - before
	}
	if h.session != ([16]byte{}) {
		at := onNode{h.session, h.key.Node}
		if v.spread[at] += by; v.spread[at] == 0 {
			delete(v.spread, at)
		}
	}
}

// Quarantine takes a worker out, or back in. Unknown keys change nothing.
func (v *View) Quarantine(k Key, out bool) {
	if i, ok := find(v.rows, k); ok {
		v.rows[i].quarantined = out
		v.rows[i].judge()
		v.opened += uint64(flag(!out))
	}
}

// Quarantined reports whether a worker is out.
func (v *View) Quarantined(k Key) bool {
	r := v.row(k)
	return r != nil && r.quarantined
}

// Pin says that a worker's models have to stay, or need not any more: one loads
// there, or is too young to go (ORC-340, 341). No decision names a pinned worker
// for a load. Unknown keys change nothing.
func (v *View) Pin(k Key, stay bool) {
	if i, ok := find(v.rows, k); ok {
		if v.rows[i].pinned && !stay {
			v.opened++
		}
		v.rows[i].pinned = stay
	}
}

// Slots returns the slots of all workers that may be given work, and how many
// of them are free.
func (v *View) Slots() (total, free int) { return v.total, v.spare }

// Opened changes whenever something becomes possible that was not: without a bound
// on the spread, a request that found neither a worker nor a load finds none while
// it stands, under one policy. A view that was loaded counts anew.
func (v *View) Opened() uint64 { return v.opened }

// Reserved returns the number of slots held, on one worker or, with the zero Key, on all.
func (v *View) Reserved(k Key) int {
	if k == (Key{}) {
		return len(v.held)
	}
	if r := v.row(k); r != nil {
		return r.ours
	}
	return 0
}

// Active returns the slots held per pool of a node.
func (v *View) Active(node string) map[string]int {
	out := make(map[string]int)
	for _, rows := range [...][]row{v.rows, v.gone} {
		i, _ := find(rows, Key{Node: node})
		for ; i < len(rows) && rows[i].Node == node; i++ {
			if rows[i].ours > 0 {
				out[rows[i].Pool] += rows[i].ours
			}
		}
	}
	return out
}
