package poolhttp

import (
	"errors"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/llorch/llorch/poolcore"
	"github.com/llorch/llorch/poolcore/engine"
	"github.com/llorch/llorch/poolregistry/nodeapi"
)

func (h *handler) preload(c *call, q nodeapi.PreloadRequest) (answer, error) {
	cfg, err := h.configure(c.r.PathValue("id"), q)
	if err != nil {
		return answer{}, err
	}
	op, err := h.cfg.Host.Preload(c.r.Context(), cfg)
	return c.follow(30*time.Second, h.preloaded, op, err)
}

// configure makes a pool's configuration of a request. What the node's own program
// may say and a caller may not is refused here: any binary, any file.
func (h *handler) configure(id string, q nodeapi.PreloadRequest) (poolcore.PoolConfig, error) {
	var cfg poolcore.PoolConfig
	switch {
	case (q.Prepared == nil) == (q.Spec == nil):
		return cfg, invalid("body: one of prepared and spec")
	case q.Spec != nil:
		cfg = fromSpec(*q.Spec)
	default:
		var err error
		if cfg, err = h.fromPrepared(id, *q.Prepared); err != nil {
			return cfg, err
		}
	}
	cfg.ID = id
	path, name, err := h.modelPath("model_path", cfg.ModelPath)
	if q.Prepared != nil {
		cfg.Model = name
	}
	cfg.ModelPath = path
	return cfg, err
}

func fromSpec(s nodeapi.PoolSpec) poolcore.PoolConfig {
	return poolcore.PoolConfig{
		Engine: s.Engine, Model: s.Model, ModelPath: s.ModelPath, Binary: s.Binary, URL: s.URL, EngineVersion: s.EngineVersion, Quant: s.Quant,
		KVType: s.KVType, Replicas: s.Replicas, Ctx: s.Ctx, Slots: s.Slots, Devices: s.Devices, TensorSplit: s.TensorSplit, Flags: s.Flags,
		Env: s.Env, Port: s.Port, VRAMDeclared: s.VRAMDeclared, Deterministic: s.Deterministic, WarmUp: s.WarmUp,
		StopAfterDrain: s.StopAfterDrain, StopGraceMS: s.StopGraceMS, StartTimeoutMS: s.StartTimeoutMS,
	}
}

// fromPrepared is for callers who have composed a command line. Only what it says
// is taken over: the program is one of the node's own, started by the node's own
// path, and the flags must be of the engine's allow-list like any other.
func (h *handler) fromPrepared(id string, p nodeapi.Prepared) (poolcore.PoolConfig, error) {
	name, err := h.binary(p.BinaryPath)
	if err != nil {
		return poolcore.PoolConfig{}, err
	}
	switch {
	case p.PoolID != "" && p.PoolID != id:
		return poolcore.PoolConfig{}, invalid("pool_id: not the route's")
	case p.ReplicaID != "" && p.ReplicaID != "r0":
		return poolcore.PoolConfig{}, invalid("replica_id: not r0")
	case p.Host != "" && p.Host != h.node.WorkerBind.String():
		return poolcore.PoolConfig{}, invalid("host: not the node's")
	}
	return poolcore.PoolConfig{
		Engine: name, Binary: name, Flags: p.Flags, Port: p.Port, ModelPath: p.ModelPath, EngineVersion: p.EngineVersion, Devices: p.DeviceMask,
	}, nil
}

// binary returns the name of the engine whose program path is, links resolved
// once. The allow-list's own path is what will be started.
func (h *handler) binary(path string) (string, error) {
	wanted, err := resolve(path)
	if err != nil {
		return "", refuse(string(poolcore.BinaryNotAllowed), "binary_path")
	}
	for _, name := range slices.Sorted(maps.Keys(h.node.Binaries)) {
		isEngine := slices.ContainsFunc(h.node.Engines, func(k engine.Kind) bool { return k.Name() == name })
		if have, err := resolve(h.node.Binaries[name]); isEngine && err == nil && have == wanted {
			return name, nil
		}
	}
	return "", refuse(string(poolcore.BinaryNotAllowed), "binary_path")
}

// modelPath allows files below the folders that the node sets apart for callers.
// It returns where the file really lies, and a reference that names it.
func (h *handler) modelPath(field, path string) (real, ref string, err error) {
	if path == "" {
		return "", "", nil
	}
	outside := refuse("UNTRUSTED_ARTIFACT", field+": outside")
	if !slices.ContainsFunc(h.node.ModelDirs, func(dir string) bool { return below(dir, path) }) {
		return "", "", outside // before the disk is asked: whether such a file exists is not told
	}
	real, err = resolve(path)
	if errors.Is(err, fs.ErrNotExist) {
		return "", "", refuse(string(poolcore.ModelMissing), field)
	}
	if err != nil {
		return "", "", outside
	}
	for _, dir := range h.node.ModelDirs {
		if dir, err := resolve(dir); err == nil && below(dir, real) {
			return real, "file:" + filepath.ToSlash(strings.TrimPrefix(real, dir+string(filepath.Separator))), nil
		}
	}
	return "", "", outside
}

// below reports whether path lies below dir, by their letters.
func below(dir, path string) bool {
	rel, err := filepath.Rel(dir, path)
	return err == nil && filepath.IsAbs(path) && filepath.Clean(path) == path && rel != "." && filepath.IsLocal(rel)
}

// resolve follows all links of an absolute path without odd spellings.
func resolve(path string) (string, error) {
	if !filepath.IsAbs(path) || filepath.Clean(path) != path || strings.ContainsRune(path, 0) {
		return "", fs.ErrInvalid
	}
	return filepath.EvalSymlinks(path)
}

// preloaded is the answer to a preload that ended well: the first worker.
func (h *handler) preloaded(op *poolcore.Operation) any {
	reply := nodeapi.PreloadReply{PoolID: op.Pool}
	for w := range h.cfg.Host.Pool(op.Pool).Workers() {
		if w.Usable() {
			reply.WorkerID, reply.URL, reply.PID = w.ID, w.URL, w.PID
			if w.PID != 0 {
				reply.HandoffPath = h.handoffPath(op.Pool, w.Replica)
			}
			break
		}
	}
	return reply
}
