package poolcore

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"math"
	"net/netip"
	"net/url"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/llorch/llorch/inputvalidation"
	"github.com/llorch/llorch/poolcore/engine"
	"github.com/llorch/llorch/poolcore/internal/proc"
	"github.com/llorch/llorch/poolregistry"
)

// PoolConfig says what one pool runs. The members of its JSON form and the keys of
// its TOML form have the same names.
type PoolConfig struct {
	ID     string `json:"pool_id" toml:"pool_id"` // required
	Engine string `json:"engine" toml:"engine"`   // required: a kind's name
	// Model is the reference by which requests name the model. Required, except
	// for external pools.
	Model string `json:"model,omitzero" toml:"model"`
	// ModelPath is the absolute path of a model's file outside the catalogue. Engines
	// that read a file need it, or a Config.Catalog that has Model.
	ModelPath string `json:"model_path,omitzero" toml:"model_path"`
	// Binary is a name in Config.Binaries; empty: the engine's name.
	Binary string `json:"binary,omitzero" toml:"binary"`
	// URL is where an external engine answers: http or https, host and port.
	URL string `json:"url,omitzero" toml:"url"`
	// EngineVersion, when set, is the version that the engine must report, where it
	// reports one.
	EngineVersion string `json:"engine_version,omitzero" toml:"engine_version"`
	Quant         string `json:"quant,omitzero" toml:"quant"`       // reported, not checked
	Replicas      int    `json:"replicas,omitzero" toml:"replicas"` // 1–64; 0: 1
	Ctx           int    `json:"ctx,omitzero" toml:"ctx"`           // tokens per slot, 1–16 Mi; 0: 8192
	Slots         int    `json:"slots,omitzero" toml:"slots"`       // per worker, 1–4096; 0: 1
	// KVType is the type of the key-value cache, such as "q8_0"; empty: f16.
	KVType string `json:"kv_type,omitzero" toml:"kv_type"`
	// Devices is the mask of the devices that the engine may see: "0,1", "GPU0",
	// UUIDs or "cpu"; empty: all.
	Devices string `json:"devices,omitzero" toml:"devices"`
	// TensorSplit is each device's share of the model, above 0, together 1; empty:
	// the engine decides.
	TensorSplit []float64 `json:"tensor_split,omitzero" toml:"tensor_split"`
	// VRAMDeclared is what the model needs, in bytes, where nothing has been
	// learned yet; 0: estimated.
	VRAMDeclared uint64 `json:"vram_declared_bytes,omitzero" toml:"vram_declared_bytes"`
	// Deterministic asks for answers that do not depend on what runs beside them.
	Deterministic bool `json:"deterministic,omitzero" toml:"deterministic"`
	// WarmUp makes one generated token part of being ready.
	WarmUp bool `json:"warm_up,omitzero" toml:"warm_up"`
	// StopAfterDrain ends the engines when a drain has come to its end.
	StopAfterDrain bool `json:"stop_after_drain,omitzero" toml:"stop_after_drain"`
	// Flags are further arguments, "--name" or "--name=value", of the kind's
	// allow-list; Env are variables of its list.
	Flags []string          `json:"flags,omitzero" toml:"flags"`
	Env   map[string]string `json:"env,omitzero" toml:"env"`
	// Port is the worker's port, for pools of one replica; 0: one of Config.Ports.
	Port           int   `json:"port,omitzero" toml:"port"`
	StopGraceMS    int64 `json:"stop_grace_ms,omitzero" toml:"stop_grace_ms"`       // 0: by kind, else Timing.StopGrace
	StartTimeoutMS int64 `json:"start_timeout_ms,omitzero" toml:"start_timeout_ms"` // 0: Timing.Start
}

// same reports whether both would run the same thing.
func (p PoolConfig) same(q PoolConfig) bool {
	if !slices.Equal(p.Flags, q.Flags) || !slices.Equal(p.TensorSplit, q.TensorSplit) || !maps.Equal(p.Env, q.Env) {
		return false
	}
	p.Flags, p.TensorSplit, p.Env = nil, nil, nil
	q.Flags, q.TensorSplit, q.Env = nil, nil, nil
	return reflect.DeepEqual(p, q)
}

// clone returns a configuration that shares nothing with p.
func (p PoolConfig) clone() PoolConfig {
	p.Flags, p.TensorSplit, p.Env = slices.Clone(p.Flags), slices.Clone(p.TensorSplit), maps.Clone(p.Env)
	return p
}

// checkPool validates p, fills in its defaults and finds its kind. Errors are
// InvalidParams or a fault's code.
func (c Config) checkPool(p PoolConfig) (PoolConfig, engine.Kind, error) {
	var errs []error
	bad := func(text string) { errs = append(errs, fmt.Errorf("%s: %w", text, InvalidParams)) }
	if _, err := poolregistry.ParsePoolID(p.ID); err != nil {
		bad("pool_id is malformed")
	}
	p.Replicas, p.Ctx, p.Slots = cmp.Or(p.Replicas, 1), cmp.Or(p.Ctx, 8192), cmp.Or(p.Slots, 1)
	for _, r := range []struct {
		name     string
		v        int
		min, max int
	}{{"replicas", p.Replicas, 1, maxReplicas}, {"ctx", p.Ctx, 1, 16 << 20}, {"slots", p.Slots, 1, maxSlots}, {"port", p.Port, 0, 65535}} {
		if r.v < r.min || r.v > r.max {
			bad(r.name + " is out of range")
		}
	}
	if day := (24 * time.Hour).Milliseconds(); p.StopGraceMS < 0 || p.StopGraceMS > day || p.StartTimeoutMS < 0 || p.StartTimeoutMS > day {
		bad("stop_grace_ms or start_timeout_ms is out of range")
	}
	if p.Port != 0 && p.Replicas != 1 {
		bad("port needs replicas = 1")
	}
	for name, text := range map[string]string{"quant": p.Quant, "engine_version": p.EngineVersion, "kv_type": p.KVType} {
		if len(text) > 64 || inputvalidation.Escape(text) != text {
			bad(name + " is malformed")
		}
	}
	if len(p.Devices) > 4096 || inputvalidation.Escape(p.Devices) != p.Devices {
		errs = append(errs, fmt.Errorf("devices is malformed: %w", deviceMaskInvalid))
	}
	if !shares(p.TensorSplit) {
		bad("tensor_split is not one share above 0 per device with the sum 1")
	}
	kind := c.kind(p.Engine)
	if kind == nil {
		bad("engine is unknown")
		return p, nil, errors.Join(errs...)
	}
	profile := engine.ProfileOf(kind)
	if profile.External {
		errs = append(errs, checkExternal(p))
	} else {
		p.Binary = cmp.Or(p.Binary, p.Engine)
		errs = append(errs, c.checkProcess(p), c.checkModel(p, profile))
	}
	errs = append(errs, checkFlags(p.Flags, profile.Flags, profile.OwnFlags), checkEnv(p.Env, profile.Env))
	return p, kind, errors.Join(errs...)
}

// shares reports whether s is empty or a list of shares that makes a whole.
func shares(s []float64) bool {
	sum := 0.0
	for _, f := range s {
		if !(f > 0) {
			return false
		}
		sum += f
	}
	return len(s) == 0 || len(s) <= 64 && math.Abs(sum-1) <= 0.001
}

func (c Config) checkProcess(p PoolConfig) error {
	if c.StateDir == "" {
		return fmt.Errorf("state_dir is not configured: %w", DirNotWritable)
	}
	if _, ok := c.Binaries[p.Binary]; !ok {
		return fmt.Errorf("binary is not in the allow-list: %w", BinaryNotAllowed)
	}
	if p.URL != "" {
		return fmt.Errorf("url is for external engines: %w", InvalidParams)
	}
	if err := proc.Supported(); err != nil {
		return fmt.Errorf("engine processes: %w: %w", Unsupported, err)
	}
	return nil
}

// checkExternal accepts http(s)://host:port and nothing more. Where the name leads
// is judged when it is dialled.
func checkExternal(p PoolConfig) error {
	u, err := url.Parse(p.URL)
	if err != nil || len(p.URL) > 2048 || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || u.Port() == "" ||
		u.User != nil || u.RawQuery != "" || u.Fragment != "" || u.Path != "" && u.Path != "/" {
		return fmt.Errorf("url is not http://host:port: %w", InvalidParams)
	}
	if p.Replicas != 1 || p.Port != 0 || p.ModelPath != "" || p.Binary != "" {
		return fmt.Errorf("an external pool has one replica and no port, model_path or binary: %w", InvalidParams)
	}
	if len(p.Model) > 512 {
		return fmt.Errorf("model is too long: %w", InvalidParams)
	}
	return nil
}

func (c Config) checkModel(p PoolConfig, profile engine.Profile) error {
	if _, err := inputvalidation.ParseModelRef("model", p.Model); err != nil {
		return fmt.Errorf("model is not a model reference: %w", InvalidParams)
	}
	if p.ModelPath == "" && (!profile.ModelFile || c.Catalog != nil) {
		return nil // named, or found in the catalogue
	}
	if !filepath.IsAbs(p.ModelPath) || len(p.ModelPath) > 4096 || strings.ContainsRune(p.ModelPath, 0) {
		return fmt.Errorf("model_path is not an absolute path: %w", InvalidParams)
	}
	return nil
}

// checkFlags refuses whatever is not "--name" or "--name=value" of the list, with a
// value exactly where the flag takes one: an engine that reads the value apart
// from the name could otherwise be handed a flag of its own.
func checkFlags(flags []string, allowed map[string]bool, own []string) error {
	if len(flags) > maxFlags {
		return fmt.Errorf("more than 64 flags: %w", FlagNotAllowed)
	}
	for i, f := range flags {
		name, value, has := strings.Cut(f, "=")
		takes, ok := allowed[name]
		if !ok || slices.Contains(own, name) || takes != has || len(f) > maxFlagLen || strings.ContainsRune(f, 0) || strings.HasPrefix(value, "--") || has && value == "" {
			return fmt.Errorf("flags[%d]: %w", i, FlagNotAllowed)
		}
	}
	return nil
}

func checkEnv(env map[string]string, allowed []string) error {
	if len(env) > maxEnv {
		return fmt.Errorf("more than 64 variables: %w", EnvNotAllowed)
	}
	for name, v := range env {
		if !slices.Contains(allowed, name) || len(v) > maxFlagLen || strings.ContainsRune(v, 0) {
			return fmt.Errorf("env: %w", EnvNotAllowed)
		}
	}
	return nil
}

// workerURL is what others dial.
func workerURL(host string, port uint16) string {
	if a, err := netip.ParseAddr(host); err == nil {
		return "http://" + netip.AddrPortFrom(a, port).String()
	}
	return fmt.Sprintf("http://%s:%d", host, port)
}
