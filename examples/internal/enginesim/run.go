// Package enginesim is the program around the simulated engine of
// orchestrator/worker/workertest: flags, listener, trace file and the faults
// that end a process. It is a package of its own so that llorch-demo can be its
// own engine.
package enginesim

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"time"

	"github.com/llorch/llorch/inputvalidation"
	"github.com/llorch/llorch/orchestrator/worker/workertest"
	"github.com/llorch/llorch/secrets"
)

// Exit codes, from the table that all programs share.
const (
	exitOK          = 0
	exitFailed      = 1
	exitUsage       = 2
	exitDrained     = 20 // stopped after the drain deadline with work cancelled
	exitUnavailable = 75
	exitPolicy      = 77
	exitConfig      = 78
)

// ended is why the engine stops before ctx does.
type ended struct{ code int }

func (e *ended) Error() string { return fmt.Sprintf("enginesim: ended with code %d", e.code) }

// Main runs the program and returns its exit code. It prints one line with its
// URL to stdout and serves until ctx ends (then it finishes what runs), a fault
// ends it, or, with --exit-with-stdin, stdin ends. In that last case the reader
// of stdin is left behind if something else ends the program first.
func Main(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	o, code := parse(args, stdout, stderr)
	if o == nil {
		return code
	}
	complain := func(code int, err error) int {
		_, _ = fmt.Fprintln(stderr, "enginesim:", err)
		return code
	}
	cfg, err := o.config()
	if err != nil {
		return complain(faultCode(err), err)
	}
	if len(cfg.Keys) == 0 && !loopback(o.host) {
		return complain(exitPolicy, errors.New("an address that others can reach needs --api-key-file"))
	}
	life, die := context.WithCancelCause(context.WithoutCancel(ctx))
	defer die(nil)
	var e *workertest.Engine
	cfg.Hooks = hooks(func(code int) {
		e.Kill()
		die(&ended{code})
	}, stderr)
	if o.trace != "" {
		t, err := openTrace(o.trace, func(err error) {
			_ = complain(exitFailed, err)
			die(&ended{exitFailed})
		})
		if err != nil {
			return complain(exitUnavailable, err)
		}
		defer t.close()
		cfg.Trace = t.write
	}
	if e, err = workertest.New(cfg); err != nil {
		return complain(exitUsage, err)
	}
	l, err := net.Listen("tcp", net.JoinHostPort(o.host, o.port))
	if err != nil {
		return complain(exitUnavailable, errors.New("listen: the address is taken or not ours"))
	}
	_, _ = fmt.Fprintf(stdout, "http://%s\n", l.Addr())
	if o.withStdin {
		go func() {
			_, _ = io.Copy(io.Discard, stdin)
			die(&ended{exitOK})
		}()
	}
	served := make(chan error, 1)
	go func() { served <- e.Serve(l) }()
	code = wait(ctx, life, e, o.drain)
	e.Close()
	if err := <-served; err != nil && code == exitOK {
		return complain(exitFailed, errors.New("the listener broke"))
	}
	return code
}

// wait blocks until the program shall end and returns its code.
func wait(ctx, life context.Context, e *workertest.Engine, drain time.Duration) int {
	select {
	case <-life.Done():
	case <-ctx.Done():
		finish, cancel := context.WithTimeout(life, drain)
		defer cancel()
		if err := e.Shutdown(finish); err == nil {
			return exitOK
		}
		if life.Err() == nil {
			return exitDrained
		}
	}
	if end, ok := errors.AsType[*ended](context.Cause(life)); ok {
		return end.code
	}
	return exitFailed
}

// faultCode is the exit code for a configuration that cannot be used.
func faultCode(err error) int {
	switch {
	case errors.Is(err, secrets.ErrPermission):
		return exitPolicy
	case errors.Is(err, secrets.ErrNotFound):
		return exitUnavailable
	}
	return exitConfig
}

func loopback(host string) bool {
	ip, err := netip.ParseAddr(host)
	return err == nil && inputvalidation.ClassifyAddr(ip) == inputvalidation.AddrLoopback
}
