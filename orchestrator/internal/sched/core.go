// Package sched is the pure core of the orchestrator: one state, one function
// [Core.Step] from (state, event, now) to effects. It does no I/O, reads no
// clock, takes no lock and knows no text; the loop in the root package owns it.
//
// A task goes through these phases:
//
//	Submit → placed ──Persisted──▶ waiting ──slot free──▶ running ──Finished──▶ gone
//	                                  ▲                      │ failed, may run again
//	                                  └──── backoff ◀────────┘
package sched

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"time"

	"github.com/llorch/llorch/orchestrator/placement"
	"github.com/llorch/llorch/orchestrator/queue"
)

// phase is where a task stands in the core.
type phase uint8

const (
	placed  phase = iota + 1 // a place is taken, the store has not answered yet
	waiting                  // in the queue, may be picked
	backoff                  // failed before; in the queue, may not be picked yet
	running                  // holds a slot
)

// task is the core's state of one task.
type task struct {
	Task
	item    queue.Item
	phase   phase
	arrived Instant
	attempt int
	worker  placement.Key
	epoch   uint64 // of the worker's node at Assign
	began   Instant
	tried   []placement.Key
	stop    Reason  // a StopRun was given; the attempt has not finished yet
	code    string  // wire code of the end that goes with stop
	resume  Instant // end of backoff
	hold    Instant // until when it waits for a first worker; 0 = there was one
	warned  bool    // most of its time is over
	loads   int     // loads for it that failed
	tokens  int     // produced so far
	seen    Instant // when it last told of them
	gone    bool    // its worker is lost, as the list says
	wake    Instant // its timer
	wakeAt  int     // place in the timer heap, −1 none
}

// Config tunes a core.
type Config struct {
	Queue       queue.Config
	Policy      placement.Policy
	Scorers     map[string]placement.Scorer `json:"-"`
	CancelAfter time.Duration               // how long a stopped attempt may take to end before its slot is given back by force
	Seed        uint64                      // of the core's one generator (ORC-122)
	Optimistic  bool                        // refuse a deadline only if it fails even in the best case (ORC-250)
	Hold        time.Duration               // how long a task waits when no worker is registered; 0 = it is refused (ORC-247)
	Regions     []string                    // allowed in this installation; nil = all
	Strict      bool                        // a broken rule of residency panics instead of refusing (tests)
	Startup     time.Duration               // a load without progress for this long has failed; 0 = 60 s
	PromptCost  int64                       // milli-tokens of a prompt token; 0 = 1,000
	OutputCost  int64                       // of an output token; 0 = 2,000
}

// Core is the state. One goroutine owns it.
type Core struct {
	cfg      Config
	queue    *queue.Queue
	view     *placement.View
	policy   placement.Policy
	tasks    map[queue.ID]*task
	keys     keys
	timers   timers
	timerSet Instant
	service  estimate // how long a task holds its slot
	est      estimator
	refusing bool
	durable  bool
	dupes    int // releases of slots that were not held
	tenants  tenants
	sessions *recent[[16]byte, placement.Key] // worker of the last turn
	mates    []mate                           // one per worker of the view, by key
	sick     []sick                           // by key
	loads    []load                           // by key
	rng      splitmix

	// What follows lasts for one step, or follows from what is above.
	fx       []Effect
	watch    func(Choice)  // nil: nobody
	gen      uint64        // changes with whatever request depends on
	want     []queue.KeyID // keys with waiting work that only a load can serve
	pause    Instant       // when one of them may begin
	ripe     Instant       // when the first young model may go
	stale    bool          // the pins of the view have to be set anew
	loadable bool          // some worker has models on disk
	broken   int           // scorers removed
}

// New returns an empty core.
func New(cfg Config) (*Core, error) {
	q, err := queue.New(cfg.Queue)
	if err != nil {
		return nil, err
	}
	cfg.Startup = cmp.Or(cfg.Startup, time.Minute)
	cfg.PromptCost, cfg.OutputCost = cmp.Or(cfg.PromptCost, 1000), cmp.Or(cfg.OutputCost, 2000)
	c := &Core{
		cfg: cfg, queue: q, policy: cfg.Policy, view: placement.NewView(), tasks: make(map[queue.ID]*task), keys: newKeys(), gen: 1,
		tenants: newTenants(), sessions: newRecent[[16]byte, placement.Key](maxIdle), rng: splitmix(cfg.Seed), est: newEstimator(),
	}
	c.view.SetRates(c.est.rates)
	c.view.SetScorers(cfg.Scorers)
	return c, nil
}

// View returns the picture of the workers. Read only.
func (c *Core) View() *placement.View { return c.view }

// Depth returns the number of tasks in the queue, by class.
func (c *Core) Depth(class queue.Class) int { return c.queue.Count(class) }

// Oldest returns how long the oldest task of a class has waited, 0 without one.
func (c *Core) Oldest(now Instant, class queue.Class) time.Duration {
	return c.queue.Oldest(now, class)
}

// Idle reports whether the core holds no task.
func (c *Core) Idle() bool { return len(c.tasks) == 0 }

// Running returns the number of tasks that hold a slot.
func (c *Core) Running() int { return c.view.Reserved(placement.Key{}) }

// DuplicateReleases counts releases of slots that were not held (ORC-400).
func (c *Core) DuplicateReleases() int { return c.dupes }

// Ahead estimates the number of tasks before a waiting one (ORC-216).
func (c *Core) Ahead(id queue.ID) (int, bool) { return c.queue.Position(id) }

// Standing is how a waiting task stands.
type Standing struct {
	Ahead   int
	StartIn time.Duration // predicted; 0 also if nothing is known
}

// Standings returns that of every waiting task, in one look at the queue.
func (c *Core) Standings() map[queue.ID]Standing {
	out := make(map[queue.ID]Standing, c.queue.Len())
	for id, s := range c.queue.Standings(func(k queue.KeyID) string { return c.keys.byID[k].need.Model }) {
		f, _ := c.outlook(c.tasks[id], func(int64) queue.Line { return s.Line })
		out[id] = Standing{s.Ahead, f.start}
	}
	return out
}

// decisionID names the decision about an attempt of a task.
func decisionID(id queue.ID, attempt int) string {
	return fmt.Sprintf("%x-%d", id[:], attempt)
}

// seed spreads waits by task id.
func seed(id queue.ID) uint64 { return binary.BigEndian.Uint64(id[8:]) }

func (c *Core) emit(e Effect) { c.fx = append(c.fx, e) }
