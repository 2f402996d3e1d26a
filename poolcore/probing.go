package poolcore

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"time"

	"github.com/llorch/llorch/poolcore/engine"
)

// States of a worker's first token.
const (
	warmNot = iota
	warmRuns
	warmDone
)

// warmUpFor is how long an engine may take for its first token.
const warmUpFor = 60 * time.Second

// probe asks a worker how it is. Its key goes to a port only after the socket that
// listens there was seen to belong to the worker's own processes.
func (c *hostCrew) probe(ctx context.Context, w *worker) probe {
	p := probe{}
	if f := w.fault.Load(); f != nil {
		p.fault = f
		return p
	}
	if w.proc != nil && ending(ctx, w) {
		p.failed = true
		return p
	}
	if w.proc != nil && !c.ownsPort(w, &p) {
		p.grew = c.grew(ctx, w, nil)
		return p
	}
	r, err := w.kind.Probe(ctx, w.probeAt)
	p.grew = c.grew(ctx, w, r.Tokens)
	if err != nil {
		p.failed = true
		if w.proc != nil {
			ending(ctx, w)
		}
		return p
	}
	w.answered.Store(true)
	p.ready, p.detail, p.crowded, p.version, p.busy = r.Ready, r.Detail, r.Overloaded, r.Version, r.SlotsBusy
	if r.Progress != nil {
		p.detail += fmt.Sprintf(" %.3f", *r.Progress)
	}
	if r.SlotsTotal != nil {
		p.slots = *r.SlotsTotal
	}
	profile := engine.ProfileOf(w.kind)
	p.foreign = r.Ready && r.Alias != string(w.id) && !profile.External && !profile.Nameless
	if p.ready && !p.foreign {
		c.judgeReady(w, r, &p)
	}
	return p
}

// ending reports whether the leader has exited, and then waits for the judgement
// about its end, which says more than an answer that did not come.
func ending(ctx context.Context, w *worker) bool {
	select {
	case <-w.proc.Exited():
	default:
		return false
	}
	select {
	case <-w.ended:
	case <-ctx.Done():
	}
	return true
}

// ownsPort reports whether the worker itself listens. Where the system does not
// tell, the name under which the worker answers is all there is.
func (c *hostCrew) ownsPort(w *worker, p *probe) bool {
	owned, known, anybody := w.proc.Listens(netip.AddrPortFrom(probeHost(c.cfg.WorkerBind), w.port))
	switch {
	case !known || owned:
		w.owns.Store(true)
		w.doubted.Store(false)
		return true
	case !anybody, w.doubted.CompareAndSwap(false, true): // a socket outlives a member that ends by a moment
		p.failed = true
	case w.cfg.Port == 0 && !w.owns.Load():
		p.failed = true // a race that the worker lost, or is about to lose: the next port may do
		if w.robbed.CompareAndSwap(false, true) {
			c.beside.Go(func() { w.proc.Stop(0) })
		}
	default:
		p.foreign = true
	}
	return false
}

// signEvery is how often at most the driver is asked whether a worker that starts
// took more memory.
const signEvery = 2 * time.Second

// grew reports whether the worker did anything since it was asked last: it wrote,
// read, generated, or, while it starts, took memory of its devices.
func (c *hostCrew) grew(ctx context.Context, w *worker, tokens *uint64) bool {
	if w.proc == nil {
		return tokens != nil && w.signs.Swap(*tokens) != *tokens
	}
	sum := uint64(w.tail.bytes()) + w.proc.ReadBytes()>>20 // not what it reads of our own probes
	if tokens != nil {
		sum += *tokens
	}
	if w.signs.Swap(sum) != sum {
		return true
	}
	now := time.Now().UnixNano()
	if len(w.plan.units) == 0 || w.served.Load() || now-w.looked.Load() < int64(min(signEvery, c.cfg.Timing.Stall/4)) {
		return false
	}
	w.looked.Store(now)
	u, ok := c.usage(ctx, w)
	return ok && w.held.Swap(u.sum()) != u.sum()
}

// judgeReady holds what a ready engine says of itself against what was asked for.
func (c *hostCrew) judgeReady(w *worker, r engine.Report, p *probe) {
	switch {
	case w.cfg.EngineVersion != "" && r.Version != "" && r.Version != w.cfg.EngineVersion:
		p.fault = &failure{class: engine.ClassVersion, exitCode: -1, message: "the engine reports another version"}
	case c.cfg.RequireGPU && w.partial(r):
		p.fault = &failure{class: engine.ClassPartialOffload, code: GPUUnavailable, exitCode: -1, message: "a part of the model is not on the GPU"}
	case w.cfg.WarmUp && w.proc != nil && w.warm.Load() != warmDone:
		p.ready, p.detail = false, "warming up"
		if w.warm.CompareAndSwap(warmNot, warmRuns) {
			c.beside.Go(func() { c.warmUp(w) })
		}
	default:
		c.remember(w)
	}
}

// remember notes, once, who the leader is now, because a program may have replaced
// itself since its start, and begins to learn what it needs.
func (c *hostCrew) remember(w *worker) {
	if w.proc == nil || !w.watched.CompareAndSwap(false, true) {
		return
	}
	if err := c.note(w, stateRunning); err != nil {
		c.cfg.Logger.Warn("worker record", "worker", string(w.id), "error", err)
	}
	c.at("probe/ready")
	c.beside.Go(func() { c.watchMemory(w) })
}

// partial reports whether a part of the model stayed off the GPU, by the report or,
// for kinds that tell it only there, by the log.
func (w *worker) partial(r engine.Report) bool {
	if r.Offload != nil {
		return r.Offload.Partial()
	}
	teller, ok := w.kind.(engine.Offloader)
	if !ok || w.tail == nil {
		return false
	}
	if err := w.tail.look(); err != nil { // the line may be new
		return false
	}
	for _, line := range w.tail.tail(keptLines) {
		if o, ok := teller.Offloaded(line); ok && o.Partial() {
			return true
		}
	}
	return false
}

// warmUp has the engine generate one token.
func (c *hostCrew) warmUp(w *worker) {
	ctx, cancel := context.WithTimeout(c.ctx, warmUpFor)
	defer cancel()
	state := int32(warmNot) // a later probe tries again
	if err := c.firstToken(ctx, w); err == nil {
		state = warmDone
	} else {
		c.cfg.Logger.Debug("warm-up", "worker", string(w.id), "error", err)
	}
	w.warm.Store(state)
}

func (c *hostCrew) firstToken(ctx context.Context, w *worker) error {
	body, err := json.Marshal(map[string]any{"model": string(w.id), "prompt": "Hello", "max_tokens": 1})
	if err != nil {
		return fmt.Errorf("make request: %w", err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, w.probeAt.URL+"/v1/completions", bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("make request: %w", err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Authorization", "Bearer "+w.token)
	res, err := c.client.Do(req)
	if err != nil {
		return fmt.Errorf("ask for a token: %w", err)
	}
	defer res.Body.Close()
	if _, err := io.Copy(io.Discard, io.LimitReader(res.Body, 1<<20)); err != nil {
		return fmt.Errorf("read the token: %w", err)
	}
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("ask for a token: status %d", res.StatusCode)
	}
	return nil
}
