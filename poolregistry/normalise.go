package poolregistry

import (
	"cmp"
	"maps"
	"math"
	"slices"
	"strings"
)

// Bounds of numbers and texts; those of lists are in Limits.
const (
	maxSlots     = 4096
	maxCtx       = 16 << 20
	maxPrevEpoch = 1<<52 - 1
	maxGPUs      = 64
	maxLabels    = 32
	maxMessage   = 256
	maxText      = 128
	maxModelRef  = 512
	maxMillis    = math.MaxInt64 / 1_000_000
)

// registration checks r and returns a copy of it in canonical form: sorted,
// lower-case words, completed region. Nothing of the copy is shared with r.
func (c *checker) registration(r Registration) (Registration, error) {
	c.id("node_id", string(r.NodeID), maxNodeID)
	r.InstanceID = c.uuid("instance_id", r.InstanceID)
	if r.Address != "" || !r.InProcess {
		if _, fault := c.policy.check(r.Address); fault != "" {
			c.fault("address", fault)
		}
	}
	c.text("version", r.Version, maxText)
	if code := r.Region.fill(); code != "" {
		c.fault("region", code)
	}
	c.text("region.evidence", r.Region.Evidence, maxText)
	r.Labels = c.labels(r.Labels)
	if r.PrevEpoch > maxPrevEpoch {
		c.fault("prev_epoch", faultRange)
	}
	c.text("lease_token", r.LeaseToken, maxText)
	c.enter("capabilities", -1)
	number(c, "cpu_cores", &r.Capabilities.CPUCores, 0, 1<<20)
	r.Capabilities.GPUs = c.gpus(r.Capabilities.GPUs)
	c.leave()
	models := c.models(r.ModelsAvailable)
	r.ModelsAvailable = nil
	r.Pools = c.pools(r.Pools)
	for i := range r.Pools {
		if r.Pools[i].ModelsAvailable == nil {
			r.Pools[i].ModelsAvailable = models
		}
	}
	if len(c.faults) == 1 && c.faults[0] != "address: "+faultRequired && strings.HasPrefix(c.faults[0], "address: ") {
		return r, c.err(AddressNotAllowed)
	}
	return r, c.err(InvalidNode)
}

// beat does the same for the content of a beat, except that numbers without
// sense are clamped: a node must not vanish because a sensor lies.
func (c *checker) beat(b Beat) (Beat, error) {
	c.lenient = true
	number(c, "uptime_ms", &b.UptimeMS, 0, maxMillis)
	number(c, "stale_ms", &b.StaleMS, 0, maxMillis)
	b.Pools = c.pools(b.Pools)
	b.GPUs = c.gpus(b.GPUs)
	b.Events = c.events(b.Events)
	return b, c.err(InvalidBeat)
}

func (c *checker) labels(labels map[string]string) map[string]string {
	if len(labels) > maxLabels {
		c.fault("labels", faultTooLong)
		return nil
	}
	for _, k := range slices.Sorted(maps.Keys(labels)) {
		if k == "" || len(k) > 63 || !labelKey(k) {
			c.fault("labels", faultCharset)
		}
		c.text("labels", labels[k], maxText)
	}
	return maps.Clone(labels)
}

func labelKey(k string) bool {
	for i := range len(k) {
		switch b := k[i]; {
		case 'a' <= b && b <= 'z', '0' <= b && b <= '9', b == '.', b == '_', b == '/', b == '-':
		default:
			return false
		}
	}
	return true
}

func (c *checker) gpus(in []GPU) []GPU {
	if len(in) > maxGPUs {
		c.fault("gpus", faultTooLong)
		return nil
	}
	out := slices.Clone(in)
	for i := range out {
		c.enter("gpus", i)
		c.gpu(&out[i])
		for j := range i {
			if out[i].DeviceID == out[j].DeviceID && !(c.lenient && out[i].UUID != "") {
				c.fault("device_id", faultDuplicate)
			}
			if out[i].UUID != "" && out[i].UUID == out[j].UUID {
				c.fault("uuid", faultDuplicate)
			}
		}
		c.leave()
	}
	slices.SortStableFunc(out, func(a, b GPU) int { return cmp.Compare(a.DeviceID, b.DeviceID) })
	return out
}

func (c *checker) gpu(g *GPU) {
	number(c, "device_id", &g.DeviceID, 0, 1<<16)
	c.text("uuid", g.UUID, maxText)
	c.text("name", g.Name, maxText)
	c.text("compute_capability", g.ComputeCapability, 16)
	c.text("driver_version", g.DriverVersion, 64)
	enum(c, "vendor", &g.Vendor, "nvidia amd intel other")
	enum(c, "memory_kind", &g.MemoryKind, "unknown dedicated unified carveout slice")
	enum(c, "health", &g.Health, "ok degraded failed lost")
	enum(c, "recovery", &g.Recovery, "none restart_app drain_reset reset reboot contact")
	optional(c, "temperature_c", &g.TemperatureC, -50, 200)
	optional(c, "utilization_percent", &g.UtilizationPercent, 0, 100)
	if g.VRAMTotalBytes != nil {
		optional(c, "vram_free_bytes", &g.VRAMFreeBytes, 0, *g.VRAMTotalBytes)
	}
	for _, p := range []**uint64{&g.VRAMTotalBytes, &g.VRAMFreeBytes, &g.VRAMReservedBytes} {
		if *p != nil {
			*p = new(**p)
		}
	}
	for _, p := range []**float64{&g.TemperatureC, &g.UtilizationPercent} {
		if *p != nil {
			*p = new(**p)
		}
	}
}

func (c *checker) pools(in []Pool) []Pool {
	if len(in) > c.limits.Pools {
		c.fault("pools", faultTooLong)
		return nil
	}
	out := make([]Pool, len(in))
	for i := range in {
		out[i] = in[i].clone()
		c.enter("pools", i)
		c.pool(&out[i])
		if slices.ContainsFunc(out[:i], func(p Pool) bool { return p.ID == out[i].ID }) {
			c.fault("pool_id", faultDuplicate)
		}
		c.leave()
	}
	slices.SortFunc(out, func(a, b Pool) int { return compare(a.ID, b.ID) })
	return out
}

func (c *checker) pool(p *Pool) {
	c.id("pool_id", string(p.ID), maxPoolID)
	if p.State == "" {
		p.State = "initializing"
	}
	enum(c, "state", &p.State, "initializing ready draining failed offline")
	enum(c, "breaker", &p.Breaker, "closed open half_open")
	c.text("reason", p.Reason, maxText)
	c.text("engine", p.Engine, maxText)
	c.text("engine_version", p.EngineVersion, maxText)
	c.text("engine_digest", p.EngineDigest, maxText)
	number(c, "slots_total", &p.SlotsTotal, 0, maxSlots)
	number(c, "slots_free", &p.SlotsFree, 0, max(0, min(p.SlotsTotal, maxSlots)))
	number(c, "active_leases", &p.ActiveLeases, 0, math.MaxInt32)
	number(c, "restarts", &p.Restarts, 0, math.MaxInt32)
	number(c, "vram_free_bytes", &p.VRAMFreeBytes, 0, p.VRAMTotalBytes)
	c.texts("device_mask", p.DeviceMask, maxGPUs, maxText)
	c.texts("models_loaded", p.ModelsLoaded, c.limits.Models, maxModelRef)
	slices.Sort(p.ModelsLoaded)
	p.ModelsAvailable = c.models(p.ModelsAvailable)
	if p.LastError != nil {
		c.text("last_error.code", p.LastError.Code, maxText)
		c.text("last_error.message", p.LastError.Message, maxMessage)
	}
	if len(p.Workers) > c.limits.Workers {
		c.fault("workers", faultTooLong)
		return
	}
	for i := range p.Workers {
		c.enter("workers", i)
		c.worker(&p.Workers[i])
		if slices.ContainsFunc(p.Workers[:i], func(w Worker) bool { return w.ID == p.Workers[i].ID }) {
			c.fault("worker_id", faultDuplicate)
		}
		c.leave()
	}
	slices.SortFunc(p.Workers, func(a, b Worker) int { return compare(a.ID, b.ID) })
}

func (c *checker) models(in []Model) []Model {
	if len(in) > c.limits.Models {
		c.fault("models_available", faultTooLong)
		return nil
	}
	out := slices.Clone(in)
	for i := range out {
		if ref := out[i].Ref; ref == "" || len(ref) > maxModelRef || !plainASCII(ref) {
			c.enter("models_available", i)
			if ref == "" {
				c.fault("model", faultRequired)
			}
			c.text("model", ref, maxModelRef)
			c.leave()
		}
	}
	slices.SortStableFunc(out, func(a, b Model) int { return compare(a.Ref, b.Ref) })
	for i := 1; i < len(out); i++ {
		if out[i].Ref == out[i-1].Ref {
			c.fault("models_available", faultDuplicate)
			break
		}
	}
	return out
}

func (c *checker) worker(w *Worker) {
	c.id("worker_id", string(w.ID), maxWorkerID)
	if w.Status == "" {
		c.fault("status", faultRequired)
	}
	enum(c, "status", &w.Status, "starting ready busy draining stopping stuck failed stopped")
	c.text("reason", w.Reason, maxText)
	c.text("model_ref", w.ModelRef, maxModelRef)
	c.text("model_digest", w.ModelDigest, maxText)
	c.text("quant", w.Quant, 64)
	c.text("engine", w.Engine, maxText)
	c.text("engine_version", w.EngineVersion, maxText)
	c.text("protocol", w.Protocol, 32)
	c.texts("capabilities", w.Capabilities, 64, 64)
	c.texts("gpu_uuids", w.GPUUUIDs, maxGPUs, maxText)
	number(c, "ctx_max", &w.CtxMax, 0, maxCtx)
	number(c, "slots_total", &w.SlotsTotal, 0, maxSlots)
	number(c, "slots_free", &w.SlotsFree, 0, max(0, min(w.SlotsTotal, maxSlots)))
	number(c, "tokens_per_s", &w.TokensPerS, 0, 1e9)
	number(c, "first_token_ms", &w.FirstTokenMS, 0, 1e9)
	number(c, "restart_count", &w.RestartCount, 0, math.MaxInt32)
	optional(c, "kv_used_ratio", &w.KVUsedRatio, 0, 1)
	if w.URL != "" {
		if _, fault := c.policy.check(w.URL); fault != "" {
			w.Status, w.Reason, w.URL = "failed", "address", ""
		}
	}
}

func (c *checker) events(in []Event) []Event {
	if len(in) > c.limits.Events {
		c.fault("events", faultTooLong)
		return nil
	}
	out := slices.Clone(in)
	for i := range out {
		e := &out[i]
		c.enter("events", i)
		if e.ID == 0 {
			c.fault("event_id", faultRequired)
		}
		c.id("worker_id", string(e.WorkerID), maxWorkerID)
		c.id("pool_id", string(e.PoolID), maxPoolID)
		c.text("gpu", e.GPU, maxText)
		c.text("signal", e.Signal, 32)
		c.text("class", e.Class, 64)
		c.text("message", e.Message, maxMessage)
		number(c, "uptime_ms", &e.UptimeMS, 0, maxMillis)
		if e.ExitCode != nil {
			e.ExitCode = new(*e.ExitCode)
		}
		c.leave()
	}
	slices.SortStableFunc(out, func(a, b Event) int { return cmp.Compare(a.ID, b.ID) })
	return out
}
