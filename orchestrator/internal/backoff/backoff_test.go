package backoff

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

// TestRequest: 100 ms, doubled, at most 2 s, ±20 %, no overflow (ORC-403).
func TestRequest(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n, seed := rapid.IntRange(1, 1<<40).Draw(t, "n"), rapid.Uint64().Draw(t, "seed")
		want := 2 * time.Second
		if n <= 5 {
			want = min(want, 100*time.Millisecond<<(n-1))
		}
		if got := Request(n, seed); got < want*8/10 || got > want*12/10 || got != Request(n, seed) {
			t.Fatalf("Request(%d) = %v, want %v ±20 %%", n, got, want)
		}
	})
}

func TestSpread(t *testing.T) {
	seen := map[time.Duration]bool{}
	for seed := range uint64(100) {
		seen[Request(1, seed)] = true
	}
	if len(seen) < 30 {
		t.Errorf("100 seeds give %d different waits, want a spread", len(seen))
	}
}
