package workertest

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/llorch/llorch/orchestrator/worker"
	"github.com/llorch/llorch/orchestrator/worker/sse"
)

// wire writes an answer, whole or in the pieces that a fault makes of it.
type wire struct {
	j       *job
	piece   int           // bytes per write; 0 = all at once
	trickle time.Duration // pause after each piece
	sent    bool

	before, after, later string // raw bytes around this text, and before the next
}

func newWire(j *job) *wire {
	o := &wire{j: j}
	if j.hit("split") {
		o.piece = 1
	}
	if f, ok := j.plan.get("trickle"); ok {
		j.e.book.fault(j.req, f)
		o.piece, o.trickle = 16, f.duration()
	}
	return o
}

// header sends status 200.
func (o *wire) header(contentType string) {
	if o.sent {
		return
	}
	o.sent = true
	if o.j.hit("content-type") {
		contentType = "text/html"
	}
	h := o.j.w.Header()
	h.Set("Content-Type", contentType)
	h.Set("Cache-Control", "no-cache")
	o.j.w.WriteHeader(200)
	_ = o.j.rc.Flush()
}

// frame sends one event; false if the client is gone.
func (o *wire) frame(data []byte) bool {
	return o.bytes(sse.AppendFrame(nil, sse.Frame{Data: data}))
}

// bytes sends b; false if the client is gone.
func (o *wire) bytes(b []byte) bool {
	size := o.piece
	if size == 0 {
		size = max(len(b), 1)
	}
	for len(b) > 0 {
		n := min(size, len(b))
		if _, err := o.j.w.Write(b[:n]); err != nil {
			return false
		}
		if err := o.j.rc.Flush(); err != nil {
			return false
		}
		b = b[n:]
		if o.trickle > 0 && !o.j.e.sleep(o.j.ctx, o.trickle) {
			return false
		}
	}
	return o.j.ctx.Err() == nil
}

// quote writes text as a JSON string, with the bytes that a fault puts in.
func (o *wire) quote(text string) string {
	b, err := json.Marshal(text)
	if err != nil {
		panic("workertest: a string that does not marshal")
	}
	s := `"` + o.before + string(b[1:len(b)-1]) + o.after + `"`
	o.before, o.after, o.later = o.later, "", ""
	return s
}

// spoil makes the end of the next text no UTF-8; if cut, the rest of the rune
// is at the start of the text after it.
func (o *wire) spoil(cut bool) {
	o.after = "\xff"
	if cut {
		o.after, o.later = "\xe8\xaa", "\x9e"
	}
}

// content is text as a frame of the job's route carries it.
func (j *job) content(text string) string {
	if j.p.chat() {
		return `{"content":` + j.out.quote(text) + `}`
	}
	return j.out.quote(text)
}

// chunk is the document of one frame.
func (j *job) chunk(content, finish string) []byte {
	reason := "null"
	if finish != "" {
		reason = `"` + finish + `"`
	}
	name := "text"
	if j.p.chat() {
		name = "delta"
	}
	return j.envelope("choices", fmt.Sprintf(`[{"index":0,"%s":%s,"finish_reason":%s}]`, name, content, reason), false)
}

// object is what a document of the answer calls itself.
func (j *job) object() string {
	switch {
	case j.p.single():
		return "list"
	case j.p.chat() && j.p.Stream:
		return "chat.completion.chunk"
	case j.p.chat():
		return "chat.completion"
	}
	return "text_completion"
}

// envelope is what all documents of an answer have around their choices, or
// what they are called. llama.cpp tells what it measured beside the usage.
func (j *job) envelope(name, list string, usage bool) []byte {
	model, err := json.Marshal(j.e.cfg.Alias)
	if err != nil {
		panic("workertest: a string that does not marshal")
	}
	b := fmt.Appendf(nil, `{"id":"sim-%d","object":"%s","created":%d,"model":%s,"%s":%s`, j.req.Number, j.object(), j.e.born.Unix(), model, name, list)
	if usage {
		in, out := countTokens(j.p.prompt), len(j.tokens)
		b = fmt.Appendf(b, `,"usage":{"prompt_tokens":%d,"completion_tokens":%d,"total_tokens":%d}`, in, out, in+out)
		if j.e.cfg.Flavour == worker.LlamaCPP && !j.p.single() {
			ms := func(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
			b = fmt.Appendf(b, `,"timings":{"cache_n":%d,"prompt_n":%d,"prompt_ms":%.3f,"predicted_n":%d,"predicted_ms":%.3f}`,
				j.cached, in-j.cached, ms(j.first.Sub(j.began)), out, ms(time.Since(j.first)))
		}
	}
	return append(b, '}')
}
