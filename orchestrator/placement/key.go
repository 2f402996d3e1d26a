package placement

import (
	"math"
	"slices"
)

// pass names one look over the static filters: of a set of requirements, in the
// pass over the preferred pools only or the other one.
type pass struct {
	key       uint64
	preferred bool
}

// memo keeps, for one set of requirements, the static filters that each worker
// fails (ORC-300).
type memo struct {
	of      Request
	fails   []uint32 // by row
	open    []int32  // rows that pass them all
	removed [online]int
	example [online]int32
	binding binding
	regions []string // of the workers that pass the filter region, sorted
}

// memos and memoCells bound what a view keeps: at most so many sets, and so many
// workers over all of them (16 MiB).
const (
	memos     = 4096
	memoCells = 4 << 20
)

// window returns the least context window of a worker that holds so many tokens:
// requests of one window differ in no filter, and share memo and turn.
func (v *View) window(tokens int) int {
	if tokens <= 0 {
		return 0
	}
	if i, _ := slices.BinarySearch(v.windows, tokens); i < len(v.windows) {
		return v.windows[i]
	}
	return math.MaxInt
}

// key is the number of the static requirements.
func (v *View) key(r *Request) uint64 { return r.hash(v.window(r.Ctx)) }

// static returns the memo of r. That the text of the requirements is equal is
// checked: a number that two sets share costs time, never a wrong worker.
func (v *View) static(r *Request, key uint64, preferred bool) *memo {
	at := pass{key, preferred}
	m := v.memo[at]
	if m != nil && v.window(m.of.Ctx) == v.window(r.Ctx) && m.of.same(r) {
		return m
	}
	if n := len(v.memo); n >= memos || n > 16 && n*len(v.rows) > memoCells {
		clear(v.memo)
	}
	m = &memo{of: *r, fails: make([]uint32, len(v.rows))}
	for i := range v.rows {
		w := v.rows[i].Worker
		fails := static(w, r, preferred)
		m.fails[i] = fails
		if fails&(1<<region) == 0 {
			m.consider(w.region(r.Regions))
		}
		at := first(fails)
		if at == passed {
			m.open = append(m.open, int32(i))
			continue
		}
		if m.removed[at]++; m.removed[at] == 1 {
			m.example[at] = int32(i)
		}
		m.binding.add(fails)
	}
	v.memo[at] = m
	return m
}

func (m *memo) consider(region string) {
	if i, ok := slices.BinarySearch(m.regions, region); !ok {
		m.regions = slices.Insert(m.regions, i, region)
	}
}

// same reports whether r and o have the same static requirements, save the context.
func (r *Request) same(o *Request) bool {
	a, b := &r.Place, &o.Place
	return r.Model == o.Model && r.Engine == o.Engine && r.Workload == o.Workload && r.Digest == o.Digest &&
		(r.Regions == nil) == (o.Regions == nil) && slices.Equal(r.Regions, o.Regions) &&
		a.Mode == b.Mode && a.Pool == b.Pool && a.Node == b.Node && a.Worker == b.Worker && slices.Equal(a.Prefer, b.Prefer) &&
		slices.Equal(a.Avoid, b.Avoid) && a.Version == b.Version && slices.Equal(a.Features, b.Features) && a.Quant == b.Quant &&
		a.MinCompute == b.MinCompute && (a.Mask == nil) == (b.Mask == nil) && slices.Equal(a.Mask, b.Mask) && a.MinVRAM == b.MinVRAM
}

// hash is FNV-1a over the static requirements; the same on every machine.
func (r *Request) hash(window int) uint64 {
	p := &r.Place
	h := uint64(14695981039346656037)
	for _, s := range [...]string{r.Model, r.Engine, r.Workload, r.Digest, p.Mode, p.Pool, p.Node, p.Worker, p.Version, p.Quant} {
		h = mixText(h, s)
	}
	for _, list := range [...][]string{r.Regions, p.Prefer, p.Avoid, p.Features, p.Mask} {
		h = mix(h, uint64(len(list)))
		for _, s := range list {
			h = mixText(h, s)
		}
	}
	return mix(mix(mix(h, uint64(window)), uint64(p.MinCompute)), p.MinVRAM)
}

const fnvPrime = 1099511628211

func mixText(h uint64, s string) uint64 {
	for i := range len(s) {
		h = (h ^ uint64(s[i])) * fnvPrime
	}
	return (h ^ 0xff) * fnvPrime // a byte that no text has
}

func mix(h, n uint64) uint64 { return (h ^ n ^ n>>32) * fnvPrime }

// cursor is the turn of one set of requirements (round-robin).
type cursor struct {
	key  uint64
	last Key
	used uint64 // number of the reservation
}

// cursors bounds how many turns a view remembers; the one that rested longest goes.
const cursors = 1024

func (v *View) cursor(key uint64) (int, bool) {
	return slices.BinarySearchFunc(v.cursors, key, func(c cursor, key uint64) int {
		switch {
		case c.key < key:
			return -1
		case c.key > key:
			return 1
		}
		return 0
	})
}

// turn notes that the newest reservation of the requirements is on k.
func (v *View) turn(key uint64, k Key) {
	i, ok := v.cursor(key)
	if ok {
		v.cursors[i].last, v.cursors[i].used = k, v.seq
		return
	}
	v.cursors = slices.Insert(v.cursors, i, cursor{key, k, v.seq})
	if len(v.cursors) > cursors {
		oldest := 0
		for i, c := range v.cursors {
			if c.used < v.cursors[oldest].used {
				oldest = i
			}
		}
		v.cursors = slices.Delete(v.cursors, oldest, oldest+1)
	}
}
