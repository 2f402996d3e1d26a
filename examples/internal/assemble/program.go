package assemble

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/llorch/llorch/authmin"
	"github.com/llorch/llorch/examples/internal/config"
	"github.com/llorch/llorch/examples/internal/version"
	"github.com/llorch/llorch/narration"
	"github.com/llorch/llorch/poolcore"
	"github.com/llorch/llorch/secrets"
)

// Narrator makes the log that the configuration asks for.
func Narrator(r *config.Resolved, stderr io.Writer) (*narration.Narrator, error) {
	level, err := narration.ParseLevel(r.String("log_level"))
	if err != nil {
		return nil, err
	}
	return NewNarrator(stderr, r.String("log_format"), level, r.Program, version.String())
}

// Program runs a configured program and returns its exit code: help, version
// and --check-config, else build and run until a signal.
func Program(ctx context.Context, name string, args, env []string, stdout, stderr io.Writer, build func(context.Context, *config.Resolved, io.Writer) (*App, error)) int {
	reload := hangups()
	r, err := config.Load(name, args, env, nil)
	if err != nil {
		fmt.Fprintf(stderr, "%s: %s\n", name, strings.ReplaceAll(err.Error(), "\n", "\n"+name+": "))
		return config.ExitCode(err)
	}
	switch r.Action {
	case config.Help, config.HelpAll:
		fmt.Fprint(stdout, config.HelpText(name, r.Action == config.HelpAll))
		return config.ExitOK
	case config.Version:
		fmt.Fprintln(stdout, name, version.String())
		return config.ExitOK
	case config.Check:
		return check(ctx, r, stdout, stderr)
	}
	app, err := build(ctx, r, stderr)
	if err != nil {
		fmt.Fprintf(stderr, "%s: %s\n", name, strings.ReplaceAll(err.Error(), "\n", "\n"+name+": "))
		return startCode(err)
	}
	ctx, stop := Signals(ctx, app.Hurry)
	defer stop()
	go reload(ctx, app)
	fmt.Fprintf(stderr, "%s listens on %s\n", name, app.Addr)
	if err := app.Run(ctx); err != nil {
		fmt.Fprintf(stderr, "%s: %s\n", name, err)
		return config.ExitFailed
	}
	return config.ExitOK
}

// check shows what the configuration comes to, and judges it as a start would,
// as far as that goes without opening anything.
func check(ctx context.Context, r *config.Resolved, stdout, stderr io.Writer) int {
	if err := r.WriteReport(stdout); err != nil {
		return config.ExitFailed
	}
	if err := judge(ctx, r, stderr); err != nil {
		fmt.Fprintf(stderr, "%s: %s\n", r.Program, strings.ReplaceAll(err.Error(), "\n", "\n"+r.Program+": "))
		return startCode(err)
	}
	return config.ExitOK
}

func judge(ctx context.Context, r *config.Resolved, stderr io.Writer) error {
	log, err := Narrator(r, stderr)
	if err != nil {
		return err
	}
	tokens, err := LoadTokens(ctx, r, log)
	if err != nil {
		return err
	}
	if r.Program == config.PoolManagerd {
		var pools []poolcore.PoolConfig
		if err := r.Pools(&pools); err != nil {
			return err
		}
		if tokens == nil {
			return errNoToken
		}
	}
	return Front{Addr: r.String("addr"), Tokens: tokens}.Check(ctx)
}

// startCode is the exit code for a program that did not start.
func startCode(err error) int {
	switch {
	case errors.Is(err, authmin.ErrBindRefused), errors.Is(err, authmin.ErrWeakToken), errors.Is(err, errNoToken), errors.Is(err, errTokensOver),
		errors.Is(err, secrets.ErrPermission):
		return config.ExitPolicy
	case errors.Is(err, authmin.ErrBadAddress), errors.Is(err, authmin.ErrMalformed), errors.Is(err, secrets.ErrFormat), isFault(err):
		return config.ExitConfig
	}
	return config.ExitUnavailable
}

func isFault(err error) bool {
	_, ok := errors.AsType[*config.Fault](err)
	return ok
}
