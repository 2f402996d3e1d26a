// Package poolcore runs inference engines on one host: it starts them, believes
// them only by their own identity, restarts them with back-off, drains and replaces
// them without losing work, and leaves no process behind.
//
// A [Host] owns named pools; a pool is a group of workers (engine processes) for
// one engine, model and device mask. Policy, what to run where, belongs to the
// caller. Nothing here proxies inference: whoever has a request reads a [Worker]'s
// URL and key and talks to it directly. A program without an orchestrator counts its
// requests with [Pool.Acquire]; an orchestrator tells its counts by [Host.Reply].
//
// # One owner, one pure step
//
// One goroutine per pool owns its state. A pure function decides: given state,
// event and monotonic instant it returns the next state and the effects to carry
// out. It reads no clock, draws no random number and does no I/O; effects run
// beside the loop and come back as events. [Pool.Status] reads an immutable value
// and never waits.
//
// The table of a worker; "–" is a place without one, and what is said of ready
// workers holds for busy ones too, except for the event work:
//
//	from                                 event           to
//	–                                    start           spawning
//	–                                    adopted         starting
//	spawning                             spawned         starting
//	spawning                             not started     failed
//	failed                               port taken      spawning
//	starting                             ready           ready
//	busy                                 work            ready
//	ready                                work            busy
//	starting, ready, draining            wrong identity  failed
//	starting                             too late        failed
//	ready, draining                      no answer       failed
//	starting, ready, draining            exit            failed
//	starting, ready                      device          failed
//	failed                               due             spawning
//	stopped, failed                      again           spawning
//	failed                               restart         spawning
//	starting, ready                      restart         stopping
//	–                                    reload          spawning
//	draining                             reload          stopping
//	failed                               reload          stopped
//	–, stopped                           rollback        spawning
//	draining                             rollback        ready
//	spawning, starting, ready            rollback        stopping
//	failed                               rollback        stopped
//	ready                                drain           draining
//	spawning, starting                   drain           stopping
//	–, stopped, failed                   undrain         spawning
//	draining                             undrain         ready
//	–, stopped, failed                   healthy         spawning
//	draining                             healthy         ready
//	draining                             drained         stopping
//	failed                               drained         stopped
//	spawning, starting, ready, draining  unbind          stopping
//	failed                               unbind          stopped
//	spawning, starting, ready            undo            stopping
//	failed                               undo            stopped
//	spawning, starting, ready, draining  stop            stopping
//	failed                               stop            stopped
//	stopping, stuck                      gone            stopped
//	stopping, failed                     survives        stuck
//	stopped                              kept            failed
//
// The table of a pool. It is ready when all its places serve, degraded when some
// do, drained when nothing runs there any more, and failed when nothing serves and
// nothing is coming by itself:
//
//	from       to
//	stopped    staging, starting, draining, drained, reloading, failed
//	staging    stopped, starting, failed
//	starting   ready, degraded, draining, drained, reloading, stopping, failed
//	ready      starting, degraded, draining, reloading, stopping, failed
//	degraded   starting, ready, draining, reloading, stopping, failed
//	draining   stopped, starting, ready, degraded, drained, reloading, stopping, failed
//	drained    stopped, starting, ready, degraded, stopping, failed
//	reloading  starting, ready, degraded, draining, drained, stopping, failed
//	stopping   stopped, failed
//	failed     stopped, staging, starting, draining, drained, reloading, stopping
//
// A pool of Config.Pools, and one that was ready once, is restarted by the schedule
// 1, 2, 4, 8, 16, 32, 60, 60 s ±10 %; after five failures in a row the breaker keeps
// it down for 300 s and then admits one start.
//
// # What is not promised
//
// Isolation of a hostile engine (run it as another user or in a container),
// fairness between pools, recovery of work inside a crashed engine, exact
// prediction of memory before the first load. Engine processes need Linux.
// Elsewhere only external engines work.
package poolcore
