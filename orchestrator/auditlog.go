package orchestrator

import (
	"context"
	"log/slog"
	"net/netip"

	"github.com/llorch/llorch/audit"
	"github.com/llorch/llorch/audit/events"
	"github.com/llorch/llorch/orchestrator/observe"
)

// auditLog writes what happened to tasks into the audit log.
type auditLog struct {
	rec Recorder
	log *slog.Logger
}

func newAuditLog(rec Recorder, log *slog.Logger) observe.Observer {
	if rec == nil {
		return nil
	}
	return auditLog{rec, log}
}

// Observe records the events that belong into evidence. A refused record is
// counted by the audit log itself and shows there as a gap.
func (a auditLog) Observe(e observe.Event) {
	ev := audit.Event{}
	switch e := e.(type) {
	case observe.Admitted:
		ev.Actor, ev.Correlation = actor(e.Owner), e.Correlation
		ev.Data = events.TaskSubmitted{
			TaskID: e.Task, ModelRef: e.Model, PromptLength: uint64(e.PromptLen), PromptSHA256: events.Digest(e.PromptSHA256),
			MaxTokens: uint32(e.MaxTokens), CustomerID: e.Owner.Subject,
		}
	case observe.Finished:
		ev.Actor, ev.Correlation = actor(e.Owner), e.Correlation
		if e.Code == "CANCELLED" {
			ev.Reason, ev.Data = e.Reason, events.TaskCanceled{TaskID: e.Task}
			break
		}
		worker := e.Worker.Node + "/" + e.Worker.Pool + "/" + e.Worker.Worker
		if e.Worker == (observe.Worker{}) {
			worker = "none"
		}
		if e.Code != "" {
			ev.Outcome, ev.Reason = audit.Failure, e.Code
		}
		ev.Data = events.TaskCompleted{
			TaskID: e.Task, WorkerID: worker, TokensGenerated: uint32(e.TokensOut), DurationMS: uint64(e.Total.Milliseconds()),
		}
	default:
		return
	}
	if _, err := a.rec.Emit(context.Background(), ev); err != nil {
		a.log.Warn("An audit event was refused.", slog.String("event", "audit_refused"), slog.Any("err", err))
	}
}

// actor names the caller as the audit log wants it. After a restart only the
// tenant is known: the task itself acts.
func actor(o observe.Owner) audit.Actor {
	ip, _ := netip.ParseAddr(o.Addr)
	switch {
	case o.Fingerprint != "":
		return audit.Token(o.Fingerprint, ip)
	case o.Subject != "":
		return audit.User(o.Subject, ip)
	}
	return audit.System()
}
