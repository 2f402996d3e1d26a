package orchestrator

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/llorch/llorch/audit"
	"github.com/llorch/llorch/orchestrator/decisionlog"
	"github.com/llorch/llorch/orchestrator/observe"
	"github.com/llorch/llorch/orchestrator/placement"
	"github.com/llorch/llorch/orchestrator/queue"
	"github.com/llorch/llorch/orchestrator/store"
	"github.com/llorch/llorch/orchestrator/taskapi"
	"github.com/llorch/llorch/orchestrator/worker"
	"github.com/llorch/llorch/poolregistry"
)

// Config is what an orchestrator is made of. Only Pools is required; the zero
// value of everything else is the set-up for one machine without durability.
type Config struct {
	Pools        Pools               // required: StaticPool, Static, FromRegistry, Join, or your own
	Control      PoolControl         // nil: workers are dialled as Pools reports them, without a token
	Store        store.Store         // nil: store.NewMemory()
	Workers      worker.Adapter      // nil: worker.NewDialer(worker.Config{})
	Keys         audit.SubjectKeys   // nil: NewSubjectKeys(Store, SealKeys)
	SealKeys     [][]byte            // 32 bytes each, the first seals, all open; required when the store is durable
	Recorder     Recorder            // nil: nothing is audited; *audit.Log fits
	Observer     observe.Observer    // nil: none; *metrics.Metrics fits
	Decisions    *decisionlog.Writer // nil: decisions are not recorded
	Logger       *slog.Logger        // nil: slog.DiscardHandler
	Replica      string              // id of this process; "" = "local"
	Queue        queue.Config
	Policy       placement.Policy
	Scorers      map[string]placement.Scorer
	Admission    Admission
	Timing       Timing
	Streams      Streams
	Sessions     Sessions
	Retention    Retention
	Residency    []poolregistry.Region                    // regions allowed in this installation; nil = all
	Tenants      func(tenant string) (TenantPolicy, bool) // nil: every tenant has the zero policy; false: the tenant is unknown and has it too
	StrictModels bool                                     // only models with a pinned digest in the catalogue
}

// Admission tunes what is accepted.
type Admission struct {
	HoldWhenEmpty time.Duration // how long tasks wait when no worker is registered; 0 = they are refused
	Optimistic    bool          // refuse a deadline only if even the best case misses it
	NoPins        bool          // only operators may pin tasks to a pool, node or worker
	PromptCost    int64         // milli-tokens of cost per prompt token; 0 = 1,000
	OutputCost    int64         // per expected output token; 0 = 2,000
}

// Sessions bounds sessions. Zero members mean the default.
type Sessions struct {
	TTL   time.Duration // since the last use: 10 min
	Turns int           // then Full applies: 8
	Full  string        // evict-oldest-kv (default) or reject
	Max   int           // sessions kept: 65,536
}

// TenantPolicy is what one tenant may do. Zero members do not limit; weight 0 is 1.
type TenantPolicy struct {
	Weight       int // share beside other tenants, 1…1,000
	RPM, TPM     int // requests and tokens per minute
	MaxRunning   int // tasks that hold a slot
	MaxQueued    int
	TokensPerDay int64       // of a UTC day
	TopClass     queue.Class // tasks of a higher class are taken down to it
	WaitForQuota bool        // above MaxRunning tasks wait instead of being refused
	Regions      []poolregistry.Region
	Consent      []string // purposes that every person must have consented to
}

// Timing bounds how long things take. Zero members mean the default.
type Timing struct {
	Interactive time.Duration // total, from acceptance: 5 min
	Batch       time.Duration // total: 30 min
	Max         time.Duration // cap of both: 30 min
	Queue       time.Duration // waiting: 0 = the total
	Startup     time.Duration // without progress of a load: 60 s
	FirstToken  time.Duration // from dispatch to the first token: 60 s
	Idle        time.Duration // silence between bytes after it: 30 s
	Cancel      time.Duration // how long a stopped attempt may take to end: 5 s
	Drain       time.Duration // how long running tasks may finish at shutdown: 30 s; −1 = not at all
}

// Streams bounds the event logs that readers follow.
type Streams struct {
	Bytes  int           // per task: 8 MiB
	Events int           // per task: 100,256
	Lag    int           // events that a reader may be behind and still get metrics: 32
	Grace  time.Duration // a /v2 task is cancelled when its last reader has been away this long: 5 s; −1 = at once
	Ended  int           // ended tasks whose log is kept in memory: 1,024
	// EndedBytes bounds the logs of ended tasks together: 64 MiB.
	EndedBytes int
}

// Retention says how long things are kept. Zero members mean the default, −1 for ever.
type Retention struct {
	Tasks     time.Duration // records of ended tasks: 7 days
	Outputs   time.Duration // sealed outputs: 24 h
	Artifacts time.Duration // 7 days
	Streams   time.Duration // event logs of ended tasks in memory: 10 min
}

// ErrRunning reports a second Run.
var ErrRunning = errors.New("orchestrator: already running")

// ErrNoSealKey reports a durable store without a key to seal bodies with.
var ErrNoSealKey = errors.New("orchestrator: Config.SealKeys: required when the store is durable")

// check reports all faults at once and fills in the defaults.
func (c *Config) check() error {
	var errs []error
	if c.Pools == nil {
		errs = append(errs, errors.New("orchestrator: Config.Pools: required"))
	}
	for i, k := range c.SealKeys {
		if len(k) != 32 {
			errs = append(errs, fmt.Errorf("orchestrator: Config.SealKeys[%d]: %d bytes, want 32", i, len(k)))
		}
	}
	if c.Store != nil && c.Store.Durable() && len(c.SealKeys) == 0 {
		errs = append(errs, ErrNoSealKey)
	}
	errs = append(errs, c.Queue.Validate(), c.Admission.check(), c.Timing.fill(), c.Streams.fill(), c.Retention.fill(), c.Sessions.fill())
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Replica == "" {
		c.Replica = "local"
	}
	return errors.Join(errs...)
}

func (a *Admission) check() error {
	var errs []error
	for _, m := range []struct {
		name string
		n    int64
	}{{"HoldWhenEmpty", int64(a.HoldWhenEmpty)}, {"PromptCost", a.PromptCost}, {"OutputCost", a.OutputCost}} {
		if m.n < 0 {
			errs = append(errs, fmt.Errorf("orchestrator: Config.Admission.%s: negative", m.name))
		}
	}
	return errors.Join(errs...)
}

// duration is a member with its default and lowest value.
type duration struct {
	name    string
	at      *time.Duration
	zero    time.Duration
	negOkay bool
}

func fill(group string, ds []duration) error {
	var errs []error
	for _, d := range ds {
		switch {
		case *d.at == 0:
			*d.at = d.zero
		case *d.at < 0 && !d.negOkay:
			errs = append(errs, fmt.Errorf("orchestrator: Config.%s.%s: negative", group, d.name))
		}
	}
	return errors.Join(errs...)
}

func (t *Timing) fill() error {
	err := fill("Timing", []duration{
		{"Interactive", &t.Interactive, 5 * time.Minute, false},
		{"Batch", &t.Batch, 30 * time.Minute, false},
		{"Max", &t.Max, 30 * time.Minute, false},
		{"Queue", &t.Queue, 0, false},
		{"Startup", &t.Startup, time.Minute, false},
		{"FirstToken", &t.FirstToken, time.Minute, false},
		{"Idle", &t.Idle, 30 * time.Second, false},
		{"Cancel", &t.Cancel, 5 * time.Second, false},
		{"Drain", &t.Drain, 30 * time.Second, true},
	})
	t.Interactive, t.Batch = min(t.Interactive, t.Max), min(t.Batch, t.Max)
	return err
}

func (s *Streams) fill() error {
	err := fill("Streams", []duration{{"Grace", &s.Grace, 5 * time.Second, true}})
	for _, n := range []struct {
		name string
		at   *int
		zero int
	}{{"Bytes", &s.Bytes, 8 << 20}, {"Events", &s.Events, 2*taskapi.MaxTokens + 256}, {"Lag", &s.Lag, 32}, {"Ended", &s.Ended, 1024}, {"EndedBytes", &s.EndedBytes, 64 << 20}} {
		if *n.at < 0 {
			err = errors.Join(err, fmt.Errorf("orchestrator: Config.Streams.%s: negative", n.name))
		}
		if *n.at == 0 {
			*n.at = n.zero
		}
	}
	return err
}

func (r *Retention) fill() error {
	return fill("Retention", []duration{
		{"Tasks", &r.Tasks, 7 * 24 * time.Hour, true},
		{"Outputs", &r.Outputs, 24 * time.Hour, true},
		{"Artifacts", &r.Artifacts, 7 * 24 * time.Hour, true},
		{"Streams", &r.Streams, 10 * time.Minute, true},
	})
}
