package worker

import (
	"encoding/json"
	"io"
	"sync"
)

// result is the answer to a job that does not stream: one event, then Done.
type result struct {
	*call
	limit int64
	cut   func(Usage) bool
	ready []Event
	err   error
	once  sync.Once
}

// Next implements [Stream].
func (r *result) Next() (Event, error) {
	if r.err == nil && r.ready == nil {
		if err := r.read(); err != nil {
			r.err = err
			r.close()
		}
	}
	if len(r.ready) == 0 {
		return Event{}, r.err
	}
	e := r.ready[0]
	r.ready = r.ready[1:]
	return e, nil
}

// read takes the whole body and looks for what it cost.
func (r *result) read() error {
	body, err := io.ReadAll(io.LimitReader(r.resp.Body, r.limit+1))
	if err != nil {
		return r.explain(err)
	}
	if over := r.over(); over != nil {
		return over
	}
	if int64(len(body)) > r.limit {
		return r.explain(errTooMuch)
	}
	var w wireChunk
	if json.Unmarshal(body, &w) != nil {
		return &Failure{Class: Protocol, Reason: "the answer is not the JSON we expect"}
	}
	if present(w.Error) {
		return &Failure{Class: Server, Reason: "the engine reported an error inside its answer"}
	}
	done := Event{Kind: Done, Usage: Usage{Estimated: true}, Timings: readTimings(w.Timings)}
	if u := w.Usage.usage(); u != nil {
		done.Usage = *u
	}
	done.Truncated = r.cut(done.Usage)
	for _, c := range w.Choices {
		if c.FinishReason != "" {
			done.FinishReason = plainWord(c.FinishReason, "other")
		}
	}
	r.ready = []Event{{Kind: Result, Raw: body, ContentType: r.resp.Header.Get("Content-Type")}, done}
	r.err = io.EOF
	return nil
}

// Close implements [Stream]. It may be called while Next waits.
func (r *result) Close() error {
	r.once.Do(r.close)
	return nil
}
