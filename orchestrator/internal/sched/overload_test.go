package sched_test

import (
	"cmp"
	"container/heap"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/llorch/llorch/orchestrator/internal/exec"
	"github.com/llorch/llorch/orchestrator/internal/sched"
	"github.com/llorch/llorch/orchestrator/placement"
	"github.com/llorch/llorch/orchestrator/queue"
)

// The engine of the simulation: its speed is exact, what is not is how many
// tokens come out.
const (
	simPrefill = 200 * time.Microsecond // per prompt token
	simDecode  = 10 * time.Millisecond  // per output token
)

// ask is a task of the simulation with what only an oracle knows.
type ask struct {
	sched.Task
	at      sched.Instant
	out     int // tokens that will come
	began   sched.Instant
	attempt int
	fate    string // wire code of its end, or "refused"; "" = completed
	ended   sched.Instant
	over    bool
}

func (j *ask) first() time.Duration { return time.Duration(j.Need.Prompt) * simPrefill }
func (j *ask) service() sched.Instant {
	return sched.Instant(j.first() + time.Duration(j.out)*simDecode)
}
func (j *ask) inTime() bool { return j.over && j.fate == "" && (j.Due == 0 || j.ended <= j.Due) }

// happening is a future event of the simulation.
type happening struct {
	at  sched.Instant
	seq int
	do  func()
}

type future []happening

func (f future) Len() int { return len(f) }
func (f future) Less(i, j int) bool {
	return cmp.Or(cmp.Compare(f[i].at, f[j].at), cmp.Compare(f[i].seq, f[j].seq)) < 0
}
func (f future) Swap(i, j int) { f[i], f[j] = f[j], f[i] }
func (f *future) Push(x any)   { *f = append(*f, x.(happening)) }
func (f *future) Pop() any     { last := len(*f) - 1; x := (*f)[last]; *f = (*f)[:last]; return x }

// sim runs a core in virtual time.
type sim struct {
	t       testing.TB
	core    *sched.Core
	slots   int
	now     sched.Instant
	todo    future
	seq     int
	jobs    map[queue.ID]*ask
	waiting map[queue.ID]*ask
	running map[queue.ID]*ask
	done    func(*ask) // told of each end
}

func newSim(t testing.TB, cfg sched.Config, slots int) *sim {
	core, err := sched.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	s := &sim{t: t, core: core, slots: slots, jobs: map[queue.ID]*ask{}, waiting: map[queue.ID]*ask{}, running: map[queue.ID]*ask{}, done: func(*ask) {}}
	s.step(sched.Workers{List: []*placement.Worker{{
		Key: placement.Key{Node: "n", Pool: "p", Worker: "w"}, Models: []string{"m"}, SlotsTotal: slots, Online: true, Ready: true,
		TokensPerS: int64(1000 * time.Second / simDecode), FirstToken: int64(time.Millisecond),
	}}})
	return s
}

func (s *sim) after(d sched.Instant, do func()) {
	s.seq++
	heap.Push(&s.todo, happening{s.now + d, s.seq, do})
}

func (s *sim) run(until sched.Instant) {
	for len(s.todo) > 0 && s.todo[0].at <= until {
		h := heap.Pop(&s.todo).(happening)
		s.now = h.at
		h.do()
	}
	s.now = until
}

func (s *sim) submit(j *ask) {
	j.at, j.Ephemeral = s.now, true
	j.Need.Model, j.Total = "m", time.Hour
	s.jobs[j.ID], s.waiting[j.ID] = j, j
	s.step(sched.Submit{Task: j.Task})
}

func (s *sim) step(e sched.Event) {
	for _, fx := range slices.Clone(s.core.Step(s.now, e)) {
		switch f := fx.(type) {
		case sched.Assign:
			j := s.jobs[f.ID]
			delete(s.waiting, f.ID)
			s.running[f.ID] = j
			j.began, j.attempt = s.now, f.Attempt
			s.after(j.service(), func() { s.finish(j) })
		case sched.StopRun:
			j := s.jobs[f.ID]
			s.after(0, func() { s.finish(j) })
		case sched.Reject:
			s.end(f.ID, "refused "+f.Code)
		case sched.Evict:
			s.end(f.ID, f.Code)
		case sched.Terminal:
			s.end(f.ID, f.Code)
		case sched.SetTimer:
			if f.At > 0 {
				s.after(max(0, f.At-s.now), func() { s.step(sched.Tick{}) })
			}
		}
	}
}

func (s *sim) finish(j *ask) {
	if s.running[j.ID] == nil {
		return // was cut before
	}
	delete(s.running, j.ID)
	held := time.Duration(s.now - j.began)
	r := sched.Result{Class: exec.OK, TokensIn: j.Need.Prompt, First: min(held, j.first()), Decode: max(0, held-j.first())}
	r.TokensOut = int(r.Decode / simDecode)
	s.step(sched.Finished{ID: j.ID, Attempt: j.attempt, Result: r})
}

func (s *sim) end(id queue.ID, code string) {
	j := s.jobs[id]
	delete(s.waiting, id)
	j.over, j.fate, j.ended = true, code, s.now
	s.done(j)
}

// overload makes arrivals: deadlines of 3 to 8 s, services of
// about 2 s, and outputs of ±30 % of what the requests say.
func overload(rnd *rand.Rand, slots int, factor float64, n int) []*ask {
	mean := 2 * float64(time.Second)
	var jobs []*ask
	at := 0.0
	for i := range n {
		at += rnd.ExpFloat64() * mean / float64(slots) / factor
		j := &ask{at: sched.Instant(at)}
		j.ID = id(i + 1)
		j.Need.Prompt, j.Need.Expected = 50+rnd.IntN(500), 60+rnd.IntN(260)
		j.out = int(float64(j.Need.Expected) * (0.7 + 0.6*rnd.Float64()))
		j.Due = j.at + sched.Instant(3*time.Second) + sched.Instant(rnd.Int64N(int64(5*time.Second)))
		jobs = append(jobs, j)
	}
	return jobs
}

// fifo is what the core is compared with: arrival order, bounded places, a task
// whose time is over leaves the queue or its slot.
func fifo(jobs []*ask, slots, places int) (good int) {
	free := make([]sched.Instant, slots)
	var queued []*ask
	start := func(until sched.Instant) {
		for len(queued) > 0 {
			i := slices.Index(free, slices.Min(free))
			if free[i] > until {
				return
			}
			j := queued[0]
			queued = queued[1:]
			at := max(free[i], j.at)
			switch end := at + j.service(); {
			case at >= j.Due:
			case end > j.Due:
				free[i] = j.Due
			default:
				free[i], good = end, good+1
			}
		}
	}
	for _, j := range jobs {
		start(j.at)
		queued = slices.DeleteFunc(queued, func(q *ask) bool { return q.Due <= j.at })
		if len(queued) < places {
			queued = append(queued, j)
		}
	}
	start(math.MaxInt64)
	return good
}

// TestOverload: at one and a half times what the slots can do, with outputs that
// are up to 30 % off, refusing early does more in time than a queue with
// timeouts and breaks few promises. Of the work that is refused at most a tenth
// could have been done by slots that never rest nor work in vain (ORC-212, ORC-218,
// ORC-250, ORC-251).
func TestOverload(t *testing.T) {
	const slots, n = 8, 3000
	var good, base, admitted, missed, refused int
	var spare, lost float64 // slot-seconds
	for seed := range uint64(4) {
		jobs := overload(rand.New(rand.NewPCG(seed, 1)), slots, 1.5, n)
		base += fifo(jobs, slots, 100)
		s := newSim(t, sched.Config{CancelAfter: time.Second}, slots)
		for _, j := range jobs {
			s.after(j.at, func() { s.submit(j) })
		}
		s.run(math.MaxInt64)
		last := jobs[n-1].at
		spare += slots * time.Duration(last).Seconds()
		for _, j := range jobs {
			switch {
			case !j.over:
				t.Fatal("a task has no end")
			case j.fate == "refused DEADLINE_UNMET":
				refused++
				lost += time.Duration(j.service()).Seconds()
			case j.inTime():
				admitted, good = admitted+1, good+1
				spare -= time.Duration(max(0, min(j.ended, last)-j.began)).Seconds()
			default:
				admitted, missed = admitted+1, missed+1
			}
		}
	}
	t.Logf("in time %d, first come first served %d: %.2f ×", good, base, float64(good)/float64(base))
	t.Logf("admitted %d, missed %.2f %%; refused %d, of their work %.1f %% truly infeasible", admitted, 100*float64(missed)/float64(admitted), refused, 100*(1-spare/lost))
	if float64(good) < 1.3*float64(base) {
		t.Errorf("goodput %.2f × of first come first served, want ≥ 1.3", float64(good)/float64(base))
	}
	if 20*missed > admitted {
		t.Errorf("%d of %d admitted tasks missed their deadline", missed, admitted)
	}
	if spare > lost/10 {
		t.Errorf("%.1f %% of the refused work could have been done", 100*spare/lost)
	}
}
