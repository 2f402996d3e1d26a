package config_test

import (
	"errors"
	"io/fs"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/llorch/llorch/examples/internal/config"
)

// files is a computer with these files.
type files map[string]string

func (f files) read(name string) ([]byte, error) {
	if text, ok := f[name]; ok {
		return []byte(text), nil
	}
	return noFile(name)
}

func load(t *testing.T, prog string, args, env []string, f files) *config.Resolved {
	t.Helper()
	r, err := config.Load(prog, args, slices.Concat([]string{"HOME=/home/ada"}, env), f.read)
	if err != nil {
		t.Fatalf("Load(%v, %v) = %v", args, env, err)
	}
	return r
}

// list takes a joined error apart.
func list(err error) (out []*config.Fault) {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		for _, e := range joined.Unwrap() {
			out = append(out, list(e)...)
		}
	} else if f, ok := errors.AsType[*config.Fault](err); ok {
		out = append(out, f)
	}
	return out
}

// TestPrecedence proves CFG-1 and CFG-4: flag, environment, file, default; an
// empty variable is none.
func TestPrecedence(t *testing.T) {
	const file = "/etc/llorch/orchestratord.toml"
	f := files{file: "# comment\nlog_level = \"warn\"\nnode_timeout_secs = 60\n"}
	flag, env, empty := []string{"--log-level=debug"}, []string{"LLORCH_LOG_LEVEL=error"}, []string{"LLORCH_LOG_LEVEL="}
	for _, tt := range []struct {
		name         string
		args, env    []string
		files        files
		want, source string
	}{
		{"flag", flag, env, f, "debug", "flag"},
		{"environment", nil, env, f, "error", "env LLORCH_LOG_LEVEL"},
		{"file", nil, nil, f, "warn", file + ":2"},
		{"empty variable", nil, empty, f, "warn", file + ":2"},
		{"default", nil, empty, nil, "info", "default"},
	} {
		r := load(t, config.Orchestratord, tt.args, tt.env, tt.files)
		var source string
		for o := range r.Explain() {
			if o.Key == "log_level" {
				source = o.Source
			}
		}
		if got := r.String("log_level"); got != tt.want || source != tt.source || r.Given("log_level") != (tt.source != "default") {
			t.Errorf("%s: log_level = %q from %q, want %q from %q", tt.name, got, source, tt.want, tt.source)
		}
	}
}

// TestEveryKind reads a value of each kind from all three sources.
func TestEveryKind(t *testing.T) {
	const own = "/home/ada/p.toml"
	r := load(t, config.PoolManagerd, []string{"--config", "~/p.toml", "--node-id", "gpu 1", "--binaries", "a=/bin/a,b=/bin/b", "--binaries=c=/c"},
		[]string{"ORCHESTRATORD_URL=http://a:1, https://b", "POOL_MANAGERD_ADDR=[::1]:9201", "POOL_MANAGERD_GPU_PROVIDER=fake:/g.json"},
		files{own: "address = \"http://10.0.0.1:9200\"\nregion = \"DE\"\nruntime_dir = \"~/run\"\n"})
	if r.File != own {
		t.Errorf("File = %q, want %q", r.File, own)
	}
	for key, want := range map[string]string{
		"node_id": "gpu 1", "addr": "[::1]:9201", "gpu_provider": "fake:/g.json", "address": "http://10.0.0.1:9200",
		"region": "DE", "runtime_dir": "/home/ada/run",
	} {
		if got := r.String(key); got != want {
			t.Errorf("String(%q) = %q, want %q", key, got, want)
		}
	}
	if got := r.List("orchestratord_url"); !slices.Equal(got, []string{"http://a:1", "https://b"}) {
		t.Errorf("orchestratord_url = %q", got)
	}
	if got := r.Pairs("binaries"); !slices.Equal(got, []config.Pair{{Name: "a", Value: "/bin/a"}, {Name: "b", Value: "/bin/b"}, {Name: "c", Value: "/c"}}) {
		t.Errorf("binaries = %v", got)
	}
	o := load(t, config.Orchestratord, []string{"--auth-optional=false", "--event-ttl-secs=17", "--max-timeout-ms", "86400000", "--store=sqlite:~/x.db"},
		[]string{"STATE_DIRECTORY=/var/lib/llorch:/other"}, files{"/home/ada/.config/llorch/orchestratord.toml": `allow_addresses = ["loopback", "private"]`})
	if o.Bool("auth_optional") || o.Duration("max_timeout_ms") != 24*time.Hour || o.Duration("event_ttl_secs") != 17*time.Second || o.Duration("retention_days") != 7*24*time.Hour {
		t.Errorf("auth_optional %v, max_timeout_ms %v, retention_days %v", o.Bool("auth_optional"), o.Duration("max_timeout_ms"), o.Duration("retention_days"))
	}
	if got := o.String("store") + " " + o.String("data_key_file") + " " + o.String("state_dir"); got != "sqlite:/home/ada/x.db /var/lib/llorch/data.key /var/lib/llorch" {
		t.Errorf("store, data_key_file and state_dir = %s", got)
	}
	if got := o.List("allow_addresses"); !slices.Equal(got, []string{"loopback", "private"}) {
		t.Errorf("allow_addresses = %q", got)
	}
	if got := o.Pairs("engines"); got != nil || o.Given("engines") {
		t.Errorf("engines = %v, want none", got)
	}
}

// TestUnknownEnvIsError proves CFG-2 and CFG-3: all faults in one run, a
// suggestion for each slip of the pen, nothing for the names of others.
func TestUnknownEnvIsError(t *testing.T) {
	env := []string{
		"HOME=/home/ada", "ORCHESTRATORD_ADRR=x", "ORCHD_CAPACITY=3", "LLORCH_LOG_LEVLE=info", "LLORCH_WORKER_ID=w", "LLORCH_NIGHTLY=1",
		"ORCHESTRATORD_PORT=tcp://10.0.0.1:8080", "ORCHESTRATORD_PORT_8080_TCP_ADDR=10.0.0.1", "ORCHESTRATORD_SERVICE_HOST=10.0.0.1",
		"ORCHESTRATORD_SERVICE_PORT_HTTP=8080", "POOL_MANAGERD_ADDR=bad", "ORCHESTRATORD_STORE=postgres", "PATH=/bin", "LLORCHX=1",
	}
	_, err := config.Load(config.Orchestratord, []string{"--addr", "9", "--retention-days=0", "--color"}, env, noFile)
	want := []string{
		`"--color" (flag): want a flag that orchestratord knows; see --help and --help-all`,
		`LLORCH_LOG_LEVLE (env): want a variable of docs/configuration.md; did you mean LLORCH_LOG_LEVEL?`,
		`ORCHD_CAPACITY (env): want a variable of docs/configuration.md; unset it`,
		`ORCHESTRATORD_ADRR (env): want a variable of docs/configuration.md; did you mean ORCHESTRATORD_ADDR?`,
		`--addr = "9" (flag): want HOST:PORT; mend it, or remove it for the default 127.0.0.1:8080`,
		`ORCHESTRATORD_STORE = "postgres" (env ORCHESTRATORD_STORE): want memory or sqlite:PATH; mend it, or remove it for the default sqlite:STATE/llorch.db`,
		`--retention-days = "0" (flag): want an integer from 1 to 36500; mend it, or remove it for the default 7`,
	}
	if err == nil || err.Error() != strings.Join(want, "\n") {
		t.Errorf("Load = %v\nwant %s", err, strings.Join(want, "\n"))
	}
	if code := config.ExitCode(err); code != config.ExitConfig {
		t.Errorf("ExitCode = %d, want 78", code)
	}
}

// TestServiceLinksIgnored proves the rest of CFG-3: an injected address where
// ours is expected names its own fix.
func TestServiceLinksIgnored(t *testing.T) {
	_, err := config.Load(config.Orchestratord, nil, []string{"HOME=/h", "ORCHD_ADDR=tcp://10.0.0.1:8080"}, noFile)
	if fs := list(err); len(fs) != 1 || !strings.Contains(fs[0].Fix, "enableServiceLinks: false") || fs[0].Source != "env ORCHD_ADDR" {
		t.Errorf("Load = %v, want one fault that names enableServiceLinks", err)
	}
}

func TestAliases(t *testing.T) {
	r := load(t, config.Orchestratord, nil, []string{"ORCHD_ADDR=127.0.0.1:1", "ORCHESTRATORD_ADDR=127.0.0.1:1"}, nil)
	if got := r.String("addr"); got != "127.0.0.1:1" {
		t.Errorf("addr = %q", got)
	}
	_, err := config.Load(config.Orchestratord, nil, []string{"HOME=/h", "ORCHD_ADDR=127.0.0.1:1", "ORCHESTRATORD_ADDR=127.0.0.1:2"}, noFile)
	if fs := list(err); len(fs) != 1 || fs[0].Name != "ORCHD_ADDR" {
		t.Errorf("Load with two addresses = %v, want one fault", err)
	}
}

// TestBounds judges values at and beyond their limits, and against each other.
func TestBounds(t *testing.T) {
	for _, tt := range []struct {
		args string
		name string // of the fault, "" = none
	}{
		{"--node-timeout-secs 3 --heartbeat-interval-secs 1", ""},
		{"--node-timeout-secs 2", "--node-timeout-secs"},
		{"--node-timeout-secs 301", "--node-timeout-secs"},
		{"--node-timeout-secs 29", "heartbeat_interval_secs"},
		{"--heartbeat-interval-secs 11", "heartbeat_interval_secs"},
		{"--default-timeout-ms 1800001", "default_timeout_ms"},
		{"--queue-timeout-ms 1800001", "queue_timeout_ms"},
		{"--admission-capacity -1", ""},
		{"--admission-capacity -2", "--admission-capacity"},
		{"--admission-capacity 1e3", "--admission-capacity"},
		{"--engines a=http://x,a=http://y", "--engines"},
		{"--engines http://x", "--engines"},
		{"--engines a=http://x/?q", "--engines"},
		{"--engines a=ftp://x", "--engines"},
		{"--allow-addresses private,private", "--allow-addresses"},
		{"--allowed-hosts llm.example.org,[::1]", ""},
		{"--allowed-hosts http://x", "--allowed-hosts"},
		{"--store sqlite:", "--store"},
		{"--addr 127.0.0.1:080", "--addr"},
		{"--addr :8080", ""},
		{"--state-dir a\x1bb", "--state-dir"},
		{"--auth-optional=1", "--auth-optional"},
	} {
		_, err := config.Load(config.Orchestratord, strings.Fields(tt.args), []string{"HOME=/h"}, noFile)
		fs := list(err)
		if tt.name == "" && err == nil || len(fs) == 1 && fs[0].Name == tt.name {
			continue
		}
		t.Errorf("Load(%q) = %v, want a fault of %q", tt.args, err, tt.name)
	}
}

func TestUsage(t *testing.T) {
	for args, want := range map[string]int{
		"serve":                          config.ExitUsage,
		"--log-level":                    config.ExitUsage,
		"--json":                         config.ExitUsage,
		"--addr :1 --addr :2":            config.ExitUsage,
		"-v":                             config.ExitUsage,
		"--api-token " + canary:          config.ExitUsage,
		"--colour red --log-level loud":  config.ExitConfig,
		"--check-config --log-level war": config.ExitConfig,
	} {
		_, err := config.Load(config.Orchestratord, strings.Fields(args), []string{"HOME=/h"}, noFile)
		if code := config.ExitCode(err); err == nil || code != want {
			t.Errorf("Load(%q) = %v with exit code %d, want %d", args, err, code, want)
		}
	}
	for arg, want := range map[string]config.Action{
		"-h": config.Help, "--help": config.Help, "--help-all": config.HelpAll, "--version": config.Version, "--check-config": config.Check,
	} {
		if r := load(t, config.PoolManagerd, []string{arg}, nil, nil); r.Action != want {
			t.Errorf("Load(%q).Action = %d, want %d", arg, r.Action, want)
		}
	}
	if r, err := config.Load(config.Orchestratord, []string{"--wrong", "--help"}, nil, noFile); err != nil || r.Action != config.Help {
		t.Errorf("help beside a fault: %v", err)
	}
	if _, err := config.Load("llorch", nil, nil, noFile); err == nil {
		t.Error("Load of a program that has no table: no error")
	}
}

func TestHomeless(t *testing.T) {
	_, err := config.Load(config.Orchestratord, nil, nil, noFile)
	if fs := list(err); len(fs) != 1 || fs[0].Name != "HOME" {
		t.Errorf("Load without HOME = %v, want one fault", err)
	}
	if _, err := config.Load(config.Orchestratord, []string{"--state-dir", "/s"}, nil, noFile); err != nil {
		t.Errorf("Load with state_dir and without HOME = %v", err)
	}
	if _, err := config.Load(config.PoolManagerd, []string{"--region=XX"}, nil, noFile); len(list(err)) != 1 {
		t.Errorf("Load of a region that is none = %v, want one fault", err)
	}
	if _, err := config.Load(config.PoolManagerd, nil, []string{"HOME=/h"}, func(string) ([]byte, error) { return nil, fs.ErrPermission }); len(list(err)) != 1 {
		t.Errorf("Load with an unreadable usual file = %v, want one fault", err)
	}
}
