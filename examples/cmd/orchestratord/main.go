// Command orchestratord is the control plane: task API, OpenAI front and the
// routes that nodes use. Without configuration it serves this machine and keeps
// what it accepted in a database below the state folder; see --help.
package main

import (
	"context"
	"os"

	"github.com/llorch/llorch/examples/internal/assemble"
	"github.com/llorch/llorch/examples/internal/assemble/durable"
	"github.com/llorch/llorch/examples/internal/config"
)

func main() {
	os.Exit(assemble.Program(context.Background(), config.Orchestratord, os.Args[1:], os.Environ(), os.Stdout, os.Stderr, durable.Home))
}
