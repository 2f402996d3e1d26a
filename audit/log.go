package audit

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strconv"
	"sync"
	"time"

	"github.com/llorch/llorch/audit/internal/vfs"
)

// Log is an open audit log. All methods are safe for concurrent use. A nil
// *Log behaves as a disabled one.
type Log struct {
	types   *registry
	service string
	q       *queue
	w       *writer
	health  *health
	ended   chan struct{} // closed when the writer has returned

	closing sync.Once
}

// Receipt says which record an event became. The zero Receipt is that of a
// disabled log.
type Receipt struct {
	Seq  uint64
	ID   string // UUIDv7
	At   time.Time
	Hash [32]byte // chain hash of the stored line
}

// Ticket stands for an emitted event on its way to the disk. The zero Ticket
// is that of a disabled log.
type Ticket struct {
	log *Log
	e   *entry
	err error
}

// Open locks the directory, repairs what a crash has left, and writes
// audit.started. It owns a goroutine until Close. Its errors are FieldErrors,
// all at once, [ErrLocked], [ErrUnsafePath], a [*TamperError], or that of the
// disk; elsewhere than on Linux, macOS and FreeBSD it is
// [errors.ErrUnsupported].
//
// ctx bounds only the opening.
func Open(ctx context.Context, c Config) (*Log, error) {
	types, faults := newRegistry(c.Types)
	if c.Disabled {
		return &Log{}, errors.Join(faults...)
	}
	if err := errors.Join(append(faults, c.settle())...); err != nil {
		return nil, err
	}
	fsys, err := vfs.OS(c.Dir)
	if err != nil {
		return nil, err
	}
	return open(ctx, &c, types, fsys)
}

// open is Open over a given file system, which it takes over.
func open(ctx context.Context, c *Config, types *registry, fsys vfs.FS) (*Log, error) {
	l := &Log{types: types, service: c.Service, q: newQueue(c), health: newHealth(), ended: make(chan struct{})}
	l.w = newWriter(c, fsys, l.q, l.health)
	if err := l.w.start(ctx); err != nil {
		return nil, errors.Join(err, l.w.release())
	}
	go func() {
		defer close(l.ended)
		l.w.run()
	}()
	return l, nil
}

func (l *Log) disabled() bool { return l == nil || l.q == nil }

// Emit takes an event in and returns without waiting for the disk. A nil error
// means queued: the event will be recorded, or counted in a gap record. A
// routine event without room is [ErrDropped] at once; a critical one waits at
// most MaxWait, or until ctx ends, and is then [ErrQueueFull] or
// [ErrUnavailable]. A [*FieldError] tells what is wrong with the event itself.
func (l *Log) Emit(ctx context.Context, e Event) (Ticket, error) {
	return l.emit(ctx, e, false)
}

// Append records an event and returns when its line is on stable storage. On
// an error the event is not known to be durable: do not do what it announces.
func (l *Log) Append(ctx context.Context, e Event) (Receipt, error) {
	t, err := l.emit(ctx, e, true)
	if err != nil {
		return Receipt{}, err
	}
	return t.Wait(ctx)
}

func (l *Log) emit(ctx context.Context, given Event, wanted bool) (Ticket, error) {
	if l.disabled() {
		return Ticket{}, nil
	}
	ev := new(Event) // given itself must not escape: a disabled log allocates nothing
	*ev = given
	d, err := l.types.match(ev)
	var e *entry
	if err == nil {
		e, err = newEntry(d, ev, l.service, time.Now())
	}
	if err != nil {
		l.q.countInvalid()
		return Ticket{err: err}, err
	}
	e.wanted = wanted
	if err := l.q.put(ctx, e); err != nil {
		err = fmt.Errorf("emit %s: %w", e.typ, err)
		return Ticket{err: err}, err
	}
	return Ticket{log: l, e: e}, nil
}

// match finds the declaration of an event by its name or by the Go type of its
// payload.
func (r *registry) match(ev *Event) (*declared, error) {
	if ev.Type != "" {
		if d := r.byName[ev.Type]; d != nil {
			return d, nil
		}
		return nil, &FieldError{Field: "Type", Rule: "is not declared"}
	}
	t := reflect.TypeOf(ev.Data)
	if t != nil && t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if d := r.byType[t]; d != nil {
		return d, nil
	}
	return nil, &FieldError{Field: "Type", Rule: "is required, since the Go type of Data does not tell it"}
}

// Wait returns when the event is on stable storage. [ErrUnavailable] means that
// it is not known to be; the log may still record it later.
func (t Ticket) Wait(ctx context.Context) (Receipt, error) {
	if t.e == nil {
		return Receipt{}, t.err
	}
	t.log.q.want(t.e)
	select {
	case <-t.e.done:
	default:
		select {
		case <-t.e.done:
		case <-ctx.Done():
			return Receipt{}, fmt.Errorf("wait for record: %w", context.Cause(ctx))
		}
	}
	return t.e.receipt, t.e.err
}

// Flush returns when everything emitted before the call is on stable storage.
func (l *Log) Flush(ctx context.Context) error {
	if l.disabled() {
		return nil
	}
	e, err := l.q.tail()
	if e == nil || err != nil {
		return err
	}
	_, err = Ticket{log: l, e: e}.Wait(ctx)
	return err
}

// Close refuses new events, writes what is queued and audit.stopped, and
// releases the directory. If ctx ends first the log stops as soon as the disk
// lets it, the error says how many events are not known to be recorded, and
// the next start says prev_clean=false. A second call returns nil.
func (l *Log) Close(ctx context.Context) error {
	if l.disabled() {
		return nil
	}
	var err error
	l.closing.Do(func() { err = l.close(ctx) })
	return err
}

func (l *Log) close(ctx context.Context) error {
	l.q.close()
	select {
	case <-l.ended:
		return l.w.result
	case <-ctx.Done():
	}
	l.w.abort.Store(true)
	l.q.poke()
	select {
	case <-l.ended: // it was about to end
		return l.w.result
	default:
		return fmt.Errorf("close log: %w: %s", context.Cause(ctx), lost(l.q.unsettled()))
	}
}

func lost(n int) string { return strconv.Itoa(n) + " events are not known to be recorded" }
