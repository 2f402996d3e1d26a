package workertest

import (
	"encoding/binary"
	"hash/fnv"
	"sync"
)

// blockTokens is how many tokens one block of KV memory holds.
const blockTokens = 16

// blocks is the KV memory that so many tokens take.
func blocks(tokens int) int { return (tokens + blockTokens - 1) / blockTokens }

// prefixes remembers the blocks of prompts that were computed. It keeps at most
// size of them, in two halves: when the young half is full the old one goes.
type prefixes struct {
	size int

	mu         sync.Mutex
	young, old map[uint64]struct{}
}

// each calls f for every whole block of a prompt, with a sum over all up to it.
func (p *prefixes) each(prompt string, f func(sum uint64)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	const bytes = 4 * blockTokens // see countTokens
	h := fnv.New64a()
	for at := 0; at+bytes <= len(prompt); at += bytes {
		_, _ = h.Write([]byte(prompt[at : at+bytes])) // never fails
		f(h.Sum64())
	}
}

// cached returns how many of a prompt's tokens need no computing; one always does.
func (p *prefixes) cached(prompt string) int {
	hits, known := 0, true
	p.each(prompt, func(sum uint64) {
		if known = known && p.knownLocked(sum); known {
			hits++
		}
	})
	return min(hits*blockTokens, countTokens(prompt)-1)
}

// computed remembers a prompt.
func (p *prefixes) computed(prompt string) { p.each(prompt, p.addLocked) }

func (p *prefixes) knownLocked(block uint64) bool {
	_, young := p.young[block]
	_, old := p.old[block]
	return young || old
}

func (p *prefixes) addLocked(block uint64) {
	if p.young == nil {
		p.young = map[uint64]struct{}{}
	}
	if p.young[block] = struct{}{}; len(p.young) > p.size/2 {
		p.young, p.old = nil, p.young
	}
}

// vectorSize is the length of an embedding.
const vectorSize = 8

// vector is the embedding of a text: a pure function of model, version and text,
// with members from -1 to 1.
func vector(cfg *Config, text string) [vectorSize]float64 {
	var v [vectorSize]float64
	for i := range v {
		h := fnv.New64a()
		for _, part := range []string{cfg.Model, cfg.Version, text} {
			_, _ = h.Write(binary.AppendUvarint(nil, uint64(len(part))))
			_, _ = h.Write([]byte(part))
		}
		_, _ = h.Write([]byte{byte(i)})
		v[i] = float64(int32(h.Sum64()>>32)) / (1 << 31)
	}
	return v
}
