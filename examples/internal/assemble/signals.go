package assemble

import (
	"context"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
)

// Signals returns a context that ends with the first SIGINT, SIGTERM or one of
// also. The second one calls hurry, the third ends the process at once (SRV-4).
func Signals(parent context.Context, hurry func(), also ...os.Signal) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(parent)
	ch := make(chan os.Signal, 3)
	signal.Notify(ch, append(also, os.Interrupt, syscall.SIGTERM)...)
	go func() {
		for n := 1; ; n++ {
			select {
			case <-ch:
			case <-parent.Done():
				return
			}
			switch n {
			case 1:
				cancel()
			case 2:
				hurry()
			default:
				os.Exit(130)
			}
		}
	}()
	return ctx, func() { signal.Stop(ch); cancel() }
}

// hangups takes SIGHUP, which would end the process, from here to its exit. Each
// one that comes while the returned func runs reloads what a reloads.
func hangups() (serve func(ctx context.Context, a *App)) {
	ch := make(chan os.Signal, 1)
	signal.Notify(ch, syscall.SIGHUP)
	return func(ctx context.Context, a *App) {
		for {
			select {
			case <-ctx.Done():
				return
			case <-ch:
			}
			if a.reload == nil {
				a.log.Info("There is no token file to look at again.", slog.String("event", "nothing_to_reload"))
				continue
			}
			a.reload(ctx)
		}
	}
}
