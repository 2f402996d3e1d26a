package assemble

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/llorch/llorch/audit"
	"github.com/llorch/llorch/audit/events"
	"github.com/llorch/llorch/examples/internal/server"
	"github.com/llorch/llorch/inputvalidation"
	"github.com/llorch/llorch/orchestrator"
	"github.com/llorch/llorch/orchestrator/decisionlog"
	orcmetrics "github.com/llorch/llorch/orchestrator/metrics"
	"github.com/llorch/llorch/orchestrator/placement"
	"github.com/llorch/llorch/orchestrator/queue"
	"github.com/llorch/llorch/orchestrator/store"
	"github.com/llorch/llorch/orchestrator/taskhttp"
	"github.com/llorch/llorch/poolcore"
	poolmetrics "github.com/llorch/llorch/poolcore/metrics"
	"github.com/llorch/llorch/poolregistry"
	regmetrics "github.com/llorch/llorch/poolregistry/metrics"
	"github.com/llorch/llorch/poolregistry/nodeagent"
	"github.com/llorch/llorch/poolregistry/nodehttp"
	"github.com/llorch/llorch/poolregistry/poolclient"
)

// Control is what a control plane is made of. Required: Front.
type Control struct {
	Front    Front
	Store    store.Store           // nil: memory
	SealKeys [][]byte              // required with a durable store
	Audit    *audit.Config         // nil: nothing is audited; Types and Logger are filled in
	Engines  []orchestrator.Engine // engines that already run
	Node     *poolcore.Config      // a node in this process; nil: none
	Replica  string
	Timing   poolregistry.Timing
	Allow    []inputvalidation.AddrKind // where nodes may stand; nil: private, and loopback while the front is on loopback
	Queue    queue.Config
	Policy   placement.Policy
	Sessions orchestrator.Sessions
	// DecisionLog is the folder for records of all decisions; "" = none.
	DecisionLog string
	Residency   []poolregistry.Region // nil = all
	Times       orchestrator.Timing
	Streams     orchestrator.Streams
	Keep        orchestrator.Retention
	HTTP        taskhttp.Config // KeepAlive, MaxStreams, MaxBody
	Version     string
}

// NewControl opens everything in the order of SRV-2: audit, registry,
// orchestrator, listener. The store is its own from here on; a failure leaves
// nothing open.
func NewControl(ctx context.Context, c Control) (_ *App, err error) {
	log := c.Front.Narrator.Logger()
	a := &App{log: log}
	defer func() {
		if err != nil {
			err = errors.Join(err, a.Close())
		}
	}()
	if c.Store != nil {
		a.onClose("store", func(context.Context) error { return c.Store.Close() })
	}
	reg := prometheus.NewRegistry()
	metrics, err := orcmetrics.New(reg, orcmetrics.Config{NodeID: c.Replica})
	if err != nil {
		return nil, fmt.Errorf("metrics: %w", err)
	}
	var recorder orchestrator.Recorder
	if c.Audit != nil {
		evidence, err := openAudit(ctx, a, *c.Audit)
		if err != nil {
			return nil, err
		}
		recorder = evidence
	}
	if c.Allow == nil {
		c.Allow = []inputvalidation.AddrKind{inputvalidation.AddrPrivate}
		if loopback(c.Front.Addr) {
			c.Allow = append(c.Allow, inputvalidation.AddrLoopback)
		}
	}
	address := poolregistry.AddressPolicy{Allow: c.Allow}
	var orc *orchestrator.Orchestrator
	nodes, err := poolregistry.New(poolregistry.Config{
		Timing: c.Timing, Address: address, Logger: log,
		Active: func(n poolregistry.NodeID) map[poolregistry.PoolID]int { return orc.Active(n) },
	})
	if err != nil {
		return nil, fmt.Errorf("registry: %w", err)
	}
	remote, err := orchestrator.HTTPControl(nodes, poolclient.Config{Token: c.Front.Tokens.First, Address: address})
	if err != nil {
		return nil, fmt.Errorf("pool client: %w", err)
	}
	pools := orchestrator.FromRegistry(nodes)
	if len(c.Engines) > 0 {
		pools = orchestrator.Join(pools, orchestrator.Static(c.Engines...))
	}
	var local *localNode
	if c.Node != nil {
		if local, err = newLocalNode(*c.Node, nodes, log); err != nil {
			return nil, err
		}
	}
	var decisions *decisionlog.Writer
	if c.DecisionLog != "" {
		if decisions, err = decisionlog.NewWriter(decisionlog.Config{Dir: c.DecisionLog, Replica: c.Replica, Logger: log}); err != nil {
			return nil, fmt.Errorf("decision log: %w", err)
		}
	}
	orc, err = orchestrator.New(orchestrator.Config{
		Decisions: decisions,
		Pools:     pools, Control: control{local, remote}, Store: c.Store, SealKeys: c.SealKeys, Recorder: recorder, Observer: metrics, Logger: log,
		Replica: c.Replica, Queue: c.Queue, Policy: c.Policy, Sessions: c.Sessions, Residency: c.Residency, Timing: c.Times, Streams: c.Streams, Retention: c.Keep,
	})
	if err != nil {
		return nil, fmt.Errorf("orchestrator: %w", err)
	}
	a.hurry, a.models = orc.Cut, orc.Models
	static, err := poolclient.NewStaticProbe(poolclient.StaticConfig{Registry: nodes, Address: address, Logger: log})
	if err != nil {
		return nil, fmt.Errorf("workers without a node: %w", err)
	}
	if err := c.front(ctx, a, orc, nodes, static, local, reg); err != nil {
		return nil, err
	}
	a.stage("registry", nodes.Run)
	a.stage("workers without a node", static.Run)
	if local != nil {
		a.stage("node", local.host.Run)
		a.stage("agent", local.agent.Run)
	}
	a.stage("orchestrator", orc.Run)
	return a, nil
}

// front builds the handlers and listens.
func (c Control) front(ctx context.Context, a *App, orc *orchestrator.Orchestrator, nodes *poolregistry.Registry, static *poolclient.StaticProbe, local *localNode, reg *prometheus.Registry) error {
	_, err := regmetrics.New(reg, nodes)
	if err == nil && local != nil {
		_, err = poolmetrics.New(reg, local.host)
	}
	err = errors.Join(err, runtimeMetrics(reg, c.Version))
	if err != nil {
		return fmt.Errorf("metrics: %w", err)
	}
	nodeRoutes, err := nodehttp.New(nodehttp.Config{Registry: nodes, Authorize: server.NodePrincipal, Static: static, Logger: a.log})
	if err != nil {
		return fmt.Errorf("node routes: %w", err)
	}
	c.HTTP.Orchestrator, c.HTTP.Authorize, c.HTTP.Logger, c.HTTP.Version = orc, server.TaskPrincipal, a.log, c.Version
	c.HTTP.Without |= taskhttp.Health // the front serves it
	return c.Front.open(ctx, a, server.Parts{Tasks: taskhttp.New(c.HTTP), Without: c.HTTP.Without, Nodes: nodeRoutes, Metrics: reg, Ready: orc.Ready})
}

// openAudit opens the audit log; it is closed last but for the store.
func openAudit(ctx context.Context, a *App, cfg audit.Config) (*audit.Log, error) {
	cfg.Types, cfg.Logger = append(events.Types(), orchestrator.AuditTypes()...), a.log
	l, err := audit.Open(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("audit: %w", err)
	}
	a.onClose("audit", l.Close)
	return l, nil
}

// runtimeMetrics adds what every program shows.
func runtimeMetrics(reg *prometheus.Registry, version string) error {
	info := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "llorch_build_info", Help: "Always 1; the label says what runs.", ConstLabels: prometheus.Labels{"version": version},
	})
	info.Set(1)
	return errors.Join(reg.Register(info), reg.Register(collectors.NewGoCollector()), reg.Register(collectors.NewProcessCollector(collectors.ProcessCollectorOpts{})))
}

// localNode is a node in this process: host and agent over the registry itself.
type localNode struct {
	id    poolregistry.NodeID
	host  *poolcore.Host
	agent *nodeagent.Agent

	mu    sync.Mutex
	begun []*poolcore.Operation // commands under way
}

// control asks the node in this process directly and others over HTTP.
type control struct {
	local  *localNode
	remote orchestrator.PoolControl
}

// Workers returns how to dial the workers of a pool.
func (c control) Workers(ctx context.Context, pool poolregistry.PoolKey) ([]orchestrator.WorkerAccess, error) {
	if c.local == nil || pool.Node != c.local.id {
		return c.remote.Workers(ctx, pool)
	}
	var out []orchestrator.WorkerAccess
	for w := range c.local.host.Pool(pool.Pool).Workers() {
		out = append(out, orchestrator.WorkerAccess{Worker: string(w.ID), URL: w.URL, Token: w.Token})
	}
	return out, nil
}
