package orchestrator

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/llorch/llorch/orchestrator/internal/sched"
	"github.com/llorch/llorch/orchestrator/observe"
	"github.com/llorch/llorch/orchestrator/taskapi"
	"github.com/llorch/llorch/poolregistry"
)

// How loads and quarantined workers are followed.
const (
	loadEvery   = 500 * time.Millisecond
	loadTimeout = 5 * time.Second // one question to a node
	tryTimeout  = 2 * time.Second // one probe
)

// try asks a quarantined worker whether it answers again (ORC-405).
func (o *Orchestrator) try(f sched.Probe) {
	o.wg.Go(func() {
		ctx, cancel := context.WithTimeout(o.attempt, tryTimeout)
		defer cancel()
		t, err := o.target(ctx, f.Worker)
		if err == nil {
			st, e := o.workers.Probe(ctx, t)
			if err = e; err == nil && !st.Ready {
				err = context.DeadlineExceeded
			}
		}
		o.loop.post(sched.Probed{Worker: f.Worker.Key, OK: err == nil})
	})
}

// load has a worker's pool load a model, and tells the core how that goes on.
// It ends with Done, however it ends.
func (o *Orchestrator) load(f sched.Load) {
	at := observe.ModelLoad{Worker: whereIs(f.Worker), Model: f.Model, State: "loading"}
	o.wg.Go(func() {
		began := time.Now()
		o.observe.Observe(at)
		code := o.followLoad(o.attempt, f)
		at.State, at.Took = "loaded", time.Since(began)
		if code != "" {
			at.State = "failed"
			o.log.Warn("A model could not be loaded.", slog.String("event", "model_load"), slog.String("model_ref", f.Model),
				slog.String("worker_id", f.Worker.Key.String()), slog.String("code", code))
		}
		o.observe.Observe(at)
		o.loop.post(sched.Loading{Worker: f.Worker.Key, Model: f.Model, Done: true, Fail: code})
	})
}

// followLoad returns the code of a load that failed, "" for one that did not. The
// core gives up a load without progress; its node goes on or not.
func (o *Orchestrator) followLoad(ctx context.Context, f sched.Load) string {
	if o.cfg.Control == nil {
		return string(taskapi.ModelLoadFailed) // nobody to ask
	}
	pool := poolregistry.PoolKey{Node: poolregistry.NodeID(f.Worker.Node), Pool: poolregistry.PoolID(f.Worker.Pool)}
	op, err := o.asked(ctx, func(ctx context.Context) (Operation, error) {
		return o.cfg.Control.Do(ctx, pool, Command{Do: DoReload, Model: f.Model})
	})
	tick := time.NewTicker(loadEvery)
	defer tick.Stop()
	for failures := 0; ; {
		switch {
		case err != nil && op.ID == "", failures > 10:
			return string(codeOf(err))
		case err != nil:
			failures++
		case op.State == "done":
			return ""
		case op.Ended():
			if op.Code == "" {
				return string(taskapi.ModelLoadFailed)
			}
			return op.Code
		default:
			failures = 0
			o.loop.post(sched.Loading{Worker: f.Worker.Key, Model: f.Model, Bytes: op.Bytes, Total: op.Total, Phase: op.Phase})
		}
		select {
		case <-ctx.Done():
			return string(taskapi.ShuttingDown)
		case <-tick.C:
		}
		var next Operation
		if next, err = o.asked(ctx, func(ctx context.Context) (Operation, error) { return o.cfg.Control.Operation(ctx, op.ID) }); err == nil {
			op = next
		}
	}
}

func (o *Orchestrator) asked(ctx context.Context, f func(context.Context) (Operation, error)) (Operation, error) {
	ctx, cancel := context.WithTimeout(ctx, loadTimeout)
	defer cancel()
	return f(ctx)
}

// codeOf is the wire code of a refused command.
func codeOf(err error) taskapi.Code {
	if e, ok := errors.AsType[*taskapi.Error](err); ok {
		return e.Code
	}
	return taskapi.ModelLoadFailed
}

// noted passes on what the core wants observers to know.
func (o *Orchestrator) noted(f sched.Note) {
	where := observe.Worker{Node: f.Worker.Node, Pool: f.Worker.Pool, Worker: f.Worker.Worker}
	switch f.Kind {
	case "quarantined", "restored":
		o.note(observe.WorkerChanged{Worker: where, State: f.Kind, Why: f.Why, For: f.For})
	case "residency_refused":
		v := observe.Violation{Task: TaskID(f.ID).String(), Rule: f.Why}
		if r := o.runs.get(TaskID(f.ID)); r != nil {
			v.Correlation, v.Owner = r.spec.Correlation, r.owner
		}
		o.note(v)
	case "policy_changed":
		o.note(observe.PolicyChanged{SHA256: f.Why})
	case "deadline_warning":
		if r := o.runs.get(TaskID(f.ID)); r != nil {
			o.report(r, taskapi.Metrics{Phase: f.Kind, Human: "Most of the task's time is over."})
		}
	}
}
