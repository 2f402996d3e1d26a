package orchestrator

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/llorch/llorch/orchestrator/observe"
	"github.com/llorch/llorch/orchestrator/taskapi"
)

// wideLog writes one record per task at its end, one per refusal, and one for
// everything that an operator wants to know of. It names no person and no tenant.
type wideLog struct {
	log *slog.Logger

	mu      sync.Mutex
	second  time.Time // of the refusals counted below
	shown   int       // refusals written in it
	hidden  int       // refusals left out since the last one that was written
	failing bool      // the store did not answer
	failed  time.Time // when it last did not
}

// maxRejects bounds the refusals written in one second (ORC-882).
const maxRejects = 10

// calm is how long the store has to answer before it counts as restored.
const calm = time.Second

func newWideLog(log *slog.Logger) *wideLog { return &wideLog{log: log} }

// Observe writes the record of an event.
func (w *wideLog) Observe(e observe.Event) {
	switch e := e.(type) {
	case observe.Finished:
		w.finished(e)
	case observe.Rejected:
		w.rejected(e)
	case observe.StoreOp:
		w.storeOp(e)
	case observe.Victim:
		w.write(slog.LevelInfo, "queue_victim", "A waiting task made room for another one.",
			slog.String("job_id", e.Task), slog.String("class", e.Class), slog.String("policy", e.Policy))
	case observe.WorkerChanged:
		w.workerChanged(e)
	case observe.ModelLoad:
		w.modelLoad(e)
	case observe.Leader:
		if e.Leads {
			w.write(slog.LevelInfo, "leader_gained", "This process leads now.", slog.Uint64("epoch", e.Epoch))
		} else {
			w.write(slog.LevelInfo, "leader_lost", "This process does not lead any more.", slog.Uint64("epoch", e.Epoch))
		}
	case observe.DecisionGap:
		w.write(slog.LevelWarn, "decision_gap", "The decision log left out steps.", slog.Int("steps", e.Steps))
	case observe.PolicyChanged:
		w.write(slog.LevelInfo, "policy_changed", "Another placement policy holds from now on.", slog.String("policy_sha256", e.SHA256))
	case observe.Erased:
		w.write(slog.LevelInfo, "subject_erased", "A person's data was erased.", slog.String("correlation_id", e.Correlation),
			slog.Int("tasks", e.Tasks), slog.Int("documents", e.Documents), slog.Int64("took_ms", e.Took.Milliseconds()))
	case observe.Violation:
		w.write(slog.LevelError, "residency_refused", "A task was refused because its worker stands outside the allowed regions.",
			slog.String("job_id", e.Task), slog.String("correlation_id", e.Correlation), slog.String("rule", e.Rule), slog.String("identity", e.Owner.Fingerprint))
	}
}

func (w *wideLog) write(level slog.Level, event, msg string, attrs ...slog.Attr) {
	w.log.LogAttrs(context.Background(), level, msg, append([]slog.Attr{slog.String("event", event)}, attrs...)...)
}

// level is how bad an end is: our own faults are errors, what is missing is a
// warning; what the client chose, such as its deadline, is neither.
func level(code string) slog.Level {
	switch c := taskapi.Code(code); {
	case code == "":
		return slog.LevelInfo
	case c == taskapi.Internal:
		return slog.LevelError
	case c.Status() >= 500 && c != taskapi.DeadlineUnmet && c != taskapi.ShuttingDown:
		return slog.LevelWarn
	}
	return slog.LevelInfo
}

func (w *wideLog) finished(e observe.Finished) {
	msg := "A task completed."
	switch {
	case e.Code == string(taskapi.Cancelled):
		msg = "A task was cancelled."
	case e.Code != "":
		msg = "A task ended without a result."
	}
	w.write(level(e.Code), "task_finished", msg,
		slog.String("job_id", e.Task), slog.String("correlation_id", e.Correlation), slog.String("trace_id", e.Trace), slog.String("session_id", e.Session),
		slog.String("class", e.Class), slog.String("model_ref", e.Model), slog.String("node_id", e.Worker.Node), slog.String("worker_id", e.Worker.Worker),
		slog.Int64("queue_ms", e.Queued.Milliseconds()), slog.Int64("ttft_ms", e.FirstToken.Milliseconds()), slog.Int64("decode_time_ms", e.Decode.Milliseconds()),
		slog.Int("tokens_in", e.TokensIn), slog.Int("tokens_out", e.TokensOut), slog.Int("attempt", e.Attempts), slog.String("decision_id", e.Decision),
		slog.String("code", e.Code), slog.String("reason", e.Reason), slog.String("failure", e.Failure), slog.String("identity", e.Owner.Fingerprint))
}

// rejected writes a refusal, with the number of those that were left out before it.
func (w *wideLog) rejected(e observe.Rejected) {
	w.mu.Lock()
	if now := time.Now(); now.Sub(w.second) >= time.Second {
		w.second, w.shown = now, 0
	}
	if w.shown >= maxRejects {
		w.hidden++
		w.mu.Unlock()
		return
	}
	hidden := w.hidden
	w.shown, w.hidden = w.shown+1, 0
	w.mu.Unlock()
	w.write(level(e.Code), "task_rejected", "A request was refused.", slog.String("correlation_id", e.Correlation), slog.String("class", e.Class),
		slog.String("code", e.Code), slog.Int("left_out", hidden), slog.String("identity", e.Owner.Fingerprint))
}

// storeOp tells when the store stops to answer, and when it answers again.
func (w *wideLog) storeOp(e observe.StoreOp) {
	w.mu.Lock()
	now, was := time.Now(), w.failing
	switch {
	case e.Err:
		w.failing, w.failed = true, now
	case was && now.Sub(w.failed) >= calm:
		w.failing = false
	}
	is := w.failing
	w.mu.Unlock()
	switch {
	case is && !was:
		w.write(slog.LevelWarn, "store_degraded", "The store does not answer.", slog.String("op", e.Op))
	case was && !is:
		w.write(slog.LevelInfo, "store_restored", "The store answers again.", slog.String("op", e.Op))
	}
}

func (w *wideLog) workerChanged(e observe.WorkerChanged) {
	attrs := []slog.Attr{slog.String("node_id", e.Worker.Node), slog.String("worker_id", e.Worker.Worker), slog.String("why", e.Why)}
	switch e.State {
	case "quarantined":
		w.write(slog.LevelWarn, "worker_quarantined", "A worker is out because its calls fail.", append(attrs, slog.Int64("for_ms", e.For.Milliseconds()))...)
	case "restored":
		w.write(slog.LevelInfo, "worker_restored", "A worker answers again.", attrs...)
	}
}

func (w *wideLog) modelLoad(e observe.ModelLoad) {
	lvl, msg := slog.LevelInfo, "A model is being loaded."
	switch e.State {
	case "loaded":
		msg = "A model was loaded."
	case "failed":
		lvl, msg = slog.LevelWarn, "A model could not be loaded."
	}
	w.write(lvl, "model_load", msg, slog.String("node_id", e.Worker.Node), slog.String("worker_id", e.Worker.Worker),
		slog.String("model_ref", e.Model), slog.String("state", e.State), slog.Int64("took_ms", e.Took.Milliseconds()))
}
