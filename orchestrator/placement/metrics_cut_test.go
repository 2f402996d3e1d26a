package placement_test

import (
	"math/rand/v2"
	"testing"

	"github.com/llorch/llorch/orchestrator/placement"
)

// TestMetricsPathCut: when no worker says anything for 60 s, and the last that they
// said was of a busy moment, our own counts keep at least 80 % of the throughput, and
// it is never 0 (llm-d-router#1842; ORC-300, ORC-400). One step is 100 ms; a task runs for 1 to 2 s.
func TestMetricsPathCut(t *testing.T) {
	run := func(cut bool) (done, idle int) {
		const workers, slots, steps = 4, 8, 1200
		rng := rand.New(rand.NewPCG(1, 2))
		v := placement.NewView()
		running := [workers]int{}
		report := func() {
			var list []*placement.Worker
			for i := range workers {
				w := plain(string(rune('a'+i)), slots)
				w.SlotsBusy = running[i]
				list = append(list, w)
			}
			v.Apply(list)
		}
		report()
		type live struct{ id, worker, end int }
		var tasks []live
		id, since := 0, 0
		for step := range steps {
			if !cut || step < 300 || step >= 900 {
				report()
			}
			left := tasks[:0]
			for _, x := range tasks {
				if x.end > step {
					left = append(left, x)
					continue
				}
				v.Release(task(x.id), 1)
				running[x.worker]--
				done++
				since = step
			}
			tasks = left
			idle = max(idle, step-since)
			for range 4 { // about what the workers can do
				d := placement.Decide(v, placement.Request{Model: "a"}, placement.Policy{})
				if d.Worker == nil {
					break
				}
				i := int(d.Worker.Key.Worker[0] - 'a')
				if running[i]++; running[i] > slots {
					t.Fatalf("worker %d runs %d tasks on %d slots", i, running[i], slots)
				}
				v.Reserve(task(id), 1, d.Worker.Key)
				tasks = append(tasks, live{id, i, step + 10 + rng.IntN(10)})
				id++
			}
		}
		return done, idle
	}
	whole, _ := run(false)
	cut, idle := run(true)
	if 10*cut < 8*whole || idle > 30 {
		t.Errorf("%d tasks with the reports cut, %d with them; at most %d steps without any", cut, whole, idle)
	}
}
