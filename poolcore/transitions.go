package poolcore

// A workerTransition is one row of the table of a worker. What is said of ready
// workers holds for busy ones too, except for the event "work".
type workerTransition struct {
	from  []string // "": a place without a worker
	event string
	to    string
}

// workerTransitions is the table of a worker. The package comment and
// docs/state-machines.md show it, and every transition that decide makes is in it.
func workerTransitions() []workerTransition {
	return []workerTransition{
		{[]string{idle}, "start", spawning},
		{[]string{idle}, "adopted", starting},
		{[]string{spawning}, "spawned", starting},
		{[]string{spawning}, "not started", failed},
		{[]string{failed}, "port taken", spawning},
		{[]string{starting}, "ready", ready},
		{[]string{busy}, "work", ready},
		{[]string{ready}, "work", busy},
		{[]string{starting, ready, draining}, "wrong identity", failed},
		{[]string{starting}, "too late", failed},
		{[]string{ready, draining}, "no answer", failed},
		{[]string{starting, ready, draining}, "exit", failed},
		{[]string{starting, ready}, "device", failed},
		{[]string{failed}, "due", spawning},
		{[]string{stopped, failed}, "again", spawning},
		{[]string{failed}, "restart", spawning},
		{[]string{starting, ready}, "restart", stopping},
		{[]string{idle}, "reload", spawning},
		{[]string{draining}, "reload", stopping},
		{[]string{failed}, "reload", stopped},
		{[]string{idle, stopped}, "rollback", spawning},
		{[]string{draining}, "rollback", ready},
		{[]string{spawning, starting, ready}, "rollback", stopping},
		{[]string{failed}, "rollback", stopped},
		{[]string{ready}, "drain", draining},
		{[]string{spawning, starting}, "drain", stopping},
		{[]string{idle, stopped, failed}, "undrain", spawning},
		{[]string{draining}, "undrain", ready},
		{[]string{idle, stopped, failed}, "healthy", spawning},
		{[]string{draining}, "healthy", ready},
		{[]string{draining}, "drained", stopping},
		{[]string{failed}, "drained", stopped},
		{[]string{spawning, starting, ready, draining}, "unbind", stopping},
		{[]string{failed}, "unbind", stopped},
		{[]string{spawning, starting, ready}, "undo", stopping},
		{[]string{failed}, "undo", stopped},
		{[]string{spawning, starting, ready, draining}, "stop", stopping},
		{[]string{failed}, "stop", stopped},
		{[]string{stopping, stuck}, "gone", stopped},
		{[]string{stopping, failed}, "survives", stuck},
		{[]string{stopped}, "kept", failed},
	}
}

// A poolTransition is one row of the table of a pool: where it may go from a phase.
type poolTransition struct {
	from string
	to   []string
}

// poolTransitions is the table of a pool. Phases are derived from the workers after
// each event, so that one event can pass through several.
func poolTransitions() []poolTransition {
	return []poolTransition{
		{stopped, []string{staging, starting, draining, reloading, failed}},
		{staging, []string{stopped, starting, failed}},
		{starting, []string{ready, degraded, draining, reloading, stopping, failed}},
		{ready, []string{starting, degraded, draining, reloading, stopping, failed}},
		{degraded, []string{starting, ready, draining, reloading, stopping, failed}},
		{draining, []string{stopped, starting, ready, degraded, drained, reloading, stopping, failed}},
		{drained, []string{stopped, starting, ready, degraded, stopping, failed}},
		{reloading, []string{starting, ready, degraded, draining, stopping, failed}},
		{stopping, []string{stopped, failed}},
		{failed, []string{stopped, staging, starting, draining, drained, reloading, stopping}},
	}
}
