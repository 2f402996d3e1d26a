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
		PredictedStartMS: a.StartIn.Milliseconds(), DecisionID: a.DecisionID, Duplicate: a.Duplicate,
		Streams: taskapi.Streams{SSE: eventsURL(a.ID)}, EventsURL: eventsURL(a.ID),
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
