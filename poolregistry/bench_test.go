package poolregistry_test

import (
	"fmt"
	"maps"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	. "github.com/llorch/llorch/poolregistry"
)

func filled(b *testing.B, n int) (*Registry, []Beat) {
	b.Helper()
	reg, err := New(Config{Timing: Timing{Beat: 100 * ms, MaxBeatRate: 1e9}})
	if err != nil {
		b.Fatal(err)
	}
	models := make([]Model, 20)
	for i := range models {
		models[i].Ref = fmt.Sprintf("hf:owner/model-%02d@0123456789abcdef0123456789abcdef01234567::file=model-Q4_K_M.gguf", i)
	}
	beats := make([]Beat, n)
	for i := range beats {
		id := NodeID(fmt.Sprintf("node-%05d", i))
		r := describe(id)
		r.Pools[0].ModelsAvailable = models
		g, err := reg.Register(b.Context(), r)
		if err != nil {
			b.Fatal(err)
		}
		pools := pool()
		pools[0].ModelsAvailable = models
		pools[0].Workers = []Worker{{ID: "r0", Status: "ready", URL: "http://10.0.0.1:8000", ModelRef: models[0].Ref, SlotsTotal: 4}}
		beats[i] = Beat{NodeID: id, LeaseToken: g.LeaseToken, Pools: pools}
	}
	return reg, beats
}

// beatOnce sends the next beat of a node.
func beatOnce(b *testing.B, reg *Registry, beat *Beat) {
	beat.Seq++
	if _, err := reg.Beat(b.Context(), *beat); err != nil {
		b.Fatal(err)
	}
}

// Goal: at most 5 µs for an unchanged beat with 20 models.
func BenchmarkBeat(b *testing.B) {
	reg, beats := filled(b, 10_000)
	for i := range beats {
		beatOnce(b, reg, &beats[i])
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		beatOnce(b, reg, &beats[i%len(beats)])
	}
}

// Goal: 10 000 nodes that beat once a second cost at most 5 % of one core and
// 64 MiB: one iteration is one second of them, so at most 50 ms.
func BenchmarkBeats10k(b *testing.B) {
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	reg, beats := filled(b, 10_000)
	for i := range beats {
		beatOnce(b, reg, &beats[i])
	}
	shared := beats[0].Pools // the senders' own copies are not the registry's
	for i := range beats {
		beats[i].Pools = shared
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	b.ReportAllocs()
	for b.Loop() {
		for i := range beats {
			beatOnce(b, reg, &beats[i])
		}
	}
	b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/(1<<20), "MiB")
	b.ReportMetric(b.Elapsed().Seconds()/float64(b.N)*100, "%core")
}

// naive is what one would write first: a map under a mutex, without leases,
// epochs, checks or freshness. It is the floor of what beats and views can cost.
type naive struct {
	mu    sync.RWMutex
	nodes map[NodeID]naiveNode
}

type naiveNode struct {
	seen  time.Time
	pools []Pool
}

func (n *naive) beat(b Beat) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.nodes[b.NodeID] = naiveNode{time.Now(), b.Pools}
}

// view is a sorted copy, as readers of the registry get one.
func (n *naive) view() []NodeID {
	n.mu.RLock()
	defer n.mu.RUnlock()
	return slices.Sorted(maps.Keys(n.nodes))
}

// The floor of BenchmarkBeats10k.
func BenchmarkNaiveBeats10k(b *testing.B) {
	_, beats := filled(b, 10_000)
	n := &naive{nodes: map[NodeID]naiveNode{}}
	for b.Loop() {
		for i := range beats {
			n.beat(beats[i])
		}
	}
	b.ReportMetric(b.Elapsed().Seconds()/float64(b.N)*100, "%core")
}

// The floor of BenchmarkView, while somebody writes.
func BenchmarkNaiveViewWhileWriting(b *testing.B) {
	_, beats := filled(b, 1000)
	n := &naive{nodes: map[NodeID]naiveNode{}}
	for i := range beats {
		n.beat(beats[i])
	}
	while(b, func(i int) { n.beat(beats[i%len(beats)]) }, func() { _ = n.view() })
}

// while calls write all the time in one goroutine, and read in 16 per core.
func while(b *testing.B, write func(i int), read func()) {
	b.Helper()
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
				write(i)
			}
		}
	})
	b.SetParallelism(16)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			read()
		}
	})
	close(stop)
	wg.Wait()
}

// The standard library's way to know who is alive: a map of instants under a
// mutex, without leases, epochs, content or views.
func BenchmarkNaiveBeat(b *testing.B) {
	var mu sync.Mutex
	seen := map[NodeID]time.Time{}
	_, beats := filled(b, 10_000)
	for i := 0; b.Loop(); i++ {
		mu.Lock()
		seen[beats[i%len(beats)].NodeID] = time.Now()
		mu.Unlock()
	}
}

// The standard library's way to hand out the nodes: a copy of the list under a
// read lock.
func BenchmarkNaiveView(b *testing.B) {
	var mu sync.RWMutex
	reg, _ := filled(b, 1000)
	nodes := reg.View().Nodes
	for b.Loop() {
		mu.RLock()
		list := slices.Clone(nodes)
		mu.RUnlock()
		if len(list) == 0 {
			b.Fatal("no view")
		}
	}
}

// Goal: as fast with 16 readers and a writer.
func BenchmarkViewWhileWriting(b *testing.B) {
	reg, beats := filled(b, 1000)
	while(b, func(i int) {
		beat := &beats[i%len(beats)]
		beat.Seq++
		_, _ = reg.Beat(b.Context(), *beat) // more often than is allowed
	}, func() { _ = reg.View() })
}

// Goal: after a restart 10 000 nodes are registered and online within one beat
// and a second; one iteration is all of them at once.
func BenchmarkStorm10k(b *testing.B) {
	for b.Loop() {
		reg, beats := filled(b, 10_000)
		for i := range beats {
			beatOnce(b, reg, &beats[i])
		}
		if v := reg.View(); v.Online != len(beats) {
			b.Fatalf("%d online", v.Online)
		}
	}
}

// Goal: at most 100 ns and no allocation.
func BenchmarkView(b *testing.B) {
	reg, _ := filled(b, 1000)
	b.ReportAllocs()
	for b.Loop() {
		if reg.View() == nil {
			b.Fatal("no view")
		}
	}
}

// Goal: at most 100 µs for one change among 10 000 nodes.
func BenchmarkPublish(b *testing.B) {
	reg, beats := filled(b, 10_000)
	for i := range beats {
		beatOnce(b, reg, &beats[i])
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		id := beats[i%len(beats)].NodeID
		gen := reg.View().Gen
		reg.Refused(id) // a change of liveness is published before the call returns
		if i < len(beats) && reg.View().Gen == gen {
			b.Fatal("nothing was published")
		}
		if i%len(beats) == len(beats)-1 {
			b.StopTimer()
			for j := range beats {
				beatOnce(b, reg, &beats[j])
			}
			b.StartTimer()
		}
	}
}
