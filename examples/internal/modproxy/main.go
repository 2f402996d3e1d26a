// Command modproxy writes every module of a go.work workspace, at one version,
// into a directory that serves as GOPROXY=file://DIR. With it the modules
// resolve each other before any of them is published.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
)

func main() {
	os.Exit(run(os.Args[1:], os.Stderr))
}

// run returns the exit code: 0 done, 1 failed, 2 wrong usage.
func run(args []string, stderr io.Writer) int {
	flags := flag.NewFlagSet("modproxy", flag.ContinueOnError)
	flags.SetOutput(stderr)
	work := flags.String("work", "go.work", "workspace `file`")
	out := flags.String("o", "", "proxy `directory`, made if absent")
	version := flags.String("version", "v0.1.0", "`version` of every module")
	switch err := flags.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err != nil:
		return 2
	case *out == "" || flags.NArg() > 0:
		fmt.Fprintln(stderr, "modproxy: want -o DIR and no further arguments")
		return 2
	}
	if err := publishAll(*work, *out, *version); err != nil {
		fmt.Fprintln(stderr, "modproxy:", err)
		return 1
	}
	return 0
}
