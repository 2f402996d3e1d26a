package handoff

import (
	"cmp"
	"crypto/sha256"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/llorch/llorch/inputvalidation"
	"github.com/llorch/llorch/poolregistry"
)

// reportAfter is the number of ticks in a row for which a file may be unreadable
// before anybody hears of it: writers without a rename take a while.
const reportAfter = 3

// sighting is what one tick saw of one file: a binding or an error.
type sighting struct {
	name    string
	mod     time.Time
	hash    [sha256.Size]byte
	binding Binding
	err     *Error
}

// place is what at most one file binds at a time.
type place struct {
	pool    poolregistry.PoolID
	replica string
}

func placeOf(b Binding) place { return place{b.Pool, b.Replica} }

func (p place) compare(q place) int {
	return cmp.Or(cmp.Compare(p.pool, q.pool), cmp.Compare(p.replica, q.replica))
}

// claim is a content that was believed, and the file that holds or held it.
type claim struct {
	name    string
	mod     time.Time
	hash    [sha256.Size]byte
	binding Binding
	taken   bool // the watcher itself removed the file; the claim stands without it
}

// beats reports whether c wins the place against d: the newer file, then the
// larger name.
func (c claim) beats(d claim) bool {
	return cmp.Or(c.mod.Compare(d.mod), cmp.Compare(c.name, d.name)) > 0
}

// known is what is remembered of a file while it is there.
type known struct {
	claim    *claim // the last content that was believed
	bad      int    // ticks in a row in which it was unreadable
	reported *reported
}

// reported is the fault that was told last; a file is rejected once per content.
type reported struct {
	hash [sha256.Size]byte
	err  Error
}

// plan is the watcher's memory. Its only method that decides, step, is pure but
// for that memory: no clock, no file.
type plan struct {
	files  map[string]*known
	bound  map[place]claim
	losers map[string]string // file → the file that beat it
}

func newPlan() *plan {
	return &plan{files: map[string]*known{}, bound: map[place]claim{}, losers: map[string]string{}}
}

// step takes everything that one tick saw and returns what changed: faults of files
// by name, then places by id, unbound ones first.
func (p *plan) step(seen []sighting) []Event {
	slices.SortFunc(seen, func(a, b sighting) int { return cmp.Compare(a.name, b.name) })
	var events []Event
	files := map[string]*known{}
	for _, s := range seen {
		k := p.files[s.name]
		if k == nil {
			k = &known{}
		}
		if fault := k.see(s); fault != nil {
			events = append(events, Event{Kind: fault.kind(), File: shown(s.name), Err: fault})
		}
		files[s.name] = k
	}
	p.files = files
	winners, duplicates := p.contest()
	return slices.Concat(events, duplicates, p.settle(winners))
}

// see updates what is known of a file; it returns a fault that is news.
func (k *known) see(s sighting) *Error {
	if s.err == nil {
		*k = known{claim: &claim{name: s.name, mod: s.mod, hash: s.hash, binding: s.binding}}
		return nil
	}
	if errors.Is(s.err, Unreadable) {
		k.bad++ // what was read before stays in force
		if k.bad == reportAfter {
			return s.err
		}
		return nil
	}
	k.bad = 0
	if errors.Is(s.err, Refused) {
		k.claim = nil // no such file, as far as anybody here is concerned
	}
	if now := (reported{s.hash, *s.err}); k.reported == nil || *k.reported != now {
		k.reported = &now
		return s.err
	}
	return nil
}

// contest finds the winner of each place and tells of files that lose for the
// first time.
func (p *plan) contest() (winners map[place]claim, news []Event) {
	winners = map[place]claim{}
	for at, c := range p.bound {
		if c.taken && !p.holds(c.name, at) {
			winners[at] = c
		}
	}
	names := slices.Sorted(maps.Keys(p.files))
	for _, name := range names {
		c := p.files[name].claim
		if c == nil {
			continue
		}
		at := placeOf(c.binding)
		if best, ok := winners[at]; !ok || c.beats(best) {
			winners[at] = *c
		}
	}
	losers := map[string]string{}
	for _, name := range names {
		c := p.files[name].claim
		if c == nil {
			continue
		}
		winner := winners[placeOf(c.binding)]
		if winner.name == name {
			continue
		}
		losers[name] = winner.name
		if p.losers[name] != winner.name {
			news = append(news, Event{Kind: Duplicate, File: shown(name), Winner: shown(winner.name), Binding: c.binding})
		}
	}
	p.losers = losers
	return winners, news
}

// holds reports whether the file is there and claims the place: then it speaks for
// itself, whatever was taken under its name before.
func (p *plan) holds(name string, at place) bool {
	k := p.files[name]
	return k != nil && k.claim != nil && placeOf(k.claim.binding) == at
}

// settle compares the winners with what is bound.
func (p *plan) settle(winners map[place]claim) []Event {
	var gone, came []Event
	for _, at := range slices.SortedFunc(maps.Keys(p.bound), place.compare) {
		if _, ok := winners[at]; !ok {
			old := p.bound[at]
			gone = append(gone, Event{Kind: Unbound, File: shown(old.name), Binding: old.binding})
		}
	}
	for _, at := range slices.SortedFunc(maps.Keys(winners), place.compare) {
		now := winners[at]
		switch old, was := p.bound[at]; {
		case !was:
			came = append(came, Event{Kind: Bound, File: shown(now.name), Binding: now.binding})
		case old.hash != now.hash:
			came = append(came, Event{Kind: Rebound, File: shown(now.name), Binding: now.binding})
		}
	}
	p.bound = winners
	return append(gone, came...)
}

// untaken returns the claims whose files are still there, by place.
func (p *plan) untaken() []claim {
	var out []claim
	for _, at := range slices.SortedFunc(maps.Keys(p.bound), place.compare) {
		if c := p.bound[at]; !c.taken {
			out = append(out, c)
		}
	}
	return out
}

// took notes that the watcher removed the file of c.
func (p *plan) took(c claim) {
	c.taken = true
	p.bound[placeOf(c.binding)] = c
}

// shown makes a file's name fit for logs.
func shown(name string) string { return inputvalidation.EscapeMax(name, 255) }
