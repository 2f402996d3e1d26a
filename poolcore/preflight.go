package poolcore

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/llorch/llorch/gpuinfo"
	"github.com/llorch/llorch/inputvalidation"
	"github.com/llorch/llorch/poolcore/catalog"
	"github.com/llorch/llorch/poolcore/engine"
	"github.com/llorch/llorch/poolcore/internal/fit"
)

// Faults of a preflight that nobody branches on.
const (
	modelRetired      Code = "MODEL_RETIRED"
	modelIncompatible Code = "MODEL_INCOMPATIBLE"
	ctxTooLarge       Code = "CTX_TOO_LARGE"
	computeCapability Code = "COMPUTE_CAPABILITY"
	insufficientRAM   Code = "INSUFFICIENT_RAM"
	insufficientDisk  Code = "INSUFFICIENT_DISK"
	conflictingWorker Code = "CONFLICTING_WORKER"
)

// Limits of a preflight.
const (
	tooHot  = 95       // °C
	minDisk = 64 << 20 // bytes below StateDir: one log before its first rotation

	maxModelFiles = 4096 // of a directory that are looked at
)

// plan is what a preflight found: the faults, or everything that a start uses.
type plan struct {
	faults  []Fault
	model   catalog.Model
	shape   catalog.Shape
	path    string // of the model's file or directory; "": none
	devices gpuinfo.Snapshot
	mask    gpuinfo.Mask
	units   []gpuinfo.Unit // in the mask's order; empty: no GPU is used
	cpu     bool           // no GPU may be used
	key     fit.Key
	need    fit.Need
	wants   []fit.Want
	before  map[string]uint64 // bytes used on each unit when the worker was planned
	free    uint64            // bytes free on all of them
}

func (p *plan) add(code Code, detail string) {
	p.faults = append(p.faults, Fault{Code: code, Detail: detail})
}

func (p plan) failure() *failure {
	if len(p.faults) == 0 {
		return nil
	}
	return &failure{class: engine.ClassPreflight, exitCode: -1, message: p.faults[0].Detail, faults: p.faults}
}

// preflight looks for every reason why a worker of pc can not be started. It
// changes nothing but a probe file that it removes. What a caller may ask for at
// all (allow-lists, ranges) was checked before; this is about the machine as it is
// now, so it runs again before each restart. inPlace: what the pool holds now
// counts as free.
func (c *hostCrew) preflight(ctx context.Context, pc PoolConfig, k engine.Kind, inPlace bool) plan {
	var p plan
	profile := engine.ProfileOf(k)
	c.checkBinary(&p, pc)
	c.checkModel(ctx, &p, pc, profile)
	c.checkDevices(ctx, &p, pc, profile)
	c.checkCapabilities(&p, pc, k)
	c.checkMemory(&p, pc, k, inPlace)
	c.checkConflict(&p, pc)
	c.checkPlace(&p, pc, profile, inPlace)
	return p
}

func (c *hostCrew) checkBinary(p *plan, pc PoolConfig) {
	info, err := os.Stat(c.cfg.Binaries[pc.Binary])
	switch {
	case err != nil:
		p.add(BinaryMissing, "the engine's binary can not be found")
	case !info.Mode().IsRegular() || info.Mode().Perm()&0o111 == 0:
		p.add(BinaryNotExecutable, "the engine's binary is not an executable file")
	}
}

// checkModel finds the model's files: those of the program's own configuration as
// they are, others only through the catalogue.
func (c *hostCrew) checkModel(ctx context.Context, p *plan, pc PoolConfig, profile engine.Profile) {
	switch {
	case !profile.ModelFile:
		p.key.Model = pc.Model
	case pc.ModelPath != "":
		p.path = pc.ModelPath
		c.checkModelPath(p, profile)
	case c.cfg.Catalog == nil:
		p.add(ModelMissing, "model_path is required without a catalogue")
	default:
		found, err := c.cfg.Catalog.Ready(ctx, pc.Model)
		if err != nil {
			p.faults = append(p.faults, modelFault(err))
			return
		}
		p.model, p.shape, p.path, p.key.Model = found.Model, found.Shape, found.Path, found.Digest
	}
}

func (c *hostCrew) checkModelPath(p *plan, profile engine.Profile) {
	f, info, err := openModel(p.path, profile.ModelDir)
	if err != nil {
		p.add(ModelMissing, "model_path is not what the engine loads, or can not be read")
		return
	}
	defer f.Close()
	if profile.ModelDir {
		p.weighFiles(f)
		return
	}
	p.key.Model = fmt.Sprintf("file:%d:%d", info.Size(), info.ModTime().UnixNano())
	if h, err := catalog.ReadGGUF(f, info.Size()); err == nil {
		p.model.Format, p.model.Quant, p.model.CtxMax = "gguf", h.Quant, h.CtxMax
		p.shape = catalog.Shape{
			Architecture: h.Architecture, Layers: h.KVLayers, KVHeads: h.KVHeads, KeyLength: h.KeyLength, ValueLength: h.ValueLength,
			CtxMax: h.CtxMax, TensorBytes: info.Size(), Known: h.KVLayers > 0 && h.KVHeads > 0 && h.KeyLength > 0 && h.ValueLength > 0,
		}
		return
	}
	p.shape.TensorBytes = info.Size()
}

// openModel opens a regular file or a directory and never waits for anything else:
// a FIFO has no writer, a device no end.
func openModel(path string, dir bool) (*os.File, fs.FileInfo, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, nil, err
	}
	info, err := f.Stat()
	if err == nil && (dir && !info.IsDir() || !dir && !info.Mode().IsRegular()) {
		err = fs.ErrInvalid
	}
	if err != nil {
		return nil, nil, errors.Join(err, f.Close())
	}
	return f, info, nil
}

// weighFiles takes the size of a directory's weights for the size of the model.
func (p *plan) weighFiles(dir *os.File) {
	var newest int64
	entries, err := dir.ReadDir(maxModelFiles)
	if err != nil {
		p.add(ModelMissing, "model_path holds no files, or can not be read")
	}
	for _, e := range entries {
		if info, err := os.Stat(filepath.Join(dir.Name(), e.Name())); err == nil && info.Mode().IsRegular() {
			newest = max(newest, info.ModTime().UnixNano())
			if strings.HasSuffix(e.Name(), ".safetensors") {
				p.shape.TensorBytes += info.Size()
			}
		}
	}
	p.key.Model = fmt.Sprintf("dir:%d:%d", p.shape.TensorBytes, newest)
}

// modelFault turns the catalogue's refusal into one of the preflight. The text of
// an alias or a path is not repeated.
func modelFault(err error) Fault {
	for _, c := range []struct {
		is   error
		code Code
		text string
	}{
		{catalog.ModelUnknown, ModelMissing, "the model is not in the catalogue"},
		{catalog.ModelRetired, modelRetired, "the model is retired"},
		{catalog.ModelIncompatible, modelIncompatible, "the model's files are not what their names say"},
		{catalog.AliasNotAllowed, Code(catalog.AliasNotAllowed), "model is a name without a place that it comes from"},
		{catalog.ModelInUse, ModelInUse, "the model is being verified or replaced"},
	} {
		if errors.Is(err, c.is) {
			return Fault{Code: c.code, Detail: c.text}
		}
	}
	if _, ok := errors.AsType[*inputvalidation.Error](err); ok {
		return Fault{Code: InvalidParams, Detail: "model is not a model reference"}
	}
	return Fault{Code: modelUnverified, Detail: "the model's files are not proved to be those whose digest was computed"}
}

// checkCapabilities compares what the kind can with what the model and the devices
// are.
func (c *hostCrew) checkCapabilities(p *plan, pc PoolConfig, k engine.Kind) {
	have := engine.Capabilities{
		Format: p.model.Format, Ctx: pc.Ctx, CtxMax: p.model.CtxMax, Quant: pc.Quant, ModelQuant: p.model.Quant, CPU: p.cpu,
	}
	for _, u := range p.units {
		have.Compute = append(have.Compute, u.Device.Compute.String())
	}
	err := engine.Check(k, have)
	if err == nil {
		return
	}
	parts := []error{err}
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		parts = joined.Unwrap()
	}
	for _, part := range parts {
		e, ok := errors.AsType[*engine.IncompatibleError](part)
		if !ok {
			p.add(modelIncompatible, "the engine can not run this")
			continue
		}
		code := modelIncompatible
		switch e.Subject {
		case engine.SubjectContext:
			code = ctxTooLarge
		case engine.SubjectCompute:
			code = computeCapability
		case engine.SubjectDevice:
			code = GPUUnavailable
		}
		p.add(code, e.Subject+": required "+e.Required+", offered "+e.Offered)
	}
}

// checkConflict refuses the same model on the same devices twice: both would pay
// for the weights. Several workers there are one pool's replicas.
func (c *hostCrew) checkConflict(p *plan, pc PoolConfig) {
	if len(p.units) == 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, w := range c.live {
		if w.cfg.ID != pc.ID && w.plan.key.Model == p.key.Model && len(w.plan.units) > 0 && w.plan.unitIDs() == p.unitIDs() {
			p.add(conflictingWorker, "another pool runs this model on these devices")
			return
		}
	}
}

func (p plan) unitIDs() string {
	ids := make([]string, len(p.units))
	for i, u := range p.units {
		ids[i] = u.UUID
	}
	return strings.Join(ids, ",")
}

// checkPlace looks at what a worker needs beside its devices: port, key, disk and
// a directory.
func (c *hostCrew) checkPlace(p *plan, pc PoolConfig, profile engine.Profile, inPlace bool) {
	if pc.Port != 0 && !c.portFree(pc, inPlace) {
		p.add(PortUnavailable, "the wanted port is in use")
	}
	if profile.Keyless && !c.cfg.WorkerBind.IsLoopback() && !c.cfg.AllowOpenWorkers {
		p.add(InvalidParams, "an engine that can not ask for a key may listen on loopback only")
	}
	if err := c.probeState(pc.ID); err != nil {
		p.add(DirNotWritable, "the state directory can not be written")
		return
	}
	if free, ok := diskFree(c.cfg.StateDir); ok && free < minDisk {
		p.add(insufficientDisk, "the state directory has "+strconv.FormatUint(free, 10)+" bytes left")
	}
}

func (c *hostCrew) portFree(pc PoolConfig, inPlace bool) bool {
	c.mu.Lock()
	for _, w := range c.live {
		if inPlace && w.cfg.ID == pc.ID && w.port == uint16(pc.Port) {
			c.mu.Unlock()
			return true
		}
	}
	c.mu.Unlock()
	return c.ports.free(uint16(pc.Port))
}

func (c *hostCrew) probeState(pool string) error {
	if err := c.files.root.MkdirAll(workersDir, privateFolder); err != nil {
		return err
	}
	name := workersDir + "/.probe-" + pool
	f, err := c.files.root.OpenFile(name, os.O_WRONLY|os.O_CREATE, privateFile)
	if err != nil {
		return err
	}
	return errors.Join(f.Close(), c.files.remove(name))
}
