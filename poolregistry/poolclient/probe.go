package poolclient

import (
	"cmp"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"syscall"
	"time"

	"github.com/llorch/llorch/inputvalidation"
	"github.com/llorch/llorch/poolregistry"
	"github.com/llorch/llorch/poolregistry/internal/instance"
	"github.com/llorch/llorch/poolregistry/nodeapi"
)

const (
	maxModel = 512
	maxSlots = 4096
)

// check makes a worker of what was sent. The error names all faults.
func (p *StaticProbe) check(w nodeapi.StaticWorker, principal string) (*static, error) {
	var faults []string
	fault := func(is bool, text string) {
		if is {
			faults = append(faults, text)
		}
	}
	_, err := poolregistry.ParsePoolID(w.ID)
	fault(err != nil, "id: charset")
	fault(w.Host == "", "host: required")
	fault(w.Port < 1 || w.Port > 65535, "port: range")
	fault(w.Model == "" || len(w.Model) > maxModel || inputvalidation.Escape(w.Model) != w.Model, "model: charset")
	fault(w.Slots < 0 || w.Slots > maxSlots, "slots: range")
	region, err := poolregistry.ParseRegion(w.Region)
	fault(err != nil, "region: syntax")
	if len(faults) > 0 {
		return nil, &poolregistry.Error{Code: poolregistry.InvalidNode, Fields: faults}
	}
	u, err := p.cfg.Address.Check("http://" + net.JoinHostPort(w.Host, strconv.Itoa(w.Port)))
	if err != nil {
		return nil, err
	}
	return &static{spec: w, url: u.String(), replaced: make(chan struct{}), reg: poolregistry.Registration{
		NodeID: poolregistry.NodeID("static-" + w.ID), InstanceID: instance.New(), InProcess: true, Principal: principal, Region: region,
		Pools: []poolregistry.Pool{{ID: poolregistry.PoolID(w.ID)}}, Labels: map[string]string{"static": "true"},
	}}, nil
}

// content is what a healthy worker beats with. Such an engine reports nothing of
// itself: it counts as idle when the scheduler has nothing there.
func (w *static) content() []poolregistry.Pool {
	slots := cmp.Or(w.spec.Slots, 1)
	return []poolregistry.Pool{{
		ID: poolregistry.PoolID(w.spec.ID), State: "ready", Engine: "external", Live: true, Ready: true, Idle: true,
		SlotsFree: slots, SlotsTotal: slots, ModelsLoaded: []string{w.spec.Model},
		ModelsAvailable: []poolregistry.Model{{Ref: w.spec.Model}},
		Workers: []poolregistry.Worker{{
			ID: poolregistry.WorkerID(w.spec.ID), Status: "ready", URL: w.url, ModelRef: w.spec.Model,
			Engine: "external", Protocol: "openai", SlotsFree: slots, SlotsTotal: slots,
		}},
	}}
}

// tend probes a worker until ctx ends or the worker is gone.
func (p *StaticProbe) tend(ctx context.Context, w *static) {
	interval := clamp(w.interval)
	for {
		wait, ok := p.step(ctx, w, &interval)
		if !ok {
			p.drop(w)
			return
		}
		select {
		case <-ctx.Done():
			p.rest(w)
			return
		case <-w.replaced:
			return
		case <-time.After(wait):
		}
	}
}

// clamp bounds what a registry may ask for.
func clamp(ms int64) time.Duration {
	return min(max(time.Duration(ms)*time.Millisecond, 100*time.Millisecond), 5*time.Minute)
}

// step asks once and beats if that went well. It returns when to ask again, and
// false if the registry does not know the worker any more.
func (p *StaticProbe) step(ctx context.Context, w *static, interval *time.Duration) (time.Duration, bool) {
	id := w.reg.NodeID
	if _, known := p.cfg.Registry.View().Node(id); !known {
		p.cfg.Logger.LogAttrs(ctx, slog.LevelWarn, "static worker is not known any more: register it again", slog.String("node", string(id)))
		return 0, false
	}
	begun := time.Now()
	if err := p.probe(ctx, w.url, *interval/2); err != nil {
		if errors.Is(err, syscall.ECONNREFUSED) {
			p.cfg.Registry.Refused(id)
		}
		p.cfg.Logger.LogAttrs(ctx, slog.LevelDebug, "probe static worker", slog.String("node", string(id)), slog.Any("error", err))
		return *interval / 4, true
	}
	w.seq++
	reply, err := p.cfg.Registry.Beat(ctx, poolregistry.Beat{
		NodeID: id, LeaseToken: w.lease, Seq: w.seq, Timestamp: begun.UTC().Truncate(time.Millisecond), Pools: w.content(),
	})
	switch {
	case errors.Is(err, poolregistry.NodeUnknown), errors.Is(err, poolregistry.LeaseInvalid), errors.Is(err, poolregistry.LeaseFenced):
		p.cfg.Logger.LogAttrs(ctx, slog.LevelWarn, "static worker lost its place", slog.String("node", string(id)), slog.Any("error", err))
		return 0, false
	case err == nil:
		*interval = clamp(reply.NextHeartbeatMS)
	}
	return *interval - time.Since(begun), true
}

// probe asks an engine how it is. It sends no token: the engine is a stranger.
func (p *StaticProbe) probe(ctx context.Context, base string, budget time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, min(budget, 5*time.Second))
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, base+"/health", nil)
	if err != nil {
		return errors.New("make request")
	}
	res, err := p.http.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	_, _ = io.CopyN(io.Discard, res.Body, 64<<10) // so that the connection serves again
	if res.StatusCode/100 != 2 {
		return &APIError{Status: res.StatusCode}
	}
	return nil
}
