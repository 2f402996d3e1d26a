// Command pool-managerd runs on a GPU machine: it starts and supervises the
// engines of its [[pool]] tables and tells the orchestrators how they are. It
// always needs a token; see --help.
package main

import (
	"context"
	"os"

	"github.com/llorch/llorch/examples/internal/assemble"
	"github.com/llorch/llorch/examples/internal/config"
)

func main() {
	os.Exit(assemble.Program(context.Background(), config.PoolManagerd, os.Args[1:], os.Environ(), os.Stdout, os.Stderr, assemble.Daemon))
}
