package assemble

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

// Signals returns a context that ends with the first SIGINT or SIGTERM. The
// second one calls hurry, the third ends the process at once (SRV-4).
func Signals(parent context.Context, hurry func()) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(parent)
	ch := make(chan os.Signal, 3)
	signal.Notify(ch, os.Interrupt, syscall.SIGTERM)
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
