// Package observe is how the orchestrator tells what it does: one interface
// with one method and a closed set of event structs. Metrics, the wide log
// record and the audit log implement it; nothing else hooks into the engine.
package observe

// Observer hears of events. Observe is called by many goroutines at once, never
// by the scheduling loop; it must not block for long. A panic in it is
// recovered and switches the observer off.
type Observer interface {
	Observe(Event)
}

// Event is one of the structs of this package.
type Event interface{ event() }

// All passes every event to each observer, in order. Nil ones are left out.
func All(observers ...Observer) Observer {
	var out all
	for _, o := range observers {
		if o != nil {
			out = append(out, o)
		}
	}
	return out
}

type all []Observer

func (a all) Observe(e Event) {
	for _, o := range a {
		o.Observe(e)
	}
}
