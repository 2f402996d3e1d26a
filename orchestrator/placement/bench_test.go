package placement_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/llorch/llorch/orchestrator/placement"
)

// BenchmarkDecide: goal p99 of 20, 50 and 200 µs for 100, 1,000 and 10,000 workers,
// explained too; none has no worker for the model.
func BenchmarkDecide(b *testing.B) {
	for _, n := range []int{100, 1000, 10000} {
		v := placement.NewView()
		workers := make([]*placement.Worker, n)
		for i := range workers {
			workers[i] = &placement.Worker{
				Key: placement.Key{Node: fmt.Sprintf("node-%05d", i), Pool: "p", Worker: "r0"}, Engine: "vllm", Country: "DE", Group: "EU",
				Models: []string{"llama", "qwen"}, SlotsTotal: 8, SlotsBusy: i % 8, CtxMax: 8192, Online: i%10 > 0, Ready: true, VRAMTotal: 80 << 30, VRAMFree: uint64(i) << 20,
			}
		}
		v.Apply(workers)
		r := placement.Request{Model: "qwen", Ctx: 4096, Prompt: 500, Expected: 200, Regions: []string{"EU"}}
		full := r
		full.Model = "none"
		measure := func(name string, f func()) {
			b.Run(fmt.Sprint(n, name), func(b *testing.B) {
				took := make([]time.Duration, 0, 1<<16)
				for b.Loop() {
					began := time.Now()
					f()
					if took = append(took, time.Since(began)); len(took) == cap(took) {
						took = took[:0]
					}
				}
				if slices.Sort(took); len(took) > 0 {
					b.ReportMetric(float64(took[len(took)/2].Nanoseconds())/1000, "p50-µs")
					b.ReportMetric(float64(took[len(took)*99/100].Nanoseconds())/1000, "p99-µs")
				}
			})
		}
		measure("", func() { placement.Decide(v, r, placement.Policy{}) })
		measure("/explained", func() { placement.Explain(v, r, placement.Policy{}) })
		measure("/predicted", func() { placement.Decide(v, r, placement.Policy{Strategy: "predicted"}) })
		measure("/none", func() { placement.Explain(v, full, placement.Policy{}) })
	}
}
