//go:build !race

package secrets_test

import (
	"bytes"
	"runtime"
	"testing"
)

// SCR-3: a dropped Secret is wiped. The look at borrowed bytes after Use is what
// the race detector would rightly report.
func TestDroppedSecretIsWiped(t *testing.T) {
	var kept []byte
	func() {
		s := secretOf("dropped")
		_ = s.Use(func(b []byte) error { kept = b; return nil })
	}()
	for range 10_000 {
		runtime.GC()
		if bytes.Equal(kept, make([]byte, len(kept))) {
			return
		}
		runtime.Gosched()
	}
	t.Errorf("still %q", kept)
}
