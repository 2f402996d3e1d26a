package workertest

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"math/rand/v2"
	"strings"
)

// words are short and none is the start of another; some are not ASCII, so that
// every place where bytes can be cut is met.
const words = "a and are as at be but by café can do for from gpu has how if in is it its llama model not of on one or 語 out queue small so stream task that the then they this to token 🦙 über was we what when which who will with words work you zero"

// generator draws the words of one answer.
type generator struct {
	rng   *rand.Rand
	words []string
	first bool
}

// newGenerator seeds a generator with everything that determines the text.
func newGenerator(cfg *Config, p *params) *generator {
	h := sha256.New()
	enc := json.NewEncoder(h) // one line each, so no two lists of parts read alike
	for _, part := range []any{cfg.Model, cfg.Version, p.seed(cfg.Seed), p.prompt, p.Temperature, p.TopP, p.TopK, p.RepetitionPenalty, p.RepeatPenalty} {
		if err := enc.Encode(part); err != nil {
			panic("workertest: a parameter that does not encode")
		}
	}
	sum := h.Sum(nil)
	rng := rand.New(rand.NewPCG(binary.LittleEndian.Uint64(sum), binary.LittleEndian.Uint64(sum[8:])))
	return &generator{rng: rng, words: strings.Fields(words), first: true}
}

// next returns one token.
func (g *generator) next() string {
	w := g.words[g.rng.IntN(len(g.words))]
	if g.first {
		g.first = false
		return w
	}
	return " " + w
}

// answer returns all tokens of an answer and why it ends.
func answer(cfg *Config, p *params) (tokens []string, finish string) {
	g := newGenerator(cfg, p)
	natural := 16 + g.rng.IntN(112)
	if cfg.Tokens > 0 {
		natural = cfg.Tokens
	}
	limit := p.limit(cfg.Ctx)
	n, finish := natural, "stop"
	if natural > limit || p.IgnoreEOS {
		n, finish = limit, "length"
	}
	length := 0
	for range n {
		t := g.next()
		tokens = append(tokens, t)
		length += len(t)
	}
	if cut := p.stopAt(tokens); cut >= 0 && cut < length {
		return cutAt(tokens, cut), "stop"
	}
	return tokens, finish
}

// stopAt returns the offset of the first stop string, -1 if there is none.
func (p *params) stopAt(tokens []string) int {
	first := -1
	if len(p.stop) == 0 {
		return first
	}
	text := strings.Join(tokens, "")
	for _, s := range p.stop {
		if i := strings.Index(text, s); s != "" && i >= 0 && (first < 0 || i < first) {
			first = i
		}
	}
	return first
}

// cutAt keeps the first n bytes.
func cutAt(tokens []string, n int) []string {
	for i, t := range tokens {
		if n <= len(t) {
			tokens = tokens[:i+1]
			tokens[i] = t[:n]
			if n == 0 {
				tokens = tokens[:i]
			}
			return tokens
		}
		n -= len(t)
	}
	return tokens
}

// countTokens is the engine's idea of the length of a text.
func countTokens(text string) int { return max(1, (len(text)+3)/4) }
