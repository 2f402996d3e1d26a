package durable

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"github.com/llorch/llorch/audit"
	"github.com/llorch/llorch/examples/internal/assemble"
	"github.com/llorch/llorch/examples/internal/config"
	"github.com/llorch/llorch/examples/internal/version"
	"github.com/llorch/llorch/inputvalidation"
	"github.com/llorch/llorch/narration"
	"github.com/llorch/llorch/orchestrator"
	"github.com/llorch/llorch/orchestrator/placement"
	"github.com/llorch/llorch/orchestrator/queue"
	"github.com/llorch/llorch/orchestrator/store"
	"github.com/llorch/llorch/orchestrator/taskhttp"
	"github.com/llorch/llorch/poolregistry"
)

// Home puts a control plane for one machine together from its configuration.
func Home(ctx context.Context, r *config.Resolved, stderr io.Writer) (*assemble.App, error) {
	log, err := assemble.Narrator(r, stderr)
	if err != nil {
		return nil, err
	}
	tokens, err := assemble.LoadTokens(ctx, r, log)
	if err != nil {
		return nil, err
	}
	front := assemble.Front{
		Addr: r.String("addr"), Tokens: tokens, AllowedHosts: r.List("allowed_hosts"), Narrator: log,
		// Who set a token wants it to be asked for, unless they say otherwise.
		LoopbackOptional: r.Bool("auth_optional") && (r.Given("auth_optional") || tokens.Len() == 0),
	}
	if err := front.Check(ctx); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(r.String("state_dir"), 0o700); err != nil {
		return nil, fmt.Errorf("state folder: %w", err)
	}
	keys, err := sealKeys(r)
	if err != nil {
		return nil, fmt.Errorf("data key: %w", err)
	}
	st, err := Open(ctx, r.String("store"), log.Logger())
	if err != nil {
		return nil, fmt.Errorf("store: %w", err)
	}
	c, err := control(r, front, st, log)
	c.SealKeys = keys
	if err != nil {
		return nil, errors.Join(err, st.Close())
	}
	return assemble.NewControl(ctx, c)
}

func control(r *config.Resolved, front assemble.Front, st store.Store, log *narration.Narrator) (assemble.Control, error) {
	c := assemble.Control{
		Front: front, Store: st, Replica: replica(r), Version: version.String(), Allow: kinds(r),
		Timing: poolregistry.Timing{Beat: r.Duration("heartbeat_interval_secs"), OfflineAfter: r.Duration("node_timeout_secs")},
		Queue:  queue.Config{Capacity: capacity(r.Int("admission_capacity")), Policy: queue.Policy(r.String("admission_policy")), AgingAfter: r.Duration("batch_promote_secs")},
		Policy: placement.Policy{Strategy: r.String("placement_strategy")}, Sessions: orchestrator.Sessions{TTL: r.Duration("session_ttl_ms")},
		DecisionLog: r.String("decision_log"),
		Times: orchestrator.Timing{
			Interactive: r.Duration("default_timeout_ms"), Max: r.Duration("max_timeout_ms"), Queue: r.Duration("queue_timeout_ms"), Startup: r.Duration("startup_timeout_ms"),
			Drain: orNever(r.Duration("drain_secs")), Cancel: r.Duration("cancel_secs"),
		},
		Keep: orchestrator.Retention{Tasks: r.Duration("retention_days"), Streams: r.Duration("event_ttl_secs")},
		HTTP: taskhttp.Config{KeepAlive: r.Duration("sse_heartbeat_ms"), MaxStreams: int(r.Int("max_streams")), MaxBody: r.Int("body_max_bytes")},
	}
	for _, word := range r.List("allowed_regions") {
		region, err := poolregistry.ParseRegion(word)
		if err != nil || region.Group == "UNKNOWN" {
			return c, fmt.Errorf("allowed_regions: %q is neither a country nor one of EU, US, ASIA, OTHER", word)
		}
		c.Residency = append(c.Residency, region)
	}
	for _, p := range r.Pairs("engines") {
		c.Engines = append(c.Engines, orchestrator.Engine{Name: p.Name, URL: p.Value})
	}
	if r.String("audit_mode") == "local" {
		if err := os.MkdirAll(filepath.Dir(r.String("audit_log_path")), 0o700); err != nil {
			return c, fmt.Errorf("audit: %w", err)
		}
		c.Audit = &audit.Config{
			Dir: r.String("audit_log_path"), Service: "orchestratord", Version: version.String(), Flush: flush(r.String("audit_flush")),
		}
	}
	log.Logger().Info("The control plane is put together.", slog.String("event", "assembled"), slog.String("store", storeKind(r.String("store"))),
		slog.String("audit", r.String("audit_mode")), slog.Int("engines", len(c.Engines)))
	return c, nil
}

// sealKeys reads the key of a store on disk, before the store is made: a key is
// made only together with a new store, because a second key would turn every task
// in an old one into noise.
func sealKeys(r *config.Resolved) ([][]byte, error) {
	db, onDisk := strings.CutPrefix(r.String("store"), "sqlite:")
	if !onDisk {
		return nil, nil
	}
	path := r.String("data_key_file")
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, err
	}
	_, keyErr := os.Stat(path)
	if _, err := os.Stat(db); err == nil && errors.Is(keyErr, fs.ErrNotExist) {
		return nil, fmt.Errorf("%q does not exist, but what %q holds is sealed with it; put it back, or move the store away to begin a new one", path, db)
	}
	key, err := SealKey(path)
	if err != nil {
		return nil, err
	}
	return [][]byte{key}, nil
}

// orNever maps the configuration's 0, no drain at all, to the library's word for it.
func orNever[T ~int64](d T) T {
	if d == 0 {
		return -1
	}
	return d
}

// capacity maps −1 none and 0 all rejected to the queue's words.
func capacity(n int64) int {
	switch n {
	case -1:
		return queue.Unbounded
	case 0:
		return queue.RejectAll
	}
	return int(n)
}

func flush(mode string) audit.FlushMode {
	switch mode {
	case "immediate":
		return audit.FlushImmediate
	case "batched":
		return audit.FlushBatched
	}
	return audit.FlushHybrid
}

func storeKind(spec string) string {
	kind, _, _ := strings.Cut(spec, ":")
	return kind
}

// kinds is nil unless somebody set it: the assembly then decides.
func kinds(r *config.Resolved) []inputvalidation.AddrKind {
	if !r.Given("allow_addresses") {
		return nil
	}
	var out []inputvalidation.AddrKind
	for _, w := range r.List("allow_addresses") {
		switch w {
		case "private":
			out = append(out, inputvalidation.AddrPrivate)
		case "loopback":
			out = append(out, inputvalidation.AddrLoopback)
		case "public":
			out = append(out, inputvalidation.AddrPublic)
		}
	}
	return out
}

// replica is the configured id, else the host's name and something random.
func replica(r *config.Resolved) string {
	if id := r.String("replica_id"); id != "" {
		return id
	}
	host, err := os.Hostname()
	if err != nil || host == "" {
		host = "orchestratord"
	}
	return host + "-" + strings.ToLower(rand.Text()[:6])
}
