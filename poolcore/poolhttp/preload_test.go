package poolhttp_test

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/llorch/llorch/gpuinfo"
	"github.com/llorch/llorch/poolcore"
	"github.com/llorch/llorch/poolcore/poolhttp"
	"github.com/llorch/llorch/poolregistry/nodeapi"
)

// oneGPU is a healthy device with 8 GiB.
func oneGPU() gpuinfo.Provider {
	total, used := uint64(8<<30), uint64(0)
	return gpuinfo.Static(gpuinfo.Snapshot{Reason: gpuinfo.OK, Devices: []gpuinfo.Device{{
		Vendor: "nvidia", UUID: "GPU-00000000-0000-0000-0000-000000000000", Name: "card", Compute: gpuinfo.Capability{Major: 8},
		Health: gpuinfo.Health{State: gpuinfo.Healthy},
		Memory: gpuinfo.Memory{Kind: gpuinfo.Dedicated, Total: &total, Used: &used, Free: &total},
	}}})
}

func link(t testing.TB, from, to string) {
	t.Helper()
	if err := os.Symlink(to, from); err != nil {
		t.Fatal(err)
	}
}

func write(t testing.TB, path, text string, perm os.FileMode) string {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), perm); err != nil {
		t.Fatal(err)
	}
	return path
}

func asJSON(t testing.TB, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// TestAllowList (PCO-10): a remote caller can not bring a program, a flag, a
// variable or an address of its own. Where the program is one of the node's, its
// own path is started.
func TestAllowList(t *testing.T) {
	dir := t.TempDir()
	models := filepath.Join(dir, "models")
	model := write(t, filepath.Join(models, "m.gguf"), "x", 0o600)
	other := write(t, filepath.Join(dir, "other"), "#!/bin/sh\n", 0o700)
	link(t, filepath.Join(dir, "to-other"), other)
	n := newNode(t, func(cfg *poolcore.Config) {
		cfg.ModelDirs = []string{models}
		link(t, filepath.Join(dir, "engine"), cfg.Binaries["simulator"])
		link(t, filepath.Join(dir, "to-engine"), filepath.Join(dir, "engine"))
		cfg.Binaries = map[string]string{"simulator": filepath.Join(dir, "engine"), "helper": other}
	})
	allowed := filepath.Join(dir, "engine")
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	t.Chdir(dir)
	for name, c := range map[string]struct {
		prepared nodeapi.Prepared
		status   int
		code     string
	}{
		"another program":       {nodeapi.Prepared{BinaryPath: "/bin/sh"}, 403, "BINARY_NOT_ALLOWED"},
		"none":                  {nodeapi.Prepared{}, 403, "BINARY_NOT_ALLOWED"},
		"relative path":         {nodeapi.Prepared{BinaryPath: "engine"}, 403, "BINARY_NOT_ALLOWED"},
		"relative with dots":    {nodeapi.Prepared{BinaryPath: "./engine"}, 403, "BINARY_NOT_ALLOWED"},
		"dots":                  {nodeapi.Prepared{BinaryPath: dir + "/x/../engine"}, 403, "BINARY_NOT_ALLOWED"},
		"link to another":       {nodeapi.Prepared{BinaryPath: filepath.Join(dir, "to-other")}, 403, "BINARY_NOT_ALLOWED"},
		"missing":               {nodeapi.Prepared{BinaryPath: filepath.Join(dir, "missing")}, 403, "BINARY_NOT_ALLOWED"},
		"NUL":                   {nodeapi.Prepared{BinaryPath: allowed + "\x00x"}, 403, "BINARY_NOT_ALLOWED"},
		"listed, but no engine": {nodeapi.Prepared{BinaryPath: other}, 403, "BINARY_NOT_ALLOWED"},
		"by name":               {nodeapi.Prepared{BinaryPath: "simulator"}, 403, "BINARY_NOT_ALLOWED"},
		"flag --port":           {nodeapi.Prepared{BinaryPath: allowed, Flags: []string{"--port=1"}}, 403, "FLAG_NOT_ALLOWED"},
		"flag --host":           {nodeapi.Prepared{BinaryPath: allowed, Flags: []string{"--host=0.0.0.0"}}, 403, "FLAG_NOT_ALLOWED"},
		"flag -m":               {nodeapi.Prepared{BinaryPath: allowed, Flags: []string{"-m"}}, 403, "FLAG_NOT_ALLOWED"},
		"flag with NUL":         {nodeapi.Prepared{BinaryPath: allowed, Flags: []string{"--seed=1\x00"}}, 403, "FLAG_NOT_ALLOWED"},
		"flag in a value":       {nodeapi.Prepared{BinaryPath: allowed, Flags: []string{"--seed=--port"}}, 403, "FLAG_NOT_ALLOWED"},
		"value apart":           {nodeapi.Prepared{BinaryPath: allowed, Flags: []string{"--seed", "1"}}, 403, "FLAG_NOT_ALLOWED"},
		"too many flags":        {nodeapi.Prepared{BinaryPath: allowed, Flags: strings.Split(strings.Repeat("--seed=1 ", 65), " ")}, 403, "FLAG_NOT_ALLOWED"},
		"another pool":          {nodeapi.Prepared{BinaryPath: allowed, PoolID: "p2"}, 400, "INVALID_PARAMS"},
		"another place":         {nodeapi.Prepared{BinaryPath: allowed, ReplicaID: "r1"}, 400, "INVALID_PARAMS"},
		"another address":       {nodeapi.Prepared{BinaryPath: allowed, Host: "0.0.0.0"}, 400, "INVALID_PARAMS"},
		"a model outside":       {nodeapi.Prepared{BinaryPath: allowed, ModelPath: "/etc/passwd"}, 400, "UNTRUSTED_ARTIFACT"},
		"privileged port":       {nodeapi.Prepared{BinaryPath: allowed, Port: 70000}, 400, "INVALID_PARAMS"},
		"no such mask":          {nodeapi.Prepared{BinaryPath: allowed, DeviceMask: "canary\n"}, 400, "DEVICE_MASK_INVALID"},
		"the node's own":        {nodeapi.Prepared{BinaryPath: allowed, Host: "127.0.0.1", PoolID: "p1", ReplicaID: "r0"}, 200, ""},
		"a link to it":          {nodeapi.Prepared{BinaryPath: filepath.Join(dir, "to-engine")}, 200, ""},
		"where its link leads":  {nodeapi.Prepared{BinaryPath: self}, 200, ""},
		"with an allowed flag":  {nodeapi.Prepared{BinaryPath: allowed, Flags: []string{"--seed=1"}}, 200, ""},
	} {
		t.Run(name, func(t *testing.T) {
			if c.prepared.ModelPath == "" { // nothing but what the row says is wrong
				c.prepared.ModelPath = model
			}
			got := n.op("POST /pools/p1/preload", asJSON(t, nodeapi.PreloadRequest{Prepared: &c.prepared}), "Prefer: wait=60")
			if c.status != 200 {
				checkRefusal(t, got, c.status, c.code)
				if p := n.Pool("p1"); p != nil && p.Status().Live {
					t.Error("something runs")
				}
				return
			}
			reply := want[nodeapi.PreloadReply](t, got, 200)
			if cfg := n.Pool("p1").Config(); cfg.Binary != "simulator" || cfg.ModelPath != model || cfg.Model != "file:m.gguf" {
				t.Errorf("configuration = %+v", cfg)
			}
			stop := n.op("POST /v2/workers/stop", `{"worker_id":"`+string(reply.WorkerID)+`"}`, "Prefer: wait=60")
			want[map[string]string](t, stop, 200)
		})
	}
	for _, env := range []string{"LD_PRELOAD", "PATH", "LLORCH_WORKER_ID", "A=B", ""} {
		body := simSpec(`,"env":{"` + env + `":"canary"}`)
		checkRefusal(t, n.op("POST /pools/p1/preload", body), 409, "ENV_NOT_ALLOWED")
	}
	checkRefusal(t, n.op("POST /pools/p1/preload", simSpec(`,"binary":"/bin/sh"`)), 403, "BINARY_NOT_ALLOWED")
	checkRefusal(t, n.op("POST /pools/p1/preload", simSpec(`,"binary":"../engine"`)), 403, "BINARY_NOT_ALLOWED")
}

// TestModelFolders (PCO-10, PCO-45): a caller names files only below the folders
// that are set apart for that, whatever links say, by a reload too.
func TestModelFolders(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	models := filepath.Join(dir, "models")
	good := write(t, filepath.Join(models, "sub", "m.gguf"), "x", 0o600)
	secret := write(t, filepath.Join(dir, "secret"), "canary", 0o600)
	write(t, filepath.Join(dir, "models-2", "m.gguf"), "x", 0o600)
	link(t, filepath.Join(models, "escape"), secret)
	link(t, filepath.Join(models, "up"), dir)
	link(t, filepath.Join(models, "within"), good)
	link(t, filepath.Join(dir, "alias"), models)
	n := newNode(t, func(cfg *poolcore.Config) { cfg.ModelDirs = []string{filepath.Join(dir, "alias"), models} })
	n.preloadSim("running", "")
	for path, code := range map[string]string{
		secret:                                   "UNTRUSTED_ARTIFACT",
		"/etc/passwd":                            "UNTRUSTED_ARTIFACT",
		"/nonexistent/canary":                    "UNTRUSTED_ARTIFACT", // not told from one that is there
		models:                                   "UNTRUSTED_ARTIFACT",
		models + "/":                             "UNTRUSTED_ARTIFACT",
		models + "/../secret":                    "UNTRUSTED_ARTIFACT",
		models + "/sub/../../secret":             "UNTRUSTED_ARTIFACT",
		models + "//sub/m.gguf":                  "UNTRUSTED_ARTIFACT",
		"sub/m.gguf":                             "UNTRUSTED_ARTIFACT",
		"../models/sub/m.gguf":                   "UNTRUSTED_ARTIFACT",
		filepath.Join(dir, "models-2", "m.gguf"): "UNTRUSTED_ARTIFACT",
		filepath.Join(models, "escape"):          "UNTRUSTED_ARTIFACT",
		filepath.Join(models, "up", "secret"):    "UNTRUSTED_ARTIFACT",
		models + "/sub/m.gguf\x00":               "UNTRUSTED_ARTIFACT",
		filepath.Join(models, "missing"):         "MODEL_MISSING",
	} {
		status := map[string]int{"UNTRUSTED_ARTIFACT": 400, "MODEL_MISSING": 409}[code]
		spec := nodeapi.PreloadRequest{Spec: &nodeapi.PoolSpec{Engine: "simulator", Model: "demo", ModelPath: path}}
		checkRefusal(t, n.op("POST /pools/p1/preload", asJSON(t, spec)), status, code)
		checkRefusal(t, n.op("POST /pools/running/reload", asJSON(t, nodeapi.ReloadRequest{NewModelPath: path})), status, code)
	}
	for i, path := range []string{good, filepath.Join(models, "within"), filepath.Join(dir, "alias", "sub", "m.gguf")} {
		spec := nodeapi.PreloadRequest{Spec: &nodeapi.PoolSpec{Engine: "simulator", Model: "demo", ModelPath: path}}
		pool := "p" + string(rune('1'+i))
		want[nodeapi.PreloadReply](t, n.op("POST /pools/"+pool+"/preload", asJSON(t, spec), "Prefer: wait=60"), 200)
		for p := range n.Pools() {
			if string(p.ID()) == pool && p.Config().ModelPath != good {
				t.Errorf("%s runs with %s, want where the links lead", path, p.Config().ModelPath)
			}
		}
	}
}

// TestEverySpecMember (PCO-73, PRG-70): every member of a PoolSpec reaches the
// pool's configuration.
func TestEverySpecMember(t *testing.T) {
	t.Parallel()
	file := write(t, filepath.Join(t.TempDir(), "m.gguf"), "x", 0o600)
	n := newNode(t, func(cfg *poolcore.Config) {
		cfg.ModelDirs = []string{filepath.Dir(file)}
		cfg.Devices = oneGPU()
	})
	spec := nodeapi.PoolSpec{
		Engine: "simulator", Model: "demo", ModelPath: file, Binary: "simulator", EngineVersion: "1.2", Quant: "Q4", KVType: "q8_0", Replicas: 1, Ctx: 17,
		Slots: 3, Devices: "0", TensorSplit: []float64{1}, Flags: []string{"--seed=1"}, VRAMDeclared: 1 << 20, Port: 18017, Deterministic: true,
		WarmUp: true, StopAfterDrain: true, StopGraceMS: 10, StartTimeoutMS: 20000,
	}
	r := n.op("POST /pools/p1/preload", asJSON(t, nodeapi.PreloadRequest{Spec: &spec}), "Prefer: wait=0")
	want[nodeapi.Operation](t, r, 202)
	got := n.Pool("p1").Config()
	if got.ID != "p1" {
		t.Errorf("pool_id = %q", got.ID)
	}
	got.ID = ""
	if a, b := asJSON(t, got), asJSON(t, spec); !sameMembers(t, a, b) {
		t.Errorf("configuration = %s\nof the request %s", a, b)
	}
	checkRefusal(t, n.op("POST /pools/p2/preload", `{"spec":{"engine":"external","model":"m","url":"http://127.0.0.1"}}`), 400, "INVALID_PARAMS")
}

// sameMembers compares two objects whose members may have another order.
func sameMembers(t *testing.T, a, b string) bool {
	t.Helper()
	var x, y map[string]any
	if err := json.Unmarshal([]byte(a), &x); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal([]byte(b), &y); err != nil {
		t.Fatal(err)
	}
	delete(x, "pool_id")
	return asJSON(t, x) == asJSON(t, y)
}

// TestPreloadNeedsOne (PCO-73): prepared or spec, not both and not neither.
func TestPreloadNeedsOne(t *testing.T) {
	t.Parallel()
	n := newNode(t, nil)
	for _, body := range []string{`{}`, `{"spec":null}`, `{"spec":{"engine":"simulator","model":"m"},"prepared":{"binary_path":"/x"}}`} {
		checkRefusal(t, n.op("POST /pools/p1/preload", body), 400, "INVALID_PARAMS")
	}
	for _, id := range []string{"a%2Fb", "%2e%2e", "A_B.C%20D", strings.Repeat("x", 100)} {
		checkRefusal(t, n.op("POST /pools/"+id+"/preload", simSpec("")), 400, "INVALID_PARAMS")
	}
}

// TestPreferredWait (PCO-74): what a Prefer field says.
func TestPreferredWait(t *testing.T) {
	for text, c := range map[string]struct {
		d  time.Duration
		ok bool
	}{
		"wait=5": {5 * time.Second, true}, "wait=0": {0, true}, "Wait = 7": {7 * time.Second, true}, `wait="9"`: {9 * time.Second, true},
		"respond-async, wait=3; x=y": {3 * time.Second, true}, "wait=120": {2 * time.Minute, true}, "wait=121": {2 * time.Minute, true},
		"wait=65535": {2 * time.Minute, true}, "wait=-1": {}, "wait=x": {}, "wait": {}, "wait=1.5": {}, "waiting=3": {}, "": {}, "return=minimal": {},
	} {
		if d, ok := poolhttp.PreferredWait(http.Header{"Prefer": {text}}); d != c.d || ok != c.ok {
			t.Errorf("Prefer: %s = %v, %v; want %v, %v", text, d, ok, c.d, c.ok)
		}
	}
	if d, ok := poolhttp.PreferredWait(http.Header{"Prefer": {"a=b", "wait=4"}}); d != 4*time.Second || !ok {
		t.Errorf("two fields = %v, %v", d, ok)
	}
}

// FuzzPreload (PCO-76): no body panics, makes a pool of another kind than the
// allow-lists hold, or comes back in the answer.
func FuzzPreload(f *testing.F) {
	f.Add([]byte(simSpec(`,"replicas":2,"flags":["--seed=1"],"env":{"A":"b"}`)))
	f.Add([]byte(`{"prepared":{"binary_path":"/bin/sh","flags":["--port=1"],"model_path":"/etc/passwd","host":"::"}}`))
	f.Add([]byte(`{"spec":{"engine":"external","url":"http://169.254.169.254:80","model":"x","tensor_split":[1e309]}}`))
	f.Add([]byte(`{"spec":{"engine":"llamacpp","model":"hf:a/b::file=../x","devices":"0,,1","port":65536,"slots":-1}}`))
	f.Add([]byte(`[{"spec":1}]`))
	n := newNode(f, func(cfg *poolcore.Config) {
		cfg.Engines = cfg.Engines[1:] // nothing that could be started
		cfg.Binaries = map[string]string{"llamacpp": "/nonexistent/llama-server"}
	})
	f.Fuzz(func(t *testing.T, body []byte) {
		m := *n
		m.t = t
		r := m.op("POST /pools/p1/preload", string(body), "Prefer: wait=0")
		if r.status == 202 { // an external engine; undo it
			if err := n.Pool("p1").Stop(t.Context(), 0); err != nil {
				t.Error(err)
			}
			return
		}
		var e nodeapi.ErrorReply
		if err := json.Unmarshal([]byte(r.body), &e); err != nil || e.Error.Code == "" || r.status < 400 || e.Error.Code == "INTERNAL" {
			t.Errorf("%d %s for %q", r.status, r.body, body)
		}
		if len(r.body) > 64<<10 {
			t.Errorf("an answer of %d bytes", len(r.body))
		}
	})
}
