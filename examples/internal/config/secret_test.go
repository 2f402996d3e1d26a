package config_test

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/llorch/llorch/examples/internal/config"
)

const canary = "canary-k7Qw9-do-not-print-me-0123456789"

// TestSecretSources proves the last part of CFG-4: by whichever way a token
// came, LookupEnv tells it under the canonical name.
func TestSecretSources(t *testing.T) {
	const file = "/etc/llorch/orchestratord.toml"
	inFile := files{file: "api_token_file = \"/f\""}
	for _, tt := range []struct {
		name        string
		args, env   []string
		files       files
		value, path string
	}{
		{"variable", nil, []string{"LLORCH_API_TOKEN=" + canary}, nil, canary, ""},
		{"variable before file", nil, []string{"LLORCH_API_TOKEN=" + canary}, inFile, canary, ""},
		{"alias", nil, []string{"AUTH_TOKEN=" + canary}, nil, canary, ""},
		{"file", nil, []string{"LLORCH_API_TOKEN_FILE=/e"}, nil, "", "/e"},
		{"alias file", nil, []string{"AUTH_TOKEN_FILE=/e"}, nil, "", "/e"},
		{"flag", []string{"--api-token-file=/g"}, []string{"LLORCH_API_TOKEN=" + canary}, nil, "", "/g"},
		{"key", nil, nil, inFile, "", "/f"},
		{"empty", nil, []string{"LLORCH_API_TOKEN=", "LLORCH_API_TOKEN_FILE="}, nil, "", ""},
	} {
		r := load(t, config.Orchestratord, tt.args, tt.env, tt.files)
		value, ok := r.LookupEnv("LLORCH_API_TOKEN")
		path, isFile := r.LookupEnv("LLORCH_API_TOKEN_FILE")
		if value != tt.value && ok || ok != (tt.value != "") || path != tt.path && isFile || isFile != (tt.path != "") {
			t.Errorf("%s: value set %v, file %q %v", tt.name, ok, path, isFile)
		}
		if home, ok := r.LookupEnv("HOME"); home != "/home/ada" || !ok {
			t.Errorf("%s: HOME = %q, %v", tt.name, home, ok)
		}
	}
}

// TestSecretsStayUnseen looks for a token in everything that is ever printed.
func TestSecretsStayUnseen(t *testing.T) {
	var out bytes.Buffer
	for _, mode := range []string{"--check-config", "--json"} {
		args := []string{"--check-config", mode}
		r := load(t, config.Orchestratord, args, []string{"LLORCH_API_TOKEN=" + canary}, nil)
		if err := r.WriteReport(&out); err != nil {
			t.Fatal(err)
		}
	}
	if n := strings.Count(out.String(), "[REDACTED]"); n != 2 {
		t.Errorf("the reports tell %d times that there is a token, want 2", n)
	}
	for _, tt := range []struct{ args, env []string }{
		{[]string{"--api-token", canary}, nil},
		{[]string{"--api-token=" + canary}, nil},
		{[]string{"--api-token-file", canary}, nil},
		{[]string{canary}, nil},
		{[]string{"--apitoken", canary}, nil},
		{nil, []string{"LLORCH_API_TOKN=" + canary}},
		{nil, []string{"LLORCH_API_TOKEN=" + canary, "AUTH_TOKEN=" + canary + "2"}},
		{nil, []string{"LLORCH_API_TOKEN=" + canary, "LLORCH_API_TOKEN_FILE=/f"}},
		{[]string{"--engines=a=http://u:" + canary + "@h", "--store=x"}, nil},
		{nil, []string{"ORCHESTRATORD_ENGINES=a=http://" + canary + "@h,b=http://u:" + canary + "@h"}},
	} {
		_, err := config.Load(config.Orchestratord, tt.args, append(tt.env, "HOME=/h"), noFile)
		if err == nil {
			t.Errorf("Load(%d args, %d variables): no fault", len(tt.args), len(tt.env))
			continue
		}
		out.WriteString(err.Error())
	}
	if strings.Contains(out.String(), canary) {
		t.Errorf("a token is printed: %s", out.String())
	}
}

// TestCheckConfig proves CFG-5's table: every value with its origin, also as JSON.
func TestCheckConfig(t *testing.T) {
	r := load(t, config.PoolManagerd, []string{"--check-config", "--json", "--node-id=g"}, nil, nil)
	var out bytes.Buffer
	if err := r.WriteReport(&out); err != nil {
		t.Fatal(err)
	}
	var got struct {
		Program string
		Values  []config.Origin
	}
	if err := json.Unmarshal(out.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	want := map[string]config.Origin{
		"node_id": {Key: "node_id", Value: "g", Source: "flag"},
		"addr":    {Key: "addr", Value: "127.0.0.1:9200", Source: "default"},
	}
	found := 0
	for _, o := range got.Values {
		if w, ok := want[o.Key]; ok && o == w {
			found++
		}
	}
	if got.Program != config.PoolManagerd || found != len(want) {
		t.Errorf("report = %s", out.String())
	}
	out.Reset()
	r = load(t, config.PoolManagerd, []string{"--check-config", "--node-id=g"}, nil, nil)
	if err := r.WriteReport(&out); err != nil || !strings.Contains(out.String(), "node_id            g                 flag\n") {
		t.Errorf("report = %v\n%s", err, out.String())
	}
}
