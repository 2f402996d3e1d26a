// Command enginesim is the suite's simulated inference engine as a process. It
// takes the flags of llama-server and speaks its protocol; see --help.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/llorch/llorch/examples/internal/enginesim"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // the second signal ends the process at once
	os.Exit(enginesim.Main(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}
