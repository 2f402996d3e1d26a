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

// verifying returns a call of Verify, and checks its outcome once.
func verifying(t *testing.T, set *authmin.KeySet, token string, want error) func() {
	t.Helper()
	tok, ctx := parsed(t, token), t.Context()
	if _, err := set.Verify(ctx, tok); err != want {
		t.Fatalf("Verify = %v, want %v", err, want)
	}
	return func() { _, _ = set.Verify(ctx, tok) }
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
			verifying(t, one, wrongAt(0), authmin.ErrRejected), verifying(t, one, wrongAt(31), authmin.ErrRejected), verifying(t, one, wrongAt(63), authmin.ErrRejected),
		},
		"match at key 0, 8, 15": {verifying(t, many, "000"+secret64, nil), verifying(t, many, "008"+secret64, nil), verifying(t, many, "015"+secret64, nil)},
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

// pair is two classes of inputs whose times must look alike.
type pair struct {
	name    string
	samples int
	a, b    class
}

// class is a token, the set that it is presented to, and the outcome.
type class struct {
	token string
	set   func() *authmin.KeySet
	want  error
}

// prepare makes tokens and perhaps sets of both classes anew, in either order.
func (p pair) prepare(t *testing.T) func() (a, b func()) {
	turn := 0
	return func() (a, b func()) {
		call := func(c class) func() { return verifying(t, c.set(), c.token, c.want) }
		if turn++; turn%2 == 0 {
			b = call(p.b)
			return call(p.a), b
		}
		a = call(p.a)
		return a, call(p.b)
	}
}

func timingPairs(t *testing.T) []pair {
	const (
		samples = 1_000_000
		day     = 24 * time.Hour
	)
	rejected, expired := authmin.ErrRejected, authmin.ErrExpired
	with := func(token string, end time.Duration) func() *authmin.KeySet {
		key := authmin.Key{Name: "k", Token: parsed(t, token), NotAfter: time.Now().Add(end)}
		return func() *authmin.KeySet { return keySet(t, key) }
	}
	// sets with an expired and a live key in either order
	turn, aged, live := 0, parsed(t, "0"+secret64), parsed(t, "1"+secret64)
	both := func() *authmin.KeySet {
		turn = (turn + 1) % 3 // names ab, bc, ca
		return keySet(t, authmin.Key{Name: "abc"[turn : turn+1], Token: aged, NotAfter: time.Now().Add(-day)},
			authmin.Key{Name: "bca"[turn : turn+1], Token: live, NotAfter: time.Now().Add(day)})
	}
	one, thousand := with(secret64, day), manyKeys(t, 1000)
	many := func() *authmin.KeySet { return thousand }
	wrong := func(i int) class { return class{wrongAt(i), one, rejected} }
	first, last, none := class{"000" + secret64, many, nil}, class{"999" + secret64, many, nil}, class{"abc" + secret64, many, rejected}
	return []pair{
		{"mismatch at byte 0 or 31", samples, wrong(0), wrong(31)},
		{"mismatch at byte 0 or 63", samples, wrong(0), wrong(63)},
		{"mismatch at byte 31 or 63", samples, wrong(31), wrong(63)},
		{"configured 32 or 64 bytes", samples, class{wrongAt(5), with(secret64[:32], day), rejected}, wrong(5)},
		{"expired or live", samples, class{"0" + secret64, both, expired}, class{"1" + secret64, both, nil}},
		{"expired or unknown", samples, class{"0" + secret64, both, expired}, class{"2" + secret64, both, rejected}},
		{"guess at expired or live", samples, class{wrongAt(5), with(secret64, -day), rejected}, wrong(5)},
		// a sample takes a quarter of a millisecond
		{"match at key 0 or 999", samples / 10, first, last},
		{"match at key 0 or none", samples / 10, first, none},
		{"match at key 999 or none", samples / 10, last, none},
	}
}

// TestTimingFull (AUTH-11, G3), nightly: Welch's t-test over a million samples
// of every pair. One of three attempts must be clean, because a busy machine
// disturbs a whole attempt.
func TestTimingFull(t *testing.T) {
	if os.Getenv("LLORCH_NIGHTLY") == "" {
		t.Skip("takes minutes; set LLORCH_NIGHTLY=1")
	}
	for _, p := range timingPairs(t) {
		t.Run(p.name, func(t *testing.T) {
			var seen []float64
			for attempt := range uint64(3) {
				got := timing.MaxT(p.prepare(t), p.samples, 7+attempt)
				if seen = append(seen, got); got < 4.5 {
					t.Logf("|t| = %.2f", seen)
					return
				}
			}
			t.Errorf("|t| = %.2f, want below 4.5", seen)
		})
	}
	got := timing.MaxT(func() (a, b func()) { return naive(wrongAt(0)), naive(wrongAt(63)) }, 100_000, 7)
	if t.Logf("a naive comparison: |t| = %.0f", got); got <= 10 {
		t.Errorf("the harness does not see a naive comparison: |t| = %.1f", got)
	}
}
