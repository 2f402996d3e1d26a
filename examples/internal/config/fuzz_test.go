package config_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/llorch/llorch/examples/internal/config"
	"pgregory.net/rapid"
)

// FuzzLoad gives both programs any command line, environment and file: no panic,
// typed faults only, no secret in them, and what loads can be reported.
func FuzzLoad(f *testing.F) {
	f.Add("--addr\n:1\n--json\n--check-config", "LLORCH_API_TOKEN="+canary+"\nORCHD_ADDR=tcp://x", "log_level = \"warn\"\n[[pool]]\npool_id=\"a\"")
	f.Add("--engines=a=http://h", "HOME=/h\nORCHESTRATORD_ENGINES=", "engines = [\"a=http://h\"]\n")
	f.Add("--api-token="+canary, "AUTH_TOKEN_FILE=/x\nLLORCH_X=1", "api_token = \""+canary+"\"")
	f.Fuzz(func(t *testing.T, args, env, file string) {
		for _, prog := range programs() {
			r, err := config.Load(prog, strings.Split(args, "\n"), append(strings.Split(env, "\n"), "LLORCH_API_TOKEN="+canary),
				func(string) ([]byte, error) { return []byte(file), nil })
			if err != nil {
				if _, ok := errors.AsType[*config.Fault](err); !ok {
					t.Fatalf("Load: %T is not a fault", err)
				}
				// Only the text of other places may repeat what stands there.
				if !strings.Contains(args+env+file, canary[:8]) && strings.Contains(err.Error(), canary) {
					t.Fatalf("the token is in %v", err)
				}
				continue
			}
			var out bytes.Buffer
			if err := r.WriteReport(&out); err != nil {
				t.Fatal(err)
			}
			if r.Action == config.Run || r.Action == config.Check {
				if _, ok := r.LookupEnv("LLORCH_API_TOKEN"); !ok && r.Given("api_token") {
					if _, ok := r.LookupEnv("LLORCH_API_TOKEN_FILE"); !ok {
						t.Fatal("a token was given and cannot be found")
					}
				}
			}
			var pools []struct {
				ID string `toml:"pool_id"`
			}
			_ = r.Pools(&pools) // any result, but no panic
		}
	})
}

// TestSuggestions proves CFG-3's distance: whatever one or two slips do to a
// name, the answer is a fault, and it suggests a name.
func TestSuggestions(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		v := rapid.SampledFrom(config.Table()).Draw(t, "variable")
		if v.Env == "" || !strings.Contains(v.Env, "_") || strings.HasPrefix(v.Env, "AUTH") {
			return
		}
		name := []byte(v.Env)
		start := strings.LastIndexByte(v.Env, '_') + 1 // the prefix stays ours
		kinds := []string{"drop", "double", "replace"}
		slips := rapid.IntRange(1, 2).Draw(t, "slips")
		if slips == 1 { // a swap beside another slip can be three edits
			kinds = append(kinds, "swap")
		}
		for range slips {
			at := rapid.IntRange(start, len(name)-1).Draw(t, "at")
			switch rapid.SampledFrom(kinds).Draw(t, "slip") {
			case "drop":
				name = append(name[:at:at], name[at+1:]...)
			case "double":
				name = append(name[:at+1:at+1], name[at:]...)
			case "swap":
				if at > start {
					name[at], name[at-1] = name[at-1], name[at]
				}
			case "replace":
				name[at] = 'Q'
			}
			if len(name) == start {
				return
			}
		}
		for _, w := range config.Table() {
			if string(name) == w.Env {
				return
			}
		}
		_, err := config.Load(config.Orchestratord, nil, []string{"HOME=/h", string(name) + "=1"}, noFile)
		if fs := list(err); len(fs) != 1 || !strings.HasPrefix(fs[0].Fix, "did you mean ") {
			t.Errorf("%s: %v, want one fault with a suggestion", name, err)
		}
	})
}
