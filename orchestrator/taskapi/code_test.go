package taskapi_test

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/llorch/llorch/orchestrator/taskapi"
)

var update = flag.Bool("update", false, "write docs/errors.md anew")

// contract is the error table of ORC-800, row by row as the specification has it:
// the codes, their status, whether the request may be repeated, and the hint when
// the place of failure knows no better one.
func contract() []contractRow {
	const s = time.Second
	return []contractRow{
		{"INVALID_PARAMS CONTEXT_TOO_LARGE UNTRUSTED_ARTIFACT MODEL_INCOMPATIBLE", 400, false, 0, "details.field, or details.required"},
		{"DEADLINE_UNMET", 504, false, 0, "400 if the deadline is not positive; retriable, with details.earliest_finish_ms, if only the load is in the way"},
		{"UNAUTHENTICATED", 401, false, 0, ""},
		{"FORBIDDEN TENANT_MISMATCH CONSENT_REQUIRED", 403, false, 0, "details.purpose"},
		{"HOST_NOT_LISTED", 421, false, 0, ""},
		{"NOT_FOUND MODEL_NOT_FOUND SESSION_NOT_FOUND POOL_NOT_FOUND", 404, false, 0, "also for what belongs to others"},
		{"METHOD_NOT_ALLOWED", 405, false, 0, "see Allow"},
		{"CONFLICT SESSION_LIMIT", 409, false, 0, ""},
		{"OPERATION_RUNNING", 409, true, 2 * s, ""},
		{"MODEL_DEPRECATED RESUME_WINDOW_LOST SUBJECT_ERASED", 410, false, 0, "details.successor, if there is one"},
		{"BODY_TOO_LARGE", 413, false, 0, "details.limit"},
		{"UNSUPPORTED_MEDIA", 415, false, 0, ""},
		{"QUEUE_FULL QUEUE_FULL_DROP_LRU ADMISSION_REJECT", 429, true, s, "hint: until a place is free; details.policy_label"},
		{"RATE_LIMITED QUOTA_EXCEEDED", 429, true, s, "hint: of the limiter, or until the quota begins anew"},
		{"BUDGET_EXCEEDED", 429, false, 0, ""},
		{"CANCELLED", 499, false, 0, "details.reason; usually an event of the stream"},
		{"INTERNAL ENGINE_ERROR", 500, false, 0, "the correlation id only"},
		{"POOL_UNAVAILABLE REPLICA_EXHAUSTED NODE_UNAVAILABLE MODEL_NOT_AVAILABLE", 503, true, s, "details count what each filter took out"},
		{"POOL_UNREADY", 503, true, 2 * s, ""},
		{"NO_EU_WORKER_AVAILABLE NO_REGION_WORKER_AVAILABLE INSUFFICIENT_VRAM MODEL_LOAD_FAILED", 503, true, 30 * s, "details.counterfactual"},
		{"STORE_UNAVAILABLE TOO_MANY_STREAMS AUTH_UNAVAILABLE", 503, true, s, ""},
		{"SHUTTING_DOWN NO_LEADER", 503, true, 2 * s, ""},
		{"WORKER_RESET WORKER_UNREACHABLE", 503, true, 0, "at once; usually an event of the stream"},
		{"QUEUE_TIMEOUT STARTUP_TIMEOUT DECODE_TIMEOUT", 504, true, s, "usually an event of the stream"},
		{"TIMEOUT", 504, false, 0, "usually an event of the stream"},
	}
}

type contractRow struct {
	codes     string
	status    int
	retriable bool
	after     time.Duration
	remark    string
}

// TestErrorTable proves that the table in code is that of ORC-800: every code
// once, with its status, retriability and hint, and one fixed sentence.
func TestErrorTable(t *testing.T) {
	left := taskapi.Codes()
	for _, row := range contract() {
		for name := range strings.FieldsSeq(row.codes) {
			c := taskapi.Code(name)
			i := slices.Index(left, c)
			if i < 0 {
				t.Errorf("%s is not in the code, or twice in the table", c)
				continue
			}
			left = slices.Delete(left, i, i+1)
			e := taskapi.NewError(c)
			if e.HTTPStatus() != row.status || e.Retriable != row.retriable || e.RetryAfter != row.after {
				t.Errorf("%s: %d, retriable %v, after %v; want %+v", c, e.HTTPStatus(), e.Retriable, e.RetryAfter, row)
			}
			if !strings.HasSuffix(e.Message, ".") || strings.Contains(e.Message, "%") {
				t.Errorf("%s: message %q is no sentence", c, e.Message)
			}
		}
	}
	if len(left) > 0 {
		t.Errorf("not in the table, or twice in the code: %v", left)
	}
	if e := taskapi.NewError("NO_SUCH_CODE"); e.Code != taskapi.Internal || e.HTTPStatus() != 500 {
		t.Errorf("an unknown code became %s %d", e.Code, e.HTTPStatus())
	}
}

// TestErrorsPage compares docs/errors.md with the code.
func TestErrorsPage(t *testing.T) {
	const name = "../../docs/errors.md"
	page, err := os.ReadFile(name)
	if err != nil && !*update {
		t.Skip("outside the repository there is no docs/errors.md")
	}
	var want strings.Builder
	want.WriteString("# Errors\n\nWhat the orchestrator answers when it refuses, and the event `error` of a stream. Made from `orchestrator/taskapi/code.go`;\n" +
		"`go test ./taskapi -run TestErrorsPage -update` in `orchestrator` writes it anew.\n\n" +
		"The body is `{\"error\":{code, message, retriable, retry_after_ms?, correlation_id, details?}}`, on `/v1` OpenAI's `{\"error\":{message, type, code, param}}`.\n" +
		"A hint is also in `Retry-After` (whole seconds, at least 1) and in `X-Backoff-Ms`, on `/v1` in `Retry-After-Ms`; every 504 has `Retry-After`.\n" +
		"What does not exist and what belongs to somebody else is one answer.\n\n| code | status | retriable | hint | meaning |\n|---|---|---|---|---|\n")
	for _, row := range contract() {
		for c := range strings.FieldsSeq(row.codes) {
			e := taskapi.NewError(taskapi.Code(c))
			retriable, hint := "no", "–"
			if e.Retriable {
				retriable, hint = "yes", "at once"
			}
			if e.RetryAfter > 0 {
				hint = e.RetryAfter.String()
			}
			fmt.Fprintf(&want, "| `%s` | %d | %s | %s | %s |\n", c, e.HTTPStatus(), retriable, hint, strings.TrimSpace(e.Message+" "+upper(row.remark)))
		}
	}
	want.WriteString("\nWarnings are no errors and stand in `warnings` of the event `end`: `" + taskapi.WarningTruncatedByEngine + "`, `" + taskapi.WarningUsageEstimated + "`.\n")
	if *update {
		if err := os.WriteFile(name, []byte(want.String()), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if string(page) != want.String() {
		t.Errorf("%s is not what the code says; see its second line\n%s", name, want.String())
	}
}

// upper makes a remark a sentence.
func upper(s string) string {
	if s == "" {
		return ""
	}
	if !strings.HasPrefix(s, "details") {
		s = strings.ToUpper(s[:1]) + s[1:]
	}
	return s + "."
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
