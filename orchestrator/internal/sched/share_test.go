package sched_test

import (
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/llorch/llorch/orchestrator/internal/sched"
	"github.com/llorch/llorch/orchestrator/queue"
)

// crowd keeps tenants busy and counts what each got, in tokens × price.
type crowd struct {
	*sim
	rnd  *rand.Rand
	next int
	got  map[queue.Tenant]float64
	took map[queue.Tenant][]sched.Instant // from submit to the end
}

func newCrowd(t testing.TB, slots int, seed uint64) *crowd {
	c := &crowd{
		sim: newSim(t, sched.Config{CancelAfter: time.Second, Queue: queue.Config{Capacity: queue.Unbounded, AgingAfter: -1}}, slots),
		rnd: rand.New(rand.NewPCG(seed, 2)), got: map[queue.Tenant]float64{}, took: map[queue.Tenant][]sched.Instant{},
	}
	c.done = func(j *ask) {
		if j.fate != "" {
			t.Fatalf("a task ended with %q", j.fate)
		}
		c.got[j.Tenant] += float64(j.Need.Prompt + 2*j.out)
		c.took[j.Tenant] = append(c.took[j.Tenant], c.now-j.at)
	}
	return c
}

// send submits a task of about so many output tokens; what it says is ±30 % off.
func (c *crowd) send(who queue.Tenant, tokens int) {
	c.next++
	j := &ask{}
	j.ID, j.Tenant = id(c.next), who
	j.Need.Prompt, j.Need.Expected = 20+c.rnd.IntN(200), tokens/2+c.rnd.IntN(tokens)
	j.out = int(float64(j.Need.Expected) * (0.7 + 0.6*c.rnd.Float64()))
	c.submit(j)
}

// busy keeps a tenant backlogged: always some tasks wait.
func (c *crowd) busy(who queue.Tenant, tokens int) {
	for range 12 {
		c.send(who, tokens)
	}
	told := c.done
	c.done = func(j *ask) {
		told(j)
		if j.Tenant == who {
			c.send(who, tokens)
		}
	}
}

// poisson sends a task each so often on average.
func (c *crowd) poisson(who queue.Tenant, tokens int, each time.Duration) {
	c.after(sched.Instant(c.rnd.ExpFloat64()*float64(each)), func() {
		c.send(who, tokens)
		c.poisson(who, tokens, each)
	})
}

// jain is Jain's index of fairness: 1 = all equal, 1/n = one has all.
func jain(x []float64) float64 {
	var sum, squares float64
	for _, v := range x {
		sum, squares = sum+v, squares+v*v
	}
	return sum * sum / (float64(len(x)) * squares)
}

func p99(x []sched.Instant) time.Duration {
	x = slices.Sorted(slices.Values(x))
	return time.Duration(x[len(x)*99/100])
}

// TestSharesEqual: tenants that always wait get equal work done, whether they ask
// for much or little at a time, and although what they say is ±30 % off (G7, ORC-210).
func TestSharesEqual(t *testing.T) {
	c := newCrowd(t, 4, 1)
	var got []float64
	for i := range 6 {
		c.busy(queue.Tenant{byte(i)}, 30<<i)
	}
	c.run(sched.Instant(30 * time.Minute))
	for i := range 6 {
		got = append(got, c.got[queue.Tenant{byte(i)}])
	}
	t.Logf("Jain %.4f of %.0f", jain(got), got)
	if jain(got) < 0.98 {
		t.Errorf("Jain's index %.4f, want ≥ 0.98", jain(got))
	}
}

// TestSharesWeighted: shares follow the weights within 5 % (G7, ORC-210).
func TestSharesWeighted(t *testing.T) {
	c := newCrowd(t, 4, 2)
	weights := []int{1, 2, 4, 8}
	for i, w := range weights {
		c.step(sched.Tenant{ID: queue.Tenant{byte(i)}, Rules: sched.Rules{Weight: w}})
		c.busy(queue.Tenant{byte(i)}, 200>>i)
	}
	c.run(sched.Instant(10 * time.Minute))
	all := 0.0
	for _, v := range c.got {
		all += v
	}
	for i, w := range weights {
		share, want := c.got[queue.Tenant{byte(i)}]/all, float64(w)/15
		t.Logf("weight %d: %.4f of all, off by %.2f %%", w, share, 100*math.Abs(share-want)/want)
		if math.Abs(share-want) > want/20 {
			t.Errorf("weight %d got %.4f of all, want %.4f ± 5 %%", w, share, want)
		}
	}
}

// TestLightTenant: who asks for little is served within twice the time that it
// would take alone, though others keep all slots busy (ORC-210, ORC-211). The time is
// that from submit to the end: alone nobody waits for a slot.
func TestLightTenant(t *testing.T) {
	light := queue.Tenant{99}
	times := map[bool]time.Duration{}
	for _, crowded := range []bool{false, true} {
		c := newCrowd(t, 8, 3)
		if crowded {
			for i := range 5 {
				c.busy(queue.Tenant{byte(i)}, 200)
			}
		}
		c.poisson(light, 200, 5*time.Second)
		c.run(sched.Instant(40 * time.Minute))
		times[crowded] = p99(c.took[light])
		t.Logf("crowded %v: p99 of %d is %v", crowded, len(c.took[light]), times[crowded])
	}
	if times[true] > 2*times[false] {
		t.Errorf("p99 %v in the crowd, %v alone", times[true], times[false])
	}
}

// TestSharesZipf: over a long time with tenants whose demand follows Zipf's law,
// those who want less than their share get all of it, and the others share alike.
func TestSharesZipf(t *testing.T) {
	if os.Getenv("LLORCH_NIGHTLY") == "" {
		t.Skip("takes long: set LLORCH_NIGHTLY=1")
	}
	const tenants, slots = 100, 16
	c := newCrowd(t, slots, 4)
	sent := map[queue.Tenant]int{}
	var arrive func()
	zipf := rand.NewZipf(c.rnd, 1.1, 1, tenants-1)
	arrive = func() { // 1.5 × what the slots can do
		who := queue.Tenant{byte(zipf.Uint64())}
		sent[who]++
		c.send(who, 200)
		c.after(sched.Instant(c.rnd.ExpFloat64()*float64(2*time.Second)/slots/1.5), arrive)
	}
	arrive()
	c.run(sched.Instant(50 * time.Minute)) // no task waits its whole hour
	var full []float64
	share := math.MaxInt // tasks of the least served of those who want more
	for i := range tenants {
		if who := (queue.Tenant{byte(i)}); sent[who]-len(c.took[who]) > 50 {
			full, share = append(full, c.got[who]), min(share, len(c.took[who]))
		}
	}
	for i := range tenants {
		if who := (queue.Tenant{byte(i)}); sent[who] > 20 && 10*sent[who] < 7*share && p99(c.took[who]) > time.Minute {
			t.Errorf("tenant %d wants %d tasks of %d and waits %v", i, sent[who], share, p99(c.took[who]))
		}
	}
	t.Logf("%d tenants want more than they get; Jain %.4f", len(full), jain(full))
	if len(full) < 2 || jain(full) < 0.98 {
		t.Errorf("Jain's index %.4f of %d, want ≥ 0.98", jain(full), len(full))
	}
}
