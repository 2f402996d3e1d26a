package assemble

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"sync/atomic"
	"syscall"

	"github.com/llorch/llorch/authmin"
	"github.com/llorch/llorch/examples/internal/config"
	"github.com/llorch/llorch/examples/internal/server"
	"github.com/llorch/llorch/narration"
	"github.com/llorch/llorch/secrets"
)

// tokenName is the variable and the credential that hold the tokens.
const tokenName = "LLORCH_API_TOKEN"

// Tokens are the bearer tokens of a program: all of them are accepted, the first
// one is shown to other programs. They follow their file while the program runs,
// so that a token is exchanged without a restart. A nil *Tokens is none.
type Tokens struct {
	keys   *authmin.KeySet
	first  atomic.Pointer[authmin.Token]
	log    *narration.Narrator
	source *secrets.Rotating
	fixed  bool // from the environment, which does not change
}

// LoadTokens loads the tokens, nil if none are configured. Each one is hidden
// wherever it would show in the log.
func LoadTokens(ctx context.Context, r *config.Resolved, log *narration.Narrator) (*Tokens, error) {
	src, err := secrets.NewSource(secrets.Config{LookupEnv: r.LookupEnv, Unsetenv: os.Unsetenv, Logger: log.Logger()})
	if err != nil {
		return nil, err
	}
	t := &Tokens{log: log}
	t.source, err = secrets.NewRotating(ctx, src, tokenName, secrets.RotateConfig{
		Logger:   log.Logger(),
		OnChange: func(_, _ secrets.Meta) { t.follow() },
	})
	if errors.Is(err, secrets.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", tokenName, err)
	}
	_, meta := t.source.Current()
	t.fixed = meta.Origin == "env"
	if err := t.apply(); err != nil {
		return nil, fmt.Errorf("%s: %w", tokenName, err)
	}
	return t, nil
}

// apply makes the present value the one that counts; on error the old one stays.
func (t *Tokens) apply() error {
	secret, _ := t.source.Current()
	var keys []authmin.Key
	err := secret.Use(func(b []byte) (err error) {
		keys, err = authmin.ParseKeys(b, server.KeyName)
		return err
	})
	if err != nil {
		return err
	}
	for _, k := range keys {
		if _, err := t.log.AddLiteral(k.Token.Reveal()); err != nil {
			return authmin.ErrWeakToken // too short to be hidden is too short to be a token
		}
	}
	if t.keys == nil {
		t.keys, err = authmin.NewKeySet(keys...)
	} else {
		err = t.keys.Replace(keys...)
	}
	if err == nil {
		t.first.Store(&keys[0].Token)
	}
	return err
}

// follow takes over what the file holds now.
func (t *Tokens) follow() {
	log := t.log.Logger()
	if err := t.apply(); err != nil {
		log.Warn("The new tokens are not used, the old ones stay.", slog.String("event", "tokens_refused"), slog.Any("error", err))
		return
	}
	log.Info("The tokens were exchanged.", slog.String("event", "tokens_exchanged"), slog.Int("tokens", t.keys.Len()))
}

// run looks at the file now and then, and at once on SIGHUP.
func (t *Tokens) run(ctx context.Context) error {
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	defer signal.Stop(hup)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- t.source.Run(ctx) }()
	for {
		select {
		case err := <-done:
			return err
		case <-hup:
			_ = t.source.Check(ctx) // the source has told the log
		}
	}
}

// stage keeps the tokens up to date while a runs.
func (t *Tokens) stage(a *App) {
	if t != nil && !t.fixed {
		a.stage("tokens", t.run)
	}
}

// Len returns how many tokens are accepted.
func (t *Tokens) Len() int {
	if t == nil {
		return 0
	}
	return t.keys.Len()
}

// Keys decides about the callers; nil without tokens.
func (t *Tokens) Keys() *authmin.KeySet {
	if t == nil {
		return nil
	}
	return t.keys
}

// First is the token for requests to other programs, "" if there is none.
func (t *Tokens) First() string {
	if t == nil {
		return ""
	}
	return t.first.Load().Reveal()
}
