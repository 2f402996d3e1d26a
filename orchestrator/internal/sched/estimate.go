package sched

import (
	"time"

	"github.com/llorch/llorch/orchestrator/placement"
)

// maxFigures bounds each table of what was learned (ORC-252).
const maxFigures = 4096

// figure is a mean and its deviation as in RFC 6298: each new value counts 1/8 in
// the mean and 1/4 in the deviation; the first one replaces what was assumed.
type figure struct {
	Mean, Dev int64
	Known     bool `json:",omitempty"` // learned, not assumed
}

func assumed(mean int64) figure { return figure{Mean: mean, Dev: mean / 2} }

func (f *figure) add(x int64) {
	x = max(0, x)
	if !f.Known {
		*f = figure{x, x / 2, true}
		return
	}
	f.Dev += (max(x-f.Mean, f.Mean-x) - f.Dev) / 4
	f.Mean += (x - f.Mean) / 8
}

// least is what hardly anything stays below.
func (f figure) least() int64 { return max(0, f.Mean-2*f.Dev) }

// times is the figure of n times the same.
func (f figure) times(n int64) figure {
	return figure{Mean: product(f.Mean, n), Dev: product(f.Dev, n)}
}

// speed is how fast one class of workers serves a model: the workers of one pool
// are alike.
type speed struct {
	Prefill  figure // ns per prompt token
	Decode   figure // ns per output token
	Overhead figure // ns before the first token, besides the prompt
	Load     figure // ns per MiB
}

type speedKey struct{ Model, Digest, Node, Pool string }

// shape is what the tasks of a model are like.
type shape struct {
	Output figure // milli-tokens that come out
	Said   figure // output as per mille of what the request had said
	Text   figure // milli-bytes of text that make a prompt token
}

// estimator holds what was learned. A changed version says that predictions change.
type estimator struct {
	speeds  *recent[speedKey, speed]
	shapes  *recent[string, shape]
	version uint64
}

func newEstimator() estimator {
	return estimator{speeds: newRecent[speedKey, speed](maxFigures), shapes: newRecent[string, shape](maxFigures)}
}

// learned is the estimator's state, each table the oldest entry first.
type learned struct {
	Speeds []item[speedKey, speed]
	Shapes []item[string, shape]
}

func (e *estimator) state() learned { return learned{e.speeds.all(), e.shapes.all()} }

// load replaces what was learned; entries above the bound push out the oldest.
func (e *estimator) load(s learned) {
	version := e.version + 1
	*e = newEstimator()
	e.version = version
	for _, x := range s.Speeds {
		e.speeds.put(x.Key, x.Value)
	}
	for _, x := range s.Shapes {
		e.shapes.put(x.Key, x.Value)
	}
}

func speedOf(model string, w *placement.Worker) speedKey {
	return speedKey{model, w.Digest, w.Node, w.Pool}
}

// speed returns what is known of a worker's class, else what the worker hints, else
// what is assumed; and the signals that are missing.
func (e *estimator) speed(model string, w *placement.Worker) (s speed, missing []string) {
	s, _ = e.speeds.get(speedOf(model, w))
	hints := placement.Hints(w)
	for _, x := range [...]struct {
		f    *figure
		mean int64
	}{{&s.Prefill, hints.PrefillNS}, {&s.Decode, hints.DecodeNS}, {&s.Overhead, hints.OverheadNS}, {&s.Load, hints.LoadNSPerMiB}} {
		if !x.f.Known {
			*x.f = assumed(x.mean)
		}
	}
	if w.TokensPerS <= 0 && !s.Decode.Known {
		missing = append(missing, "tokens_per_s")
	}
	if w.FirstToken <= 0 && !s.Overhead.Known && !s.Prefill.Known {
		missing = append(missing, "first_token")
	}
	return s, missing
}

// rates are what placement predicts with.
func (e *estimator) rates(model string, w *placement.Worker) placement.Rates {
	s, missing := e.speed(model, w)
	return placement.Rates{
		PrefillNS: s.Prefill.Mean, DecodeNS: s.Decode.Mean, OverheadNS: s.Overhead.Mean, LoadNSPerMiB: s.Load.Mean, Missing: missing,
	}
}

// longPrompt is the number of tokens from which the prompt, not the overhead,
// makes the time to the first token.
const longPrompt = 512

// run learns from an attempt that went well: it held its slot for so long.
func (e *estimator) run(t *task, w *placement.Worker, r Result, held time.Duration) {
	in, out := int64(max(r.TokensIn, 0)), int64(max(r.TokensOut, min(t.tokens, maxTokens)))
	if in == 0 {
		in = int64(max(0, t.Need.Prompt))
	}
	e.version++
	k := speedOf(t.Need.Model, w)
	s, _ := e.speeds.get(k)
	now, _ := e.speed(t.Need.Model, w)
	decode := int64(r.Decode)
	if r.First > 0 {
		if in >= longPrompt {
			s.Prefill.add((int64(r.First) - now.Overhead.Mean) / in)
		} else {
			s.Overhead.add(int64(r.First) - in*now.Prefill.Mean)
		}
	} else if decode == 0 {
		decode = int64(held) - now.Overhead.Mean - in*now.Prefill.Mean
	}
	if out > 1 && decode > 0 {
		s.Decode.add(decode / out)
	}
	e.speeds.put(k, s)
	x, _ := e.shapes.get(t.Need.Model)
	if out > 0 {
		x.Output.add(1000 * out)
	}
	if out > 0 && t.Need.Expected > 0 {
		x.Said.add(1000 * out / int64(t.Need.Expected))
	}
	if r.TokensIn > 0 && t.Text > 0 {
		x.Text.add(1000 * int64(t.Text) / int64(r.TokensIn))
	}
	e.shapes.put(t.Need.Model, x)
}

// loaded learns from a load of so many bytes.
func (e *estimator) loaded(model string, w *placement.Worker, bytes int64, took time.Duration) {
	mib := bytes >> 20
	if mib <= 0 {
		return
	}
	e.version++
	k := speedOf(model, w)
	s, _ := e.speeds.get(k)
	s.Load.add(int64(took) / mib)
	e.speeds.put(k, s)
}

// output predicts the tokens that a task puts out: what the request says, else the
// model's mean and one deviation, else 256; at most what it may. A known figure
// also has a deviation.
func (e *estimator) output(t *task) figure {
	limit := int64(t.MaxTokens)
	if limit <= 0 {
		limit = 1 << 20
	}
	switch x, _ := e.shapes.get(t.Need.Model); {
	case t.Need.Workload == "embedding" || t.Need.Workload == "rerank":
		return figure{Known: true}
	case t.Need.Expected > 0:
		said := min(limit, int64(t.Need.Expected))
		return figure{Mean: said, Dev: said * min(1000, x.Said.Dev) / 1000, Known: true}
	case x.Output.Known:
		return figure{min(limit, (x.Output.Mean+x.Output.Dev+999)/1000), x.Output.Dev / 1000, true}
	}
	return assumed(min(limit, 256))
}

// startText is how many milli-bytes of text are assumed to make a token.
const startText = 3600

// BytesPerToken returns how many milli-bytes of text make a prompt token of a model.
func (c *Core) BytesPerToken(model string) int64 {
	if x, _ := c.est.shapes.get(model); x.Text.Known && x.Text.Mean > 0 {
		return x.Text.Mean
	}
	return startText
}

// learn takes what an attempt that went well tells.
func (c *Core) learn(now Instant, t *task, r Result) {
	held := time.Duration(now - t.began)
	c.service.add(held)
	if w, ok := c.view.Find(t.worker); ok {
		c.est.run(t, w, r, held)
	}
}

// estimate is a mean of times with the weight 1/8 for each new one; it starts at
// two seconds. It stands in where no worker is known.
type estimate struct{ mean time.Duration }

const startMean = 2 * time.Second

func (e *estimate) add(d time.Duration) { e.mean = e.value() + (max(0, d)-e.value())/8 }

func (e *estimate) value() time.Duration {
	if e.mean == 0 {
		return startMean
	}
	return e.mean
}
