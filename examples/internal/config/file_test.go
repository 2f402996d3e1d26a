package config_test

import (
	"strings"
	"testing"

	"github.com/llorch/llorch/examples/internal/config"
	"github.com/llorch/llorch/poolcore"
)

func TestFileFaults(t *testing.T) {
	const name = "/etc/llorch/orchestratord.toml"
	for _, tt := range []struct{ text, want string }{
		{"adr = \"x\"", name + ":1): want a key that orchestratord knows; did you mean addr?"},
		{"log_level = 3", name + ":1): want a string: debug, info, warn or error; mend it"},
		{"\n'retention_days' = \"7\"", name + ":2): want an integer: an integer from 1 to 36500; mend it"},
		{"engines = [1]", "want an array of strings"},
		{"auth_optional = \"true\"", "want a boolean"},
		{"drain_secs = 1.5", "want an integer"},
		{"[addr]\nx = 1", name + ":1): want a string"},
		{"addr = ", "file (" + name + ":1): want TOML"},
		{"[[pool]]\npool_id = \"p\"", "want a key that orchestratord knows"},
		{"config = \"x\"", "want a key that orchestratord knows"},
		{"api_token = \"" + canary + "\"", "move it to a file of its own and name that as api_token_file"},
		{"api_token = " + canary, "want TOML"},
		{"addr = \"127.0.0.1:99999\"", `addr = "127.0.0.1:99999" (` + name + ":1): want HOST:PORT"},
		{strings.Repeat("#\n", 1<<20), "at most 1 MiB"},
	} {
		_, err := config.Load(config.Orchestratord, nil, []string{"HOME=/h"}, files{name: tt.text}.read)
		if err == nil || !strings.Contains(err.Error(), tt.want) || len(list(err)) != 1 {
			t.Errorf("file %.40q: %v\nwant one fault with %q", tt.text, err, tt.want)
		}
		if err != nil && strings.Contains(err.Error(), canary) {
			t.Errorf("file %.40q: the fault shows the secret", tt.text)
		}
	}
}

func TestNamedFileMustExist(t *testing.T) {
	for _, tt := range []struct{ args, env []string }{
		{[]string{"--config=/none"}, nil},
		{nil, []string{"LLORCH_CONFIG=/none"}},
	} {
		_, err := config.Load(config.Orchestratord, tt.args, append(tt.env, "HOME=/h"), noFile)
		if fs := list(err); len(fs) != 1 || fs[0].Value != `"/none"` || !strings.Contains(fs[0].Fix, "does not exist") {
			t.Errorf("Load(%v, %v) = %v, want one fault that names the file", tt.args, tt.env, err)
		}
	}
}

func TestPools(t *testing.T) {
	const name = "/etc/llorch/pool-managerd.toml"
	decode := func(text string) ([]poolcore.PoolConfig, error) {
		var pools []poolcore.PoolConfig
		err := load(t, config.PoolManagerd, nil, nil, files{name: text}).Pools(&pools)
		return pools, err
	}
	pools, err := decode("node_id = \"g\"\n[[pool]]\npool_id = \"a\"\nengine = \"llamacpp\"\nslots = 4\nflags = [\"--mlock\"]\n[pool.env]\nX = \"1\"\n[[pool]]\npool_id = \"b\"\n")
	if err != nil || len(pools) != 2 || pools[0].ID != "a" || pools[0].Slots != 4 || pools[0].Env["X"] != "1" || pools[1].ID != "b" {
		t.Errorf("Pools = %+v, %v", pools, err)
	}
	if pools, err := decode("node_id = \"g\""); err != nil || pools != nil {
		t.Errorf("Pools of a file without any = %v, %v", pools, err)
	}
	for text, want := range map[string]string{
		"[[pool]]\nslot = 4\n[[pool]]\nsize = 1": "pool.slot (" + name + "): want a key of a pool; remove it\npool.size",
		"[[pool]]\nslots = \"4\"":                "mend this",
		"pool = 1":                               "mend this",
	} {
		if _, err := decode(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Pools of %q: %v, want %q", text, err, want)
		}
	}
}
