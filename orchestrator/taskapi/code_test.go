package taskapi_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/llorch/llorch/orchestrator/taskapi"
)

// TestTable proves that the table of ORC-800 is whole: every code once, a
// status that HTTP knows as an error, one fixed sentence.
func TestTable(t *testing.T) {
	codes := taskapi.Codes()
	seen := slices.Clone(codes)
	slices.Sort(seen)
	if n := len(slices.Compact(seen)); n != len(codes) {
		t.Errorf("%d of %d codes are different", n, len(codes))
	}
	for _, c := range codes {
		e := taskapi.NewError(c)
		if e.Code != c || c.Status() < 400 || c.Status() > 599 {
			t.Errorf("%s: code %s, status %d", c, e.Code, c.Status())
		}
		if !strings.HasSuffix(e.Message, ".") || strings.Contains(e.Message, "%") {
			t.Errorf("%s: message %q is no sentence", c, e.Message)
		}
		if e.RetryAfter > 0 && !e.Retriable {
			t.Errorf("%s says when to come back, but not that it may help", c)
		}
		if retriable := c.Status() == 429 || c.Status() == 503; retriable && !e.Retriable {
			t.Errorf("%s has status %d and is not retriable", c, c.Status())
		}
	}
	if e := taskapi.NewError("NO_SUCH_CODE"); e.Code != taskapi.Internal || e.HTTPStatus() != 500 {
		t.Errorf("an unknown code became %s %d", e.Code, e.HTTPStatus())
	}
}

func TestErrorIsItsCode(t *testing.T) {
	cause := errors.New("disk on fire")
	e := taskapi.NewError(taskapi.StoreUnavailable)
	e.Err = cause
	err := fmt.Errorf("submit task: %w", e)
	if !errors.Is(err, taskapi.StoreUnavailable) || errors.Is(err, taskapi.QueueFull) || !errors.Is(err, cause) {
		t.Errorf("errors.Is is wrong for %v", err)
	}
	for _, v := range []any{e.Body("c-1"), e.OpenAI(), e.Event("c-1", time.Now())} {
		if raw, _ := json.Marshal(v); strings.Contains(string(raw), "fire") {
			t.Errorf("the cause leaves the server: %s", raw)
		}
	}
}

// TestEventCarriesTheError: an error event and the error are one thing in two forms.
func TestEventCarriesTheError(t *testing.T) {
	e := taskapi.NewError(taskapi.QueueFull).With("policy_label", "reject")
	e.RetryAfter = 1500 * time.Millisecond
	ev := e.Event("c-1", time.UnixMilli(1_700_000_000_123))
	raw, err := json.Marshal(ev)
	if err != nil {
		t.Fatal(err)
	}
	const want = `{"code":"QUEUE_FULL","message":"The queue is full.","retriable":true,"retry_after_ms":1500,` +
		`"correlation_id":"c-1","details":{"policy_label":"reject"},"orchestrator_ts":1700000000123}`
	if string(raw) != want {
		t.Errorf("event = %s\nwant    %s", raw, want)
	}
	back := ev.Err()
	if back.Code != e.Code || back.RetryAfter != e.RetryAfter || !back.Retriable || back.Details["policy_label"] != "reject" {
		t.Errorf("back = %+v", back)
	}
}

// TestOpenAIShape proves the second body shape of ORC-766.
func TestOpenAIShape(t *testing.T) {
	for code, want := range map[taskapi.Code]string{
		taskapi.InvalidParams: "invalid_request_error", taskapi.Unauthenticated: "authentication_error",
		taskapi.Forbidden: "permission_error", taskapi.ModelNotFound: "not_found_error", taskapi.Conflict: "conflict_error",
		taskapi.QueueFull: "rate_limit_error", taskapi.PoolUnavailable: "server_error", taskapi.Internal: "server_error",
	} {
		raw, _ := json.Marshal(taskapi.NewError(code).OpenAI())
		if !strings.Contains(string(raw), `"type":"`+want+`"`) || !strings.Contains(string(raw), `"param":null`) {
			t.Errorf("%s = %s, want type %s", code, raw, want)
		}
	}
	raw, _ := json.Marshal(taskapi.InvalidField("max_tokens", "range").OpenAI())
	if !strings.Contains(string(raw), `"param":"max_tokens"`) {
		t.Errorf("param missing: %s", raw)
	}
}
