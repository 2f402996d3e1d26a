package nodeagent_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/llorch/llorch/poolregistry"
	"github.com/llorch/llorch/poolregistry/nodeagent"
)

// script is a registry that answers by a list and notes when it was asked.
type script struct {
	mu      sync.Mutex
	start   time.Time
	answers []any // error, time.Duration (hang), or nil for success
	asked   []string
	beats   []poolregistry.Beat
	next    int64

	schedules []poolregistry.Schedule // of registrations
}

func (s *script) step(what string) any {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked = append(s.asked, fmt.Sprintf("%s@%v", what, time.Since(s.start)))
	if len(s.answers) == 0 {
		return nil
	}
	a := s.answers[0]
	s.answers = s.answers[1:]
	return a
}

func act(ctx context.Context, a any) error {
	switch a := a.(type) {
	case error:
		return a
	case time.Duration:
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(a):
		}
	}
	return nil
}

func (s *script) Register(ctx context.Context, r poolregistry.Registration) (poolregistry.Grant, error) {
	s.mu.Lock()
	s.schedules = append(s.schedules, r.Schedule)
	s.mu.Unlock()
	if err := act(ctx, s.step("register")); err != nil {
		return poolregistry.Grant{}, err
	}
	return poolregistry.Grant{NodeID: r.NodeID, Epoch: r.PrevEpoch + 1, LeaseToken: "t", HeartbeatIntervalMS: s.next, TimeoutMS: 3 * s.next}, nil
}

func (s *script) Beat(ctx context.Context, b poolregistry.Beat) (poolregistry.BeatReply, error) {
	a := s.step("beat")
	s.mu.Lock()
	s.beats = append(s.beats, b)
	s.mu.Unlock()
	if reply, ok := a.(poolregistry.BeatReply); ok {
		return reply, nil
	}
	if err := act(ctx, a); err != nil {
		return poolregistry.BeatReply{}, err
	}
	return poolregistry.BeatReply{NextHeartbeatMS: s.next, TimeoutMS: 3 * s.next, Epoch: 1}, nil
}

func (s *script) Leave(ctx context.Context, _ poolregistry.NodeID, _ string) error {
	return act(ctx, s.step("leave"))
}

// play runs an agent against a script for d and returns what was asked when.
func play(t *testing.T, d time.Duration, answers []any, edit func(*nodeagent.Config), during func(*nodeagent.Agent), before ...func(*nodeagent.Agent)) (s *script, runErr error) {
	t.Helper()
	s = &script{start: time.Now(), answers: answers, next: 10_000}
	cfg := nodeagent.Config{Registrar: s, Describe: describe("a")}
	if edit != nil {
		edit(&cfg)
	}
	a, err := nodeagent.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	a.Fix(0.5)
	for _, prepare := range before {
		prepare(a)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	if during != nil {
		during(a)
	}
	select {
	case err := <-done:
		return s, err
	case <-time.After(d):
	}
	cancel()
	return s, <-done
}

func code(c poolregistry.Code) error { return &poolregistry.Error{Code: c} }

// PRG-61, PRG-62, PRG-63: what an agent does after each answer, to the instant.
func TestSendInstants(t *testing.T) {
	refuse := errors.New("connection refused")
	var slower poolregistry.BeatReply
	slower.NextHeartbeatMS, slower.TimeoutMS = 20_000, 60_000
	var again poolregistry.BeatReply
	again.NextHeartbeatMS, again.Reregister, again.UnknownPools = 10_000, true, []poolregistry.PoolID{"x"}
	for _, c := range []struct {
		name    string
		d       time.Duration
		answers []any
		want    string
	}{
		{"all is well", 25 * time.Second, nil, "register@0s beat@0s beat@10s beat@20s leave@25s"},
		{"registration refused", 65 * time.Second, []any{refuse, refuse, refuse, refuse, refuse, refuse, refuse}, "register@0s register@1s register@3s register@7s register@15s register@31s register@1m3s"},
		{"registration hangs", 8 * time.Second, []any{time.Hour}, "register@0s register@6s beat@6s leave@8s"},
		{"described wrongly", 61 * time.Second, []any{code(poolregistry.InvalidNode)}, "register@0s register@1m0s beat@1m0s leave@1m1s"},
		{"taken", 61 * time.Second, []any{code(poolregistry.NodeIDTaken)}, "register@0s register@1m0s beat@1m0s leave@1m1s"},
		{"taken for a while", 21 * time.Second, []any{&poolregistry.Error{Code: poolregistry.NodeIDTaken, RetryAfter: 20 * time.Second}}, "register@0s register@20.5s beat@20.5s leave@21s"},
		{"beat refused", 3 * time.Second, []any{nil, refuse, refuse, refuse}, "register@0s beat@0s beat@500ms beat@1s beat@1.5s leave@3s"},
		{"beat hangs", 12 * time.Second, []any{nil, time.Hour, time.Hour}, "register@0s beat@0s beat@2.5s beat@5s leave@12s"},
		{"unknown", 12 * time.Second, []any{nil, code(poolregistry.NodeUnknown)}, "register@0s beat@0s register@500ms beat@500ms beat@10.5s leave@12s"},
		{"lease lost", 2 * time.Second, []any{nil, code(poolregistry.LeaseInvalid)}, "register@0s beat@0s register@500ms beat@500ms leave@2s"},
		{"principal rotated", 2 * time.Second, []any{nil, code(poolregistry.Forbidden)}, "register@0s beat@0s register@500ms beat@500ms leave@2s"},
		{"fenced", time.Hour, []any{nil, nil, code(poolregistry.LeaseFenced)}, "register@0s beat@0s beat@10s"},
		{"replayed", 2 * time.Second, []any{nil, code(poolregistry.BeatReplayed)}, "register@0s beat@0s beat@500ms leave@2s"},
		{"content refused", 12 * time.Second, []any{nil, code(poolregistry.InvalidBeat)}, "register@0s beat@0s beat@10s leave@12s"},
		{"too many", 12 * time.Second, []any{nil, &poolregistry.Error{Code: poolregistry.TooManyBeats, RetryAfter: 2 * time.Second}}, "register@0s beat@0s beat@2s beat@12s leave@12s"},
		{"longer interval", 45 * time.Second, []any{nil, slower, slower}, "register@0s beat@0s beat@20s beat@40s leave@45s"},
		{"pools unknown, once", 25 * time.Second, []any{nil, again, nil, again, again}, "register@0s beat@0s register@500ms beat@500ms beat@10.5s beat@20.5s leave@25s"},
		{"leave hangs", time.Second, []any{nil, nil, time.Hour, time.Hour}, "register@0s beat@0s leave@1s leave@3.5s"},
		{"leave refused once", time.Second, []any{nil, nil, refuse}, "register@0s beat@0s leave@1s leave@1s"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, err := play(t, c.d-1, c.answers, nil, nil)
				got := strings.ReplaceAll(strings.Join(s.asked, " "), "9.999999999s", "X")
				want := strings.ReplaceAll(c.want, "leave@"+c.d.String(), "leave@"+(c.d-1).String())
				want = strings.ReplaceAll(want, "leave@3.5s", "leave@"+(3500*time.Millisecond-1).String())
				want = strings.ReplaceAll(want, "9.999999999s", "X")
				if c.name == "too many" {
					want = strings.Replace(want, " beat@12s", "", 1) // due at the end
				}
				if got != want {
					t.Errorf("asked\n%s, want\n%s", got, want)
				}
				if fenced := errors.Is(err, poolregistry.LeaseFenced); fenced != (c.name == "fenced") {
					t.Errorf("Run = %v", err)
				}
			})
		})
	}
}

// PRG-62: seq rises with every attempt, also failed ones.
func TestSeqRises(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _ := play(t, time.Minute, []any{nil, errors.New("x"), time.Hour, nil, errors.New("x")}, nil, nil)
		for i, b := range s.beats {
			if b.Seq != uint64(i+1) || b.LeaseToken != "t" || b.NodeID != "a" {
				t.Errorf("beat %d: seq %d", i, b.Seq)
			}
		}
	})
}

// PRG-61: the schedule and its spread.
func TestBackoff(t *testing.T) {
	for i, want := range []time.Duration{1, 2, 4, 8, 16, 32, 60, 60, 60} {
		want *= time.Second
		if got := nodeagent.Backoff(i, 0.5); got != want {
			t.Errorf("after %d failures: %v, want %v", i, got, want)
		}
		if lo, hi := nodeagent.Backoff(i, 0), nodeagent.Backoff(i, 1); lo != want*9/10 || hi != want*11/10 {
			t.Errorf("after %d failures: %v to %v", i, lo, hi)
		}
	}
}

// TestRefusalIsExplained: the log says why a registration failed.
func TestRefusalIsExplained(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		play(t, time.Minute, []any{errors.New("orchestrator answered with status 401"), &poolregistry.Error{Code: poolregistry.InvalidNode, Fields: []string{"address: required"}}},
			func(c *nodeagent.Config) { c.Logger = slog.New(slog.NewTextHandler(&log, nil)) }, nil)
		for _, want := range []string{"status 401", "INVALID_NODE", "address: required"} {
			if !strings.Contains(log.String(), want) {
				t.Errorf("the log does not say %q: %s", want, log.String())
			}
		}
	})
}

// PRG-64: a slow, failing or panicking callback never costs a beat.
func TestSnapshotTrouble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		calls := 0
		trouble := func(ctx context.Context) (poolregistry.Beat, error) {
			calls++
			switch calls {
			case 1:
				return snapshot(ctx)
			case 2:
				panic("secret")
			case 3:
				return poolregistry.Beat{}, errors.New("x")
			case 4: // ignores its context
				time.Sleep(13 * time.Second)
				return snapshot(ctx)
			}
			return snapshot(ctx)
		}
		var a *nodeagent.Agent
		s, _ := play(t, 64*time.Second, nil, func(c *nodeagent.Config) { c.Snapshot = trouble }, func(x *nodeagent.Agent) { a = x })
		var got []string
		for _, b := range s.beats {
			got = append(got, fmt.Sprintf("%d pools, stale %d", len(b.Pools), b.StaleMS))
		}
		want := []string{
			"1 pools, stale 0", "1 pools, stale 10000", "1 pools, stale 20000", // fresh, panic, error
			"1 pools, stale 32500", "1 pools, stale 42500", // late, and still the same call
			"1 pools, stale 0", "1 pools, stale 0",
		}
		if !slices.Equal(got[:min(len(got), len(want))], want) {
			t.Errorf("beats %q, want %q", got, want)
		}
		if st := a.Stats(); st.SnapshotsFailed != 2 || st.SnapshotsLate != 2 || st.Beats["success"] != uint64(len(s.beats)) {
			t.Errorf("stats %+v", st)
		}
	})
}

// PRG-64: a failure event is sent until a beat with it was acknowledged.
func TestEventsUntilAcknowledged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		calls := 0
		take := func(context.Context) (b poolregistry.Beat, _ error) {
			switch calls++; calls {
			case 1:
				b.Events = []poolregistry.Event{{ID: 3, WorkerID: "w", PoolID: "p0"}, {WorkerID: "w", PoolID: "p0"}}
			case 4:
				b.Events = make([]poolregistry.Event, 70)
			}
			return b, nil
		}
		var a *nodeagent.Agent
		s, _ := play(t, 25*time.Second, []any{nil, errors.New("x"), errors.New("x")},
			func(c *nodeagent.Config) { c.Snapshot = take }, func(x *nodeagent.Agent) { a = x })
		var got [][]uint64
		for _, b := range s.beats {
			var ids []uint64
			for _, e := range b.Events {
				ids = append(ids, e.ID)
			}
			got = append(got, ids)
		}
		if len(got) < 4 || !slices.Equal(got[0], []uint64{3, 4}) || !slices.Equal(got[1], got[0]) || !slices.Equal(got[2], got[0]) {
			t.Fatalf("events %v", got)
		}
		if last := got[3]; len(last) != 64 || last[0] != 11 || last[63] != 74 {
			t.Errorf("events after the acknowledgement: %v", last)
		}
		if n := a.Stats().EventsDropped; n != 6 {
			t.Errorf("dropped %d, want 6", n)
		}
	})
}

// PRG-65: many nudges are one beat, and at most one per 50 ms.
func TestNudge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _ := play(t, 9*time.Second, nil, nil, func(a *nodeagent.Agent) {
			time.Sleep(5 * time.Second)
			for range 100 {
				a.Nudge()
			}
			time.Sleep(20 * time.Millisecond)
			a.Nudge()
			a.Nudge()
		})
		want := "register@0s beat@0s beat@5s beat@5.05s"
		if got := strings.Join(s.asked[:len(s.asked)-1], " "); got != want {
			t.Errorf("asked %s, want %s", got, want)
		}
	})
}

// PRG-66: a machine that slept beats at once; its timers did not notice.
func TestSuspendedLaptopBeatsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var slept time.Duration
		s, _ := play(t, 6*time.Second, nil, nil, func(*nodeagent.Agent) {
			time.Sleep(3500 * time.Millisecond)
			mu.Lock()
			slept = time.Hour
			mu.Unlock()
		}, func(a *nodeagent.Agent) {
			a.SetWall(func() time.Time {
				mu.Lock()
				defer mu.Unlock()
				return time.Now().Add(slept)
			})
		})
		want := "register@0s beat@0s beat@4s"
		if got := strings.Join(s.asked[:len(s.asked)-1], " "); got != want {
			t.Errorf("asked %s, want %s", got, want)
		}
	})
}

// PRG-66: State and Active follow what the registry said.
func TestState(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reply := poolregistry.BeatReply{NextHeartbeatMS: 10_000, TimeoutMS: 30_000, Active: map[poolregistry.PoolID]int{"p0": 4}}
		hang := slices.Repeat([]any{errors.New("x")}, 100)
		var replies int
		_, _ = play(t, time.Second, append([]any{errors.New("x"), nil, reply}, hang...), func(c *nodeagent.Config) {
			c.OnReply = func(poolregistry.BeatReply) { replies++; panic("hook") }
		}, func(a *nodeagent.Agent) {
			if s := a.State(); s != nodeagent.Registering {
				t.Errorf("state %s", s)
			}
			time.Sleep(time.Second + 1)
			if s := a.State(); s != nodeagent.Online || a.Active("p0") != 4 || a.Active("p1") != 0 {
				t.Errorf("state %s, active %d", s, a.Active("p0"))
			}
			time.Sleep(30*time.Second - 2)
			if s := a.State(); s != nodeagent.Online {
				t.Errorf("state %s before the lease ends", s)
			}
			time.Sleep(time.Nanosecond)
			if s := a.State(); s != nodeagent.Lost {
				t.Errorf("state %s after it", s)
			}
		})
		if replies != 1 {
			t.Errorf("OnReply was called %d times", replies)
		}
	})
}

func TestNewReportsAllFaults(t *testing.T) {
	_, err := nodeagent.New(nodeagent.Config{Orchestrators: []string{"canary", "http://u:p@h", "https://ok:1"}})
	for _, want := range []string{"Describe", "Token", "Orchestrators[0]", "Orchestrators[1]"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("New = %v, does not name %s", err, want)
		}
	}
	if strings.Contains(err.Error(), "canary") || strings.Contains(err.Error(), "[2]") {
		t.Errorf("New = %v", err)
	}
	if _, err := nodeagent.New(nodeagent.Config{Describe: describe("a")}); err == nil {
		t.Error("New without a registry")
	}
}
