package orchestrator

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/llorch/llorch/orchestrator/internal/sched"
	"github.com/llorch/llorch/orchestrator/observe"
	"github.com/llorch/llorch/orchestrator/placement"
	"github.com/llorch/llorch/orchestrator/store"
	"github.com/llorch/llorch/orchestrator/worker"
)

// run is the executor's state of one task of this process: from the moment its
// place is asked for until its event log is dropped.
type run struct {
	id        TaskID
	owner     observe.Owner
	subject   string // names the key that seals; "" after a restart
	promptSum [32]byte
	ephemeral bool
	spec      Spec // without Prompt, Messages and Raw
	named     bool // the client chose the id
	began     time.Time
	stream    *stream
	answers   chan sched.Effect // to the Submit that waits; buffered, never blocks the loop

	digest   string        // that the model must have; "" = any
	use      use           // what it took at its admission
	answered chan struct{} // closed when Submit has its answer and the observer heard of it

	mu      sync.Mutex
	rec     store.Record            // as far as this process knows; the store's word is newer for other processes
	body    *body                   // nil once it is sealed or the task has ended
	key     []byte                  // head of the sealed body: names the key to seal the output with
	cancel  context.CancelCauseFunc // of the running attempt
	attempt int
	began1  int // last attempt that the store has begun; 0 none
	emitted bool
	worker  *placement.Worker
	usage   worker.Usage
	finish  string         // finish reason
	cut     bool           // the engine cut the prompt
	stopped time.Time      // when its running attempt was asked to end
	started time.Time      // of the last attempt
	first   time.Time      // of the first token
	detail  map[string]any // for the error event
	idle    *time.Timer    // fires when the last reader has been away too long
	ended   time.Time
	kept    int // bytes of the event log at the end
}

// errStopped is the cause of a stopped attempt.
type errStopped struct{ reason sched.Reason }

func (e errStopped) Error() string { return "stopped: " + string(e.reason) }

// stopReason returns why an attempt's context ended, "" if nobody stopped it.
func stopReason(ctx context.Context) sched.Reason {
	if s, ok := errors.AsType[errStopped](context.Cause(ctx)); ok {
		return s.reason
	}
	return ""
}

// beginAttempt is called by the loop in the step that assigned the attempt.
func (r *run) beginAttempt(n int, w *placement.Worker, cancel context.CancelCauseFunc) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.attempt, r.worker, r.cancel, r.started = n, w, cancel, time.Now()
	r.rec.State, r.rec.Attempt, r.rec.Worker, r.rec.Started = store.Running, n, w.Key.String(), r.started
}

// stop ends the running attempt; called by the loop.
func (r *run) stop(reason sched.Reason) {
	r.mu.Lock()
	cancel := r.cancel
	if reason != sched.Lost {
		r.stopped = time.Now()
		r.rec.State, r.rec.CancelReason = store.Cancelling, string(reason)
	}
	r.mu.Unlock()
	if reason != sched.Lost {
		r.stream.mute()
	}
	if cancel != nil {
		cancel(errStopped{reason})
	}
}

// answer hands an effect to the Submit that waits for it, if any.
func (r *run) answer(e sched.Effect) {
	select {
	case r.answers <- e:
	default:
	}
}

// where names the worker of the last attempt.
func (r *run) where() observe.Worker {
	r.mu.Lock()
	defer r.mu.Unlock()
	return whereIs(r.worker)
}

func whereIs(w *placement.Worker) observe.Worker {
	if w == nil {
		return observe.Worker{}
	}
	return observe.Worker{Node: w.Node, Pool: w.Pool, Worker: w.Key.Worker, Engine: w.Engine, Version: w.Version}
}

// record returns what is known of the task here.
func (r *run) record() store.Record {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.rec
}

// table holds the runs of this process: the live ones, and the ended ones whose
// event log is still kept, oldest end first.
type table struct {
	mu    sync.Mutex
	byID  map[TaskID]*run
	ended []*run
	bytes int // of the event logs of ended
	why   map[TaskID]placement.Explanation
	order []TaskID     // of why, oldest first
	gone  signal       // a run ended or left
	read  map[*run]int // by those with readers: how many
}

// keptDecisions is how many explanations stay in memory (ORC-310).
const keptDecisions = 10_000

func newTable() *table {
	return &table{byID: make(map[TaskID]*run), read: make(map[*run]int), why: make(map[TaskID]placement.Explanation)}
}

// add puts r in; false if the id is taken, with the run that has it.
func (t *table) add(r *run) (*run, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if old, ok := t.byID[r.id]; ok {
		return old, false
	}
	t.byID[r.id] = r
	return r, true
}

func (t *table) get(id TaskID) *run {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.byID[id]
}

func (t *table) drop(id TaskID) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.byID, id)
	t.gone.wake()
}

// retire keeps an ended run for late readers, within the bounds of c.
func (t *table) retire(r *run, c Streams) {
	size := r.stream.size()
	r.mu.Lock()
	r.ended, r.kept = time.Now(), size
	r.mu.Unlock()
	t.mu.Lock()
	defer t.mu.Unlock()
	t.ended = append(t.ended, r)
	t.bytes += size
	t.gone.wake()
	for len(t.ended) > c.Ended || t.bytes > c.EndedBytes && len(t.ended) > 1 {
		t.forgetLocked()
	}
}

// sweep forgets runs that ended before the instant.
func (t *table) sweep(before time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for len(t.ended) > 0 && t.ended[0].endedBefore(before) {
		t.forgetLocked()
	}
}

func (t *table) forgetLocked() {
	delete(t.byID, t.ended[0].id)
	t.bytes -= t.ended[0].kept
	t.ended[0] = nil
	t.ended = t.ended[1:]
}

func (r *run) endedBefore(at time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.ended.Before(at)
}

// explain keeps the newest decision about a task.
func (t *table) explain(id TaskID, e placement.Explanation) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, ok := t.why[id]; !ok {
		t.order = append(t.order, id)
	}
	t.why[id] = e
	if len(t.order) > keptDecisions {
		delete(t.why, t.order[0])
		t.order = t.order[1:]
	}
}

func (t *table) explained(id TaskID) (placement.Explanation, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	e, ok := t.why[id]
	return e, ok
}

// all returns every run, in no order.
func (t *table) all() []*run {
	t.mu.Lock()
	defer t.mu.Unlock()
	out := make([]*run, 0, len(t.byID))
	for _, r := range t.byID {
		out = append(out, r)
	}
	return out
}
