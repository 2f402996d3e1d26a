package examples_test

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/llorch/llorch/authmin"
)

// secretSet is what one run of the programs must keep to itself.
type secretSet struct {
	token, second string // both live; second has no characters that a path would escape
	wrong, short  string // refused
	header, query string // what careless clients send beside a token
	lease         string // a lease token that nobody granted
	prompt        string
	key           []byte // seals the store
}

func newSecrets() secretSet {
	return secretSet{
		token: "live+" + rand.Text() + "/" + rand.Text() + "=", second: "next-" + rand.Text() + rand.Text(), wrong: "lost." + rand.Text() + "~" + rand.Text(),
		short: rand.Text()[:18], header: rand.Text() + "&" + rand.Text(), query: rand.Text() + rand.Text(), lease: rand.Text(),
		prompt: "My \"name\" is " + rand.Text() + ",\n mi contraseña es <" + rand.Text() + "> \\ 密码" + rand.Text(), key: []byte(rand.Text() + rand.Text()[:6]),
	}
}

// quiet are the canaries that no place at all may hold, the prompt apart.
func (s secretSet) quiet() []canary {
	return []canary{
		{"the token", s.token, true},
		{"the second token", s.second, true},
		{"a refused token", s.wrong, true},
		{"a short token", s.short, true},
		{"a header", s.header, true},
		{"a query", s.query, true},
		{"a lease token", s.lease, true},
		{"the data key", string(s.key), true},
		{"the data key's text", hex.EncodeToString(s.key), true},
	}
}

// rig is both daemons with everything that came out of them.
type rig struct {
	t       *testing.T
	secrets secretSet
	o, n    *program
	state   string // of the control plane
	node    string // of the node
	keyFile string
	answers lockedBuffer // status lines, headers and bodies, without the prompt's owner's own
}

// TestCanaries proves SEC-3 and G4 of the examples: tokens, keys, prompts and what
// careless clients send go through both daemons, well and badly, and turn up in no
// log, metric, answer, audit record, database, report, argument or environment.
func TestCanaries(t *testing.T) {
	whole(t)
	for _, format := range []string{"json", "text"} {
		t.Run(format, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, format)
			r.good()
			r.everyRoute()
			r.malformed()
			r.nodeRoutes()
			cut := r.failures()
			search := newTrap(append(r.secrets.quiet(), canary{"the prompt", r.secrets.prompt, false})...)
			r.processes(search)
			r.files(search)
			r.stop()
			r.files(search)
			r.evidence(search, cut)
			r.reports(search)
		})
	}
}

func newRig(t *testing.T, format string) *rig {
	r := &rig{t: t, secrets: newSecrets(), state: t.TempDir(), node: t.TempDir()}
	dir, err := binaries()
	if err != nil {
		t.Fatal(err)
	}
	outside := t.TempDir()
	// The engine stalls after four tokens, so that longer tasks end as a test wants them to.
	tokens := r.secrets.token + "," + r.secrets.second
	r.keyFile = filepath.Join(outside, "data.key")
	pools := fmt.Sprintf("binaries = [%q]\n[[pool]]\npool_id = \"gpu0\"\nengine = \"simulator\"\nmodel = \"sim-8b\"\nslots = 4\nstop_grace_ms = 500\nflags = [\"--fault=stall@token=5\"]\n", "simulator="+filepath.Join(dir, "enginesim"))
	for name, text := range map[string]string{"token": tokens + "\n", "data.key": hex.EncodeToString(r.secrets.key) + "\n", "pools.toml": pools} {
		if err := os.WriteFile(filepath.Join(outside, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	log := []string{"LLORCH_LOG_LEVEL=debug", "LLORCH_LOG_FORMAT=" + format}
	fromFile, fromEnv := "LLORCH_API_TOKEN_FILE="+filepath.Join(outside, "token"), "LLORCH_API_TOKEN="+tokens
	if format == "text" { // each program once with each way to get a token
		fromFile, fromEnv = fromEnv, fromFile
	}
	r.o = controlPlane(t, r.state, append(log, fromFile, "ORCHESTRATORD_DATA_KEY_FILE="+r.keyFile, "LLORCH_AUDIT_MODE=local", "LLORCH_AUDIT_FLUSH=immediate",
		"ORCHESTRATORD_NODE_TIMEOUT_SECS=3", "ORCHESTRATORD_HEARTBEAT_INTERVAL_SECS=1")...)
	r.n = start(t, append(log, fromEnv, "LLORCH_STATE_DIR="+r.node, "POOL_MANAGERD_RUNTIME_DIR="+r.node+"/run", "POOL_MANAGERD_ADDR=127.0.0.1:0",
		"POOL_MANAGERD_NODE_ID=gpu-7", "ORCHESTRATORD_URL="+r.o.url, "POOL_MANAGERD_GPU_PROVIDER=none"), "pool-managerd", "--config", filepath.Join(outside, "pools.toml"))
	within(t, 15*time.Second, "the node's engine is ready", func() bool {
		return strings.Contains(body(t, r.o.call("GET", "/v1/models", r.secrets.token, "")), "sim-8b")
	})
	return r
}

// processes looks at what every user of the machine sees of the daemons and what
// an engine inherits, and plants the keys that the daemons made for themselves.
func (r *rig) processes(search *trap) {
	t := r.t
	engines := children(r.n.cmd.Process.Pid)
	if len(engines) == 0 {
		t.Fatal("no engine runs")
	}
	for name, field := range map[string]string{"key": "", "lease.json": "lease_token"} {
		for _, path := range r.made(name) {
			value := r.read(path)
			if field != "" {
				var fields map[string]any
				if err := json.Unmarshal([]byte(value), &fields); err != nil {
					t.Fatal(err)
				}
				value, _ = fields[field].(string)
			}
			if len(value) < 20 {
				t.Fatalf("%s holds %d bytes, want a key", name, len(value))
			}
			search.plant(canary{"what " + name + " holds", value, true})
		}
	}
	for _, pid := range append(engines, r.o.cmd.Process.Pid, r.n.cmd.Process.Pid) {
		args, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		if err != nil {
			t.Fatal(err)
		}
		search.none(t, "an argument", args)
	}
	for _, pid := range engines {
		env, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
		if err != nil || !bytes.Contains(env, []byte("LLORCH_WORKER_ID=")) || bytes.Contains(env, []byte("LLORCH_API_TOKEN")) {
			t.Errorf("environment of an engine: %q, %v", env, err)
		}
		search.none(t, "an engine's environment", env)
	}
}

// made lists the files of the node with this name.
func (r *rig) made(name string) (found []string) {
	_ = filepath.WalkDir(r.node, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Name() == name {
			found = append(found, path)
		}
		return nil
	})
	if len(found) == 0 {
		r.t.Errorf("there is no file %s", name)
	}
	return found
}

func (r *rig) read(path string) string {
	text, err := os.ReadFile(path)
	if err != nil {
		r.t.Fatal(err)
	}
	return strings.TrimSpace(string(text))
}

// files searches everything on disk but the files that hold the node's keys: an
// engine's key, the record by which the next daemon knows the engine, and the lease.
func (r *rig) files(search *trap) {
	seen := map[string]int{}
	for _, dir := range []string{r.state, r.node} {
		err := filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
			record := filepath.Base(filepath.Dir(name)) == "workers" && filepath.Ext(name) == ".json"
			if err != nil || !d.Type().IsRegular() || record || d.Name() == "key" || d.Name() == "lease.json" {
				return nil // an engine's files come and go
			}
			if text, err := os.ReadFile(name); err == nil {
				seen[filepath.Ext(name)] += len(text)
				search.none(r.t, strings.TrimPrefix(name, dir), text)
			}
			return nil
		})
		if err != nil {
			r.t.Fatal(err)
		}
	}
	if seen[".db"] < 4096 || seen[".audit"] < 4096 {
		r.t.Errorf("bytes by kind of file: %v, want a database and an audit log", seen)
	}
}

// stop ends both daemons in order.
func (r *rig) stop() {
	for _, p := range []*program{r.n, r.o} {
		p.signal(syscall.SIGTERM)
		if code := p.wait(); code != 0 {
			r.t.Errorf("exit %d", code)
		}
	}
}

// evidence searches logs and answers, after it has made sure that they tell
// something at all.
func (r *rig) evidence(search *trap, told string) {
	t := r.t
	for want, where := range map[string]string{
		"auth_failed": r.o.errs.String(), "token:" + authmin.FP6(r.secrets.token): r.o.errs.String(), authmin.FP6(r.secrets.wrong): r.o.errs.String() + r.n.errs.String(),
		"auth_success": r.n.errs.String(), "llorch_": r.answers.String(), "40102": r.answers.String(), "INVALID_PARAMS": r.answers.String(), "LEASE_INVALID": r.answers.String(),
	} {
		if !strings.Contains(where, want) {
			t.Errorf("%q is nowhere: the canaries did not come by", want)
		}
	}
	search.none(t, "orchestratord's log", []byte(r.o.errs.String()))
	search.none(t, "pool-managerd's log", []byte(r.n.errs.String()))
	search.none(t, "an event of a stream", []byte(told))
	answers := []byte(r.answers.String())
	own := newTrap(append(r.secrets.quiet(), canary{"the prompt", r.secrets.prompt, false})...) // a worker's key is an operator's to read
	own.none(t, "an answer", answers)
}

// reports runs the programs with configurations that are wrong in every way that
// involves a secret; none shows it.
func (r *rig) reports(search *trap) {
	t, s := r.t, r.secrets
	file := filepath.Join(t.TempDir(), "wrong.toml")
	if err := os.WriteFile(file, fmt.Appendf(nil, "api_token = %q\nnonsense = %q\n", s.token, s.wrong), 0o600); err != nil {
		t.Fatal(err)
	}
	bad := filepath.Join(t.TempDir(), "bad.key")
	if err := os.WriteFile(bad, []byte(hex.EncodeToString(s.key)+" "+s.wrong+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	state := "LLORCH_STATE_DIR=" + r.state
	for _, c := range []struct {
		env, args []string
		code      int
	}{
		{[]string{state, "LLORCH_API_TOKEN=" + s.token, "ORCHESTRATORD_DATA_KEY_FILE=" + r.keyFile}, []string{"--check-config"}, 0},
		{[]string{state, "LLORCH_API_TOKEN=" + s.token, "ORCHESTRATORD_DATA_KEY_FILE=" + r.keyFile}, []string{"--check-config", "--json"}, 0},
		{[]string{state, "LLORCH_API_TOKEN=" + s.token, "AUTH_TOKEN=" + s.wrong}, []string{"--check-config"}, 78},
		{[]string{state, "LLORCH_API_TOKENS=" + s.token}, nil, 78},
		{[]string{state, "LLORCH_API_TOKEN=" + s.token + ", " + s.second}, nil, 78},
		{[]string{state, "LLORCH_API_TOKEN=" + s.short}, nil, 77},
		{[]string{state}, []string{"--api-token", s.token}, 2},
		{[]string{state}, []string{"--api-token=" + s.token}, 2},
		{[]string{state}, []string{s.token}, 2},
		{[]string{state}, []string{"--api-tokne=" + s.token}, 2},
		{[]string{state, "LLORCH_API_TOKEN_FILE=" + s.token}, nil, 78},
		{nil, []string{"--config", file}, 78},
		{[]string{state, "LLORCH_API_TOKEN=" + s.token, "ORCHESTRATORD_DATA_KEY_FILE=" + bad}, []string{"--addr", "127.0.0.1:0"}, 78},
	} {
		code, out := once(t, c.env, "orchestratord", c.args...)
		if code != c.code || out == "" {
			t.Errorf("orchestratord %d arguments, %d variables: exit %d, want %d: %s", len(c.args), len(c.env), code, c.code, out)
		}
		search.none(t, fmt.Sprintf("the report of exit %d", c.code), []byte(out))
	}
}
