package poolhttp_test

import (
	"context"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/llorch/llorch/deadline"
	"github.com/llorch/llorch/inputvalidation"
	"github.com/llorch/llorch/poolcore"
	"github.com/llorch/llorch/poolcore/catalog"
	"github.com/llorch/llorch/poolcore/fetch"
	"github.com/llorch/llorch/poolcore/poolhttp"
)

// codesOf reads the constants of type Code in a package's sources.
func codesOf(t *testing.T, dir string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil || len(files) == 0 {
		t.Fatal(dir, err)
	}
	var codes []string
	for _, name := range files {
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			spec, ok := n.(*ast.ValueSpec)
			if !ok || len(spec.Values) != 1 {
				return true
			}
			if id, ok := spec.Type.(*ast.Ident); !ok || id.Name != "Code" {
				return true
			}
			if lit, ok := spec.Values[0].(*ast.BasicLit); ok {
				code, err := strconv.Unquote(lit.Value)
				if err != nil {
					t.Fatal(err)
				}
				codes = append(codes, code)
			}
			return false
		})
	}
	return codes
}

// TestTableHoldsEveryCode (PCO-75): every code of poolcore, catalog and fetch that
// can reach a caller has a row with the status of the specification, and every row
// is such a code or one of HTTP's own.
func TestTableHoldsEveryCode(t *testing.T) {
	// Refusals of catalog.Open: a program that sees one serves nothing.
	never := []string{"CATALOG_LOCKED", "CATALOG_DAMAGED", "CATALOG_NEWER"}
	known := []string{
		"UNAUTHORIZED", "FORBIDDEN", "NOT_FOUND", "OPERATION_NOT_FOUND", "METHOD_NOT_ALLOWED", "BODY_TOO_LARGE", "UNSUPPORTED_MEDIA_TYPE",
		"TOO_MANY_REQUESTS", "INTERNAL", "UNAVAILABLE", "DEADLINE_EXCEEDED",
	}
	for _, dir := range []string{"..", "../catalog", "../fetch"} {
		codes := codesOf(t, dir)
		if len(codes) < 10 {
			t.Errorf("%s: %d codes", dir, len(codes))
		}
		known = append(known, codes...)
	}
	seen := map[string]int{}
	for i, r := range poolhttp.Table() {
		if seen[r.Code] != 0 || r.Status < 400 || r.Status > 599 || r.Message == "" || i > 0 && poolhttp.Table()[i-1].Status > r.Status {
			t.Errorf("row %+v", r)
		}
		if (r.Status == 503 || r.Status == 504 || r.Status == 429) && r.Retry == 0 {
			t.Errorf("%s has no hint when to try again", r.Code)
		}
		seen[r.Code] = r.Status
		if !slices.Contains(known, r.Code) {
			t.Errorf("nobody says %s", r.Code)
		}
	}
	for _, code := range known {
		if seen[code] == 0 && !slices.Contains(never, code) {
			t.Errorf("%s has no row", code)
		}
	}
	for status, codes := range map[int]string{
		400: "INVALID_PARAMS DEVICE_MASK_INVALID ALIAS_NOT_ALLOWED MODEL_INCOMPATIBLE UNTRUSTED_ARTIFACT",
		403: "BINARY_NOT_ALLOWED FLAG_NOT_ALLOWED",
		404: "POOL_UNKNOWN WORKER_NOT_FOUND MODEL_NOT_FOUND",
		409: "POOL_EXISTS POOL_BUSY MODEL_IN_USE DRAINING MODEL_RETIRED BINARY_MISSING BINARY_NOT_EXECUTABLE MODEL_MISSING MODEL_UNVERIFIED CTX_TOO_LARGE COMPUTE_CAPABILITY PORT_UNAVAILABLE CONFLICTING_WORKER ENV_NOT_ALLOWED DIR_NOT_WRITABLE",
		500: "WORKER_START_FAILED WORKER_START_TIMEOUT RELOAD_STAGE_FAILED RELOAD_DRAIN_TIMEOUT RELOAD_ROLLED_BACK RELOAD_ROLLBACK_FAILED",
		503: "INSUFFICIENT_VRAM INSUFFICIENT_RAM INSUFFICIENT_DISK GPU_UNAVAILABLE GPU_UNHEALTHY POOL_UNREADY BREAKER_OPEN",
		504: "DEADLINE_EXCEEDED",
	} {
		for code := range strings.FieldsSeq(codes) {
			if seen[code] != status {
				t.Errorf("%s is %d, want %d", code, seen[code], status)
			}
		}
	}
}

// TestExplain (PCO-75): what becomes of each kind of error.
func TestExplain(t *testing.T) {
	preflight := &poolcore.PreflightError{Faults: []poolcore.Fault{{Code: poolcore.InsufficientVRAM, Detail: "need 2 bytes, free 1"}, {Code: poolcore.BinaryMissing, Detail: "b"}}}
	crash := &poolcore.CrashError{Class: "oom_vram", ExitCode: 1, Tail: []string{"last words"}}
	_, badRef := inputvalidation.ParseModelRef("model_ref", "hf:")
	_, badWait := deadline.FromHeader(map[string][]string{"X-Deadline": {"canary"}}, time.Time{})
	for name, c := range map[string]struct {
		err    error
		status int
		code   string
		text   string // in the details
		retry  time.Duration
	}{
		"preflight":          {fmt.Errorf("x: %w", preflight), 503, "INSUFFICIENT_VRAM", "{INSUFFICIENT_VRAM need 2 bytes, free 1} {BINARY_MISSING b}", 10 * time.Second},
		"reload's preflight": {fmt.Errorf("%w: %w", poolcore.ReloadStageFailed, preflight), 500, "RELOAD_STAGE_FAILED", "BINARY_MISSING", 0},
		"crash":              {crash, 500, "WORKER_START_FAILED", "oom_vram [last words]", 0},
		"start timeout":      {&poolcore.CrashError{Class: "start_timeout"}, 500, "WORKER_START_TIMEOUT", "start_timeout", 0},
		"configuration": {
			fmt.Errorf("preload pool: %w", errors.Join(fmt.Errorf("ctx is out of range: %w", poolcore.InvalidParams), fmt.Errorf("env: %w", poolcore.EnvNotAllowed))),
			400, "INVALID_PARAMS", "[ctx is out of range: INVALID_PARAMS env: ENV_NOT_ALLOWED]", 0,
		},
		"busy":          {fmt.Errorf("reload pool: %w", poolcore.PoolBusy), 409, "POOL_BUSY", "", time.Second},
		"breaker":       {poolcore.BreakerOpen, 503, "BREAKER_OPEN", "", time.Minute},
		"catalogue":     {&catalog.Error{Code: catalog.InsufficientDisk, Detail: "1 byte is missing"}, 503, "INSUFFICIENT_DISK", "1 byte is missing", time.Minute},
		"fetch":         {&fetch.Error{Code: fetch.Unreachable, Host: "canary", Hint: "no way", Retriable: true, RetryAfter: 5 * time.Minute}, 502, "FETCH_FAILED", "no way", 5 * time.Minute},
		"cancelled":     {fmt.Errorf("%w: %w", poolcore.Cancelled, context.Canceled), 409, "CANCELLED", "", 0},
		"reference":     {badRef, 400, "INVALID_PARAMS", "model_ref: ", 0},
		"statement":     {badWait, 400, "INVALID_PARAMS", "X-Deadline: ", 0},
		"insufficient":  {&deadline.Insufficient{Need: 2, Remaining: 1}, 504, "DEADLINE_EXCEEDED", "", time.Second},
		"passed":        {&deadline.Exceeded{}, 504, "DEADLINE_EXCEEDED", "", time.Second},
		"anything else": {errors.New("open /canary: canary"), 500, "INTERNAL", "", time.Second},
		"no preflight":  {&poolcore.PreflightError{}, 500, "INTERNAL", "", time.Second},
	} {
		d, status := poolhttp.Explain(c.err)
		details := ""
		if d.Details != nil {
			details = fmt.Sprint(*d.Details)
		}
		if status != c.status || d.Code != c.code || !strings.Contains(details, c.text) || (c.text == "") != (details == "") {
			t.Errorf("%s: %d %s %s", name, status, d.Code, details)
		}
		if d.Retriable != (c.retry > 0) || d.RetryAfterMS != c.retry.Milliseconds() {
			t.Errorf("%s: retriable %v after %d ms, want %v", name, d.Retriable, d.RetryAfterMS, c.retry)
		}
		if strings.Contains(details+d.Message, "canary") {
			t.Errorf("%s repeats what it should not: %s", name, details)
		}
	}
}
