package poolcore

import (
	"cmp"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"

	"github.com/llorch/llorch/poolregistry"
)

// Worker is one worker with the key that its requests need. fmt, slog and
// encoding/json leave the key out.
type Worker struct {
	poolregistry.Worker
	Token string
}

// Format writes the worker without its key.
func (w Worker) Format(f fmt.State, _ rune) {
	fmt.Fprintf(f, "worker{worker_id:%q status:%s url:%q token:[redacted]}", string(w.ID), string(w.Status), w.URL)
}

// LogValue returns the worker without its key.
func (w Worker) LogValue() slog.Value { return slog.StringValue(fmt.Sprint(w)) }

// MarshalJSON writes the worker of the node contract, without the key.
func (w Worker) MarshalJSON() ([]byte, error) { return json.Marshal(w.Worker) }

// view is what a pool shows; it is replaced as a whole and never changed.
type view struct {
	status   poolregistry.Pool // without workers and device memory
	workers  []Worker
	phase    string
	restarts int
	breaker  string
	active   int
}

// publish shows the loop's state to readers.
func (p *Pool) publish() {
	s := &p.state
	v := &view{phase: s.phase, restarts: s.restarts, breaker: s.breaker.state, active: s.active}
	st := poolregistry.Pool{
		ID: p.id, State: contractState(s.phase), Engine: p.cfg.Engine, EngineVersion: p.cfg.EngineVersion, ActiveLeases: s.active,
		Idle: s.active == 0, Batching: p.cfg.Slots > 1, Breaker: s.breaker.state, Restarts: s.restarts,
	}
	for i := range s.places {
		pl := &s.places[i]
		w := p.worker(i, pl.gen)
		if w == nil || pl.status == stopped {
			continue
		}
		v.workers = append(v.workers, p.show(w, pl, s.restarts))
		st.Live = st.Live || pl.alive
		if pl.serving() {
			st.Ready = true
			st.SlotsTotal += pl.slots
		}
	}
	slices.SortFunc(v.workers, func(a, b Worker) int { return cmp.Compare(a.ID, b.ID) })
	st.SlotsFree = max(0, st.SlotsTotal-s.active)
	if p.cfg.Model != "" {
		st.ModelsAvailable = []poolregistry.Model{{Ref: p.cfg.Model}}
		if st.Ready {
			st.ModelsLoaded = []string{p.cfg.Model}
		}
	}
	if f := s.lastErr; f != nil {
		st.LastError = &poolregistry.PoolError{Code: string(f.errorCode()), Message: lastMessage(*f)}
	}
	v.status = st
	p.view.Store(v)
}

// contractState maps a phase to the states of the node contract. A degraded pool
// is ready: it serves, with fewer slots.
func contractState(phase string) poolregistry.PoolState {
	switch phase {
	case starting:
		return "initializing"
	case ready, degraded:
		return "ready"
	case failed:
		return "failed"
	}
	return "offline"
}

func (p *Pool) show(w *worker, pl *place, restarts int) Worker {
	out := Worker{Token: w.token, Worker: poolregistry.Worker{
		ID: w.id, Status: poolregistry.WorkerStatus(pl.status), URL: w.url, ModelRef: p.cfg.Model, Quant: p.cfg.Quant,
		Engine: p.cfg.Engine, EngineVersion: p.cfg.EngineVersion, Protocol: "openai", CtxMax: p.cfg.Ctx,
		SlotsTotal: pl.slots, RestartCount: restarts, StartedAt: w.began,
	}}
	switch pl.status {
	case ready:
		out.SlotsFree = pl.slots
	case busy: // the only serving worker: the pool's count is its own
		out.SlotsFree = max(0, pl.slots-p.state.active)
	}
	return out
}

// lastMessage is one of this package's sentences with the class of a crash.
func lastMessage(f failure) string {
	text := f.message
	if f.class != "" {
		text += " (" + f.class + ")"
	}
	return text[:min(len(text), 256)]
}
