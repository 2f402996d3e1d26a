// Package store is the port through which the orchestrator keeps its tasks,
// with an in-memory implementation. Durable implementations are nested modules
// (store/sqlite); every implementation passes [storetest].
//
// # Contract
//
// When a method returns nil and Durable reports true, the change survives power
// loss (ORC-640). Every method is idempotent for equal arguments: Submit by id,
// Start and Mark by (task, attempt), Complete by (task, attempt, state, code),
// Cancel by nature. An error that wraps [ErrUnknown] is answered by calling
// again; where PutDoc or DeleteDoc then answer [ErrVersion], read the document
// again. Batches are atomic per item and one commit per batch: one bad item
// never fails its neighbours, answers stand in the order of the batch, and a
// later item sees the earlier ones (ORC-641). All methods are safe for
// concurrent use. A call whose context ends before its transaction has begun
// writes nothing and returns the context's error; after that it waits for the
// commit and returns its true outcome.
//
// Nothing that is given or returned is shared with the caller afterwards. Times
// are kept in UTC to the microsecond; the store's clock sets Created (when it is
// zero), Started and Finished.
//
// # Writing a store
//
// The moves of one task are pure methods, [NewTask.Stored], [Record.Repeats],
// [Record.Start], [Record.Mark], [Record.Complete], [Record.Cancel] and
// [Record.Forget]; a store adds order, terms, commits and search.
//
// [storetest]: https://pkg.go.dev/github.com/llorch/llorch/orchestrator/store/storetest
package store

import (
	"context"
	"iter"
	"time"
)

// Store keeps tasks and documents.
type Store interface {
	Tasks
	Docs
	Upkeep
}

// Tasks stores the life of tasks. Writes carry the epoch of the caller's term;
// a void term is [ErrFenced] and writes nothing.
type Tasks interface {
	// Submit stores new tasks in one commit. Seq rises in the order of the batch.
	Submit(ctx context.Context, e Epoch, batch []NewTask) ([]Submitted, error)
	// Start moves queued tasks, and running ones that published nothing, to a
	// higher attempt and returns the sealed bodies.
	Start(ctx context.Context, e Epoch, batch []StartReq) ([]Started, error)
	// Mark records that an attempt may have published a token; from then on the
	// task can not be started again. Answers are ErrNotFound, ErrTransition or nil.
	Mark(ctx context.Context, e Epoch, batch []MarkReq) ([]error, error)
	// Complete ends tasks: outcome and sealed output are stored and the sealed
	// body is deleted in the same commit. Answers are ErrNotFound, ErrTransition
	// (also for a stale attempt), ErrTooLarge, ErrInvalid or nil.
	Complete(ctx context.Context, e Epoch, batch []Completion) ([]error, error)
	// Cancel ends queued tasks and keeps the request for running ones.
	Cancel(ctx context.Context, e Epoch, batch []CancelReq) ([]CancelState, error)
	// Task returns one record, or ErrNotFound.
	Task(ctx context.Context, id TaskID) (Record, error)
	// Tasks returns a page of records by seq; ErrInvalid for a limit out of range.
	// A filter that [Filter.Scans] reads at most about MaxPage records that it does
	// not select; if the page is not full then, it comes with a [*MoreError].
	Tasks(ctx context.Context, f Filter) ([]Record, error)
	// Output returns the sealed output of an ended task; ErrNotFound if there is none.
	Output(ctx context.Context, id TaskID) ([]byte, error)
}

// Docs stores small versioned documents.
type Docs interface {
	// PutDoc stores d if its present version is expect; 0 = it must not exist.
	// Else ErrVersion. d.Version is not read. The versions of a key rise and
	// never come back, not even after DeleteDoc. Also ErrTooLarge, and
	// ErrInvalid for an empty kind or key.
	PutDoc(ctx context.Context, d Doc, expect Version) (Version, error)
	// Doc returns one document, or ErrNotFound.
	Doc(ctx context.Context, k Kind, key string) (Doc, error)
	// Docs yields the documents of a kind whose key has the prefix, in byte order
	// of the key. It is no snapshot: a document that changes meanwhile may be
	// seen in either state. The caller may use the store inside the loop. It
	// ends after the first error.
	Docs(ctx context.Context, k Kind, prefix string) iter.Seq2[Doc, error]
	// DeleteDoc removes a document of version expect, else ErrVersion; an absent one is nil.
	DeleteDoc(ctx context.Context, k Kind, key string, expect Version) error
}

// Upkeep is what an owner of a store does beside its tasks.
type Upkeep interface {
	// Lead begins a new term: its epoch is above every earlier one of this
	// store, and writes of any other term are ErrFenced from then on. It sees
	// every commit of earlier terms. Before the first Lead every write is ErrFenced.
	// A store whose last term is below r.Seen is ErrRestored, or begins a term
	// above r.Seen when r.Force says so; ErrInvalid for a Seen above 2⁶².
	Lead(ctx context.Context, r LeaseRequest) (Lease, error)
	// Purge deletes up to limit ended tasks that finished before the instant,
	// oldest first, and reports how many. A limit outside 0…MaxPage is ErrInvalid.
	Purge(ctx context.Context, e Epoch, before time.Time, limit int) (int, error)
	// Erase forgets a person: ref's tasks lose what [Record.Forget] names and
	// their outputs, and every document of [PersonalKinds] whose key is the
	// reference's 32 hex digits, or begins with them and a slash, is deleted.
	// What was deleted is overwritten before nil is answered. Live tasks must
	// have ended before; one that has not is ErrTransition and nothing changes.
	// It may work in several commits: after an error, or a crash, call again;
	// repeating it is nil and counts what was left. ErrInvalid for the zero ref.
	Erase(ctx context.Context, e Epoch, ref SubjectRef) (Erased, error)
	// PurgeOutputs deletes the sealed outputs of up to limit tasks that finished
	// before the instant, oldest first, and reports how many. The records stay.
	// A limit outside 0…MaxPage is ErrInvalid.
	PurgeOutputs(ctx context.Context, e Epoch, before time.Time, limit int) (int, error)
	// Durable reports whether a nil error means stable storage.
	Durable() bool
	// Close waits for writes in flight and releases the storage. Twice is nil;
	// every other call is ErrClosed afterwards.
	Close() error
}
