package assemble

import (
	"context"
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
	var pools []poolcore.PoolConfig
	if err := r.Pools(&pools); err != nil {
		return nil, err
	}
	devices, err := gpus(r.String("gpu_provider"))
	if err != nil {
		return nil, err
	}
	dir, err := filepath.Abs(r.String("runtime_dir"))
	if err != nil {
		return nil, fmt.Errorf("runtime folder: %w", err)
	}
	host := poolcore.Config{NodeID: poolregistry.NodeID(nodeID(r)), StateDir: dir, Pools: pools, Devices: devices, Binaries: map[string]string{}}
	for _, b := range r.Pairs("binaries") {
		host.Binaries[b.Name] = b.Value
	}
	host.WorkerBind, host.AdvertiseHost = workerAddress(r.String("addr"), r.String("address"))
	return NewNode(ctx, Node{
		Front: Front{Addr: r.String("addr"), Tokens: tokens, Narrator: log}, Host: host,
		Orchestrators: r.List("orchestratord_url"), Address: r.String("address"), Region: r.String("region"), Version: version.String(),
	})
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
func gpus(spec string) (gpuinfo.Provider, error) {
	path, fake := strings.CutPrefix(spec, "fake:")
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
		return gpuinfo.Static(s), nil
	case spec == "none":
		return nil, nil
	}
	return gpuinfo.Auto(gpuinfo.AutoConfig{}), nil
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
