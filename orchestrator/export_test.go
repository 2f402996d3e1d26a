package orchestrator

import (
	"context"
	"log/slog"
	"time"

	"github.com/llorch/llorch/audit"
	"github.com/llorch/llorch/orchestrator/internal/sched"
	"github.com/llorch/llorch/orchestrator/observe"
	"github.com/llorch/llorch/orchestrator/store"
)

// Stream opens the event log to its model test.
type Stream = stream

// Cursor opens a reader.
type Cursor = cursor

func NewStream(c Streams) *Stream { return newStream(c) }

func (s *Stream) Append(ctx context.Context, typ string, data []byte) (bool, error) {
	return s.append(ctx, typ, data)
}
func (s *Stream) Offer(data []byte) bool { return s.offer(data, time.Now()) }
func (c *Cursor) Behind() int {
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	return int(c.s.first + uint64(len(c.s.events)) - c.next)
}
func (s *Stream) Mute()                                   { s.mute() }
func (s *Stream) Last() uint64                            { return s.last() }
func (s *Stream) Size() int                               { return s.size() }
func (s *Stream) Subscribe(after uint64) (*Cursor, error) { return s.subscribe(after) }
func (c *Cursor) Read(ctx context.Context) (Event, error) { return c.read(ctx) }
func (c *Cursor) Close()                                  { c.close() }

// SealWith seals a box under the key of a subject.
func SealWith(k audit.SubjectKeys, subject string, id TaskID, ref store.SubjectRef, field string, plain []byte) ([]byte, error) {
	return sealer{k}.seal(context.Background(), subject, id, ref, field, plain)
}

// OpenWith opens a box.
func OpenWith(k audit.SubjectKeys, id TaskID, ref store.SubjectRef, field string, box []byte) ([]byte, error) {
	return sealer{k}.open(context.Background(), id, ref, field, box)
}

// ErrErased is what a box without a key answers.
var ErrErased = errErased

// AsAsked renames a frame's model.
func AsAsked(frame []byte, servedAs, model string) []byte { return asAsked(frame, servedAs, model) }

// RefOf returns the reference of a person.
func RefOf(o *Orchestrator, subject string) (store.SubjectRef, error) {
	return o.refs.ref(context.Background(), "subject", subject)
}

// NewAuditLog returns what records observed events.
func NewAuditLog(rec Recorder, log *slog.Logger) observe.Observer {
	return newAuditLog(rec, log).observer()
}

// NewWideLog returns what logs observed events.
func NewWideLog(log *slog.Logger) observe.Observer { return newWideLog(log) }

// MarkErasing stores the mark of an erasure and nothing else, like a crash after it.
func MarkErasing(o *Orchestrator, subject string) error {
	ref, err := RefOf(o, subject)
	if err != nil {
		return err
	}
	return o.saveErasure(context.Background(), ref, &erasure{Subject: o.refs.wrap([]byte(subject), erasureName(ref)), Reason: "request"})
}

// Learned returns what the core keeps over a restart.
func (o *Orchestrator) Learned() (text []byte) {
	o.loop.ask(func(c *sched.Core) { text, _ = c.Estimates() })
	return text
}

// Checks makes every check without effect.
func Checks(o *Orchestrator, p Principal, s Spec) []Check {
	out, _, _ := o.checks(context.Background(), p, s)
	return out
}

// Limits opens the rates of a tenant to their model test.
type Limits = limits

func (l *Limits) Set(p TenantPolicy, now time.Time)   { l.set(p, now) }
func (l *Limits) Request(now time.Time) time.Duration { return l.request(now) }
func (l *Limits) Reserve(n int, now time.Time) (taken int, wait time.Duration) {
	return l.reserve(n, now)
}
func (l *Limits) Settle(reserved, used int, now time.Time) { l.settle(reserved, used, now) }

// CommonRegions intersects two lists.
func CommonRegions(a, b []string) []string { return commonRegions(a, b) }
