// Package deadline carries one time budget across processes that talk HTTP.
//
// A client says once how long an answer is worth waiting for. [Middleware]
// reads that statement, bounds the request's context with it and answers 504
// when the handler gave up without writing; [Transport] tells the next hop what
// is left; [Require] lets a step refuse work that can no longer finish.
//
// # Statements
//
//	X-Deadline             Unix milliseconds (13–15 digits) or RFC 3339
//	X-Request-Timeout-Ms   milliseconds from arrival, 1–10 digits; 0 is exhausted
//	grpc-timeout           1–8 digits and one of H M S m u n; 0S is exhausted
//	deadline_ms            a body field, read by the program, see [MergeRelative]
//
// The earliest one wins. A malformed, empty or repeated statement is an error,
// never ignored: a client that believes it is bounded is bounded.
//
// # Why both an absolute and a relative form travel on
//
// Clocks of two machines disagree, so the relative form limits the damage of
// skew; a relative form alone is blind to time spent in flight and in queues,
// so the absolute form limits that. Each hop takes the earlier of the two.
// X-Deadline is forwarded byte for byte, X-Request-Timeout-Ms shrinks.
//
// # Clocks
//
// A wall-clock statement is converted once, on arrival, into an instant on the
// monotonic clock. Stepping the wall clock afterwards changes nothing. There is
// no grace: a context ends at its deadline, never before it, and late only by
// what the scheduler adds.
//
// # Late
//
// Go cannot stop code that ignores its context. A handler that returns more
// than 100 ms after its deadline is reported through [Hooks].Late.
//
// # Work that outlives its request
//
// [context.WithoutCancel] keeps values, and so the deadline: [Transport] and
// [Require] refuse with it, [With] ends at once. Such work starts from a context
// of its own.
//
// Everything here may be used from several goroutines at once.
package deadline
