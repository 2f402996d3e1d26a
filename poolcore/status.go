package poolcore

import (
	"cmp"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"fmt"
	"iter"
	"log/slog"
	"slices"
	"strings"
	"time"

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
	*edition
	at       time.Duration     // by the loop's clock: what was decided until then is in it
	status   poolregistry.Pool // without workers and device memory
	workers  []shown           // sorted by id
	phase    string
	restarts int
	breaker  string
	active   int
	sick     bool
}

// shown is one worker of a view.
type shown struct {
	Worker
	source *worker
	gen    gen
}

// publish shows the loop's state to readers.
func (p *Pool) publish(at time.Duration) {
	s := &p.state
	cfg := s.edition.cfg
	active := s.work.known() + s.held()
	v := &view{edition: s.edition, at: at, phase: s.phase, restarts: s.restarts, breaker: s.breaker.state, active: active, sick: s.sick}
	st := poolregistry.Pool{
		ID: p.id, State: contractState(s), Engine: cfg.Engine, EngineVersion: cfg.EngineVersion, ActiveLeases: active,
		Idle: active == 0, Batching: cfg.Slots > 1, Breaker: s.breaker.state, Restarts: s.restarts, DeviceMask: maskList(cfg.Devices),
		Draining: s.drain.on || s.reload.on && s.reload.phase == phaseDraining,
	}
	used := s.work.known()
	for i := range s.places {
		pl := &s.places[i]
		w := p.workers[pl.gen]
		if w == nil || pl.status == stopped {
			continue
		}
		v.workers = append(v.workers, shown{p.show(w, pl), w, pl.gen})
		st.Live = st.Live || pl.alive
		st.Idle = st.Idle && pl.reported <= 0
		if pl.serving() {
			st.Ready = true
			st.SlotsTotal += pl.slots
			st.SlotsFree += pl.slots - pl.used()
			used += pl.held
		}
	}
	slices.SortFunc(v.workers, func(a, b shown) int { return cmp.Compare(a.ID, b.ID) })
	st.SlotsFree = max(0, min(st.SlotsFree, st.SlotsTotal-used))
	if cfg.Model != "" {
		st.ModelsAvailable = []poolregistry.Model{{Ref: cfg.Model}}
		st.ModelsLoaded = p.loaded()
	}
	if f := s.lastErr; f != nil {
		st.LastError = &poolregistry.PoolError{Code: string(f.errorCode()), Message: lastMessage(*f)}
	}
	v.status = st
	p.view.Store(v)
}

// loaded are the models of the workers that serve; during a reload there are two.
func (p *Pool) loaded() (models []string) {
	for i := range p.state.places {
		pl := &p.state.places[i]
		if m := pl.edition.cfg.Model; pl.serving() && m != "" && !slices.Contains(models, m) {
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
	case ready, degraded:
		return "ready"
	case draining, drained:
		return "draining"
	case failed:
		return "failed"
	case stopped, stopping:
		return "offline"
	}
	switch {
	case s.phase == reloading && s.serving() > 0:
		return "ready"
	case s.phase == reloading && s.reload.phase == phaseDraining:
		return "draining"
	}
	return "initializing"
}

func (p *Pool) show(w *worker, pl *place) Worker {
	c := pl.edition.cfg
	out := Worker{Token: w.token, Replica: fmt.Sprintf("r%d", w.at), PID: w.pid(), Worker: poolregistry.Worker{
		ID: w.id, Status: poolregistry.WorkerStatus(pl.status), URL: w.url, ModelRef: c.Model, Quant: c.Quant,
		Engine: c.Engine, EngineVersion: c.EngineVersion, Protocol: "openai", CtxMax: c.Ctx,
		SlotsTotal: pl.slots, RestartCount: p.state.restarts, StartedAt: w.began,
	}}
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
		status.Workers[i] = v.workers[i].Worker.Worker
	}
	status.ModelsAvailable, status.ModelsLoaded = slices.Clone(v.status.ModelsAvailable), slices.Clone(v.status.ModelsLoaded)
	for i := range status.ModelsAvailable {
		status.ModelsAvailable[i].NeedBytes = loadTook(v.sources())
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
			if !yield(w.Worker) {
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
		for _, w := range p.view.Load().workers {
			if string(w.ID) != worker || w.source.tail == nil {
				continue
			}
			for _, line := range w.source.tail.tail(n) {
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
		for _, w := range p.view.Load().workers {
			if w.ID != id {
				continue
			}
			given, right := sha256.Sum256([]byte(token)), sha256.Sum256([]byte(w.Token))
			if w.Token == "" || subtle.ConstantTimeCompare(given[:], right[:]) != 1 || model != w.ModelRef || url != w.URL {
				return WorkerUnknown
			}
			p.post(evPoke{w.gen})
			return nil
		}
	}
	return WorkerUnknown
}

func (v *view) sources() []*worker {
	out := make([]*worker, len(v.workers))
	for i := range v.workers {
		out[i] = v.workers[i].source
	}
	return out
}
