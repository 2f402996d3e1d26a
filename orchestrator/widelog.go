package orchestrator

import (
	"log/slog"

	"github.com/llorch/llorch/orchestrator/observe"
)

// wideLog writes one record per task at its end, and one per refusal.
type wideLog struct{ log *slog.Logger }

// Observe writes the record of an end.
func (w wideLog) Observe(e observe.Event) {
	switch e := e.(type) {
	case observe.Finished:
		msg := "A task completed."
		if e.Code != "" {
			msg = "A task ended without a result."
		}
		w.log.Info(msg,
			slog.String("event", "task_finished"), slog.String("job_id", e.Task), slog.String("correlation_id", e.Correlation),
			slog.String("class", e.Class), slog.String("model_ref", e.Model), slog.String("node_id", e.Worker.Node), slog.String("worker_id", e.Worker.Worker),
			slog.Int64("queue_ms", e.Queued.Milliseconds()), slog.Int64("ttft_ms", e.FirstToken.Milliseconds()), slog.Int64("decode_time_ms", e.Decode.Milliseconds()),
			slog.Int("tokens_in", e.TokensIn), slog.Int("tokens_out", e.TokensOut), slog.Int("attempt", e.Attempts),
			slog.String("code", e.Code), slog.String("reason", e.Reason), slog.String("failure", e.Failure), slog.String("identity", e.Owner.Fingerprint))
	case observe.Rejected:
		w.log.Info("A request was refused.",
			slog.String("event", "task_rejected"), slog.String("correlation_id", e.Correlation), slog.String("class", e.Class),
			slog.String("code", e.Code), slog.String("identity", e.Owner.Fingerprint))
	}
}
