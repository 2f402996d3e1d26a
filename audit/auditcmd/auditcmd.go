// Package auditcmd is the command auditctl as a function, so that other
// programs can mount it.
//
//	auditctl verify DIR [--require none|chain] [--json]
//	auditctl cat DIR [--follow] [--from SEQ] [--unescape] [--json]
//
// Both only read, take no lock, and work on read-only media and on a log that
// is being written.
package auditcmd

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"strings"
)

// Exit codes of [Run].
const (
	ExitOK          = 0
	ExitFailed      = 1 // could not read
	ExitUsage       = 2
	ExitNotFound    = 3  // no log there
	ExitTampered    = 10 // verification failed, or the required assurance is not reached
	ExitInterrupted = 130
)

const usage = `usage:
  auditctl verify DIR [--require none|chain] [--json]
      check that nothing was changed, removed, inserted or cut off
  auditctl cat DIR [--follow] [--from SEQ] [--unescape] [--json]
      print the records

exit codes: 0 ok, 1 could not read, 2 usage, 3 no log there,
10 verification failed, 130 interrupted
`

// errUsage: the arguments are wrong; what is wrong has been said.
var errUsage = errors.New("auditctl: wrong usage")

// errFindings: the report says what is wrong.
var errFindings = errors.New("auditctl: verification failed")

// command is one run of auditctl.
type command struct {
	stdout, stderr io.Writer
	flags          *flag.FlagSet
	json           bool
}

// Run runs auditctl with the arguments after its name, and returns its exit
// code. Results go to stdout, all else to stderr. It reads neither stdin nor
// env today.
func Run(ctx context.Context, args []string, _ io.Reader, stdout, stderr io.Writer, _ []string) int {
	c := &command{stdout: stdout, stderr: stderr, flags: flag.NewFlagSet("auditctl", flag.ContinueOnError)}
	c.flags.SetOutput(io.Discard)
	c.flags.BoolVar(&c.json, "json", false, "")
	err := c.dispatch(ctx, args)
	switch {
	case err == nil:
		return ExitOK
	case errors.Is(err, errFindings):
		return ExitTampered
	case errors.Is(err, flag.ErrHelp):
		_, _ = io.WriteString(stdout, usage)
		return ExitOK
	case ctx.Err() != nil:
		return ExitInterrupted
	}
	_, _ = fmt.Fprintln(stderr, "auditctl:", strings.TrimPrefix(err.Error(), "auditctl: "))
	switch {
	case errors.Is(err, errUsage):
		_, _ = io.WriteString(stderr, usage)
		return ExitUsage
	case errors.Is(err, fs.ErrNotExist):
		return ExitNotFound
	default:
		return ExitFailed
	}
}

func (c *command) dispatch(ctx context.Context, args []string) error {
	if len(args) == 0 {
		return fmt.Errorf("%w: which command?", errUsage)
	}
	switch args[0] {
	case "verify":
		return c.verify(ctx, args[1:])
	case "cat":
		return c.cat(ctx, args[1:])
	case "help", "-h", "-help", "--help":
		return flag.ErrHelp
	default:
		return fmt.Errorf("%w: unknown command %q", errUsage, args[0])
	}
}

// parse reads flags before and after the one directory, and returns that.
func (c *command) parse(args []string) (dir string, err error) {
	for len(args) > 0 {
		if err := c.flags.Parse(args); errors.Is(err, flag.ErrHelp) {
			return "", err
		} else if err != nil {
			return "", fmt.Errorf("%w: %w", errUsage, err)
		}
		rest := c.flags.Args()
		if len(rest) == 0 {
			break
		}
		if dir != "" {
			return "", fmt.Errorf("%w: one directory only", errUsage)
		}
		dir, args = rest[0], rest[1:]
	}
	if dir == "" {
		return "", fmt.Errorf("%w: which directory?", errUsage)
	}
	return dir, nil
}
