package worker_test

import (
	"context"
	"errors"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/llorch/llorch/orchestrator/worker"
	"github.com/llorch/llorch/orchestrator/worker/workertest"
)

// fault parses one or more faults.
func fault(t *testing.T, s string) []workertest.Fault {
	t.Helper()
	list, err := workertest.ParseFaults(s)
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// bubble runs f in virtual time with one engine and one dialer in memory.
func bubble(t *testing.T, cfg workertest.Config, f func(t *testing.T, e *workertest.Engine, d *worker.Dialer)) {
	synctest.Test(t, func(t *testing.T) {
		var n workertest.Net
		e := n.Start(cfg)
		defer e.Close()
		d := newDialer(t, worker.Config{Dial: n.Dial})
		defer d.Close()
		f(t, e, d)
	})
}

// follow starts j and reads to the end.
func follow(ctx context.Context, d *worker.Dialer, to worker.Target, j *worker.Job) (tokens int, last worker.Event, err error) {
	s, err := d.Start(ctx, to, j)
	if err != nil {
		return 0, last, err
	}
	defer s.Close()
	for {
		e, err := s.Next()
		if err == io.EOF {
			return tokens, last, nil
		}
		if err != nil {
			return tokens, last, err
		}
		if e.Kind == worker.Token {
			tokens++
		}
		last = e
	}
}

func class(err error) worker.Class {
	if f, ok := errors.AsType[*worker.Failure](err); ok {
		return f.Class
	}
	return ""
}

// TestClocksInVirtualTime covers ORC-447 and the first-token and idle times of
// ORC-570: each ends the job when it says, and not before.
func TestClocksInVirtualTime(t *testing.T) {
	for name, tc := range map[string]struct {
		faults string
		job    worker.Job
		after  time.Duration
		tokens int
		class  worker.Class
	}{
		"default first token": {faults: "slow-headers:10m", after: 60 * time.Second, class: worker.Timeout},
		"header in time, token not": {
			faults: "slow-headers:9s slow-start:9s", job: worker.Job{FirstToken: 10 * time.Second},
			after: 10 * time.Second, class: worker.Timeout,
		},
		"first token just in time": {faults: "slow-start:9s", job: worker.Job{FirstToken: 10 * time.Second}, after: 9 * time.Second, tokens: 4},
		"default idle":             {faults: "stall@token=3", after: 30 * time.Second, tokens: 3, class: worker.Timeout},
		"idle":                     {faults: "stall@token=1", job: worker.Job{Idle: 2 * time.Second}, after: 2 * time.Second, tokens: 1, class: worker.Timeout},
		"no idle rule before it":   {faults: "slow-start:50s", job: worker.Job{Idle: time.Second}, after: 50 * time.Second, tokens: 4},
		"no rule without a stream": {
			faults: "slow-headers:10m", job: worker.Job{Raw: []byte(`{"model":"m","prompt":"p"}`), FirstToken: time.Second, Idle: time.Second},
			after: 10 * time.Minute,
		},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, workertest.Config{Preset: "zero", Tokens: 4, Faults: fault(t, tc.faults)}, func(t *testing.T, e *workertest.Engine, d *worker.Dialer) {
				j := tc.job
				j.Kind, j.Prompt = worker.Completion, "p"
				begin := time.Now()
				tokens, _, err := follow(t.Context(), d, worker.Target{URL: e.URL}, &j)
				if d := time.Since(begin); d != tc.after {
					t.Errorf("ended after %v, want %v", d, tc.after)
				}
				if tokens != tc.tokens || class(err) != tc.class || (err == nil) != (tc.class == "") {
					t.Errorf("%d tokens, %v; want %d, class %q", tokens, err, tc.tokens, tc.class)
				}
				if tc.class != "" {
					if err := e.Wait(t.Context(), func(st workertest.Stats) bool { return st.Cancelled == 1 && st.Running == 0 }); err != nil {
						t.Error(err)
					}
				}
			})
		})
	}
}

// TestSlowReaderIsNotSilence: the idle clock runs only while we wait for bytes.
func TestSlowReaderIsNotSilence(t *testing.T) {
	bubble(t, workertest.Config{Preset: "zero", Tokens: 40}, func(t *testing.T, e *workertest.Engine, d *worker.Dialer) {
		s, err := d.Start(t.Context(), worker.Target{URL: e.URL}, &worker.Job{Kind: worker.Completion, Prompt: "p", Idle: time.Second})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		n := 0
		for {
			ev, err := s.Next()
			if err == io.EOF {
				break
			}
			if err != nil {
				t.Fatalf("after %d tokens: %v", n, err)
			}
			if ev.Kind == worker.Token {
				n++
			}
			<-time.After(time.Minute)
		}
		if n != 40 {
			t.Errorf("%d tokens", n)
		}
	})
}

// TestCancelReachesEngineAtOnce: in no virtual time at all, wherever the job is,
// and also when nobody reads.
func TestCancelReachesEngineAtOnce(t *testing.T) {
	why := errors.New("client left")
	for name, faults := range map[string]string{"waiting for the header": "slow-headers:1h", "waiting for a token": "slow-start:1h", "between tokens": "stall@token=2", "not reading": "endless"} {
		t.Run(name, func(t *testing.T) {
			bubble(t, workertest.Config{Preset: "fast", Faults: fault(t, faults)}, func(t *testing.T, e *workertest.Engine, d *worker.Dialer) {
				ctx, cancel := context.WithCancelCause(t.Context())
				end := make(chan error, 1)
				go func() {
					s, err := d.Start(ctx, worker.Target{URL: e.URL}, &worker.Job{Kind: worker.Completion, Prompt: "p"})
					for err == nil && faults != "endless" {
						_, err = s.Next()
					}
					if err == nil {
						<-ctx.Done()
						_, err = s.Next()
					}
					end <- err
				}()
				<-time.After(5 * time.Second)
				at := time.Now()
				cancel(why)
				if err := e.Wait(t.Context(), func(st workertest.Stats) bool { return st.Cancelled == 1 && st.Running == 0 }); err != nil {
					t.Fatal(err)
				}
				if err := <-end; err != why {
					t.Errorf("the job ended with %v", err)
				}
				if last := e.Stats().LastCancel; !last.Equal(at) {
					t.Errorf("the engine noticed %v later", last.Sub(at))
				}
			})
		})
	}
}

// TestCallerDeadline: the end of ctx is not a failure of the engine.
func TestCallerDeadline(t *testing.T) {
	bubble(t, workertest.Config{Preset: "zero", Faults: fault(t, "stall@token=1")}, func(t *testing.T, e *workertest.Engine, d *worker.Dialer) {
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		_, _, err := follow(ctx, d, worker.Target{URL: e.URL}, &worker.Job{Kind: worker.Completion, Prompt: "p"})
		if err != context.DeadlineExceeded {
			t.Errorf("%v", err)
		}
		done, stop := context.WithCancel(t.Context())
		stop()
		if _, _, err := follow(done, d, worker.Target{URL: e.URL}, &worker.Job{Kind: worker.Completion}); err != context.Canceled {
			t.Errorf("with an ended context: %v", err)
		}
		if st := e.Stats(); st.Arrived != 1 {
			t.Errorf("%d requests arrived", st.Arrived)
		}
	})
}

// TestConnectionBound covers ORC-447: slots + 4 connections to a worker, the
// next call waits, within its first-token time.
func TestConnectionBound(t *testing.T) {
	bubble(t, workertest.Config{Preset: "zero", Slots: 64, Faults: fault(t, "stall@token=1")}, func(t *testing.T, e *workertest.Engine, d *worker.Dialer) {
		to := worker.Target{URL: e.URL, Slots: 2}
		for range 6 {
			s, err := d.Start(t.Context(), to, &worker.Job{Kind: worker.Completion, Prompt: "p"})
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
		}
		begin := time.Now()
		_, err := d.Start(t.Context(), to, &worker.Job{Kind: worker.Completion, Prompt: "p", FirstToken: 7 * time.Second})
		if class(err) != worker.Timeout || time.Since(begin) != 7*time.Second {
			t.Errorf("the seventh: %v after %v", err, time.Since(begin))
		}
		if st := e.Stats(); st.Arrived != 6 {
			t.Errorf("%d requests arrived", st.Arrived)
		}
	})
}

func TestProbeTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDialer(t, worker.Config{Dial: silent(t)})
		defer d.Close()
		begin := time.Now()
		_, err := d.Probe(t.Context(), worker.Target{URL: "http://engine"})
		if class(err) != worker.Timeout || time.Since(begin) != 5*time.Second {
			t.Errorf("%v after %v", err, time.Since(begin))
		}
	})
}
