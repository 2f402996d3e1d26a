package orchestrator

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"sync"
	"time"

	"github.com/llorch/llorch/audit"
	"github.com/llorch/llorch/audit/events"
	"github.com/llorch/llorch/orchestrator/observe"
	"github.com/llorch/llorch/orchestrator/store"
	"github.com/llorch/llorch/orchestrator/taskapi"
)

// auditLog writes what happened into the audit log (ORC-845). The zero Recorder
// records nothing.
type auditLog struct {
	rec  Recorder
	log  *slog.Logger
	used *modelUse
}

func newAuditLog(rec Recorder, log *slog.Logger) auditLog {
	return auditLog{rec: rec, log: log, used: &modelUse{seen: make(map[modelUser]struct{})}}
}

// observer returns a as an observer, nil if nothing is recorded.
func (a auditLog) observer() observe.Observer {
	if a.rec == nil {
		return nil
	}
	return a
}

// violationWait bounds how long a violation waits for the disk.
const violationWait = 5 * time.Second

// Observe records the events that belong into evidence. A refused record is
// counted by the audit log itself and shows there as a gap.
func (a auditLog) Observe(e observe.Event) {
	ctx := context.Background()
	switch e := e.(type) {
	case observe.Admitted:
		a.emit(ctx, audit.Event{Actor: actor(e.Owner), Correlation: e.Correlation, Data: events.TaskSubmitted{
			TaskID: e.Task, ModelRef: e.Model, PromptLength: uint64(e.PromptLen), PromptSHA256: events.Digest(e.PromptSHA256),
			MaxTokens: uint32(e.MaxTokens), CustomerID: e.Owner.Subject,
		}})
	case observe.Rejected:
		a.rejected(ctx, e)
	case observe.Limited:
		a.emit(ctx, audit.Event{Type: "security.rate_limit_exceeded", Actor: actor(e.Owner), Data: rateLimitExceeded{
			Actual: uint32(max(0, e.Count)), Endpoint: e.Limit, WindowSeconds: 1,
		}})
	case observe.Violation:
		ctx, cancel := context.WithTimeout(ctx, violationWait)
		defer cancel()
		_, _ = a.append(ctx, audit.Event{Type: "security.policy_violation", Actor: actor(e.Owner), Correlation: e.Correlation, Outcome: audit.Denied, Data: policyViolation{
			ActionTaken: "request_rejected", Details: "task " + e.Task, Policy: e.Rule, Severity: "high", Violation: "a worker outside the allowed regions was chosen",
		}}) // the task is refused whatever comes of it; append has logged it
	case observe.Finished:
		a.finished(ctx, e)
	}
}

// rejected records refusals that are about rights.
func (a auditLog) rejected(ctx context.Context, e observe.Rejected) {
	switch taskapi.Code(e.Code) {
	case taskapi.Forbidden, taskapi.TenantMismatch, taskapi.ConsentRequired:
	default:
		return
	}
	a.denied(ctx, e.Owner, e.Correlation, "tasks", "task.submit", e.Code)
}

// denied records a refusal that is about rights.
func (a auditLog) denied(ctx context.Context, who observe.Owner, correlation, what, action, code string) {
	a.emit(ctx, audit.Event{
		Type: "authz.denied", Actor: known(actor(who), who), Resource: audit.Resource{Kind: what, ID: what}, Outcome: audit.Denied,
		Reason: code, Correlation: correlation, Data: authzDenied{Action: action},
	})
}

// finished records the end of a task, and what it did with a person's data.
func (a auditLog) finished(ctx context.Context, e observe.Finished) {
	who := actor(e.Owner)
	reached := e.Worker != (observe.Worker{})
	defer a.inferred(ctx, e, who, reached)
	if e.Code == string(taskapi.Cancelled) {
		a.emit(ctx, audit.Event{Actor: who, Correlation: e.Correlation, Reason: e.Reason, Data: events.TaskCanceled{TaskID: e.Task}})
		return
	}
	ev := audit.Event{Actor: who, Correlation: e.Correlation}
	worker := "none"
	if reached {
		worker = e.Worker.Node + "/" + e.Worker.Pool + "/" + e.Worker.Worker
	}
	if e.Code != "" {
		ev.Outcome, ev.Reason = audit.Failure, e.Code
	}
	ev.Data = events.TaskCompleted{
		TaskID: e.Task, WorkerID: worker, TokensGenerated: uint32(e.TokensOut), DurationMS: uint64(e.Total.Milliseconds()),
	}
	a.emit(ctx, ev)
}

// inferred records that a model worked on a person's data.
func (a auditLog) inferred(ctx context.Context, e observe.Finished, who audit.Actor, reached bool) {
	if !reached || e.Owner.Subject == "" || e.TokensIn+e.TokensOut == 0 {
		return
	}
	a.emit(ctx, audit.Event{Type: "data.inference_executed", Actor: who, Correlation: e.Correlation, Data: inferenceExecuted{
		CustomerID: e.Owner.Subject, JobID: e.Task, ModelRef: e.Model, TokensProcessed: uint32(e.TokensIn + e.TokensOut),
	}})
	if a.used.first(modelUser{e.Owner.Subject, e.Model}, time.Now()) {
		a.emit(ctx, audit.Event{Type: "data.model_accessed", Actor: who, Correlation: e.Correlation, Data: modelAccessed{
			AccessType: "inference", CustomerID: e.Owner.Subject, ModelRef: e.Model,
		}})
	}
}

// emit queues an event; an error is logged, and counted by the audit log.
func (a auditLog) emit(ctx context.Context, e audit.Event) {
	if a.rec == nil {
		return
	}
	if _, err := a.rec.Emit(ctx, e); err != nil {
		a.refused(err)
	}
}

// append makes an event durable and returns its number; without a Recorder 0.
func (a auditLog) append(ctx context.Context, e audit.Event) (uint64, error) {
	if a.rec == nil {
		return 0, nil
	}
	r, err := a.rec.Append(ctx, e)
	if err != nil {
		a.refused(err)
		return 0, errors.Join(store.ErrUnavailable, err)
	}
	return uint64(r.Seq), nil
}

func (a auditLog) refused(err error) {
	a.log.Warn("An audit event was refused.", slog.String("event", "audit_refused"), slog.Any("err", err))
}

// erased records an erasure, without the person: the key's id leads nowhere any more.
func (a auditLog) erased(ctx context.Context, e erasure) (uint64, error) {
	who := "key:none"
	if e.Receipt.KeyID != "" {
		who = "key:" + e.Receipt.KeyID
	}
	kinds := sections[:]
	seq, err := a.append(ctx, audit.Event{Type: "compliance.gdpr_right_to_erasure", Actor: audit.System(), Reason: e.Reason, Data: rightToErasure{
		CompletedAt: e.Receipt.At, CustomerID: who, DataTypesDeleted: kinds,
	}})
	if err != nil {
		return 0, err
	}
	a.emit(ctx, audit.Event{Type: "data.deleted", Actor: audit.System(), Reason: e.Reason, Data: dataDeleted{CustomerID: who, DataTypes: kinds}})
	return seq, nil
}

// consent records a word about a purpose.
func (a auditLog) consent(ctx context.Context, p Principal, subject string, c Consent) error {
	ev := audit.Event{Type: "compliance.consent_granted", Actor: actor(owner(p)), Data: consentGranted{
		CustomerID: subject, PolicyVersion: "unversioned", Purpose: c.Purpose, Scope: []string{"inference"},
	}}
	if !c.Granted {
		ev.Type, ev.Reason, ev.Data = "compliance.consent_revoked", "request", consentRevoked{CustomerID: subject, Purpose: c.Purpose}
	}
	_, err := a.append(ctx, ev)
	return err
}

// accessed records that somebody asked for an export, exported that it was given.
func (a auditLog) accessed(ctx context.Context, p Principal, subject string) {
	a.emit(ctx, audit.Event{Type: "compliance.gdpr_data_access_request", Actor: actor(owner(p)), Data: accessRequest{
		CustomerID: subject, Requester: p.Subject(), Scope: sections[:],
	}})
}

func (a auditLog) exported(ctx context.Context, p Principal, subject string, digest [32]byte) {
	a.emit(ctx, audit.Event{Type: "compliance.gdpr_data_export", Actor: actor(owner(p)), Data: dataExport{
		CustomerID: subject, DataTypes: sections[:], ExportFormat: "json", FileSHA256: events.Digest(digest),
	}})
}

// recovered records what an earlier run had accepted: its last task.submitted
// may have been in memory only.
func (a auditLog) recovered(ctx context.Context, queued, ended int) {
	a.emit(ctx, audit.Event{Type: "orchestrator.tasks_recovered", Actor: audit.System(), Data: tasksRecovered{Ended: uint64(ended), Queued: uint64(queued)}})
}

// modelUse knows who used which model today: data.model_accessed tells it once a
// day, each use is in data.inference_executed.
type modelUse struct {
	mu   sync.Mutex
	day  int
	seen map[modelUser]struct{} // at most keptUses; a full one is emptied
}

type modelUser struct{ subject, model string }

const keptUses = 4096

func (m *modelUse) first(u modelUser, now time.Time) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if day := now.UTC().YearDay(); day != m.day || len(m.seen) >= keptUses {
		m.day = day
		clear(m.seen)
	}
	_, ok := m.seen[u]
	m.seen[u] = struct{}{}
	return !ok
}

// known makes sure that an event which needs an actor has one.
func known(a audit.Actor, o observe.Owner) audit.Actor {
	if a.Kind != "system" {
		return a
	}
	ip, _ := netip.ParseAddr(o.Addr)
	return audit.Anonymous(ip)
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
