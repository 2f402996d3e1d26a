package assemble

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/llorch/llorch/examples/internal/server"
	"github.com/llorch/llorch/inputvalidation"
	"github.com/llorch/llorch/poolcore"
	"github.com/llorch/llorch/poolcore/handoff"
	poolmetrics "github.com/llorch/llorch/poolcore/metrics"
	"github.com/llorch/llorch/poolcore/poolhttp"
	"github.com/llorch/llorch/poolregistry"
	regmetrics "github.com/llorch/llorch/poolregistry/metrics"
	"github.com/llorch/llorch/poolregistry/nodeagent"
)

// Node is what a node daemon is made of. Required: Front with a token, Host,
// Orchestrators.
type Node struct {
	Front         Front
	Host          poolcore.Config
	Handoff       *handoff.WatchConfig // nil: no handoff files are followed
	Orchestrators []string             // base URLs, tried in turn
	Address       string               // under which the orchestrator reaches this daemon; "" = http:// and the front's address
	Region        string
	Version       string
}

// NewNode opens everything; nothing runs before Run.
func NewNode(ctx context.Context, n Node) (_ *App, err error) {
	log := n.Front.Narrator.Logger()
	a := &App{log: log}
	defer func() {
		if err != nil {
			err = errors.Join(err, a.Close())
		}
	}()
	if n.Front.Tokens.Len() == 0 {
		return nil, errNoToken
	}
	region, err := poolregistry.ParseRegion(n.Region)
	if err != nil {
		return nil, fmt.Errorf("region: %w", err)
	}
	var agent *nodeagent.Agent
	n.Host.Logger = log
	n.Host.Nudge = func() {
		if agent != nil {
			agent.Nudge()
		}
	}
	host, err := poolcore.New(n.Host)
	if err != nil {
		return nil, err
	}
	reg := prometheus.NewRegistry()
	pools, err := poolhttp.New(poolhttp.Config{Host: host, Authorize: server.NodePrincipal, Version: n.Version, Logger: log})
	if err != nil {
		return nil, fmt.Errorf("pool routes: %w", err)
	}
	if err := n.Front.open(ctx, a, server.Parts{Pools: pools, Metrics: reg}); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(n.Host.StateDir, 0o700); err != nil {
		return nil, fmt.Errorf("state folder: %w", err)
	}
	a.stage("node", host.Run)
	if n.Handoff != nil {
		a.stage("handoff files", follow(*n.Handoff, host, log))
	}
	if err := metricsOf(reg, host, n.Version); err != nil {
		return nil, err
	}
	if len(n.Orchestrators) == 0 {
		return a, nil // it serves its engines and registers nowhere
	}
	state, err := inputvalidation.OpenTree(n.Host.StateDir, inputvalidation.TreeConfig{})
	if err != nil {
		return nil, fmt.Errorf("state folder: %w", err)
	}
	a.onClose("state folder", func(context.Context) error { return state.Close() })
	address := n.Address
	if address == "" {
		address = "http://" + a.Addr
	}
	agent, err = nodeagent.New(nodeagent.Config{
		Orchestrators: n.Orchestrators, Token: n.Front.Tokens.First,
		Describe: describe(host, address, region, n.Version), Snapshot: host.Snapshot, OnReply: host.Reply, StateDir: state, Logger: log,
	})
	if err != nil {
		return nil, err
	}
	if _, err := regmetrics.NewAgent(reg, agent); err != nil {
		return nil, fmt.Errorf("metrics: %w", err)
	}
	a.stage("agent", agent.Run)
	return a, nil
}

func metricsOf(reg *prometheus.Registry, host *poolcore.Host, version string) error {
	_, err := poolmetrics.New(reg, host)
	if err := errors.Join(err, runtimeMetrics(reg, version)); err != nil {
		return fmt.Errorf("metrics: %w", err)
	}
	return nil
}

// errNoToken is answered with exit code 77: a node daemon fails closed (PM-2).
var errNoToken = errors.New("a node daemon needs a token: set LLORCH_API_TOKEN or LLORCH_API_TOKEN_FILE to the orchestrator's token")

// describe adds to the host's own description what the program knows.
func describe(host *poolcore.Host, address string, region poolregistry.Region, version string) func(context.Context) (poolregistry.Registration, error) {
	return func(ctx context.Context) (poolregistry.Registration, error) {
		r, err := host.Describe(ctx)
		r.Address, r.Region, r.Version = address, region, version
		return r, err
	}
}

// newLocalNode makes a node whose agent talks to the registry without HTTP.
func newLocalNode(cfg poolcore.Config, nodes *poolregistry.Registry, log *slog.Logger) (*localNode, error) {
	n := &localNode{}
	cfg.Logger = log
	cfg.Nudge = func() { n.agent.Nudge() }
	host, err := poolcore.New(cfg)
	if err != nil {
		return nil, err
	}
	n.host, n.id = host, cfg.NodeID
	n.agent, err = nodeagent.New(nodeagent.Config{
		Registrar: nodes, Describe: describe(host, "", poolregistry.Region{}, ""), Snapshot: host.Snapshot, OnReply: host.Reply, Logger: log,
	})
	return n, err
}

// Host makes the configuration of a host whose state lies under dir.
func Host(id, dir string, binaries map[string]string, pools []poolcore.PoolConfig) poolcore.Config {
	return poolcore.Config{NodeID: poolregistry.NodeID(id), StateDir: filepath.Join(dir, "node"), Binaries: binaries, Pools: pools}
}
