package taskhttp

import (
	"encoding/json"

	"github.com/llorch/llorch/orchestrator"
	"github.com/llorch/llorch/orchestrator/placement"
	"github.com/llorch/llorch/orchestrator/taskapi"
)

func taskURL(id orchestrator.TaskID) string   { return "/v2/tasks/" + id.String() }
func eventsURL(id orchestrator.TaskID) string { return taskURL(id) + "/events" }

func acceptedView(a orchestrator.Accepted) taskapi.Accepted {
	return taskapi.Accepted{
		TaskID: a.ID.String(), JobID: a.ID.String(), Status: a.Status, QueuePosition: a.Position,
		PredictedStartMS: a.StartIn.Milliseconds(), PredictedBandMS: a.Band.Milliseconds(), BackoffMS: a.Backoff.Milliseconds(),
		DecisionID: a.DecisionID, Duplicate: a.Duplicate, EventsURL: eventsURL(a.ID),
		Streams:     taskapi.Streams{SSE: eventsURL(a.ID), SSEVerbose: eventsURL(a.ID) + "?verbose=true"},
		Preparation: taskapi.Preparation{Steps: orEmpty(a.Steps)},
	}
}

// orEmpty makes a list that is [] in JSON, never null.
func orEmpty[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}

func previewView(p orchestrator.Preview) taskapi.Preview {
	return taskapi.Preview{
		QueuePosition: p.Position, PredictedStartMS: p.StartIn.Milliseconds(), PredictedBandMS: p.Band.Milliseconds(), Explanation: p.Explanation,
		Checks: each(p.Checks, func(c orchestrator.Check) taskapi.Check {
			return taskapi.Check{Name: c.Name, Pass: c.Code == "", Code: taskapi.Code(c.Code)}
		}),
	}
}

func taskView(t orchestrator.Task) taskapi.Task {
	v := taskapi.Task{
		TaskID: t.ID.String(), JobID: t.ID.String(), Status: t.Status, Model: t.Model, Engine: t.Meta.Engine,
		Priority: t.Class, SessionID: t.Session, QueuePosition: t.Position, Attempt: t.Attempt,
		NodeID: t.NodeID, PoolID: t.PoolID, ReplicaID: placement.Key{Pool: t.PoolID, Worker: t.WorkerID}.Place(), WorkerID: t.WorkerID, MaxTokens: t.Meta.MaxTokens,
		TokensIn: t.Outcome.TokensIn, TokensOut: t.Outcome.TokensOut,
		QueueWaitMS: t.Outcome.QueueMS, DecodeTimeMS: t.Outcome.DecodeMS,
		FinishReason: t.Outcome.FinishReason, CancelReason: t.CancelReason,
		LastEventID: max(t.LastEvent, t.Outcome.Events), CorrelationID: t.Meta.Correlation,
		CreatedAt: t.Created, StartedAt: t.Started, FinishedAt: t.Finished, DeadlineAt: t.Deadline,
		EventsURL: eventsURL(t.ID),
	}
	if code := t.Outcome.Code; code != "" {
		e := taskapi.NewError(taskapi.Code(code))
		if len(t.Outcome.Details) > 0 && json.Unmarshal(t.Outcome.Details, &e.Details) != nil {
			e.Details = nil
		}
		v.Error = new(e.Body(t.Meta.Correlation).Error)
	}
	return v
}
