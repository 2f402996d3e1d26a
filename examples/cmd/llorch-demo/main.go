// Command llorch-demo shows the whole path in one process tree: an orchestrator,
// a node in the same process and three simulated engines as its children. It
// needs no GPU, no configuration and no network.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/llorch/llorch/examples/internal/enginesim"
)

func main() {
	if len(os.Args) > 1 && os.Args[1] == "engine" { // one of our own children
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
		context.AfterFunc(ctx, stop)
		os.Exit(enginesim.Main(ctx, os.Args[2:], os.Stdin, os.Stdout, os.Stderr))
	}
	os.Exit(run(context.Background(), os.Args[1:], os.Stdout, os.Stderr))
}
