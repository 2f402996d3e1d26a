package poolregistry_test

import (
	"fmt"
	"testing"

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
