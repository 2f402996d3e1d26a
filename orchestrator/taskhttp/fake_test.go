package taskhttp_test

import (
	"cmp"
	"context"
	"encoding/json"
	"iter"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/llorch/llorch/orchestrator"
	"github.com/llorch/llorch/orchestrator/placement"
	"github.com/llorch/llorch/orchestrator/store"
	"github.com/llorch/llorch/orchestrator/taskapi"
	"github.com/llorch/llorch/orchestrator/taskhttp"
)

// theID is the one task that the fake knows.
var theID = orchestrator.TaskID{0x01, 0x90, 0xb1, 0xa2, 0x3c, 0x4d, 0x7e, 0x5f, 0x8a, 0x9b, 0x0c, 0x1d, 0x2e, 0x3f, 0x4a, 0x5b}

const foreignID = "11111111-2222-4333-8444-555555555555"

// step is one event of a script, produced after a wait.
type step struct {
	wait time.Duration
	typ  string
	data any // a string is taken as it is, anything else becomes JSON
}

// fake is an engine whose one task plays a script to every reader.
type fake struct {
	script  []step
	refusal error // of Submit
	readErr error // of Events, before any event
	lateErr error // of Events, behind the script
	hang    bool  // the script's end is not the end of the stream

	mu      sync.Mutex
	specs   []orchestrator.Spec
	filters []orchestrator.Filter
	left    []error // how each reader's loop ended: nil, or the error of its context
	cancels int
	list    []orchestrator.Task
	fakeRest
}

var _ taskhttp.Engine = (*fake)(nil)

func (f *fake) Submit(_ context.Context, _ orchestrator.Principal, s orchestrator.Spec) (orchestrator.Accepted, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.specs = append(f.specs, s)
	if f.refusal != nil {
		return orchestrator.Accepted{}, f.refusal
	}
	return orchestrator.Accepted{
		ID: theID, Status: "queued", Position: 2, StartIn: 1500 * time.Millisecond, Band: 200 * time.Millisecond,
		Backoff: 250 * time.Millisecond, BudgetLeft: 90, DecisionID: "d-1", Steps: f.steps,
	}, nil
}

func (f *fake) Task(_ context.Context, _ orchestrator.Principal, id orchestrator.TaskID) (orchestrator.Task, error) {
	if err := f.only(id.String(), theID.String(), taskapi.NotFound); err != nil {
		return orchestrator.Task{}, err
	}
	return orchestrator.Task{
		Record: store.Record{
			ID: theID, Class: "interactive", Model: "llama3:8b", Session: f.inSession, Attempt: 1, Created: time.UnixMilli(1_700_000_000_000).UTC(),
			Meta:    store.Meta{Correlation: "c-1"},
			Outcome: store.Outcome{Code: "WORKER_RESET", Details: json.RawMessage(`{"attempts":1}`), Events: 7},
		},
		Status: "failed", NodeID: "n1", PoolID: "p1", WorkerID: "r0",
	}, nil
}

func (f *fake) Tasks(_ context.Context, _ orchestrator.Principal, filter orchestrator.Filter) iter.Seq2[orchestrator.Task, error] {
	f.mu.Lock()
	f.filters = append(f.filters, filter)
	f.mu.Unlock()
	return func(yield func(orchestrator.Task, error) bool) {
		if f.readErr != nil {
			yield(orchestrator.Task{}, f.readErr)
			return
		}
		for _, t := range f.list {
			if !yield(t, nil) {
				return
			}
		}
	}
}

func (f *fake) Events(ctx context.Context, _ orchestrator.Principal, id orchestrator.TaskID, after uint64) iter.Seq2[orchestrator.Event, error] {
	return func(yield func(orchestrator.Event, error) bool) {
		err := f.readErr
		if err == nil && id != theID {
			err = taskapi.NewError(taskapi.NotFound)
		}
		if err == nil && after > uint64(len(f.script)) {
			err = taskapi.InvalidField("after", "range")
		}
		if err == nil {
			err = f.play(ctx, after, yield)
		}
		f.mu.Lock()
		f.left = append(f.left, ctx.Err())
		f.mu.Unlock()
		if err != nil && ctx.Err() == nil {
			yield(orchestrator.Event{}, err)
		}
	}
}

func (f *fake) play(ctx context.Context, after uint64, yield func(orchestrator.Event, error) bool) error {
	for i, s := range f.script {
		id := uint64(i + 1)
		if id <= after {
			continue
		}
		if s.wait > 0 {
			select {
			case <-time.After(s.wait):
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		data, ok := s.data.(string)
		if !ok {
			raw, err := json.Marshal(s.data)
			if err != nil {
				return err
			}
			data = string(raw)
		}
		if !yield(orchestrator.Event{ID: id, Type: s.typ, Data: []byte(data)}, nil) {
			return nil
		}
	}
	if f.hang {
		<-ctx.Done()
		return ctx.Err()
	}
	return f.lateErr
}

func (f *fake) Cancel(_ context.Context, _ orchestrator.Principal, id orchestrator.TaskID) error {
	if err := f.only(id.String(), theID.String(), taskapi.NotFound); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.cancels++
	return nil
}

func (f *fake) Explain(_ context.Context, _ orchestrator.Principal, id orchestrator.TaskID) (placement.Explanation, error) {
	if err := f.only(id.String(), theID.String(), taskapi.NotFound); err != nil {
		return placement.Explanation{}, err
	}
	return placement.Explanation{DecisionID: "d-1", Winner: "n1/p1/r0"}, nil
}

func (f *fake) Models() []string { return []string{"llama3:8b", "owner/repo"} }

func (f *fake) spec(t *testing.T) orchestrator.Spec {
	t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.specs) != 1 {
		t.Fatalf("the engine saw %d submits, want 1", len(f.specs))
	}
	return f.specs[0]
}

// everyone lets every request in as one user.
func everyone(*http.Request) (orchestrator.Principal, error) {
	return orchestrator.Principal{User: "u", Roles: orchestrator.RoleUser}, nil
}

// root lets every request in with every role.
func root(*http.Request) (orchestrator.Principal, error) {
	return orchestrator.Principal{User: "u", Roles: orchestrator.RoleUser | orchestrator.RoleOperator | orchestrator.RolePrivacy}, nil
}

func handler(f *fake, edit ...func(*taskhttp.Config)) http.Handler {
	cfg := taskhttp.Config{Orchestrator: f, Authorize: everyone}
	for _, e := range edit {
		e(&cfg)
	}
	return taskhttp.New(cfg)
}

// do sends one request straight to the handler. head is "Name: value" lines.
func do(h http.Handler, method, target, body string, head ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, target, strings.NewReader(body))
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	r.Header.Set("X-Correlation-Id", "c-1")
	for _, line := range head {
		name, value, _ := strings.Cut(line, ": ")
		r.Header.Set(name, value)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

// code returns the error code of either body shape, or the status in words.
func code(w *httptest.ResponseRecorder) string {
	var body struct {
		Error struct{ Code string }
	}
	_ = json.Unmarshal(w.Body.Bytes(), &body)
	return cmp.Or(body.Error.Code, http.StatusText(w.Code))
}

// The pieces of scripts.
var (
	queued  = step{typ: orchestrator.EventQueued, data: taskapi.Queued{JobID: theID.String(), QueuePosition: 2, PredictedStartMS: 1500}}
	started = step{typ: orchestrator.EventStarted, data: taskapi.Started{
		JobID: theID.String(), QueueWaitMS: 42, Attempt: 1, Model: "llama3:8b", Engine: "llamacpp", NodeID: "n1",
		CorrelationID: "c-1", OrchestratorTS: 1_700_000_000_000,
	}}
	end = step{typ: orchestrator.EventEnd, data: taskapi.End{
		TokensOut: 2, TokensIn: 3, DecodeTimeMS: 20, FinishReason: "stop", Usage: taskapi.UsageReported,
		CorrelationID: "c-1", OrchestratorTS: 1_700_000_000_100,
	}}
)

func token(text string, i int) step {
	return step{typ: orchestrator.EventToken, data: taskapi.Token{T: text, I: i}}
}

func frame(text string) step {
	return step{typ: orchestrator.EventFrame, data: `{"choices":[{"delta":{"content":"` + text + `"}}]}`}
}

func failed(c taskapi.Code) step {
	return step{typ: orchestrator.EventError, data: taskapi.NewError(c).Event("c-1", time.UnixMilli(1_700_000_000_100))}
}

func (s step) after(d time.Duration) step { s.wait = d; return s }
