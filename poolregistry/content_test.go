package poolregistry_test

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/llorch/llorch/inputvalidation"
	. "github.com/llorch/llorch/poolregistry"
)

// PRG-38: models_available is per pool, and leaving it out changes nothing.
func TestBeatKeepsModels(t *testing.T) {
	inBubble(t, Config{PublishEvery: -1}, func(t *testing.T, w *world) {
		r := describe("a")
		r.Pools = []Pool{{ID: "p0", ModelsAvailable: []Model{{Ref: "m1"}}}, {ID: "p1"}}
		r.ModelsAvailable = []Model{{Ref: "node-wide"}}
		w.must(w.try(r))
		models := func(id PoolID) string {
			p, _ := w.node("a").Pool(id)
			var s []string
			for _, m := range p.ModelsAvailable {
				s = append(s, m.Ref)
			}
			return strings.Join(s, " ")
		}
		if models("p0") != "m1" || models("p1") != "node-wide" {
			t.Errorf("registered: %q, %q", models("p0"), models("p1"))
		}
		w.beat("a")
		if models("p0") != "m1" {
			t.Errorf("a beat without models left %q", models("p0"))
		}
		_, err := w.beatWith("a", func(b *Beat) { b.Pools[0].ModelsAvailable = []Model{{Ref: "z"}, {Ref: "b"}} })
		w.must(err)
		if models("p0") != "b z" {
			t.Errorf("sorted models: %q", models("p0"))
		}
		_, err = w.beatWith("a", func(b *Beat) { b.Pools[0].ModelsAvailable = []Model{} })
		w.must(err)
		if models("p0") != "" {
			t.Errorf("an empty list left %q", models("p0"))
		}
	})
}

// PRG-38: what is known of a model may change while the list of names stays.
func TestModelDetailsChange(t *testing.T) {
	inBubble(t, Config{PublishEvery: -1}, func(t *testing.T, w *world) {
		w.register("a")
		for _, m := range []Model{
			{Ref: "m"},
			{Ref: "m", NeedBytes: 1},
			{Ref: "m", NeedBytes: 1, Fits: new(false)},
			{Ref: "m", NeedBytes: 1, Fits: new(true)},
			{Ref: "m", Fits: new(true)},
			{Ref: "m", Fits: new(true)},
			{Ref: "n"},
		} {
			_, err := w.beatWith("a", func(b *Beat) { b.Pools[0].ModelsAvailable = []Model{m} })
			w.must(err)
			got := w.node("a").Pools[0].ModelsAvailable
			if len(got) != 1 || got[0].Ref != m.Ref || got[0].NeedBytes != m.NeedBytes || (got[0].Fits == nil) != (m.Fits == nil) || m.Fits != nil && *got[0].Fits != *m.Fits {
				t.Errorf("models %+v, want %+v", got, m)
			}
			time.Sleep(10 * time.Second)
		}
		_, err := w.beatWith("a", func(b *Beat) { b.Pools[0].ModelsAvailable = []Model{{Ref: "n"}, {Ref: ""}} })
		if e := wantCode(t, err, InvalidBeat); len(e.Fields) != 1 {
			t.Errorf("fields %q", e.Fields)
		}
	})
}

// PRG-41.
func TestAbsentAndUnknownPools(t *testing.T) {
	inBubble(t, Config{PublishEvery: -1}, func(t *testing.T, w *world) {
		r := describe("a")
		r.Pools = append(r.Pools, Pool{ID: "p1"})
		w.must(w.try(r))
		reply, err := w.beatWith("a", func(b *Beat) { b.Pools = append(pool(), Pool{ID: "stranger", State: "ready", Ready: true}) })
		w.must(err)
		if !reply.Reregister || !slices.Equal(reply.UnknownPools, []PoolID{"stranger"}) {
			t.Errorf("reply = %+v", reply)
		}
		n := w.node("a")
		if p, _ := n.Pool("p1"); p.Ready || p.Reason != "absent" {
			t.Errorf("p1 = %+v", p)
		}
		if _, ok := n.Pool("stranger"); ok || len(n.Pools) != 2 {
			t.Errorf("pools = %+v", n.Pools)
		}
	})
}

// PRG-16, PRG-3, PRG-4: all faults come together, with paths, and nothing has changed.
func TestRegistrationFaults(t *testing.T) {
	inBubble(t, Config{}, func(t *testing.T, w *world) {
		const secret = "canary\x1b[31m"
		r := Registration{
			NodeID: secret, InstanceID: secret, Version: secret, Address: secret,
			Region: Region{Country: "DE", Group: "US"}, Labels: map[string]string{secret: secret},
			PrevEpoch: 1 << 52,
			Pools: []Pool{
				{ID: "p"},
				{ID: "p", State: secret, SlotsTotal: 4097, VRAMFreeBytes: 2, VRAMTotalBytes: 1},
				{ID: "q", Workers: []Worker{{ID: secret, Status: "ready", CtxMax: 16<<20 + 1, SlotsFree: -1}, {ID: "w", Status: "wild"}}},
				{ID: "r", ModelsAvailable: []Model{{}}, Breaker: secret, LastError: &PoolError{Message: strings.Repeat("x", 257)}},
			},
			Capabilities: Capabilities{GPUs: []GPU{{TemperatureC: new(200.5)}, {DeviceID: 1, UUID: "u", Vendor: secret}, {DeviceID: 1, UUID: "u", UtilizationPercent: new(math.NaN())}}},
		}
		e := wantCode(t, w.try(r), InvalidNode)
		want := []string{
			"node_id: charset", "instance_id: charset", "address: charset", "version: charset", "region: mismatch",
			"labels: charset", "labels: charset", "prev_epoch: range",
			"capabilities.gpus[0].temperature_c: range", "capabilities.gpus[1].vendor: charset",
			"capabilities.gpus[2].utilization_percent: range", "capabilities.gpus[2].device_id: duplicate", "capabilities.gpus[2].uuid: duplicate",
			"pools[1].state: charset", "pools[1].slots_total: range", "pools[1].vram_free_bytes: range", "pools[1].pool_id: duplicate",
			"pools[2].workers[0].worker_id: charset", "pools[2].workers[0].ctx_max: range", "pools[2].workers[0].slots_free: range", "pools[2].workers[1].status: charset",
			"pools[3].breaker: charset", "pools[3].models_available[0].model: required", "pools[3].last_error.message: too_long",
		}
		if !slices.Equal(e.Fields, want) {
			t.Errorf("fields:\n%s\nwant:\n%s", strings.Join(e.Fields, "\n"), strings.Join(want, "\n"))
		}
		if strings.Contains(e.Error(), "canary") {
			t.Error("the error repeats what was sent")
		}
		if len(w.View().Nodes) != 0 {
			t.Error("a refused registration left a node")
		}
		wantCode(t, w.try(Registration{NodeID: "a", InstanceID: uuid1}), InvalidNode) // no address
		r = describe("a")
		r.Address = "http://169.254.169.254:80"
		wantCode(t, w.try(r), AddressNotAllowed)
		r.Address, r.InProcess = "", true
		w.must(w.try(r))
	})
}

// PRG-9, PRG-4: lists above their bounds are refused whole.
func TestRegistrationLimits(t *testing.T) {
	inBubble(t, Config{Limits: Limits{Pools: 2, Workers: 1, Models: 2, Events: 1}}, func(t *testing.T, w *world) {
		for field, edit := range map[string]func(*Registration){
			"pools: too_long":                     func(r *Registration) { r.Pools = make([]Pool, 3) },
			"pools[0].workers: too_long":          func(r *Registration) { r.Pools[0].Workers = make([]Worker, 2) },
			"pools[0].models_available: too_long": func(r *Registration) { r.Pools[0].ModelsAvailable = make([]Model, 3) },
			"capabilities.gpus: too_long":         func(r *Registration) { r.Capabilities.GPUs = make([]GPU, 65) },
			"node_id: too_long":                   func(r *Registration) { r.NodeID = NodeID(strings.Repeat("x", 254)) },
			"pools[0].pool_id: too_long":          func(r *Registration) { r.Pools[0].ID = PoolID(strings.Repeat("x", 64)) },
			"labels: too_long": func(r *Registration) {
				r.Labels = map[string]string{}
				for i := range 33 {
					r.Labels[fmt.Sprint(i)] = ""
				}
			},
		} {
			r := describe("a")
			edit(&r)
			if e := wantCode(t, w.try(r), InvalidNode); !slices.Equal(e.Fields, []string{field}) {
				t.Errorf("fields = %q, want %q", e.Fields, field)
			}
		}
		w.register("a")
		_, err := w.beatWith("a", func(b *Beat) { b.Events = make([]Event, 2) })
		wantCode(t, err, InvalidBeat)
	})
}

// PRG-18: senseless numbers in a beat are corrected and counted.
func TestBeatNumbersAreClamped(t *testing.T) {
	inBubble(t, Config{PublishEvery: -1}, func(t *testing.T, w *world) {
		r := describe("a")
		r.Capabilities.GPUs = []GPU{{DeviceID: 0, UUID: "g", VRAMTotalBytes: new(uint64(100))}}
		w.must(w.try(r))
		hot := 1e9
		_, err := w.beatWith("a", func(b *Beat) {
			p := &b.Pools[0]
			p.SlotsFree, p.VRAMFreeBytes, p.VRAMTotalBytes = 9, 11, 10
			p.Workers = []Worker{{ID: "w", Status: "ready", SlotsTotal: 5000, SlotsFree: -3, TokensPerS: math.NaN(), KVUsedRatio: new(7.0)}}
			b.GPUs = []GPU{{UUID: "g", TemperatureC: &hot, VRAMFreeBytes: new(uint64(101))}, {UUID: "unknown"}}
		})
		w.must(err)
		n := w.node("a")
		p, _ := n.Pool("p0")
		wk, g := p.Workers[0], n.Capabilities.GPUs[0]
		if p.SlotsFree != 4 || p.VRAMFreeBytes != 10 || wk.SlotsTotal != 4096 || wk.SlotsFree != 0 || wk.TokensPerS != 0 || *wk.KVUsedRatio != 1 {
			t.Errorf("pool %+v, worker %+v", p, wk)
		}
		if *g.TemperatureC != 200 || *g.VRAMFreeBytes != 100 || len(n.Capabilities.GPUs) != 1 {
			t.Errorf("gpu %+v", g)
		}
		if hot != 1e9 {
			t.Error("the caller's number was changed")
		}
		if c := w.Stats().Clamped; c != 7 {
			t.Errorf("clamped = %d, want 7", c)
		}
	})
}

// PRG-38, PRG-40: failures arrive once; the newest 16 stay.
func TestEvents(t *testing.T) {
	inBubble(t, Config{PublishEvery: -1}, func(t *testing.T, w *world) {
		w.register("a")
		send := func(ids ...uint64) {
			time.Sleep(10 * time.Second)
			_, err := w.beatWith("a", func(b *Beat) {
				for _, id := range ids {
					b.Events = append(b.Events, Event{ID: id, WorkerID: "w", PoolID: "p0", Class: "oom"})
				}
			})
			w.must(err)
		}
		seen := func() (ids []uint64) {
			for _, e := range w.node("a").Events {
				ids = append(ids, e.ID)
			}
			return ids
		}
		send(2, 1, 2)
		send(1, 2, 3)
		if got := seen(); !slices.Equal(got, []uint64{1, 2, 3}) {
			t.Errorf("events %v", got)
		}
		for i := range uint64(20) {
			send(10 + i)
		}
		if got := seen(); len(got) != 16 || got[0] != 14 || got[15] != 29 {
			t.Errorf("events %v", got)
		}
	})
}

// PRG-6, PRG-57: a worker outside the address policy is not ready; its beat is fine.
func TestWorkerAddress(t *testing.T) {
	policy := AddressPolicy{Allow: []inputvalidation.AddrKind{inputvalidation.AddrLoopback, inputvalidation.AddrPrivate}}
	inBubble(t, Config{PublishEvery: -1, Address: policy}, func(t *testing.T, w *world) {
		w.register("a")
		_, err := w.beatWith("a", func(b *Beat) {
			b.Pools[0].Workers = []Worker{
				{ID: "b", Status: "Ready", URL: "http://169.254.169.254:8000"},
				{ID: "a", Status: "Busy", URL: "http://127.0.0.1:8000"},
			}
		})
		w.must(err)
		p, _ := w.node("a").Pool("p0")
		if g := p.Workers[0]; g.ID != "a" || !g.Usable() || g.URL == "" {
			t.Errorf("good worker %+v", g)
		}
		if b := p.Workers[1]; b.Usable() || b.Reason != "address" || b.URL != "" {
			t.Errorf("bad worker %+v", b)
		}
	})
}

// PRG-39: every reply says what the scheduler has running there; the hook may call
// back into the registry.
func TestReplyCarriesActive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var reg *Registry
		reg, err := New(Config{Active: func(id NodeID) map[PoolID]int {
			if _, ok := reg.View().Node(id); !ok {
				t.Errorf("asked for %s", id)
			}
			reg.Progress(id)
			return map[PoolID]int{"p0": 3}
		}})
		if err != nil {
			t.Fatal(err)
		}
		w := &world{t: t, Registry: reg, grants: map[NodeID]Grant{}, seqs: map[NodeID]uint64{}}
		w.register("a")
		reply, err := w.beatWith("a", nil)
		w.must(err)
		if reply.Active["p0"] != 3 || reply.Status != Online || !reply.Success || reply.TimeoutMS != 30_000 {
			t.Errorf("reply = %+v", reply)
		}
	})
}

// PRG-44, PRG-46: content is published at most every PublishEvery, a change of
// liveness before the call returns, and a published node is never written.
func TestViewIsImmutable(t *testing.T) {
	inBubble(t, Config{}, func(t *testing.T, w *world) {
		w.register("b", "a")
		w.beat("a", "b")
		time.Sleep(10 * ms)
		v := w.View()
		before, err := json.Marshal(v.Nodes[0].Pools)
		w.must(err)
		_, err = w.beatWith("a", func(b *Beat) { b.Pools[0].SlotsFree = 1 })
		w.must(err)
		_, err = w.beatWith("a", func(b *Beat) { b.Pools[0].SlotsFree = 0 })
		w.must(err)
		if p, _ := w.node("a").Pool("p0"); p.SlotsFree != 1 {
			t.Errorf("slots_free = %d before PublishEvery has passed", p.SlotsFree)
		}
		time.Sleep(5 * ms)
		if p, _ := w.node("a").Pool("p0"); p.SlotsFree != 0 {
			t.Errorf("slots_free = %d after it", p.SlotsFree)
		}
		after, err := json.Marshal(v.Nodes[0].Pools)
		w.must(err)
		if string(before) != string(after) || v == w.View() {
			t.Error("an old view changed")
		}
		w.Refused("b")
		w.want("b", Suspect)
		if v := w.View(); v.Nodes[0].ID != "a" || v.Nodes[1].ID != "b" || v.Online != 1 || v.Suspect != 1 {
			t.Errorf("view %+v", v)
		}
		// An unchanged beat publishes nothing, and yet ages are exact.
		gen := w.View().Gen
		time.Sleep(9 * time.Second)
		_, err = w.beatWith("a", func(b *Beat) { b.Pools[0].SlotsFree = 0 })
		w.must(err)
		if g := w.View().Gen; g != gen {
			t.Errorf("an unchanged beat made view %d after %d", g, gen)
		}
		time.Sleep(time.Second)
		if age := time.Since(w.node("a").LastHeartbeat()); age != time.Second {
			t.Errorf("age = %v, want 1s", age)
		}
	})
}

// PRG-46.
func TestSlowWatcherSeesNewest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reg, err := New(Config{})
		if err != nil {
			t.Fatal(err)
		}
		w := &world{t: t, Registry: reg, grants: map[NodeID]Grant{}, seqs: map[NodeID]uint64{}}
		ctx, cancel := context.WithCancel(t.Context())
		go func() { _ = reg.Run(ctx) }()
		synctest.Wait()
		var seen []int
		var wg sync.WaitGroup
		wg.Go(func() {
			for v := range reg.Watch(ctx) {
				seen = append(seen, len(v.Nodes))
				time.Sleep(time.Minute) // slow
			}
		})
		synctest.Wait()
		w.register(many(40)...)
		w.must(w.Leave(t.Context(), many(40)[0], w.grants[many(40)[0]].LeaseToken))
		time.Sleep(61 * time.Second)
		synctest.Wait()
		cancel()
		wg.Wait()
		if len(seen) < 2 || seen[0] != 0 || seen[1] != 39 {
			t.Errorf("the watcher saw %v nodes", seen)
		}
	})
}

// PRG-5, PRG-7.
func TestPoolAvailable(t *testing.T) {
	for _, c := range []struct {
		p    Pool
		want bool
	}{
		{Pool{}, false},
		{Pool{Ready: true, SlotsFree: 1}, true},
		{Pool{Ready: true}, false},
		{Pool{SlotsFree: 1}, false},
		{Pool{Ready: true, Draining: true, SlotsFree: 1}, false},
	} {
		if got := c.p.Available(); got != c.want {
			t.Errorf("%+v: Available = %t", c.p, got)
		}
	}
	p := Pool{VRAMFreeBytes: 10}
	if !p.CanFit(10) || p.CanFit(11) || !p.CanFit(0) {
		t.Error("CanFit: exactly what is free fits, one byte more does not")
	}
}
