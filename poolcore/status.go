package poolcore

import (
	"cmp"
	"crypto/subtle"
	"encoding/json"
	"fmt"
	"iter"
	"log/slog"
	"slices"
	"strings"

	"github.com/llorch/llorch/poolcore/engine"
	"github.com/llorch/llorch/poolregistry"
)

// Worker is one worker with the key that its requests need. fmt, slog and
// encoding/json leave the key out.
type Worker struct {
	poolregistry.Worker
	Token   string
	Replica string // its place: r0 … r63
	PID     int    // 0: it has no process here
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
	sources  []*worker // of workers, in the same order
	gens     []uint64
	cfg      PoolConfig
	kind     engine.Kind
	phase    string
	restarts int
	breaker  string
	active   int
}

// publish shows the loop's state to readers.
func (p *Pool) publish() {
	s := &p.state
	ed := p.editions[s.edition]
	active := s.work.known() + s.held()
	v := &view{phase: s.phase, restarts: s.restarts, breaker: s.breaker.state, active: active, cfg: ed.cfg, kind: ed.kind}
	st := poolregistry.Pool{
		ID: p.id, State: contractState(s), Engine: ed.cfg.Engine, EngineVersion: ed.cfg.EngineVersion, ActiveLeases: active,
		Idle: active == 0, Batching: ed.cfg.Slots > 1, Breaker: s.breaker.state, Restarts: s.restarts, DeviceMask: maskList(ed.cfg.Devices),
		Draining: s.drain.on || s.reload.on && s.reload.phase == phaseDraining,
	}
	used := s.work.known()
	for i := range s.places {
		pl := &s.places[i]
		w := p.workers[pl.gen]
		if w == nil || pl.status == stopped {
			continue
		}
		v.workers, v.sources, v.gens = append(v.workers, p.show(w, pl)), append(v.sources, w), append(v.gens, pl.gen)
		st.Live = st.Live || pl.alive
		st.Idle = st.Idle && pl.reported <= 0
		if pl.serving() {
			st.Ready = true
			st.SlotsTotal += pl.slots
			st.SlotsFree += pl.slots - pl.used()
			used += pl.held
		}
	}
	v.sort()
	st.SlotsFree = max(0, min(st.SlotsFree, st.SlotsTotal-used))
	if ed.cfg.Model != "" {
		st.ModelsAvailable = []poolregistry.Model{{Ref: ed.cfg.Model}}
		if st.Ready {
			st.ModelsLoaded = p.loaded()
		}
	}
	if f := s.lastErr; f != nil {
		st.LastError = &poolregistry.PoolError{Code: string(f.errorCode()), Message: lastMessage(*f)}
	}
	v.status = st
	p.view.Store(v)
}

// sort orders the workers by id.
func (v *view) sort() {
	order := make([]int, len(v.workers))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int { return cmp.Compare(v.workers[a].ID, v.workers[b].ID) })
	workers, sources, gens := make([]Worker, len(order)), make([]*worker, len(order)), make([]uint64, len(order))
	for i, from := range order {
		workers[i], sources[i], gens[i] = v.workers[from], v.sources[from], v.gens[from]
	}
	v.workers, v.sources, v.gens = workers, sources, gens
}

// loaded are the models of the workers that serve; during a reload there are two.
func (p *Pool) loaded() (models []string) {
	for i := range p.state.places {
		pl := &p.state.places[i]
		if m := p.editions[pl.edition].cfg.Model; pl.serving() && m != "" && !slices.Contains(models, m) {
			models = append(models, m)
		}
	}
	slices.Sort(models)
	return models
}

func maskList(mask string) []string {
	if mask == "" {
		return nil
	}
	return strings.Split(mask, ",")
}

// contractState maps a phase to the states of the node contract. A degraded pool
// is ready: it serves, with fewer slots; so is one that is being reloaded while
// workers serve.
func contractState(s *poolState) poolregistry.PoolState {
	switch s.phase {
	case starting, staging:
		return "initializing"
	case ready, degraded:
		return "ready"
	case draining, drained:
		return "draining"
	case failed:
		return "failed"
	case reloading:
		switch {
		case s.serving() > 0:
			return "ready"
		case s.reload.phase == phaseDraining:
			return "draining"
		}
		return "initializing"
	}
	return "offline"
}

func (p *Pool) show(w *worker, pl *place) Worker {
	c := p.editions[pl.edition].cfg
	out := Worker{Token: w.token, Replica: fmt.Sprintf("r%d", w.at), Worker: poolregistry.Worker{
		ID: w.id, Status: poolregistry.WorkerStatus(pl.status), URL: w.url, ModelRef: c.Model, Quant: c.Quant,
		Engine: c.Engine, EngineVersion: c.EngineVersion, Protocol: "openai", CtxMax: c.Ctx,
		SlotsTotal: pl.slots, RestartCount: p.state.restarts, StartedAt: w.began,
	}}
	if w.proc != nil {
		out.PID = w.proc.PID()
	}
	if pl.serving() {
		used := pl.used()
		if p.state.serving() == 1 { // the pool's count is its own
			used = max(used, p.state.work.known()+pl.held)
		}
		out.SlotsFree = max(0, pl.slots-used)
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

// ID returns the pool's id.
func (p *Pool) ID() poolregistry.PoolID {
	if p == nil {
		return ""
	}
	return p.id
}

// Config returns what the pool runs, with all defaults filled in; during a reload
// that is what it ran before. It is empty before the first preload.
func (p *Pool) Config() PoolConfig {
	if p == nil {
		return PoolConfig{}
	}
	return p.view.Load().cfg.clone()
}

// Phase returns stopped, staging, starting, ready, degraded, draining, drained,
// reloading, stopping or failed.
func (p *Pool) Phase() string {
	if p == nil {
		return stopped
	}
	return p.view.Load().phase
}

// Status returns the pool as the node contract shows it. It never waits.
func (p *Pool) Status() poolregistry.Pool {
	if p == nil {
		return poolregistry.Pool{State: "failed", LastError: &poolregistry.PoolError{Code: string(PoolUnknown)}}
	}
	v := p.view.Load()
	status := v.status
	status.Workers = make([]poolregistry.Worker, len(v.workers))
	for i := range v.workers {
		status.Workers[i] = v.workers[i].Worker
	}
	status.ModelsAvailable, status.ModelsLoaded = slices.Clone(v.status.ModelsAvailable), slices.Clone(v.status.ModelsLoaded)
	for i := range status.ModelsAvailable {
		status.ModelsAvailable[i].NeedBytes = loadTook(v.sources)
	}
	status.DeviceMask = slices.Clone(v.status.DeviceMask)
	if status.LastError != nil {
		status.LastError = new(*status.LastError)
	}
	status.VRAMTotalBytes, status.VRAMFreeBytes = p.host.vram()
	return status
}

// Workers yields the pool's workers with their credentials, sorted by id.
func (p *Pool) Workers() iter.Seq[Worker] {
	return func(yield func(Worker) bool) {
		if p == nil {
			return
		}
		for _, w := range p.view.Load().workers {
			if !yield(w) {
				return
			}
		}
	}
}

// Logs yields up to n of the last lines that a worker wrote, escaped, oldest first;
// none for a worker that is unknown or has no process. The lines of a worker that
// ended are kept until its place is started again.
func (p *Pool) Logs(worker string, n int) iter.Seq[string] {
	return func(yield func(string) bool) {
		if p == nil || n <= 0 {
			return
		}
		v := p.view.Load()
		for i, w := range v.workers {
			if string(w.ID) != worker || v.sources[i].tail == nil {
				continue
			}
			for _, line := range v.sources[i].tail.tail(n) {
				if !yield(line) {
					return
				}
			}
		}
	}
}

// Called takes an engine's own message that it is ready. It is believed when the
// worker's key, its model and its address are the right ones, and even then it only
// makes the next probe come at once. WorkerUnknown is the answer to everything else.
func (h *Host) Called(id poolregistry.WorkerID, token, model, url string) error {
	for p := range h.Pools() {
		v := p.view.Load()
		for i, w := range v.workers {
			if w.ID != id {
				continue
			}
			if w.Token == "" || subtle.ConstantTimeCompare([]byte(token), []byte(w.Token)) != 1 || model != w.ModelRef || url != w.URL {
				return WorkerUnknown
			}
			p.post(message{ev: evPoke{gen: v.gens[i]}})
			return nil
		}
	}
	return WorkerUnknown
}
