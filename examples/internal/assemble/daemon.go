package assemble

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/llorch/llorch/examples/internal/config"
	"github.com/llorch/llorch/examples/internal/version"
	"github.com/llorch/llorch/gpuinfo"
	"github.com/llorch/llorch/inputvalidation"
	"github.com/llorch/llorch/poolcore"
	"github.com/llorch/llorch/poolregistry"
)

// Daemon puts a node daemon together from its configuration.
func Daemon(ctx context.Context, r *config.Resolved, stderr io.Writer) (*App, error) {
	log, err := Narrator(r, stderr)
	if err != nil {
		return nil, err
	}
	tokens, err := LoadTokens(ctx, r, log)
	if err != nil {
		return nil, err
	}
	front := Front{Addr: r.String("addr"), Tokens: tokens, Narrator: log}
	if tokens.Len() == 0 {
		return nil, errNoToken
	}
	if err := front.Check(ctx); err != nil { // before any file is made
		return nil, err
	}
	var pools []poolcore.PoolConfig
	if err := r.Pools(&pools); err != nil {
		return nil, err
	}
	devices, err := gpus(ctx, r)
	if err != nil {
		return nil, err
	}
	dir, err := filepath.Abs(r.String("runtime_dir"))
	if err != nil {
		return nil, fmt.Errorf("runtime folder: %w", err)
	}
	follow, err := handoffs(r, dir)
	if err != nil {
		return nil, err
	}
	models, err := openModels(ctx, r, dir, log.Logger())
	if err != nil {
		return nil, err
	}
	host := poolcore.Config{
		NodeID: poolregistry.NodeID(nodeID(r)), StateDir: dir, Pools: pools, Devices: devices, Binaries: map[string]string{}, Catalog: models,
		RequireGPU: r.Bool("require_gpu"), LeaveRunning: r.Bool("leave_running"),
	}
	for _, b := range r.Pairs("binaries") {
		host.Binaries[b.Name] = b.Value
	}
	host.DefaultPool = likeFirst(pools)
	if local := r.String("local_models"); local != "" {
		host.ModelDirs = []string{local}
	}
	host.WorkerBind, host.AdvertiseHost = workerAddress(r.String("addr"), r.String("address"))
	app, err := NewNode(ctx, Node{
		Front: front, Host: host, Handoff: follow,
		Orchestrators: r.List("orchestratord_url"), Address: r.String("address"), Region: r.String("region"), Version: version.String(),
	})
	if err != nil {
		return nil, errors.Join(err, models.Close())
	}
	app.onClose("models", func(context.Context) error { return models.Close() })
	return app, nil
}

// likeFirst is how a worker is started that a caller asks for by model and GPU alone:
// as the first pool of the configuration that starts engines; nil: nobody can ask so.
func likeFirst(pools []poolcore.PoolConfig) *poolcore.PoolConfig {
	for _, p := range pools {
		if p.URL == "" {
			p.ID, p.Model, p.ModelPath, p.Devices, p.TensorSplit, p.Port, p.Replicas = "", "", "", "", nil, 0, 0
			return &p
		}
	}
	return nil
}

// workerAddress says where engines listen and under which host others dial them:
// where the daemon itself listens, so that whoever reaches the daemon reaches its
// engines too. Engines of a daemon on loopback stay there.
func workerAddress(addr, advertised string) (bind netip.Addr, host string) {
	at, err := netip.ParseAddrPort(addr)
	if err != nil || inputvalidation.ClassifyAddr(at.Addr()) == inputvalidation.AddrLoopback {
		return netip.Addr{}, ""
	}
	if u, err := url.Parse(advertised); err == nil {
		host = u.Hostname()
	}
	return at.Addr(), host
}

// gpus makes the provider that the configuration names.
func gpus(ctx context.Context, r *config.Resolved) (gpuinfo.Provider, error) {
	spec := r.String("gpu_provider")
	path, fake := strings.CutPrefix(spec, "fake:")
	var p gpuinfo.Provider
	switch {
	case fake:
		f, err := os.Open(path)
		if err != nil {
			return nil, fmt.Errorf("gpu_provider: %w", err)
		}
		defer f.Close()
		s, err := gpuinfo.LoadSnapshot(f)
		if err != nil {
			return nil, fmt.Errorf("gpu_provider: %w", err)
		}
		p = gpuinfo.Static(s)
	case spec == "nvml":
		var ok bool
		if p, ok = withNVML(nil); !ok {
			return nil, errors.New("gpu_provider: this program was built without NVML: build it with -tags nvml and cgo, or use auto")
		}
	case spec == "auto":
		p = gpuinfo.Auto(gpuinfo.AutoConfig{})
		if both, ok := withNVML(p); ok {
			p = both
		}
	}
	if !r.Bool("require_gpu") {
		return p, nil
	}
	if p == nil {
		return nil, errors.New("require_gpu: gpu_provider is none")
	}
	s, err := p.Snapshot(ctx)
	if err != nil {
		return nil, fmt.Errorf("require_gpu: %w", err)
	}
	if s.Reason != gpuinfo.OK {
		return nil, fmt.Errorf("require_gpu: no usable GPU: %s: %s", s.Reason, s.Detail)
	}
	return p, nil
}

// nodeID is the configured id, else the host's name.
func nodeID(r *config.Resolved) string {
	if id := r.String("node_id"); id != "" {
		return id
	}
	host, err := os.Hostname()
	if err != nil {
		return ""
	}
	return host
}
