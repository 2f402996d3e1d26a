package sched

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/llorch/llorch/orchestrator/placement"
	"github.com/llorch/llorch/orchestrator/queue"
)

// ErrState reports bytes that are no state of a core.
var ErrState = errors.New("sched: not a state of this core")

// State is everything that decides what a core does next: one struct of sorted
// slices, hence with one encoding (ORC-124). It shares nothing with the core that
// the core still writes.
type State struct {
	Policy   placement.Policy
	Tasks    []taskState // by id
	Keys     []keyState  // by id
	LastKey  queue.KeyID
	Queue    queue.State
	View     placement.State
	TimerSet Instant
	Service  time.Duration
	Refusing bool
	Durable  bool
	Dupes    int
	Memory   memory
}

type taskState struct {
	Task    Task
	Item    queue.Item
	Phase   phase
	Arrived Instant
	Attempt int
	Worker  placement.Key
	Epoch   uint64
	Began   Instant
	Tried   []placement.Key
	Stop    Reason
	Code    string
	Resume  Instant
	Hold    Instant
	Warned  bool
	Loads   int
	Tokens  int
	Seen    Instant
	Gone    bool
	Wake    Instant // 0 = no timer
}

type keyState struct {
	ID   queue.KeyID
	Text string
	Need placement.Request
}

// Snapshot copies the state; it does not encode it.
func (c *Core) Snapshot() *State {
	s := &State{
		Policy: c.policy, Tasks: make([]taskState, 0, len(c.tasks)), Keys: []keyState{}, LastKey: c.keys.last,
		Queue: c.queue.State(), View: c.view.State(), TimerSet: c.timerSet, Service: c.service.mean,
		Refusing: c.refusing, Durable: c.durable, Dupes: c.dupes, Memory: c.memory(),
	}
	var used []queue.KeyID
	for _, t := range c.sorted() {
		x := taskState{
			Task: t.Task, Item: t.item, Phase: t.phase, Arrived: t.arrived, Attempt: t.attempt, Worker: t.worker, Epoch: t.epoch,
			Began: t.began, Tried: slices.Clone(t.tried), Stop: t.stop, Code: t.code,
			Resume: t.resume, Hold: t.hold, Warned: t.warned, Loads: t.loads, Tokens: t.tokens, Seen: t.seen, Gone: t.gone,
		}
		if t.wakeAt >= 0 {
			x.Wake = t.wake
		}
		s.Tasks = append(s.Tasks, x)
		used = append(used, t.item.Key)
	}
	slices.Sort(used)
	for _, k := range slices.Compact(used) {
		s.Keys = append(s.Keys, keyState{k, c.keys.byID[k].text, c.keys.byID[k].need})
	}
	return s
}

// JSON is the encoding of the state.
func (s *State) JSON() ([]byte, error) { return json.Marshal(s) }

// State encodes the state; [Restore] reads it.
func (c *Core) State() ([]byte, error) { return c.Snapshot().JSON() }

// Digest is the SHA-256 of [Core.State].
func (c *Core) Digest() ([32]byte, error) {
	b, err := c.State()
	return sha256.Sum256(b), err
}

// Config returns what the core was made with.
func (c *Core) Config() Config { return c.cfg }

// Restore makes a core from the state of another one: both have the same digest
// and do the same from then on. Bytes that no core wrote are [ErrState].
func Restore(cfg Config, b []byte) (*Core, error) {
	var s State
	if err := json.Unmarshal(b, &s); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrState, err)
	}
	c, err := New(cfg)
	if err != nil {
		return nil, err
	}
	if err := c.refill(&s); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrState, err)
	}
	// Whatever is doubled, out of order or unknown does not come out as it went in.
	if again, err := c.State(); err != nil || !bytes.Equal(again, b) {
		return nil, ErrState
	}
	return c, nil
}

// refill fills an empty core.
func (c *Core) refill(s *State) error {
	c.policy, c.timerSet, c.service.mean = s.Policy, s.TimerSet, s.Service
	c.refusing, c.durable, c.dupes, c.keys.last = s.Refusing, s.Durable, s.Dupes, s.LastKey
	if err := errors.Join(c.queue.Load(s.Queue), c.view.LoadState(s.View)); err != nil {
		return err
	}
	for _, k := range s.Keys {
		e := &key{id: k.ID, text: k.Text, need: k.Need}
		if k.ID == 0 || k.ID > s.LastKey || keyText(k.Need) != k.Text {
			return errors.New("keys")
		}
		c.keys.byID[k.ID], c.keys.byText[k.Text] = e, e
	}
	for i := range s.Tasks {
		x := &s.Tasks[i]
		k := c.keys.byID[x.Item.Key]
		if k == nil || x.Phase < placed || x.Phase > running || x.Task.ID != x.Item.ID || c.tasks[x.Task.ID] != nil {
			return errors.New("tasks")
		}
		t := &task{
			Task: x.Task, item: x.Item, phase: x.Phase, arrived: x.Arrived, attempt: x.Attempt, worker: x.Worker, epoch: x.Epoch,
			began: x.Began, tried: x.Tried, stop: x.Stop, code: x.Code,
			resume: x.Resume, hold: x.Hold, warned: x.Warned, loads: x.Loads, tokens: x.Tokens, seen: x.Seen, gone: x.Gone, wakeAt: -1,
		}
		k.uses++
		c.tasks[t.ID] = t
		c.timers.set(t, x.Wake)
	}
	if err := c.matches(s); err != nil {
		return err
	}
	if err := c.known(s.Memory); err != nil {
		return err
	}
	c.broken = len(c.view.Broken())
	c.recall(s.Memory)
	return nil
}

// matches checks that queue, reservations and tasks are of each other.
func (c *Core) matches(s *State) error {
	waits := 0
	for _, it := range s.Queue.Items {
		if t := c.tasks[it.ID]; t == nil || t.phase == running || t.item.Key != it.Key || t.item.Class != it.Class {
			return errors.New("queue")
		}
	}
	for i := range s.Tasks {
		if s.Tasks[i].Phase != running {
			waits++
		}
	}
	if waits != len(s.Queue.Items) {
		return errors.New("queue")
	}
	return nil
}

// known checks that what is remembered of workers is of those in the view, sorted.
func (c *Core) known(m memory) error {
	i := 0
	for w := range c.view.Workers() {
		if i >= len(m.Mates) || m.Mates[i].Key != w.Key || m.Mates[i].Calls.Newest < 0 || m.Mates[i].Calls.Newest > math.MaxInt64/2 {
			return errors.New("mates")
		}
		i++
	}
	if i != len(m.Mates) {
		return errors.New("mates")
	}
	for i, x := range m.Sick {
		if _, ok := c.view.Find(x.Key); !ok || i > 0 && m.Sick[i-1].Key.Compare(x.Key) >= 0 {
			return errors.New("sick")
		}
	}
	if !m.Learned.valid() {
		return errors.New("learned")
	}
	if !slices.IsSortedFunc(m.Loads, func(a, b load) int { return a.Worker.Compare(b.Worker) }) {
		return errors.New("loads")
	}
	return nil
}
