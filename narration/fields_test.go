package narration_test

import (
	"context"
	"crypto/sha256"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/llorch/llorch/narration"
	"github.com/llorch/llorch/narration/narrationtest"
)

// NAR-14, NAR-15: stand-ins for personal data, error kinds, durations.
func TestFields(t *testing.T) {
	n, rec := narrationtest.Capture(t)
	n.Logger().Info("x", narration.Prompt("tell me"), narration.Tenant("acme"), narration.Err(fmt.Errorf("call: %w", context.DeadlineExceeded)), narration.Ms("took_ms", 1234567*time.Nanosecond))
	n.Logger().Info("x", narration.Err(nil), narration.Err(kinded{}), narration.Err((*typedNil)(nil)))
	got := rec.All()[0]
	for key, want := range map[string]any{
		"prompt_sha256": fmt.Sprintf("%x", sha256.Sum256([]byte("tell me"))), "prompt_length": 7.0, "error": "call: context deadline exceeded", "error_kind": "timeout", "took_ms": 1.235,
	} {
		if v, _ := got.Field(key); v != want {
			t.Errorf("%s = %v, want %v", key, v, want)
		}
	}
	if fp, _ := got.Fields["tenant_fp6"].(string); len(fp) != 6 || strings.Contains(got.Raw, "acme") || strings.Contains(got.Raw, "tell me") {
		t.Error(got.Raw)
	}
	if got := rec.All()[1]; got.Fields["error_kind"] != "other" || !strings.Contains(got.Raw, `"error_kind":"mine"`) {
		t.Error(got.Raw)
	}
}

type kinded struct{}

func (kinded) Error() string     { return "x" }
func (kinded) ErrorKind() string { return "mine" }
