package orchestrator_test

import (
	"bytes"
	"context"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/llorch/llorch/orchestrator"
	"github.com/llorch/llorch/orchestrator/placement"
	"github.com/llorch/llorch/orchestrator/worker"
	"github.com/llorch/llorch/orchestrator/worker/workertest"
)

// serve runs an orchestrator inside a bubble with everything as cfg says; stop
// ends it and is called at the end of the test at the latest.
func serve(t *testing.T, cfg orchestrator.Config) (o *orchestrator.Orchestrator, stop func() error) {
	t.Helper()
	o, err := orchestrator.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- o.Run(ctx) }()
	stop = sync.OnceValue(func() error { cancel(); return <-done })
	t.Cleanup(func() {
		if err := stop(); err != nil {
			t.Errorf("Run = %v", err)
		}
	})
	synctest.Wait()
	if err := o.Ready(); err != nil {
		t.Fatalf("Ready = %v", err)
	}
	return o, stop
}

// dialer reaches the engines of a net.
func dialer(t *testing.T, net *workertest.Net) worker.Adapter {
	t.Helper()
	d, err := worker.NewDialer(worker.Config{Dial: net.Dial})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

// start starts an engine that is closed at the end of the test.
func start(t *testing.T, net *workertest.Net, cfg workertest.Config) *workertest.Engine {
	t.Helper()
	e := net.Start(cfg)
	t.Cleanup(e.Close)
	return e
}

// ends reads a task to its end and returns the events and the code.
func ends(t *testing.T, o *orchestrator.Orchestrator, id orchestrator.TaskID) ([]orchestrator.Event, string) {
	t.Helper()
	var all []orchestrator.Event
	for e, err := range o.Events(t.Context(), me, id, 0) {
		if err != nil {
			t.Fatalf("Events: %v", err)
		}
		all = append(all, e)
	}
	if len(all) == 0 {
		t.Fatal("a stream without events")
	}
	gapless(t, all, 1)
	return all, string(code(t, all))
}

// adapter is an engine made of a function: the events of each job.
type adapter struct {
	start func(ctx context.Context, t worker.Target, j *worker.Job) (worker.Stream, error)
}

func (a adapter) Start(ctx context.Context, t worker.Target, j *worker.Job) (worker.Stream, error) {
	return a.start(ctx, t, j)
}

func (a adapter) Probe(context.Context, worker.Target) (worker.Status, error) {
	return worker.Status{Ready: true, Models: []string{"sim-8b"}, SlotsTotal: 2}, nil
}

// script is a stream made of a function.
type script func() (worker.Event, error)

func (s script) Next() (worker.Event, error) { return s() }
func (script) Close() error                  { return nil }

// fake is a worker without an engine behind it.
func fake(name string, slots int) *placement.Worker {
	return &placement.Worker{
		Key: placement.Key{Node: "n", Pool: "p", Worker: name}, Epoch: 1, URL: "http://" + name + ".test", Engine: "llamacpp",
		Models: []string{"sim-8b"}, SlotsTotal: slots, CtxMax: 8192, Online: true, Ready: true,
	}
}

// records is a logger that keeps its JSON lines.
type records struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (r *records) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.buf.Write(p)
}

func (r *records) text() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.buf.String()
}

func (r *records) logger() *slog.Logger {
	return slog.New(slog.NewJSONHandler(r, &slog.HandlerOptions{Level: slog.LevelDebug}))
}
