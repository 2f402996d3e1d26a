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

const schedules = "open cordoned draining drained"

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
	c.text(maxText, "version", r.Version)
	if code := r.Region.fill(); code != "" {
		c.fault("region", code)
	}
	c.text(maxText, "region.evidence", r.Region.Evidence)
	r.Labels = c.labels(r.Labels)
	if r.PrevEpoch > maxPrevEpoch {
		c.fault("prev_epoch", faultRange)
	}
	c.text(maxText, "lease_token", r.LeaseToken)
	enum(c, "schedule", &r.Schedule, schedules)
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
	enum(c, "schedule", &b.Schedule, schedules)
	b.Pools = c.pools(b.Pools)
	b.GPUs = c.gpus(b.GPUs)
	b.Events = c.events(b.Events)
	c.faults = append(c.faults, b.Unread[:min(len(b.Unread), maxFaults)]...)
	return b, c.err(InvalidBeat)
}

func (c *checker) labels(labels map[string]string) map[string]string {
	if len(labels) > maxLabels {
		c.fault("labels", faultTooLong)
		return nil
	}
	for _, k := range slices.Sorted(maps.Keys(labels)) {
		if k == "" || len(k) > 63 || strings.Trim(k, "abcdefghijklmnopqrstuvwxyz0123456789._/-") != "" {
			c.fault("labels", faultCharset)
		}
		c.text(maxText, "labels", labels[k])
	}
	return maps.Clone(labels)
}

// each returns a copy of a list of at most so many elements, sorted by key, after
// check has seen each element under its own path.
func each[T any, K cmp.Ordered](c *checker, name string, most int, in []T, key func(T) K, check func(before []T, v *T)) []T {
	if len(in) > most {
		c.fault(name, faultTooLong)
		return nil
	}
	out := slices.Clone(in)
	for i := range out {
		c.enter(name, i)
		check(out[:i], &out[i])
		c.leave()
	}
	slices.SortStableFunc(out, func(a, b T) int { return cmp.Compare(key(a), key(b)) })
	return out
}

func (c *checker) gpus(in []GPU) []GPU {
	return each(c, "gpus", maxGPUs, in, func(g GPU) int { return g.DeviceID }, func(before []GPU, g *GPU) {
		c.gpu(g)
		for _, other := range before {
			if g.DeviceID == other.DeviceID && !(c.lenient && g.UUID != "") {
				c.fault("device_id", faultDuplicate)
			}
			if g.UUID != "" && g.UUID == other.UUID {
				c.fault("uuid", faultDuplicate)
			}
		}
	})
}

func (c *checker) gpu(g *GPU) {
	number(c, "device_id", &g.DeviceID, 0, 1<<16)
	c.text(maxText, "uuid", g.UUID, "name", g.Name)
	c.text(16, "compute_capability", g.ComputeCapability)
	c.text(64, "driver_version", g.DriverVersion)
	enum(c, "vendor", &g.Vendor, "nvidia amd intel other")
	enum(c, "memory_kind", &g.MemoryKind, "unknown dedicated unified carveout slice")
	enum(c, "health", &g.Health, "ok degraded failed lost")
	enum(c, "recovery", &g.Recovery, "none restart_app drain_reset reset reboot contact")
	optional(c, "temperature_c", &g.TemperatureC, -50, 200)
	optional(c, "utilization_percent", &g.UtilizationPercent, 0, 100)
	g.VRAMTotalBytes, g.VRAMReservedBytes = clonePtr(g.VRAMTotalBytes), clonePtr(g.VRAMReservedBytes)
	most := uint64(math.MaxUint64)
	if g.VRAMTotalBytes != nil {
		most = *g.VRAMTotalBytes
	}
	optional(c, "vram_free_bytes", &g.VRAMFreeBytes, 0, most)
}

func (c *checker) pools(in []Pool) []Pool {
	return each(c, "pools", c.limits.Pools, in, func(p Pool) PoolID { return p.ID }, func(before []Pool, p *Pool) {
		*p = p.clone()
		c.pool(p)
		if slices.ContainsFunc(before, func(other Pool) bool { return p.ID == other.ID }) {
			c.fault("pool_id", faultDuplicate)
		}
	})
}

func (c *checker) pool(p *Pool) {
	c.id("pool_id", string(p.ID), maxPoolID)
	p.State = cmp.Or(p.State, "initializing")
	enum(c, "state", &p.State, "initializing ready draining failed offline")
	enum(c, "breaker", &p.Breaker, "closed open half_open")
	c.text(maxText, "reason", p.Reason, "engine", p.Engine, "engine_version", p.EngineVersion, "engine_digest", p.EngineDigest)
	number(c, "slots_total", &p.SlotsTotal, 0, maxSlots)
	number(c, "slots_free", &p.SlotsFree, 0, max(0, min(p.SlotsTotal, maxSlots)))
	number(c, "active_leases", &p.ActiveLeases, 0, math.MaxInt32)
	number(c, "restarts", &p.Restarts, 0, math.MaxInt32)
	number(c, "vram_free_bytes", &p.VRAMFreeBytes, 0, p.VRAMTotalBytes)
	c.texts("device_mask", p.DeviceMask, maxGPUs, maxText)
	c.texts("models_loaded", p.ModelsLoaded, c.limits.Models, maxModelRef)
	slices.Sort(p.ModelsLoaded)
	if !c.knows(p) {
		p.ModelsAvailable = c.models(p.ModelsAvailable)
	}
	if p.LastError != nil {
		c.text(maxText, "last_error.code", p.LastError.Code)
		c.text(maxMessage, "last_error.message", p.LastError.Message)
	}
	p.Workers = each(c, "workers", c.limits.Workers, p.Workers, func(w Worker) WorkerID { return w.ID }, func(before []Worker, w *Worker) {
		c.worker(w)
		if slices.ContainsFunc(before, func(other Worker) bool { return w.ID == other.ID }) {
			c.fault("worker_id", faultDuplicate)
		}
	})
}

// knows reports whether p has the models that it had, and then lets it share them.
// Most of a beat is a long list that did not change.
func (c *checker) knows(p *Pool) bool {
	i, ok := slices.BinarySearchFunc(c.known, p.ID, func(p Pool, id PoolID) int { return compare(p.ID, id) })
	if !ok || p.ModelsAvailable == nil || !slices.EqualFunc(p.ModelsAvailable, c.known[i].ModelsAvailable, Model.same) {
		return false
	}
	p.ModelsAvailable = c.known[i].ModelsAvailable
	return true
}

func (c *checker) models(in []Model) []Model {
	out := each(c, "models_available", c.limits.Models, in, func(m Model) string { return m.Ref }, func(_ []Model, m *Model) {
		c.line("model", m.Ref, maxModelRef)
		m.Fits = clonePtr(m.Fits)
	})
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
	c.text(maxText, "reason", w.Reason, "model_digest", w.ModelDigest, "engine", w.Engine, "engine_version", w.EngineVersion)
	c.text(maxModelRef, "model_ref", w.ModelRef)
	c.text(64, "quant", w.Quant)
	c.text(32, "protocol", w.Protocol)
	w.Capabilities, w.GPUUUIDs = slices.Clone(w.Capabilities), slices.Clone(w.GPUUUIDs)
	c.texts("capabilities", w.Capabilities, 64, 64)
	c.texts("gpu_uuids", w.GPUUUIDs, maxGPUs, maxText)
	number(c, "ctx_max", &w.CtxMax, 0, maxCtx)
	number(c, "slots_total", &w.SlotsTotal, 0, maxSlots)
	number(c, "slots_free", &w.SlotsFree, 0, max(0, min(w.SlotsTotal, maxSlots)))
	number(c, "tokens_per_s", &w.TokensPerS, 0, 1e9)
	number(c, "first_token_ms", &w.FirstTokenMS, 0, 1e9)
	number(c, "restart_count", &w.RestartCount, 0, math.MaxInt32)
	optional(c, "kv_used_ratio", &w.KVUsedRatio, 0, 1)
	w.StartedAt = w.StartedAt.UTC() // so that equal instants are equal values
	if w.URL != "" {
		if _, fault := c.policy.check(w.URL); fault != "" {
			w.Status, w.Reason, w.URL = "failed", "address", ""
		}
	}
}

func (c *checker) events(in []Event) []Event {
	return each(c, "events", c.limits.Events, in, func(e Event) uint64 { return e.ID }, func(_ []Event, e *Event) {
		if e.ID == 0 {
			c.fault("event_id", faultRequired)
		}
		if e.Class != classFatal || e.WorkerID != "" {
			c.id("worker_id", string(e.WorkerID), maxWorkerID)
		}
		if e.Class != classFatal || e.PoolID != "" {
			c.id("pool_id", string(e.PoolID), maxPoolID)
		}
		c.text(maxText, "gpu", e.GPU)
		c.text(32, "signal", e.Signal)
		c.text(64, "class", e.Class)
		c.text(maxMessage, "message", e.Message)
		number(c, "uptime_ms", &e.UptimeMS, 0, maxMillis)
		e.ExitCode = clonePtr(e.ExitCode)
	})
}
