package poolregistry_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"testing"
	"time"

	. "github.com/llorch/llorch/poolregistry"
)

// offer registers a node and lets it beat with these pools.
func (w *world) offer(id NodeID, pools ...Pool) {
	w.t.Helper()
	r := describe(id)
	r.Pools = nil
	for _, p := range pools {
		r.Pools = append(r.Pools, Pool{ID: p.ID})
	}
	w.must(w.try(r))
	_, err := w.beatWith(id, func(b *Beat) { b.Pools = pools })
	w.must(err)
}

func offering(id PoolID, free int, loaded string, refs ...string) Pool {
	p := Pool{ID: id, State: "ready", Live: true, Ready: true, SlotsFree: free, SlotsTotal: 4}
	for _, r := range refs {
		p.ModelsAvailable = append(p.ModelsAvailable, Model{Ref: r})
	}
	if loaded != "" {
		p.ModelsLoaded = []string{loaded}
	}
	return p
}

// PRG-52: two pools of one node are one place, not two.
func TestTwoPoolsOneNodeNotReplicated(t *testing.T) {
	inBubble(t, Config{PublishEvery: -1}, func(t *testing.T, w *world) {
		w.offer("a", offering("p0", 2, "m", "m"), offering("p1", 2, "", "m"))
		a := w.View().Availability()
		if len(a.ReplicatedModels) != 0 || !slices.Equal(a.SingleNodeModels, []string{"m"}) {
			t.Errorf("replicated %v, single %v", a.ReplicatedModels, a.SingleNodeModels)
		}
		if m := a.Models[0]; m.TotalNodes != 1 || m.TotalCapacity != 8 || m.LoadedNodes != 1 {
			t.Errorf("model %+v", m)
		}
	})
}

// PRG-52, PRG-10: what counts where, and the bytes of it.
func TestAvailability(t *testing.T) {
	inBubble(t, Config{PublishEvery: -1}, func(t *testing.T, w *world) {
		got, err := json.Marshal(w.View().Availability())
		w.must(err)
		if want := `{"nodes":{},"models":[],"total_models":0,"replicated_models":[],"single_node_models":[]}`; string(got) != want {
			t.Errorf("an empty registry: %s", got)
		}
		w.offer("b", offering("p0", 1, "shared", "shared", "only b"))
		w.offer("a", offering("p1", 0, "shared", "shared"), offering("p0", 4, "", "shared", "full"))
		w.offer("off", offering("p0", 4, "", "shared", "elsewhere"))
		r := describe("none")
		r.Pools = nil
		w.must(w.try(r)) // registering
		w.Refused("off")
		a := w.View().Availability()
		want := []AvailableModel{
			{ID: "full", Nodes: []NodeID{"a"}, TotalNodes: 1, TotalCapacity: 4},
			{ID: "only b", Nodes: []NodeID{"b"}, TotalNodes: 1, TotalCapacity: 4},
			{ID: "shared", Nodes: []NodeID{"a", "b"}, TotalNodes: 2, TotalCapacity: 8, LoadedNodes: 2},
		}
		if fmt.Sprint(a.Models) != fmt.Sprint(want) || a.TotalModels != 3 {
			t.Errorf("models\n%v\nwant\n%v", a.Models, want)
		}
		if !slices.Equal(a.ReplicatedModels, []string{"shared"}) || !slices.Equal(a.SingleNodeModels, []string{"full", "only b"}) {
			t.Errorf("replicated %q, single %q", a.ReplicatedModels, a.SingleNodeModels)
		}
		if n := a.Nodes["off"]; n.Online || !slices.Equal(n.Models, []string{"elsewhere", "shared"}) || len(a.Nodes) != 4 {
			t.Errorf("a suspect node: %+v of %d", n, len(a.Nodes))
		}
		got, err = json.Marshal([]AvailableNode{a.Nodes["a"], a.Nodes["none"]})
		w.must(err)
		if want := `[{"node_id":"a","address":"http://10.0.0.1:9200","online":true,"models":["full","shared"],"pools":[` +
			`{"pool_id":"p0","ready":true,"models":["full","shared"]},{"pool_id":"p1","ready":true,"models":["shared"]}]},` +
			`{"node_id":"none","address":"http://10.0.0.1:9200","online":false,"models":[],"pools":[]}]`; string(got) != want {
			t.Errorf("nodes:\n%s\nwant\n%s", got, want)
		}
		w.offer("c", offering("p0", 1, "")) // online, and without the model
		if a := w.View().Availability(); len(a.ReplicatedModels) != 0 {
			t.Errorf("replicated %q although c lacks it", a.ReplicatedModels)
		}
	})
}

// PRG-48, PRG-10: the hash is that of the nodes: it survives JSON and time, and tells
// any change.
func TestHash(t *testing.T) {
	inBubble(t, Config{PublishEvery: -1}, func(t *testing.T, w *world) {
		r := describe("b")
		r.Region, r.Labels = Region{Country: "DE"}, map[string]string{"z": "1", "a": "2"}
		r.Capabilities.GPUs = []GPU{{UUID: "g", VRAMTotalBytes: new(uint64(1 << 34))}}
		w.must(w.try(r))
		w.register("a")
		w.beat("a", "b")
		w.must(w.Drain("b", time.Minute))
		v := w.View()
		hash := v.Hash()
		time.Sleep(3 * time.Second)
		if v.Hash() != hash {
			t.Error("the hash depends on when it is taken")
		}
		raw, err := json.Marshal(v.Nodes)
		w.must(err)
		var elsewhere View
		w.must(json.Unmarshal(raw, &elsewhere.Nodes))
		if elsewhere.Hash() != hash {
			t.Error("the same nodes have another hash in another process")
		}
		w.idle("a", false) // as before, only later
		if w.View().Hash() != hash {
			t.Error("an unchanged beat changed the hash")
		}
		seen := map[[32]byte]bool{hash: true}
		for _, c := range []struct {
			name   string
			change func()
		}{
			{"schedule", func() { w.must(w.Cordon("a")) }},
			{"content", func() { w.idle("a", true) }},
			{"liveness", func() { w.Refused("b") }},
			{"membership", func() { w.must(w.Release("a")) }},
		} {
			c.change()
			if h := w.View().Hash(); seen[h] {
				t.Errorf("a change of %s did not change the hash", c.name)
			} else {
				seen[h] = true
			}
		}
	})
}

// PRG-48: many readers of one view compute its hash once.
func TestHashIsComputedOnce(t *testing.T) {
	reg, err := New(Config{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := reg.Register(t.Context(), describe("a")); err != nil {
		t.Fatal(err)
	}
	v := reg.View()
	v.Hash()
	if n := testing.AllocsPerRun(10, func() { v.Hash() }); n != 0 {
		t.Errorf("%v allocations for a known hash", n)
	}
}
