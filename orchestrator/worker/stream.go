package worker

import (
	"bytes"
	"errors"
	"io"
	"sync"
	"sync/atomic"

	"github.com/llorch/llorch/orchestrator/worker/sse"
)

var (
	errTooMuch = errors.New("worker: answer above its limit")
	errClosed  = &Failure{Class: Reset, Reason: "the stream was closed"}
)

// stream is the answer to a job that streams.
type stream struct {
	*call
	d         *Dialer
	body      *meter
	dec       *sse.Decoder
	raw       bool
	wantUsage bool
	maxTokens int

	text      sse.UTF8
	textBytes int
	tokens    int
	finish    string
	usage     *Usage
	timings   Timings
	cut       func(Usage) bool
	ready     []Event // to be returned before anything is read; at most two
	err       error   // what Next returns from now on

	complete atomic.Bool // the engine said all; only Close reads on
	once     sync.Once
}

func newStream(d *Dialer, c *call, t Target, j *Job) *stream {
	m := &meter{call: c, r: c.resp.Body, left: wireLimit(j)}
	return &stream{
		call: c, d: d, body: m, dec: sse.NewDecoder(m, sse.Limits{}),
		raw: j.Raw != nil, wantUsage: j.WantUsage, maxTokens: j.maxTokens(), cut: j.cutBy(t),
	}
}

// Next implements [Stream].
func (s *stream) Next() (Event, error) {
	for {
		if len(s.ready) > 0 {
			e := s.ready[0]
			s.ready = s.ready[1:]
			return e, nil
		}
		if s.err != nil {
			return Event{}, s.err
		}
		if over := s.over(); over != nil {
			return s.fail(over)
		}
		f, err := s.dec.Next()
		switch {
		case err == io.EOF && s.finish != "": // some engines leave [DONE] out
			s.end()
		case err != nil:
			return s.fail(s.explain(err))
		case string(f.Data) == "[DONE]":
			s.end()
		default:
			e, ok, err := s.take(f)
			if err != nil {
				return s.fail(err)
			}
			if ok {
				return e, nil
			}
		}
	}
}

// take makes of one frame an event, or nothing.
func (s *stream) take(f sse.Frame) (Event, bool, error) {
	c, err := parseChunk(f)
	if err != nil {
		return Event{}, false, err
	}
	if c.usage != nil {
		s.usage = c.usage
	}
	if c.timings != (Timings{}) {
		s.timings = c.timings
	}
	if c.finish != "" {
		s.finish = c.finish
	}
	if err := s.count(c); err != nil {
		return Event{}, false, err
	}
	before := s.text.Replaced()
	text := string(s.text.Append(nil, c.text))
	s.d.bad.Add(uint64(s.text.Replaced() - before))
	e := Event{Kind: Frame, Text: text}
	if text != "" {
		e.Kind = Token
	}
	if !s.raw {
		return e, e.Kind == Token, nil
	}
	if c.choices == 0 && c.usage != nil && !s.wantUsage {
		return Event{}, false, nil
	}
	e.Raw = bytes.Clone(f.Data)
	return e, true, nil
}

// count keeps the limits and moves from the first-token clock to the idle one.
func (s *stream) count(c chunk) error {
	if c.deltas == 0 {
		return nil
	}
	if s.tokens == 0 {
		s.first.Stop()
		s.body.patient = true
	}
	s.tokens += c.deltas
	s.textBytes += len(c.text)
	if s.tokens > s.maxTokens+tokenSlack || s.textBytes > s.maxTokens*textPerToken+wireSlack {
		return &Failure{Class: Protocol, Reason: "the answer is larger than its limit"}
	}
	return nil
}

// end queues the last events of a complete answer.
func (s *stream) end() {
	if rest := s.text.Flush(nil); len(rest) > 0 {
		s.d.bad.Add(uint64(len(rest) / len("\ufffd")))
		if !s.raw {
			s.ready = append(s.ready, Event{Kind: Token, Text: string(rest)})
		}
	}
	done := Event{Kind: Done, FinishReason: s.finish, Usage: Usage{Out: s.tokens, Estimated: true}, Timings: s.timings}
	if s.usage != nil {
		done.Usage = *s.usage
	}
	done.Truncated = s.cut(done.Usage)
	s.ready, s.err = append(s.ready, done), io.EOF
	s.complete.Store(true)
}

// fail ends the stream and, at once, the engine's work.
func (s *stream) fail(err error) (Event, error) {
	s.err = err
	s.close()
	return Event{}, err
}

// Close implements [Stream]. It may be called while Next waits.
func (s *stream) Close() error {
	s.once.Do(func() {
		if s.complete.Load() {
			s.rest()
		}
		s.close()
	})
	return nil
}

// rest counts what comes after the end and leaves the connection fit for use.
func (s *stream) rest() {
	s.body.left, s.body.patient = drainBytes, false
	defer s.clock(drainTime, "").Stop()
	for {
		if _, err := s.dec.Next(); err != nil {
			return
		}
		s.d.late.Add(1)
	}
}

// meter bounds the bytes of a body, and after the first token the silence
// between them. A consumer that takes its time is not silence.
type meter struct {
	*call
	r       io.Reader
	left    int64
	patient bool
}

func (m *meter) Read(p []byte) (int, error) {
	if m.left <= 0 {
		return 0, errTooMuch
	}
	if m.patient {
		if m.idle == nil {
			m.idle = m.clock(m.wait, "the engine fell silent")
		} else {
			m.idle.Reset(m.wait)
		}
		defer m.idle.Stop()
	}
	n, err := m.r.Read(p[:min(int64(len(p)), m.left)])
	m.left -= int64(n)
	return n, err
}

var _ io.Reader = (*meter)(nil)
