package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"syscall"
	"time"

	"github.com/llorch/llorch/examples/internal/assemble"
	"github.com/llorch/llorch/examples/internal/version"
	"github.com/llorch/llorch/narration"
	"github.com/llorch/llorch/orchestrator"
	"github.com/llorch/llorch/orchestrator/worker/workertest"
	"github.com/llorch/llorch/poolcore"
	"github.com/llorch/llorch/poolcore/engine"
	"github.com/llorch/llorch/poolregistry"
)

const usage = `llorch-demo - the whole of llorch in one process tree, for looking around

It starts three simulated engines as supervised children, an orchestrator that
keeps its tasks in memory, and serves on the first free port from 8080 to 8099.
Nothing is read from the disk, and nothing is left on it. Stop it with Ctrl-C.

  --addr HOST:PORT   address (127.0.0.1:8080; then the next free port to 8099)
  --preset NAME      speed of the engines: fast slow cpu h200 zero
  --engine-flag F    further flag for the engines, --name=value; may be repeated
  --log-level L      TRACE DEBUG INFO WARN ERROR (WARN)
  --version, --help

Exit codes: 0 ok, 1 failed, 2 usage.
`

type options struct {
	addr, preset string
	level        slog.Level
	flags        []string
}

// parse returns nil and an exit code if there is nothing to run.
func parse(args []string, stdout, stderr io.Writer) (*options, int) {
	o := options{level: slog.LevelWarn}
	var showVersion bool
	fs := flag.NewFlagSet("llorch-demo", flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	fs.StringVar(&o.addr, "addr", "127.0.0.1:8080", "")
	fs.Func("preset", "", o.setPreset)
	fs.Func("log-level", "", o.setLevel)
	fs.BoolVar(&showVersion, "version", false, "")
	fs.Func("engine-flag", "", func(s string) error { o.flags = append(o.flags, s); return nil })
	switch err := fs.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		fmt.Fprint(stdout, usage)
		return nil, 0
	case err != nil || fs.NArg() > 0:
		fmt.Fprintf(stderr, "llorch-demo: %v; see llorch-demo --help\n", errors.Join(err, extra(fs)))
		return nil, 2
	case showVersion:
		fmt.Fprintln(stdout, "llorch-demo", version.String())
		return nil, 0
	}
	if o.preset != "" {
		o.flags = append(o.flags, "--preset="+o.preset)
	}
	return &o, 0
}

func (o *options) setPreset(s string) error {
	if !slices.Contains(workertest.Presets(), s) {
		return fmt.Errorf("want one of %v", workertest.Presets())
	}
	o.preset = s
	return nil
}

func (o *options) setLevel(s string) (err error) {
	o.level, err = narration.ParseLevel(s)
	return err
}

func extra(fs *flag.FlagSet) error {
	if fs.NArg() == 0 {
		return nil
	}
	return errors.New("it takes no arguments beside flags")
}

// run is the program; it returns the exit code.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	o, code := parse(args, stdout, stderr)
	if o == nil {
		return code
	}
	if err := demo(ctx, o, stdout, stderr); err != nil {
		fmt.Fprintln(stderr, "llorch-demo:", err)
		return 1
	}
	return 0
}

func demo(ctx context.Context, o *options, stdout, stderr io.Writer) (err error) {
	log, err := assemble.NewNarrator(stderr, "auto", o.level, "llorch-demo", version.String())
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "llorch-demo-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	host, err := node(dir, o.flags)
	if err != nil {
		return err
	}
	app, err := assemble.NewControl(ctx, assemble.Control{
		Front: assemble.Front{Addr: o.addr, LastPort: 8099, LoopbackOptional: true, Narrator: log},
		Node:  &host, Timing: poolregistry.Fast(), Version: version.String(),
		Times: orchestrator.Timing{Drain: time.Second, Cancel: time.Second},
	})
	if err != nil {
		return err
	}
	ctx, stop := assemble.Signals(ctx, app.Hurry, syscall.SIGHUP) // the terminal was closed
	defer stop()
	go welcome(ctx, app, stdout)
	return app.Run(ctx)
}

// node is a host with three engines: two that share a model, one with another.
func node(dir string, flags []string) (poolcore.Config, error) {
	self, err := os.Executable()
	if err != nil {
		return poolcore.Config{}, fmt.Errorf("find own program: %w", err)
	}
	pool := func(id, model, seed string) poolcore.PoolConfig {
		return poolcore.PoolConfig{ID: id, Engine: "simulator", Model: model, Slots: 4, Flags: append([]string{"--seed=" + seed}, flags...), StopGraceMS: 500}
	}
	c := assemble.Host("demo", dir, map[string]string{"simulator": self}, []poolcore.PoolConfig{
		pool("pool-a", "sim-8b", "1"), pool("pool-b", "sim-8b", "1"), pool("pool-c", "sim-1b", "2"),
	})
	c.Engines = []engine.Kind{engine.Simulator{Args: []string{"engine"}}}
	return c, nil
}

// welcome says what to type, once the engines are ready.
func welcome(ctx context.Context, app *assemble.App, w io.Writer) {
	models := app.WaitModels(ctx, 2)
	if models == nil {
		return
	}
	url := "http://" + app.Addr
	fmt.Fprintf(w, `llorch demo: %s   models: %v

Stream a chat, token by token:
  curl -N %s/v1/chat/completions -H 'Content-Type: application/json' -d '{"model":"sim-8b","stream":true,"messages":[{"role":"user","content":"Why is the sky blue?"}]}'
Submit a task that outlives your connection, then follow it:
  curl -s %s/v2/tasks -H 'Content-Type: application/json' -d '{"model":"sim-8b","prompt":"Why is the sky blue?"}'
  curl -N %s/v2/tasks/TASK_ID/events
What happened, and why there:
  curl -s %s/v2/tasks        curl -s %s/v2/tasks/TASK_ID/explain        curl -s %s/v2/nodes
Stop: Ctrl-C
`, url, models, url, url, url, url, url, url)
}
