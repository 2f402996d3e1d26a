// Package orchestrator decides, for every inference request, whether to accept
// it, when it runs and on which worker, and carries the tokens back. It can say
// why, and with a durable store it survives the death of workers, nodes and of
// itself.
//
// # The path of one request
//
//  1. The program's middleware and taskhttp: correlation id, body limit,
//     Authorize, deadline.
//  2. taskapi.DecodeSubmit makes a Spec.
//  3. admit.go makes the checks of checks.go, in their order: rate, shape, context,
//     idempotency, deadline, consent, model, session, quota, whether and when a
//     worker can serve it.
//  4. seal.go seals the prompt under its person's key.
//  5. loop.go hands Submit to sched.Core, which takes a place or refuses.
//  6. store.Submit makes the task durable; concurrent calls share a commit.
//  7. Persisted lets it run.
//  8. Submit returns: the 202.
//  9. When a slot is free, one step of the core picks the task, chooses the
//     worker (placement.Decide) and reserves the slot.
//  10. store.Start returns the sealed body (dispatch.go).
//  11. worker.Adapter.Start sends the job.
//  12. Frames pass worker/sse and the event log of the task (stream.go) to each reader.
//  13. Finished gives the slot back; the core decides between retry and end,
//     settles the tenant's share and learns from what was measured;
//     store.Complete makes the end durable, then the terminal event is published.
//  14. The audit log, the metrics and one log record tell of it.
//
// # Who owns what
//
// One goroutine, the loop, owns the core (internal/sched). Everything else
// reaches it through bounded channels. Run owns every goroutine that it or the
// loop starts, and joins them. Tenants and sessions have tables of their own
// (tenants.go, sessiontable.go) with one lock each, under which nothing is written.
//
// # What it can say
//
// Explain tells why a task runs where it runs, or the one thing that it waits
// for; Preview, what would happen to a request. With Config.Decisions every step
// of the core is recorded, and package decisionlog replays it.
//
// # What is not promised
//
// A task may run again on another worker before its first published token, never
// after it: then it ends with the retriable WORKER_RESET. Equal requests may get
// unequal tokens. Nothing hides prompts from somebody who holds the seal key and
// the store together.
package orchestrator
