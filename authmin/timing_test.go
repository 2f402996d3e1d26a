package authmin_test

import (
	"crypto/sha256"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/llorch/llorch/authmin"
	"github.com/llorch/llorch/authmin/internal/timing"
)

const secret64 = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"

// wrongAt is the secret with another byte in one place.
func wrongAt(i int) string { return secret64[:i] + "~" + secret64[i+1:] }

// naive is what nobody should do: it stops at the first difference.
func naive(guess string) func() {
	secret, guess := strings.Clone(secret64), strings.Clone(guess)
	return func() {
		for i := range len(secret) {
			if secret[i] != guess[i] {
				return
			}
		}
	}
}

// verifying returns a call of Verify, and checks its outcome once. The calls take
// turns with copies of the token in many places, and with the sets, because the
// place of one in memory alone makes a difference that the test would see.
func verifying(t *testing.T, token string, want error, sets ...*authmin.KeySet) func() {
	t.Helper()
	var tokens [61]authmin.Token // prime, so that all pairs of token and set come
	for i := range tokens {
		text := append(make([]byte, i, i+len(token)), token...)
		tokens[i] = parsed(t, string(text)[i:]) // elsewhere, also within a cache line
	}
	ctx, next := t.Context(), 0
	for _, set := range sets {
		if _, err := set.Verify(ctx, tokens[0]); err != want {
			t.Fatalf("Verify = %v, want %v", err, want)
		}
	}
	return func() {
		next++
		_, _ = sets[next%len(sets)].Verify(ctx, tokens[next%len(tokens)])
	}
}

// agedAndLive returns sets with an expired key whose token is "0"+secret64 and a
// live one whose token is "1"+secret64, in either order.
func agedAndLive(t *testing.T) (sets []*authmin.KeySet) {
	day := 24 * time.Hour
	for i := range 32 {
		sets = append(sets, keySet(t,
			authmin.Key{Name: fmt.Sprintf("%02d", i*7%32), Token: parsed(t, "0"+secret64), NotAfter: time.Now().Add(-day)},
			authmin.Key{Name: fmt.Sprintf("%02d", i*5%32), Token: parsed(t, "1"+secret64), NotAfter: time.Now().Add(day)}))
	}
	return sets
}

// manyKeys returns a set whose key at place i has the token "<i>"+secret64.
func manyKeys(t *testing.T, n int) *authmin.KeySet {
	keys := make([]authmin.Key, n)
	for i := range keys {
		keys[i] = authmin.Key{Name: fmt.Sprintf("k%03d", i), Digest: sha256.Sum256(fmt.Appendf(nil, "%03d%s", i, secret64))}
	}
	return keySet(t, keys...)
}

// TestTimingQuick (AUTH-11, G3): the time of Verify tells neither where a guess
// is wrong nor which key matches. The spread is that of medians, so that
// interruptions of a busy machine fall away; what is left passes in one of three
// attempts.
func TestTimingQuick(t *testing.T) {
	iterations := 100_000 // per position
	if testing.Short() {
		iterations = 10_000 // the race detector makes calls slow and times meaningless
	}
	one, many := keySet(t, authmin.Key{Name: "k", Token: parsed(t, secret64)}), manyKeys(t, 16)
	for name, calls := range map[string][]func(){
		"mismatch at 0, 31, 63": {
			verifying(t, wrongAt(0), authmin.ErrRejected, one), verifying(t, wrongAt(31), authmin.ErrRejected, one), verifying(t, wrongAt(63), authmin.ErrRejected, one),
		},
		"match at key 0, 8, 15": {verifying(t, "000"+secret64, nil, many), verifying(t, "008"+secret64, nil, many), verifying(t, "015"+secret64, nil, many)},
	} {
		seen := []float64{}
		for attempt := range uint64(3) {
			got := timing.Spread(iterations/timing.Batch, 1+attempt, calls...)
			if seen = append(seen, got); got < 0.1 {
				break
			}
		}
		if seen[len(seen)-1] >= 0.1 {
			t.Errorf("%s: the medians differ by %.3f, want below 0.1", name, seen)
		}
	}
	if got := timing.Spread(iterations/timing.Batch, 1, naive(wrongAt(0)), naive(wrongAt(31)), naive(wrongAt(63))); got < 0.1 {
		t.Errorf("the harness does not see a naive comparison: %.3f", got)
	}
}

// TestTimingFull (AUTH-11, G3), nightly: Welch's t-test over a million samples
// of every pair. One of three attempts must be clean, because a busy machine
// disturbs a whole attempt.
func TestTimingFull(t *testing.T) {
	if os.Getenv("LLORCH_NIGHTLY") == "" {
		t.Skip("takes minutes; set LLORCH_NIGHTLY=1")
	}
	const samples = 1_000_000
	one := keySet(t, authmin.Key{Name: "k", Token: parsed(t, secret64)})
	short := keySet(t, authmin.Key{Name: "k", Token: parsed(t, secret64[:32])})
	day := 24 * time.Hour
	aged := keySet(t, authmin.Key{Name: "k", Token: parsed(t, secret64), NotAfter: time.Now().Add(-day)})
	live := keySet(t, authmin.Key{Name: "k", Token: parsed(t, secret64), NotAfter: time.Now().Add(day)})
	both := agedAndLive(t)
	many := manyKeys(t, 1000)
	first, last := verifying(t, "000"+secret64, nil, many), verifying(t, "999"+secret64, nil, many)
	none := verifying(t, "abc"+secret64, authmin.ErrRejected, many)
	wrong := func(i int) func() { return verifying(t, wrongAt(i), authmin.ErrRejected, one) }
	for _, c := range []struct {
		name    string
		a, b    func()
		samples int
	}{
		{"mismatch at byte 0 or 31", wrong(0), wrong(31), samples},
		{"mismatch at byte 0 or 63", wrong(0), wrong(63), samples},
		{"mismatch at byte 31 or 63", wrong(31), wrong(63), samples},
		{"configured 32 or 64 bytes", verifying(t, wrongAt(5), authmin.ErrRejected, short), wrong(5), samples},
		{"expired or live", verifying(t, "0"+secret64, authmin.ErrExpired, both...), verifying(t, "1"+secret64, nil, both...), samples},
		{"expired or unknown", verifying(t, "0"+secret64, authmin.ErrExpired, both...), verifying(t, "2"+secret64, authmin.ErrRejected, both...), samples},
		{"guess at expired or live", verifying(t, wrongAt(5), authmin.ErrRejected, aged), verifying(t, wrongAt(5), authmin.ErrRejected, live), samples},
		{"match at key 0 or 999", first, last, samples / 10},
		{"match at key 0 or none", first, none, samples / 10},
		{"match at key 999 or none", last, none, samples / 10},
	} {
		t.Run(c.name, func(t *testing.T) {
			var seen []float64
			for attempt := range uint64(3) {
				got := timing.MaxT(c.a, c.b, c.samples, 7+attempt)
				if seen = append(seen, got); got < 4.5 {
					t.Logf("|t| = %.2f", seen)
					return
				}
			}
			t.Errorf("|t| = %.2f, want below 4.5", seen)
		})
	}
	got := timing.MaxT(naive(wrongAt(0)), naive(wrongAt(63)), samples/10, 7)
	if t.Logf("a naive comparison: |t| = %.0f", got); got <= 10 {
		t.Errorf("the harness does not see a naive comparison: |t| = %.1f", got)
	}
}
