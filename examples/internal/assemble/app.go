// Package assemble puts the libraries together into programs: which constructor
// is called is decided here and nowhere else. The libraries know no profile.
package assemble

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"
)

// App is a program put together: nothing runs before Run.
type App struct {
	Addr string // where it listens, host:port

	log      *slog.Logger
	listener net.Listener
	server   *http.Server
	stages   []stage // in the order of starting
	closers  []closer
	models   func() []string
	hurry    func()                // ends the drain early; nil if there is none
	reload   func(context.Context) // looks again at what may change; nil if nothing may
}

// stage is a long-running part. Stages stop in the reverse order of starting,
// each when the one after it has ended.
type stage struct {
	name string
	run  func(context.Context) error
}

type closer struct {
	name  string
	close func(context.Context) error
}

// closeTime bounds how long open connections and files may take at the end.
const closeTime = 10 * time.Second

func (a *App) stage(name string, run func(context.Context) error) {
	a.stages = append(a.stages, stage{name, run})
}

func (a *App) onClose(name string, f func(context.Context) error) {
	a.closers = append(a.closers, closer{name, f})
}

// Run serves until ctx ends or a part fails, then stops the parts one after the
// other, the last one first, and closes what was opened. While the parts drain
// the server keeps answering.
func (a *App) Run(ctx context.Context) error {
	failed := make(chan error, len(a.stages)+1)
	var serving sync.WaitGroup
	serving.Go(func() {
		if err := a.server.Serve(a.listener); !errors.Is(err, http.ErrServerClosed) {
			failed <- fmt.Errorf("serve: %w", err)
		}
	})
	stops := make([]func() error, len(a.stages))
	for i, s := range a.stages {
		stops[i] = start(s, failed)
	}
	var first error
	select {
	case <-ctx.Done():
	case first = <-failed:
	}
	var errs []error
	for i := len(stops) - 1; i >= 0; i-- {
		if err := stops[i](); err != nil && !errors.Is(err, first) {
			errs = append(errs, fmt.Errorf("%s: %w", a.stages[i].name, err))
		}
	}
	errs = append(errs, a.shutdown(context.WithoutCancel(ctx)))
	serving.Wait()
	return errors.Join(append([]error{first}, append(errs, a.Close())...)...)
}

// start runs a stage; the returned func ends it and waits.
func start(s stage, failed chan<- error) (stop func() error) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		err := s.run(ctx)
		if ctx.Err() == nil { // nobody asked it to end
			if err == nil {
				err = errors.New("ended by itself")
			}
			err = fmt.Errorf("%s: %w", s.name, err)
			failed <- err
		}
		if errors.Is(err, context.Canceled) {
			err = nil
		}
		done <- err
	}()
	return func() error {
		cancel()
		return <-done
	}
}

// WaitModels waits until n models can be placed, and returns the names; nil if ctx
// ends first.
func (a *App) WaitModels(ctx context.Context, n int) []string {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		if m := a.models(); len(m) >= n {
			return m
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// Hurry ends a drain early: what still runs is cut.
func (a *App) Hurry() {
	if a.hurry != nil {
		a.hurry()
	}
}

func (a *App) shutdown(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, closeTime)
	defer cancel()
	err := a.server.Shutdown(ctx)
	if errors.Is(err, context.DeadlineExceeded) {
		a.log.Warn("Connections that did not end were cut.", slog.String("event", "connections_cut"))
		return a.server.Close()
	}
	return err
}

// Close releases what was opened, the last one first. Run calls it; call it
// yourself only when Run is never called.
func (a *App) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), closeTime)
	defer cancel()
	var errs []error
	for i := len(a.closers) - 1; i >= 0; i-- {
		if err := a.closers[i].close(ctx); err != nil {
			errs = append(errs, fmt.Errorf("close %s: %w", a.closers[i].name, err))
		}
	}
	a.closers = nil
	return errors.Join(errs...)
}
