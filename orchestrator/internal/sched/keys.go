package sched

import (
	"encoding/hex"
	"math/bits"
	"strconv"

	"github.com/llorch/llorch/orchestrator/placement"
	"github.com/llorch/llorch/orchestrator/queue"
)

// keys gives every distinct set of requirements a number, for as long as a task
// with that set is in the core.
type keys struct {
	byText map[string]*key
	byID   map[queue.KeyID]*key
	last   queue.KeyID
}

type key struct {
	id   queue.KeyID
	text string
	need placement.Request // without Tried and Affinity, Ctx roughly
	uses int

	failed []placement.Key // workers on which a load for it failed
	after  Instant         // no load begins before

	closed   [2]uint64         // Core.gen and Opened of the view when nothing was free
	prospect prospect          // see Core.prospect
	gen      uint64            // of now
	now      placement.Request // need within the regions that hold; see Core.request
}

func newKeys() keys {
	return keys{byText: make(map[string]*key), byID: make(map[queue.KeyID]*key)}
}

func (k *keys) take(r placement.Request) queue.KeyID {
	r.Tried, r.Affinity, r.Ctx = nil, placement.Key{}, roughly(r.Ctx)
	text := keyText(r)
	e, ok := k.byText[text]
	if !ok {
		k.last++
		e = &key{id: k.last, text: text, need: r}
		k.byText[text], k.byID[e.id] = e, e
	}
	e.uses++
	return e.id
}

// roughly brings a number of tokens down to one of four per doubling, each the first
// that a usual context window does not hold, such as 4,097: tasks with prompts of a
// thousand lengths have a few keys. Where it matters the task's own number is used.
func roughly(tokens int) int {
	if tokens <= 4 {
		return tokens
	}
	low := bits.Len(uint(tokens-1)) - 3
	return (tokens-1)>>low<<low + 1
}

func (k *keys) drop(id queue.KeyID) {
	e, ok := k.byID[id]
	if !ok {
		return
	}
	if e.uses--; e.uses == 0 {
		delete(k.byID, id)
		delete(k.byText, e.text)
	}
}

// keyText spells a set of requirements so that different ones read differently; no
// list of regions or devices is not the same as an empty one.
func keyText(r placement.Request) string {
	p := &r.Place
	b := make([]byte, 0, 128)
	for _, s := range [...]string{r.Model, r.Engine, r.Workload, r.Digest, p.Mode, p.Pool, p.Node, p.Worker, p.Version, p.Quant} {
		b = appendText(b, s)
	}
	for _, list := range [...][]string{r.Regions, p.Prefer, p.Avoid, p.Features, p.Mask} {
		if b = strconv.AppendInt(b, int64(len(list)), 10); list == nil {
			b = append(b, '-')
		}
		for _, s := range list {
			b = appendText(b, s)
		}
	}
	for _, n := range [...]uint64{uint64(r.Ctx), uint64(p.MinCompute), p.MinVRAM, uint64(p.Spread)} {
		b = strconv.AppendUint(append(b, ','), n, 10)
	}
	b = strconv.AppendBool(append(b, ','), p.NoFallback)
	if r.Session != ([16]byte{}) {
		b = hex.AppendEncode(append(b, ','), r.Session[:])
	}
	return string(b)
}

func appendText(b []byte, s string) []byte {
	return append(append(strconv.AppendInt(b, int64(len(s)), 10), ':'), s...)
}
