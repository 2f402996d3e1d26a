// Package poolcore runs inference engines on one host: it starts them, believes
// them only by their own identity, restarts them with back-off, and leaves no
// process behind.
//
// A [Host] owns named pools; a pool is a group of workers (engine processes) for
// one engine and model. Policy, what to run where, belongs to the caller. Nothing
// here proxies inference: whoever has a request reads a [Worker]'s URL and key and
// talks to it directly.
//
// # One owner, one pure step
//
// One goroutine per pool owns its state. A pure function decides: given state,
// event and monotonic instant it returns the next state and the effects to carry
// out. It reads no clock, draws no random number and does no I/O; effects run
// beside the loop and come back as events. [Pool.Status] reads an immutable value
// and never waits.
//
//	worker from            event                                            to
//	–                      spawned                                          starting
//	starting               probed ready with identity                       ready
//	starting               exit, stall, absolute timeout, wrong identity    failed (group killed)
//	ready ⇄ busy           active 0 ↔ more
//	ready, busy            terminate                                        stopping
//	ready, busy            exit unasked, 3 failed probes without progress   failed
//	stopping               group empty and reaped                           stopped
//	stopping               not gone 10 s after SIGKILL                      stuck
//	failed                 restart due and breaker lets it                  starting (new worker id)
//
// A pool is stopped, starting, ready, degraded (some replicas down), stopping or
// failed (nothing serves). A pool of Config.Pools, and one that was ready once, is
// restarted by the schedule 1, 2, 4, 8, 16, 32, 60, 60 s ±10 %; after five failures
// in a row the breaker keeps it down for 300 s and then admits one start.
//
// # What is not promised
//
// Isolation of a hostile engine (run it as another user or in a container),
// fairness between pools, recovery of work inside a crashed engine. When the
// embedding program is killed, engines of the simulator kind end at once; others
// live on until the next [Host.Run] over the same StateDir stops them.
//
// Engine processes need Linux. Elsewhere only external engines work.
package poolcore
