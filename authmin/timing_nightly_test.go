//go:build nightly

package authmin_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/llorch/llorch/authmin"
	"github.com/llorch/llorch/authmin/internal/timing"
)

const samples = 1_000_000

// TestTimingFull (G3): the time of Verify tells nothing. One of three attempts
// must be clean, because a busy machine disturbs a whole attempt.
func TestTimingFull(t *testing.T) {
	secret := "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	flip := func(i int) string { return secret[:i] + "~" + secret[i+1:] }
	one := keySet(t, authmin.Key{Name: "k", Token: parsed(t, secret)})
	short := keySet(t, authmin.Key{Name: "k", Token: parsed(t, secret[:32])})
	aged := keySet(t, authmin.Key{Name: "k", Token: parsed(t, secret), NotAfter: time.Now().Add(-time.Hour)})
	var keys []authmin.Key
	for i := range 1000 {
		keys = append(keys, authmin.Key{Name: fmt.Sprintf("k%03d", i), Token: parsed(t, fmt.Sprintf("%03d%s", i, secret))})
	}
	many := keySet(t, keys...)
	verify := func(set *authmin.KeySet, token string) func() {
		tok := parsed(t, token)
		return func() { _, _ = set.Verify(context.Background(), tok) }
	}
	for name, c := range map[string]struct {
		a, b    func()
		samples int
	}{
		"mismatch at 0 or 63":        {verify(one, flip(0)), verify(one, flip(63)), samples},
		"mismatch at 0 or 31":        {verify(one, flip(0)), verify(one, flip(31)), samples},
		"configured 32 or 64 bytes":  {verify(short, flip(5)), verify(one, flip(5)), samples},
		"match at key 0 or 999":      {verify(many, "000"+secret), verify(many, "999"+secret), samples / 50},
		"guess beside or far from a": {verify(aged, flip(0)), verify(aged, flip(63)), samples},
	} {
		t.Run(name, func(t *testing.T) {
			var seen []float64
			for attempt := range uint64(3) {
				got := timing.MaxT(c.a, c.b, c.samples, 7+attempt)
				if got < 4.5 {
					return
				}
				seen = append(seen, got)
			}
			t.Errorf("|t| = %.1f, want below 4.5", seen)
		})
	}
	naive := func(guess string) func() {
		return func() {
			for i := range len(secret) {
				if secret[i] != guess[i] {
					return
				}
			}
		}
	}
	if got := timing.MaxT(naive(flip(0)), naive(strings.Clone(secret)), samples/10, 7); got < 10 {
		t.Errorf("the harness does not see a naive comparison: |t| = %.1f", got)
	}
}
