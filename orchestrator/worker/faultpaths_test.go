package worker_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/llorch/llorch/orchestrator/worker"
	"github.com/llorch/llorch/orchestrator/worker/workertest"
)

// wireTap sees what an engine sends.
type wireTap struct {
	net.Conn
	mu    *sync.Mutex
	bytes *bytes.Buffer
	reads *int
}

func (c wireTap) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.mu.Lock()
	defer c.mu.Unlock()
	*c.reads++
	c.bytes.Write(p[:n])
	return n, err
}

// path is all that shows which way a fault went.
type path struct {
	probe    string // what a probe found
	phase    string // where the job failed, "" if it did not
	failure  string
	retry    time.Duration
	text     string
	tokens   int
	usage    int
	took     time.Duration
	done     bool // [DONE] was on the wire
	pieces   bool // it came byte by byte
	late     uint64
	replaced uint64
	hook     string
	vram     int64 // after the end
	outcome  workertest.Outcome
	left     workertest.Outcome // of a second job, whose client goes away
}

// walkPath runs two jobs against an engine with a fault: one to its end, and one
// that is cancelled after two tokens.
func walkPath(t *testing.T, faults string) (p path) {
	synctest.Test(t, func(t *testing.T) {
		list, err := workertest.ParseFaults(faults)
		if err != nil {
			t.Fatal(err)
		}
		var (
			e     *workertest.Engine
			n     workertest.Net
			mu    sync.Mutex
			seen  bytes.Buffer
			reads int
		)
		hook := func(name string, end bool) func() {
			return func() {
				if p.hook = name; end {
					e.Kill()
				}
			}
		}
		e = n.Start(workertest.Config{
			Tokens: 8, VRAM: 1, Faults: list, Latency: &workertest.Latency{Token: time.Millisecond},
			Hooks: workertest.Hooks{Exit: func(string) { hook("exit", true)() }, OOM: hook("oom", true), Leak: hook("leak", false)},
		})
		d := newDialer(t, worker.Config{Dial: func(ctx context.Context, network, addr string) (net.Conn, error) {
			c, err := n.Dial(ctx, network, addr)
			if err != nil {
				return nil, err
			}
			return wireTap{c, &mu, &seen, &reads}, nil
		}})
		to := worker.Target{URL: e.URL, Model: "sim-8b", Flavour: worker.LlamaCPP}
		st, err := d.Probe(t.Context(), to)
		p.probe = fmt.Sprint(st.Ready, st.Models, err)
		p.finish(t, d, to)
		p.abandon(t, d, to)
		limit, stop := context.WithTimeout(t.Context(), time.Hour)
		defer stop()
		_ = e.Wait(limit, func(st workertest.Stats) bool { return st.Running == 0 })
		for i, r := range e.Requests() {
			if i == 0 {
				p.outcome = r.Outcome
			} else {
				p.left = r.Outcome
			}
		}
		p.late, p.replaced = d.Stats().LateFrames, d.Stats().Replaced
		_ = d.Close()
		e.Close()
		p.vram = e.VRAM()
		mu.Lock()
		defer mu.Unlock()
		p.done, p.pieces = bytes.Contains(seen.Bytes(), []byte("[DONE]")), reads > 1000
	})
	return p
}

func (p *path) finish(t *testing.T, d *worker.Dialer, to worker.Target) {
	began := time.Now()
	defer func() { p.took = time.Since(began) }()
	s, err := d.Start(t.Context(), to, &worker.Job{Kind: worker.Completion, Prompt: "p", MaxTokens: 8, FirstToken: 2 * time.Second})
	p.phase = "start"
	if err == nil {
		defer s.Close()
		p.phase = "next"
		for err == nil {
			var ev worker.Event
			if ev, err = s.Next(); ev.Kind == worker.Token {
				p.tokens++
				p.text += ev.Text
			}
			p.usage = max(p.usage, ev.Usage.Out)
		}
	}
	if err == io.EOF {
		p.phase = ""
		return
	}
	f, ok := errors.AsType[*worker.Failure](err)
	if !ok {
		t.Fatalf("the job ended with %v, want a *Failure", err)
	}
	p.failure, p.retry = f.Error(), f.RetryAfter
}

func (p *path) abandon(t *testing.T, d *worker.Dialer, to worker.Target) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	s, err := d.Start(ctx, to, &worker.Job{Kind: worker.Completion, Prompt: "p", MaxTokens: 8, FirstToken: 2 * time.Second})
	for i := 0; err == nil && i < 2; i++ {
		_, err = s.Next()
	}
	cancel()
	if s != nil {
		_ = s.Close()
	}
}

// TestFaultPaths is ORC-449: each kind of fault shows in another way, at the
// adapter, at a probe or at the engine; none is just another name.
func TestFaultPaths(t *testing.T) {
	seen := map[string]string{}
	for _, kind := range append(workertest.Kinds(), "") {
		p := walkPath(t, kind)
		shown := fmt.Sprintf("%+v", p)
		if other, twice := seen[shown]; twice {
			t.Errorf("faults %q and %q end alike: %s", kind, other, shown)
		}
		seen[shown] = kind
		if testing.Verbose() {
			t.Logf("%s: %s", kind, shown)
		}
	}
	if len(seen) < 20 {
		t.Errorf("%d ways, want at least 20", len(seen))
	}
}
