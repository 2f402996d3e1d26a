package workertest

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"math/rand/v2"
	"net/http"
	"time"

	"github.com/llorch/llorch/orchestrator/worker"
)

const maxBody = 8 << 20

// job is one request for work on its way through the engine.
type job struct {
	e      *Engine
	w      http.ResponseWriter
	rc     *http.ResponseController
	ctx    context.Context // the client's presence, unless ignore-cancel
	req    *Request
	plan   plan
	p      *params
	tokens []string
	finish string
	rng    *rand.Rand
	out    *wire
	again  bool // the next frame is sent twice

	cached       int // tokens of the prompt that were not computed
	began, first time.Time
}

// generate serves the routes of work.
func (e *Engine) generate(w http.ResponseWriter, r *http.Request, kind worker.Kind) {
	req := e.book.arrive(r.Header.Get("Idempotency-Key"), r.Header.Get("X-Correlation-Id"), r.URL.Path)
	j := &job{e: e, w: w, rc: http.NewResponseController(w), ctx: r.Context(), req: req}
	j.rng = rand.New(rand.NewPCG(uint64(e.cfg.Seed), uint64(req.Number)))
	held := false
	outcome, status := Broken, 0
	defer func() { // also when a fault aborts the handler by panic
		if held {
			e.slots.release(j.blocks())
		}
		e.book.end(req, outcome, status)
	}()
	outcome, status = j.prepare(r, kind)
	if outcome != Running {
		return
	}
	outcome = Broken
	switch err := e.slots.acquire(j.ctx, e.stop, j.blocks()); {
	case errors.Is(err, errBusy):
		outcome, status = Refused, e.busy()
		fail(w, status, "no slot available")
		return
	case err != nil:
		outcome = j.left()
		return
	}
	held = true
	e.book.start(req)
	outcome = j.run()
}

// prepare does all that needs no slot. Running means: go on.
func (j *job) prepare(r *http.Request, kind worker.Kind) (Outcome, int) {
	e, w := j.e, j.w
	faults, err := e.planFor(r, j.req.Number, j.rng)
	if err != nil {
		fail(w, http.StatusBadRequest, err.Error())
		return Refused, http.StatusBadRequest
	}
	j.plan = faults
	if j.plan.has("ignore-cancel") {
		j.ctx = context.WithoutCancel(j.ctx)
	}
	// The body is read before anything is answered: only then does the server
	// notice that the client went away.
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		if _, large := errors.AsType[*http.MaxBytesError](err); large {
			fail(w, http.StatusRequestEntityTooLarge, "the body is too large")
			return Refused, http.StatusRequestEntityTooLarge
		}
		return Cancelled, 0
	}
	if outcome, status := j.before(); outcome != Running {
		return outcome, status
	}
	if status, msg := e.admit(r); status != 0 {
		fail(w, status, msg)
		return Refused, status
	}
	if j.p, err = parseParams(body, kind, &e.cfg); err != nil {
		fail(w, http.StatusBadRequest, err.Error())
		return Refused, http.StatusBadRequest
	}
	if !e.serves(j.p.Model) {
		fail(w, http.StatusNotFound, "the model does not exist")
		return Refused, http.StatusNotFound
	}
	if !j.p.single() {
		j.tokens, j.finish = answer(&e.cfg, j.p)
	}
	return Running, 0
}

// blocks is the KV memory that the job takes.
func (j *job) blocks() int { return blocks(countTokens(j.p.prompt) + len(j.tokens)) }

// run produces the answer in a slot.
func (j *job) run() Outcome {
	if f, ok := j.plan.get("slow-headers"); ok && !j.pause(f, f.duration()) {
		return j.left()
	}
	j.out = newWire(j)
	if j.p.Stream {
		j.out.header("text/event-stream")
	}
	j.cached = j.e.prompts.cached(j.p.prompt)
	j.began = time.Now()
	wait := j.e.latency.first(countTokens(j.p.prompt)-j.cached, j.rng)
	if f, ok := j.plan.get("slow-start"); ok {
		j.e.book.fault(j.req, f)
		wait += f.duration()
	}
	if !j.e.sleep(j.ctx, wait) {
		return j.left()
	}
	j.first = time.Now()
	j.e.prompts.computed(j.p.prompt)
	if j.p.Stream {
		return j.stream()
	}
	return j.whole()
}

// each goes through the tokens at the engine's pace; send is called for each
// and gets what a fault left of it. Running means: all were sent.
func (j *job) each(send func(i int, text string) bool) Outcome {
	for i := 0; ; i++ {
		if o := j.strike(i); o != Running {
			return o
		}
		if i >= len(j.tokens) && (!j.plan.has("endless") || len(j.tokens) == 0) {
			return Running
		}
		if i > 0 {
			batch, _ := j.e.slots.load()
			if !j.e.sleep(j.ctx, j.e.latency.next(batch, j.rng)) {
				return j.left()
			}
		}
		text := j.tokens[i%len(j.tokens)]
		if !send(i, text) && !j.plan.has("ignore-cancel") {
			return j.left()
		}
		j.e.book.token(j.req, text)
	}
}

// left tells why a job could not go on.
func (j *job) left() Outcome {
	select {
	case <-j.e.stop:
		return Broken
	default:
		return Cancelled
	}
}

// stream sends the answer as events.
func (j *job) stream() Outcome {
	if j.p.chat() {
		j.out.frame(j.chunk(`{"role":"assistant","content":null}`, ""))
	}
	o := j.each(func(_ int, text string) bool {
		c := j.chunk(j.content(text), "")
		if j.again {
			j.again = false
			j.out.frame(c)
		}
		return j.out.frame(c)
	})
	if o != Running {
		return o
	}
	if j.p.chat() {
		j.out.frame(j.chunk(`{}`, j.finish))
	} else {
		j.out.frame(j.chunk(`""`, j.finish))
	}
	if j.p.wantsUsage() {
		j.out.frame(j.envelope("choices", `[]`, true))
	}
	sent := true
	if !j.hit("no-done") {
		sent = j.out.frame([]byte("[DONE]"))
	}
	if j.hit("after-done") {
		for range 3 {
			j.out.frame(j.chunk(j.content(" late"), ""))
		}
	}
	if !sent && !j.plan.has("ignore-cancel") {
		return j.left()
	}
	return Finished
}

// whole sends the answer as one document.
func (j *job) whole() Outcome {
	text := ""
	if o := j.each(func(_ int, t string) bool { text += t; return true }); o != Running {
		return o
	}
	quoted := j.out.quote(text)
	choice := `{"index":0,"text":` + quoted
	if j.p.chat() {
		choice = `{"index":0,"message":{"role":"assistant","content":` + quoted + `}`
	}
	doc := j.envelope("choices", `[`+choice+`,"finish_reason":"`+j.finish+`"}]`, true)
	if j.p.single() {
		doc = j.single()
	}
	j.out.header("application/json")
	if !j.out.bytes(doc) && !j.plan.has("ignore-cancel") {
		return j.left()
	}
	return Finished
}

// single is the document of an embedding or a reranking.
func (j *job) single() []byte {
	var list []any
	query := vector(&j.e.cfg, j.p.Query)
	for i, text := range j.p.inputs {
		v := vector(&j.e.cfg, text)
		if j.p.kind == worker.Embedding {
			list = append(list, map[string]any{"object": "embedding", "index": i, "embedding": v})
			continue
		}
		score := 0.0
		for k := range v {
			score += v[k] * query[k] / vectorSize
		}
		list = append(list, map[string]any{"index": i, "relevance_score": score})
	}
	name := "data"
	if j.p.kind == worker.Rerank {
		name = "results"
	}
	b, err := json.Marshal(list)
	if err != nil {
		panic("workertest: a list that does not marshal")
	}
	return j.envelope(name, string(b), true)
}

// pause waits because of a fault.
func (j *job) pause(f Fault, d time.Duration) bool {
	j.e.book.fault(j.req, f)
	return j.e.sleep(j.ctx, d)
}
