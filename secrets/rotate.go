package secrets

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Every distinct fault is told once in so long; what more distinct faults than that
// come in it are told as one.
const (
	warnAgain  = 10 * time.Minute
	warnFaults = 32
)

// leastLimit bounds a load, unless Every is longer.
const leastLimit = 10 * time.Second

// RotateConfig tunes a [Rotating]. The zero value is right for a server.
type RotateConfig struct {
	// Every is the time between two loads, 100 ms to 1 h, each varied by up to 10 %
	// so that replicas do not load in step. 0 = 5 s.
	Every time.Duration
	// Overlap is how long a replaced secret stays usable, at most 24 h. 0 = 60 s.
	Overlap time.Duration
	// OnChange is told of changes, on the goroutine of Run; those that come while
	// it runs, or while Run does not, are told as one, or not at all if they end
	// where they began. nil = nobody.
	OnChange func(old, new Meta)
	// Logger tells of changes and of failures, of each distinct one and its end
	// once in 10 minutes, never of content. nil = nobody.
	Logger *slog.Logger
}

// Rotating is a secret that follows its source. It polls and compares content, so
// it is right for files that are renamed over, written in place, bind-mounted or
// reached through the links of a mounted volume. What cannot be loaded never
// replaces what could: the last good value stays and Err says why. Nor does what a
// later place of the chain of [NewSource] holds: a file that is gone is a failure,
// whatever the environment says. A load may take 10 s, or Every if that is longer;
// a source that heeds no context can block Run. A writer that
// takes several writes in place can be caught between two of them; rename instead.
type Rotating struct {
	src     Source
	name    string
	cfg     RotateConfig
	changed chan struct{} // wakes Run
	running atomic.Bool
	told    *held // what OnChange heard of last; owned by Run

	loading chan struct{}        // holds one token while a load runs: an older one must not win
	warned  map[string]time.Time // by error text; owned by whoever loads
	loud    bool                 // the present failure was logged; likewise

	mu        sync.Mutex // guards what follows
	cur, prev *held
	err       error
}

type held struct {
	s   Secret
	m   Meta
	own string // the version of s; that of m is the source's
}

// NewRotating loads the secret name from src, which must succeed, and returns a
// Rotating that holds it. All faults of cfg are reported at once.
func NewRotating(ctx context.Context, src Source, name string, cfg RotateConfig) (*Rotating, error) {
	cfg.Every, cfg.Overlap = cmp.Or(cfg.Every, 5*time.Second), cmp.Or(cfg.Overlap, time.Minute)
	cfg.Logger = cmp.Or(cfg.Logger, slog.New(slog.DiscardHandler))
	err := errors.Join(wrong(src == nil, "rotate", "there is no source"),
		wrong(cfg.Every < 100*time.Millisecond || cfg.Every > time.Hour, "rotate", "RotateConfig.Every is not within 100 ms and 1 h"),
		wrong(cfg.Overlap < 0 || cfg.Overlap > 24*time.Hour, "rotate", "RotateConfig.Overlap is not within 0 and 24 h"))
	if err != nil {
		return nil, err
	}
	r := &Rotating{src: src, name: name, cfg: cfg, prev: &held{}, warned: map[string]time.Time{}}
	r.changed, r.loading = make(chan struct{}, 1), make(chan struct{}, 1)
	r.cur, err = r.load(ctx)
	if err != nil {
		return nil, err
	}
	r.told = r.cur
	return r, nil
}

// Current returns the newest good value. It is shared: borrow it with Use at once,
// never destroy it; after a change it lives for Overlap.
func (r *Rotating) Current() (Secret, Meta) {
	cur, _, _ := r.view()
	return cur.s, cur.m
}

// Previous returns the value before Current and true, for Overlap after the
// change.
func (r *Rotating) Previous() (Secret, Meta, bool) {
	if _, prev, _ := r.view(); !prev.s.IsZero() {
		return prev.s, prev.m, true
	}
	return Secret{}, Meta{}, false
}

// Err returns what the newest load failed with, nil if it succeeded.
func (r *Rotating) Err() error {
	_, _, err := r.view()
	return err
}

func (r *Rotating) view() (cur, prev *held, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.cur, r.prev, r.err
}

func (r *Rotating) set(cur, prev *held, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.cur, r.prev, r.err = cur, prev, err
}

// errRunning reports a second concurrent call of Run.
var errRunning = errors.New("secrets: Run is already running")

// Run polls until ctx ends and then returns its cause. A second concurrent call
// is an error. The values stay usable afterwards.
func (r *Rotating) Run(ctx context.Context) error {
	if !r.running.CompareAndSwap(false, true) {
		return errRunning
	}
	defer r.running.Store(false)
	timer := time.NewTimer(r.pause())
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-timer.C:
			_ = r.Check(ctx) // Err and the log have it
			timer.Reset(r.pause())
		case <-r.changed:
			old := r.told
			r.told, _, _ = r.view()
			if r.told.own != old.own && r.cfg.OnChange != nil {
				r.cfg.OnChange(old.m, r.told.m)
			}
		}
	}
}

// pause is Every, give or take a tenth.
func (r *Rotating) pause() time.Duration {
	tenth := r.cfg.Every / 10
	return r.cfg.Every - tenth + rand.N(2*tenth+1)
}

// Check loads at once, for example on SIGHUP, and returns what Err returns
// afterwards; if ctx ends first, its cause. It may be called while Run runs, by
// OnChange too, and without Run.
func (r *Rotating) Check(ctx context.Context) error {
	select {
	case r.loading <- struct{}{}:
		defer func() { <-r.loading }()
	case <-ctx.Done():
		return fmt.Errorf("rotate secret: %w", context.Cause(ctx))
	}
	now, err := r.load(context.WithValue(ctx, polling{}, true))
	if err != nil && ctx.Err() != nil { // says nothing about the secret
		return fmt.Errorf("rotate secret: %w", context.Cause(ctx))
	}
	cur, prev, was := r.view()
	same := err == nil && cur.s.EqualSecret(now.s)
	places := []string{"file", "credential", "env"} // a file that is removed must not bring back what a later one holds
	if at := slices.Index(places, cur.m.Origin); err == nil && at >= 0 && slices.Index(places, now.m.Origin) > at {
		err = named(fault("rotate", ErrNotFound, "it is gone from its "+cur.m.Origin+", and what another place holds does not replace it"), r.name)
	}
	if now != nil && (same || err != nil) && now.s.open() != cur.s.open() { // else the source keeps it too
		now.s.Destroy()
	}
	switch {
	case err != nil:
		r.set(cur, prev, err)
		r.warn(ctx, err)
		return err
	case same:
		r.set(cur, prev, nil)
	default:
		r.set(now, cur, nil)
		r.retire(ctx, cur, now.m)
	}
	if was != nil && r.loud {
		r.loud = false
		r.cfg.Logger.LogAttrs(ctx, slog.LevelInfo, "secret can be loaded again", slog.String("name", r.name))
	}
	return nil
}

func (r *Rotating) load(ctx context.Context) (*held, error) {
	ctx, cancel := context.WithTimeout(ctx, max(r.cfg.Every, leastLimit))
	defer cancel()
	s, m, err := r.src.Load(ctx, r.name)
	if err == nil && s.IsZero() {
		err = named(fault("rotate", ErrFormat, "it is empty"), r.name)
	}
	if err != nil {
		return nil, err
	}
	return &held{s, m, version(s)}, nil
}

// retire tells of a change and ends the old value after Overlap.
func (r *Rotating) retire(ctx context.Context, old *held, m Meta) {
	time.AfterFunc(r.cfg.Overlap, old.s.Destroy)
	r.cfg.Logger.LogAttrs(ctx, slog.LevelInfo, "secret rotated", slog.String("name", r.name), slog.String("origin", m.Origin), slog.String("version", m.Version))
	select {
	case r.changed <- struct{}{}:
	default:
	}
}

// warn logs a failure that is news.
func (r *Rotating) warn(ctx context.Context, err error) {
	maps.DeleteFunc(r.warned, func(_ string, at time.Time) bool { return time.Since(at) >= warnAgain })
	text := err.Error()
	if _, known := r.warned[text]; !known && len(r.warned) >= warnFaults {
		text = "" // of all the others
	}
	if _, known := r.warned[text]; known {
		return
	}
	r.warned[text], r.loud = time.Now(), true
	r.cfg.Logger.LogAttrs(ctx, slog.LevelWarn, "secret was not reloaded; the last good value stays",
		slog.String("name", r.name), slog.String("error", err.Error()))
}
