// Package backoff holds the request schedule of the suite: 100 ms, doubled, at
// most 2 s, ±20 %. The restart schedule (1 s to 60 s) lives with its users,
// poolcore and poolregistry/nodeagent.
package backoff

import "time"

// Bounds of the request schedule (ORC-403).
const (
	first = 100 * time.Millisecond
	limit = 2 * time.Second
)

// Request returns the wait before try n+1 after n ≥ 1 failures. The spread is
// taken from seed, so that equal inputs wait equally long.
func Request(n int, seed uint64) time.Duration {
	d := limit
	if n < 6 {
		d = min(limit, first<<max(0, n-1))
	}
	seed = (seed ^ uint64(n)) * 0x9e3779b97f4a7c15 // spreads neighbouring seeds
	permille := int64(seed>>32) % 401              // 0…400
	return d * time.Duration(800+permille) / 1000
}
