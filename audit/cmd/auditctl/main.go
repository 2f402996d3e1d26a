// Command auditctl verifies and prints audit logs; see the package auditcmd.
package main

import (
	"context"
	"os"
	"os/signal"

	"github.com/llorch/llorch/audit/auditcmd"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	code := auditcmd.Run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr, os.Environ())
	stop()
	os.Exit(code)
}
