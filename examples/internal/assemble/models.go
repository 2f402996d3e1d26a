package assemble

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"time"

	"github.com/llorch/llorch/examples/internal/config"
	"github.com/llorch/llorch/poolcore"
	"github.com/llorch/llorch/poolcore/catalog"
	"github.com/llorch/llorch/poolcore/fetch"
	"github.com/llorch/llorch/poolcore/handoff"
)

// openModels opens the catalogue of models on this machine, with the downloads
// that the configuration allows.
func openModels(ctx context.Context, r *config.Resolved, runtime string, log *slog.Logger) (*catalog.Catalog, error) {
	dir := filepath.Join(runtime, "models")
	if named := r.String("model_dir"); named != "" {
		var err error
		if dir, err = filepath.Abs(named); err != nil {
			return nil, fmt.Errorf("model_dir: %w", err)
		}
	}
	cfg := catalog.Config{Dir: dir, Trust: catalog.Trust{Strict: r.String("trust_policy") == "strict"}, Rebuild: r.Bool("rebuild_models"), Logger: log}
	var sources fetch.Sources
	if local := r.String("local_models"); local != "" {
		sources.File = fetch.LocalFile(fetch.LocalFileConfig{AllowedDirs: []string{local}})
	}
	if r.Bool("allow_downloads") {
		hosts := r.List("download_hosts")
		if len(hosts) == 0 {
			hosts = fetch.HuggingFaceHosts()
		}
		egress := fetch.Egress{Hosts: hosts}
		sources.HF, sources.HTTPS = fetch.HuggingFace(fetch.HuggingFaceConfig{Egress: egress}), fetch.HTTPS(fetch.HTTPSConfig{Egress: egress})
	}
	cfg.Sources = sources
	models, err := catalog.Open(ctx, cfg)
	if errors.Is(err, catalog.ErrDamaged) {
		return nil, fmt.Errorf("model_dir %s: %w; --rebuild-models makes it anew from the files", dir, err)
	}
	if err != nil {
		return nil, fmt.Errorf("model_dir %s: %w", dir, err)
	}
	return models, nil
}

// handoffs says which folder of handoff files is followed; nil: none. Files stay
// where they are: they are all that the next start knows of the engines. The folder
// of the daemon's own files is refused, since it would bind itself.
func handoffs(r *config.Resolved, runtime string) (*handoff.WatchConfig, error) {
	dir := r.String("handoff_dir")
	if dir == "" {
		return nil, nil
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("handoff folder: %w", err)
	}
	if dir == runtime || strings.HasPrefix(dir, runtime+string(filepath.Separator)) {
		return nil, errors.New("handoff_dir: lies inside of runtime_dir, where the daemon's own files are; name a folder of its own")
	}
	return &handoff.WatchConfig{Dir: dir, Interval: time.Duration(r.Int("watch_interval_ms")) * time.Millisecond}, nil
}

// follow binds the engines of others as their handoff files come, change and go.
func follow(cfg handoff.WatchConfig, host *poolcore.Host, log *slog.Logger) func(context.Context) error {
	return func(ctx context.Context) error {
		for e, err := range handoff.Watch(ctx, cfg) {
			if err != nil {
				return fmt.Errorf("follow handoff files: %w", err)
			}
			heed(ctx, e, host, log)
		}
		return ctx.Err()
	}
}

// heed carries out what a handoff file says; what cannot be done is told to the
// operator, and the other files go on.
func heed(ctx context.Context, e handoff.Event, host *poolcore.Host, log *slog.Logger) {
	place := []any{slog.String("file", e.File), slog.String("pool", string(e.Binding.Pool)), slog.String("replica", e.Binding.Replica)}
	var err error
	switch e.Kind {
	case handoff.Bound, handoff.Rebound:
		err = host.BindExternal(e.Binding)
	case handoff.Unbound:
		err = host.Unbind(string(e.Binding.Pool), e.Binding.Replica)
	default:
		err = errors.New(string(e.Kind))
		if e.Err != nil {
			err = e.Err
		}
	}
	if err != nil {
		log.WarnContext(ctx, "A handoff file was not followed.", append(place, slog.String("event", "handoff"), slog.Any("error", err))...)
		return
	}
	log.InfoContext(ctx, "A handoff file was followed.", append(place, slog.String("event", "handoff"), slog.String("change", string(e.Kind)))...)
}
