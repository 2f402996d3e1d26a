package assemble

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/llorch/llorch/authmin"
	"github.com/llorch/llorch/examples/internal/config"
	"github.com/llorch/llorch/examples/internal/server"
	"github.com/llorch/llorch/narration"
	"github.com/llorch/llorch/secrets"
)

// tokenName is the variable that holds the tokens; the credential has its name in
// lower case with dashes.
const tokenName = "LLORCH_API_TOKEN"

// maxTokenFile is what authmin.ParseKeys takes.
const maxTokenFile = 1 << 20

// errTokensOver refuses what would lock everybody out.
var errTokensOver = errors.New("the time of every token is over")

// Tokens are the bearer tokens of a program: all of them are accepted, the first
// one is shown to other programs. They follow their file while the program runs,
// so that a token is exchanged without a restart. A nil *Tokens is none.
type Tokens struct {
	set    *authmin.KeySet
	log    *narration.Narrator
	source *secrets.Rotating
	fixed  bool // from the environment, which does not change

	mu     sync.Mutex
	keys   []authmin.Key // as in the file
	hidden []hiddenToken
}

// LoadTokens loads the tokens, nil if none are configured. Each one is hidden
// wherever it would show in the log.
func LoadTokens(ctx context.Context, r *config.Resolved, log *narration.Narrator) (*Tokens, error) {
	src, err := secrets.NewSource(secrets.Config{
		LookupEnv: r.LookupEnv, Unsetenv: os.Unsetenv, Rules: secrets.Rules{MaxBytes: maxTokenFile, Binary: true}, Logger: log.Logger(),
	})
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
	if _, both := r.LookupEnv(tokenName); both && !t.fixed {
		log.Logger().Warn("A credential has the tokens; the variable that has some too is not used.", slog.String("event", "tokens_ignored"))
	}
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
	if _, ok := live(keys); !ok {
		return errTokensOver
	}
	if t.set == nil {
		t.set, err = authmin.NewKeySet(keys...)
	} else {
		err = t.set.Replace(keys...)
	}
	if err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.hideLocked(keys, t.keys)
	t.keys = keys
	return nil
}

// hiddenToken is one that the log hides until remove is called.
type hiddenToken struct {
	token  authmin.Token
	remove func()
}

// hideLocked hides the tokens of next and old in the log, and no others: requests
// that began with an old one still run.
func (t *Tokens) hideLocked(next, old []authmin.Key) {
	before := t.hidden
	t.hidden = nil
	for _, k := range slices.Concat(next, old) {
		same := func(h hiddenToken) bool { return h.token.Equal(k.Token) }
		if slices.ContainsFunc(t.hidden, same) {
			continue
		}
		if i := slices.IndexFunc(before, same); i >= 0 {
			t.hidden = append(t.hidden, before[i])
			before = slices.Delete(before, i, i+1)
			continue
		}
		remove, err := t.log.AddLiteral(k.Token.Reveal())
		if err != nil {
			t.log.Logger().Warn("There are more tokens than this log can hide one by one.", slog.String("event", "tokens_not_hidden"))
			break
		}
		t.hidden = append(t.hidden, hiddenToken{k.Token, remove})
	}
	for _, h := range before {
		h.remove()
	}
}

// live returns the first key that is valid now.
func live(keys []authmin.Key) (authmin.Key, bool) {
	now := time.Now()
	for _, k := range keys {
		if k.NotAfter.IsZero() || now.Before(k.NotAfter) {
			return k, true
		}
	}
	return authmin.Key{}, false
}

// follow takes over what the file holds now.
func (t *Tokens) follow() {
	log := t.log.Logger()
	if err := t.apply(); err != nil {
		log.Warn("The new tokens are not used, the old ones stay.", slog.String("event", "tokens_refused"), slog.Any("error", err))
		return
	}
	log.Info("The tokens were exchanged.", slog.String("event", "tokens_exchanged"), slog.Int("tokens", t.set.Len()))
}

// attach keeps the tokens up to date while a runs.
func (t *Tokens) attach(a *App) {
	if t != nil && !t.fixed {
		a.reload = func(ctx context.Context) { _ = t.source.Check(ctx) } // the source tells the log
		a.stage("tokens", t.source.Run)
	}
}

// Len returns how many tokens are accepted.
func (t *Tokens) Len() int { return t.Keys().Len() }

// Keys decides about the callers; nil without tokens.
func (t *Tokens) Keys() *authmin.KeySet {
	if t == nil {
		return nil
	}
	return t.set
}

// First is the token for requests to other programs, "" if there is none.
func (t *Tokens) First() string {
	if t == nil {
		return ""
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	k, _ := live(t.keys)
	return k.Token.Reveal()
}
