package placement

import (
	"math/bits"
	"slices"
)

// Request is what a task needs of a worker. Prompt, Expected, Affinity and Tried
// are the task's own; Session is, unless it bounds the spread. The rest are its
// static requirements.
type Request struct {
	Model    string      `json:",omitzero"`
	Engine   string      `json:",omitzero"` // "" = any
	Workload string      `json:",omitzero"` // "" = any
	Digest   string      `json:",omitzero"` // "" = any
	Ctx      int         `json:",omitzero"` // tokens
	Prompt   int         `json:",omitzero"` // tokens, estimated
	Expected int         `json:",omitzero"` // output tokens, estimated
	Place    Constraints `json:",omitzero"`
	Regions  []string    `json:",omitzero"` // allowed: countries or groups; nil = all. Already the intersection of all rules
	Session  [16]byte    `json:",omitzero"` // for Place.Spread; zero = none
	Affinity Key         `json:",omitzero"` // worker of the session's last turn; zero = none
	Tried    []Key       `json:",omitzero"` // workers that failed this task already; avoided while others are feasible
}

// The filters in their order (ORC-301); the first one that a worker fails is the
// reason. Those before online do not depend on load: they decide whether a task
// can ever be served.
const (
	region = iota
	avoid
	pin
	engine
	workload
	model
	digest
	ctx
	features
	quant
	compute
	mask
	vram
	online
	ready
	draining
	quarantine
	slots
	memory
	spread
	passed
)

// cold marks a worker that would have to load the model first.
const cold uint32 = 1 << 31

// bit is the bit of a filter, if the worker fails it.
func bit(filter int, fails bool) uint32 {
	if fails {
		return 1 << filter
	}
	return 0
}

// first returns the first filter of a set of bits, or passed.
func first(set uint32) int { return min(bits.TrailingZeros32(set&^cold), passed) }

// static returns the static filters that w fails. What belongs to the loaded model
// is not known of one on disk and keeps none from being loaded; it is asked again
// before a task goes there.
func static(w *Worker, r *Request, preferred bool) uint32 {
	p := &r.Place
	onDisk, has := w.disk(r.Model)
	warm := slices.Contains(w.Models, r.Model) || w.OnDemand && has
	out := bit(region, !w.In(r.Regions)) |
		bit(avoid, slices.Contains(p.Avoid, w.Pool)) |
		bit(pin, !p.admits(w.Key, preferred)) |
		bit(engine, r.Engine != "" && r.Engine != w.Engine || p.Version != "" && p.Version != w.Version) |
		bit(workload, r.Workload != "" && w.Workloads != nil && !slices.Contains(w.Workloads, r.Workload)) |
		bit(model, !warm && !has) |
		bit(features, !subset(p.Features, w.Features)) |
		bit(compute, p.MinCompute > w.Compute) |
		bit(mask, p.Mask != nil && !(subset(p.Mask, w.Mask) && subset(w.Mask, p.Mask))) |
		bit(vram, p.MinVRAM > w.VRAMTotal)
	if !warm {
		return out | cold | bit(vram, w.VRAMTotal > 0 && onDisk.Need > w.VRAMTotal)
	}
	return out | bit(digest, r.Digest != "" && r.Digest != w.Digest) |
		bit(ctx, w.CtxMax != 0 && r.Ctx > w.CtxMax) |
		bit(quant, p.Quant != "" && p.Quant != w.Quant)
}

func subset(of, all []string) bool {
	for _, x := range of {
		if !slices.Contains(all, x) {
			return false
		}
	}
	return true
}

// dynamic returns the filters that w fails for what it does now, and its tier: 0
// the model is loaded, 1 it fits, 2 it fits once the loaded ones are gone (ORC-303).
// Only an idle worker loses its models.
func (s *search) dynamic(w *row, isCold bool) (fails uint32, tier int) {
	fails = w.fails
	if isCold {
		fails &^= 1 << slots
		var short int64
		tier, short = w.room(s.r.Model)
		fails |= bit(memory, short != 0 || w.pinned)
	}
	if most := s.r.Place.Spread; most > 0 && s.r.Session != ([16]byte{}) && s.v.spread[onNode{s.r.Session, w.Node}] >= most {
		fails |= 1 << spread
	}
	return fails, tier
}

// room returns the tier of loading a model on r, and how many bytes are missing for
// it: 0 none, −1 an unknown number. Exactly what is needed fits; what the node says of
// it now counts as well as the numbers.
func (r *row) room(model string) (tier int, short int64) {
	d, _ := r.disk(model)
	known := d.Need > 0 && r.VRAMTotal > 0
	fits := func(free uint64) bool { return d.Fits > 0 || known && d.Need <= free || d.Fits == 0 && !known }
	idle, free := r.ours+r.foreign == 0, r.VRAMFree
	tier = 1
	if len(r.Models) > 0 && (!r.Many || idle && !fits(free)) {
		if !idle {
			return 2, -1
		}
		tier, free = 2, free+r.VRAMUsed
	}
	switch {
	case fits(free):
		return tier, 0
	case known:
		return tier, int64(min(d.Need-free, 1<<62))
	}
	return tier, -1
}

// Binding says which filter keeps a request from being served, looking only at
// what load does not change: "" if some worker passes, "empty" without any worker,
// "node" if the pinned node is not known, "pin" if nothing is at the pinned place;
// else the last filter that some worker of the place reached and none passed. A
// model that is only outside the allowed regions is a matter of "region". Of a pin
// it also tells what it waits for: "online", "ready" or "draining" (ORC-247).
func Binding(v *View, r Request) string {
	if len(v.rows) == 0 {
		return "empty"
	}
	mode := r.Place.mode()
	m := v.static(&r, v.key(&r), mode == modePrefer && r.Place.NoFallback)
	if mode != modePin {
		if len(m.open) > 0 {
			return ""
		}
		return filters[m.binding.filter()].name
	}
	var why binding
	reached, node := -1, false
	for i, at := range m.fails {
		w := &v.rows[i]
		node = node || r.Place.Node == w.Node
		switch {
		case at&(1<<pin) != 0:
		case at&^cold != 0:
			why.add(at)
		case w.open():
			return ""
		default:
			reached = max(reached, first(w.fails&(1<<online|1<<ready|1<<draining)))
		}
	}
	switch {
	case reached >= 0:
		return filters[reached].name
	case r.Place.Node != "" && !node:
		return "node"
	case why == binding{}:
		return filters[pin].name
	}
	return filters[why.filter()].name
}

// binding finds the filter that keeps a request from being served.
type binding struct {
	static  int // furthest static filter that a worker reached and did not pass, plus 1
	warm    int // the same of the dynamic ones, of workers that have the model
	cold    int // and of those that would load it
	outside bool
}

func (b *binding) add(fails uint32) {
	at := first(fails)
	switch {
	case at < online:
		b.static = max(b.static, at+1)
		b.outside = b.outside || fails&^cold == 1<<region
	case fails&cold == 0:
		b.warm = max(b.warm, at+1)
	default:
		b.cold = max(b.cold, at+1)
	}
}

// filter returns the one to name: a worker that has the model and is not ready says
// more than one that has no memory for it.
func (b *binding) filter() int {
	switch {
	case b.warm > 0:
		return b.warm - 1
	case b.cold > 0:
		return b.cold - 1
	case b.outside && b.static-1 == model:
		return region
	}
	return b.static - 1
}
