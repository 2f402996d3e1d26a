package fit

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"
)

// Bounds of a table.
const (
	maxEntries = 1024
	maxPeaks   = 5
	maxTable   = 4 << 20 // bytes of JSON
	maxText    = 512     // bytes of one text of a key
	schema     = 1
)

// Key is one combination of model, engine, settings and devices.
type Key struct {
	Model   string `json:"model"`   // digest, or what else tells its bytes from others
	Engine  string `json:"engine"`  // kind
	Version string `json:"version"` // major.minor; "": unknown
	Ctx     int    `json:"ctx"`
	Slots   int    `json:"slots"`
	KVType  string `json:"kv_type"`
	Device  string `json:"device"` // name of the devices; "": the host
	Devices int    `json:"devices"`
}

// learned is what is known of one key.
type learned struct {
	Peaks []uint64  `json:"peaks,omitzero"` // of the last loads, newest last
	Rough bool      `json:"rough,omitzero"` // the newest came from device totals, not from processes
	Floor uint64    `json:"floor,omitzero"` // free memory that must be there after an OOM
	At    time.Time `json:"at"`
}

// Table is what loads have taught: the only place of the suite that learns what
// fits. It is safe for concurrent use; the zero Table is empty.
type Table struct {
	mu   sync.Mutex
	rows map[Key]learned
}

type row struct {
	Key
	learned
}

type file struct {
	Schema  int   `json:"schema"`
	Entries []row `json:"entries"`
}

var errTable = errors.New("malformed fit table")

// Parse reads the form of [Table.Encode]. A newer schema is an error.
func Parse(b []byte) (*Table, error) {
	if len(b) > maxTable {
		return nil, fmt.Errorf("read fit table: too large: %w", errTable)
	}
	var f file
	if err := json.Unmarshal(b, &f); err != nil {
		return nil, fmt.Errorf("read fit table: %w", errTable)
	}
	if f.Schema != schema || len(f.Entries) > maxEntries {
		return nil, fmt.Errorf("read fit table: schema or number of entries: %w", errTable)
	}
	t := &Table{rows: make(map[Key]learned, len(f.Entries))}
	for _, r := range f.Entries {
		if !r.valid() || len(r.Peaks) > maxPeaks || len(r.Peaks) == 0 && r.Floor == 0 {
			return nil, fmt.Errorf("read fit table: entry: %w", errTable)
		}
		t.rows[r.Key] = r.learned
	}
	return t, nil
}

func (k Key) valid() bool {
	for _, s := range []string{k.Model, k.Engine, k.Version, k.KVType, k.Device} {
		if len(s) > maxText {
			return false
		}
	}
	return k.Model != "" && k.Engine != ""
}

// Encode returns the table as JSON, sorted, so that equal tables have equal bytes.
func (t *Table) Encode() ([]byte, error) {
	t.mu.Lock()
	f := file{Schema: schema, Entries: []row{}}
	for _, k := range slices.SortedFunc(maps.Keys(t.rows), compare) {
		f.Entries = append(f.Entries, row{k, t.rows[k]})
	}
	t.mu.Unlock()
	b, err := json.Marshal(f)
	if err != nil {
		return nil, fmt.Errorf("write fit table: %w", err)
	}
	return b, nil
}

func compare(a, b Key) int {
	return cmp.Or(
		cmp.Compare(a.Model, b.Model), cmp.Compare(a.Engine, b.Engine), cmp.Compare(a.Version, b.Version), cmp.Compare(a.Ctx, b.Ctx),
		cmp.Compare(a.Slots, b.Slots), cmp.Compare(a.KVType, b.KVType), cmp.Compare(a.Device, b.Device), cmp.Compare(a.Devices, b.Devices),
	)
}

// Learn notes the peak of one load. rough: it was read off the devices, because
// nobody tells what each process uses. free is what was free when the load began,
// 0 if unknown: it was enough, so no floor may ask for more.
func (t *Table) Learn(k Key, peak, free uint64, rough bool, now time.Time) {
	if !k.valid() || peak == 0 {
		return
	}
	t.change(k, now, func(l *learned) {
		l.Peaks = append(slices.Clone(l.Peaks), peak)
		l.Peaks = l.Peaks[max(0, len(l.Peaks)-maxPeaks):]
		l.Rough = rough
		if free > 0 {
			l.Floor = min(l.Floor, free)
		}
	})
}

// OutOfMemory notes a load that needed need, found free and ran out of memory: no
// further one begins until clearly more is free.
func (t *Table) OutOfMemory(k Key, need, free uint64, now time.Time) {
	if !k.valid() {
		return
	}
	t.change(k, now, func(l *learned) { l.Floor = max(l.Floor, scale(need, 115, 100), plus(free, floorStep)) })
}

// change updates one row and drops the oldest of too many.
func (t *Table) change(k Key, now time.Time, edit func(*learned)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.rows == nil {
		t.rows = map[Key]learned{}
	}
	l := t.rows[k]
	edit(&l)
	l.At = now.UTC()
	t.rows[k] = l
	for len(t.rows) > maxEntries {
		oldest := k
		for other, l := range t.rows {
			if c := l.At.Compare(t.rows[oldest].At); other != k && (oldest == k || c < 0 || c == 0 && compare(other, oldest) < 0) {
				oldest = other
			}
		}
		delete(t.rows, oldest)
	}
}

// What a need was taken from.
const (
	ByMeasured  = "measured"
	ByDeclared  = "declared"
	ByEstimated = "estimated"
	ByFloor     = "floor" // an earlier load ran out of memory
)

// Need is how much memory must be free before a load.
type Need struct {
	Bytes uint64
	By    string // which number was binding; "": nothing is known
	Rough bool   // an upper bound, or measured by device totals
}

// Need judges a load: measured × 1.03 + 64 MiB if it was loaded before, else the
// larger of declared and estimated × 1.10, and never less than the floor.
func (t *Table) Need(k Key, declared uint64, e Estimate) Need {
	t.mu.Lock()
	l := t.rows[k]
	t.mu.Unlock()
	var n Need
	switch {
	case len(l.Peaks) > 0:
		n = Need{Bytes: plus(scale(slices.Max(l.Peaks), 103, 100), measuredSlack), By: ByMeasured, Rough: l.Rough}
	case declared >= e.Bytes && declared > 0:
		n = Need{Bytes: scale(declared, 110, 100), By: ByDeclared}
	case e.Bytes > 0:
		n = Need{Bytes: scale(e.Bytes, 110, 100), By: ByEstimated, Rough: e.Upper}
	}
	if l.Floor > n.Bytes {
		n = Need{Bytes: l.Floor, By: ByFloor}
	}
	return n
}

// Len is the number of entries.
func (t *Table) Len() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.rows)
}
