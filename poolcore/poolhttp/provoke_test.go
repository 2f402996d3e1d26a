package poolhttp_test

import (
	"context"
	"encoding/json"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/llorch/llorch/gpuinfo"
	"github.com/llorch/llorch/inputvalidation"
	"github.com/llorch/llorch/poolcore"
	"github.com/llorch/llorch/poolcore/catalog"
	"github.com/llorch/llorch/poolcore/engine"
	"github.com/llorch/llorch/poolcore/fetch"
	"github.com/llorch/llorch/poolcore/poolhttp"
	"github.com/llorch/llorch/poolregistry/nodeapi"
)

// refusing is a hub that refuses everything with one code.
type refusing struct {
	*source
	code fetch.Code
}

func (r refusing) Resolve(context.Context, inputvalidation.ModelRef, fetch.Options) (fetch.Plan, error) {
	return fetch.Plan{}, &fetch.Error{Code: r.code, Hint: "a hint"}
}

// provoked is one way to a code.
type provoked struct {
	edit func(*testing.T, *poolcore.Config)
	do   func(*node) reply
}

// TestEveryCode (PCO-75, PCO-8): every row of the table reaches a caller end to
// end, with its status; the few that can not be provoked from here say why.
func TestEveryCode(t *testing.T) {
	excused := map[string]string{
		"NO_SLOTS":          "slots are taken in the program, never by a route",
		"WORKER_STUCK":      "needs a process that survives SIGKILL",
		"vram_not_returned": "needs a driver that keeps memory; vram_test.go has one",
	}
	rows := provocations()
	for _, c := range codesOf(t, "../fetch") {
		if _, ok := rows[c]; !ok {
			rows[c] = fetchRow(fetch.Code(c))
		}
	}
	for _, r := range poolhttp.Table() {
		p, ok := rows[r.Code]
		if ok == (excused[r.Code] != "") {
			t.Errorf("%s is provoked: %v; excused: %q", r.Code, ok, excused[r.Code])
		}
		if !ok {
			continue
		}
		delete(rows, r.Code)
		t.Run(r.Code, func(t *testing.T) {
			t.Parallel()
			n := newNode(t, func(cfg *poolcore.Config) {
				if p.edit != nil {
					p.edit(t, cfg)
				}
			})
			got := p.do(n)
			checkRefusal(t, got, r.Status, r.Code)
			var e nodeapi.ErrorReply
			if err := json.Unmarshal([]byte(got.body), &e); err != nil || e.Message != r.Message {
				t.Errorf("message = %q, %v", e.Message, err)
			}
		})
	}
	for code := range rows {
		t.Errorf("%s has no row", code)
	}
}

func fetchRow(code fetch.Code) provoked {
	return provoked{
		func(t *testing.T, cfg *poolcore.Config) { withCatalog(t, cfg, refusing{newSource(), code}) },
		func(n *node) reply { return n.fetchIt() },
	}
}

func (n *node) fetchIt() reply {
	n.t.Helper()
	return n.op("POST /models/fetch", `{"model_ref":"`+modelRef+`"}`, "Prefer: wait=60")
}

// sim preloads the simulated engine and waits for the end.
func (n *node) sim(members string) reply {
	n.t.Helper()
	return n.op("POST /pools/p1/preload", simSpec(members), "Prefer: wait=60")
}

// llama asks for an engine that needs a model of the catalogue.
func (n *node) llama(members string) reply {
	n.t.Helper()
	return n.op("POST /pools/p1/preload", `{"spec":{"engine":"llamacpp","model":"`+modelRef+`"`+members+`}}`, "Prefer: wait=60")
}

// withModel gives the node that model, and an engine for it.
func withModel(change func(*testing.T, *catalog.Catalog)) func(*testing.T, *poolcore.Config) {
	return func(t *testing.T, cfg *poolcore.Config) {
		c := withCatalog(t, cfg, nil)
		addModel(t, c)
		cfg.Binaries["llamacpp"], cfg.Binaries["vllm"] = cfg.Binaries["simulator"], cfg.Binaries["simulator"]
		cfg.Engines = append(cfg.Engines, engine.VLLM{})
		if change != nil {
			change(t, c)
		}
	}
}

func devices(change func(*gpuinfo.Device)) func(*testing.T, *poolcore.Config) {
	return func(t *testing.T, cfg *poolcore.Config) {
		withModel(nil)(t, cfg)
		s, err := oneGPU().Snapshot(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		change(&s.Devices[0])
		cfg.Devices = gpuinfo.Static(s)
	}
}

func asIs(*gpuinfo.Device) {}

func provocations() map[string]provoked {
	rows := map[string]provoked{
		"UNAUTHORIZED":           {nil, func(n *node) reply { return n.do("", "GET /pools", "") }},
		"FORBIDDEN":              {nil, func(n *node) reply { return n.do("reader", "POST /pools/p1/restart", "") }},
		"TOO_MANY_REQUESTS":      {nil, func(n *node) reply { return n.do("limited", "GET /pools", "") }},
		"UNAVAILABLE":            {nil, func(n *node) reply { return n.do("busy", "GET /pools", "") }},
		"INTERNAL":               {nil, func(n *node) reply { return n.do("panic", "GET /pools", "") }},
		"INVALID_PARAMS":         {nil, func(n *node) reply { return n.sim(`,"slots":-1`) }},
		"BODY_TOO_LARGE":         {nil, func(n *node) reply { return n.sim(strings.Repeat(" ", 256<<10)) }},
		"UNSUPPORTED_MEDIA_TYPE": {nil, func(n *node) reply { return n.op("POST /pools/p1/purge", `{}`, "Content-Type: text/json") }},
		"DEADLINE_EXCEEDED":      {nil, func(n *node) reply { return n.op("POST /pools/p1/purge", `{}`, "X-Request-Timeout-Ms: 0") }},
		"NOT_FOUND":              {nil, func(n *node) reply { return n.op("GET /", "") }},
		"METHOD_NOT_ALLOWED":     {nil, func(n *node) reply { return n.op("PUT /pools", "") }},
		"POOL_UNKNOWN":           {nil, func(n *node) reply { return n.op("GET /pools/nope/status", "") }},
		"WORKER_NOT_FOUND":       {nil, func(n *node) reply { return n.op("GET /v2/workers/nope", "") }},
		"MODEL_NOT_FOUND":        {nil, func(n *node) reply { return n.op("GET /models/nope", "") }},
		"OPERATION_NOT_FOUND":    {nil, func(n *node) reply { return n.op("GET /operations/nope", "") }},
		"UNSUPPORTED":            {nil, func(n *node) reply { return n.op("POST /v2/workers/start", `{"model_ref":"m","gpu_id":0}`) }},
	}
	for _, more := range []map[string]provoked{preflightRows(), runningRows(), modelRows(), reloadRows()} {
		maps.Copy(rows, more)
	}
	return rows
}

// preflightRows are refusals before anything is started.
func preflightRows() map[string]provoked {
	huge := `,"vram_declared_bytes":` + strconv.FormatUint(1<<50, 10)
	return map[string]provoked{
		"BINARY_NOT_ALLOWED": {nil, func(n *node) reply { return n.llama("") }},
		"FLAG_NOT_ALLOWED":   {nil, func(n *node) reply { return n.sim(`,"flags":["--port=1"]`) }},
		"ENV_NOT_ALLOWED":    {nil, func(n *node) reply { return n.sim(`,"env":{"LD_PRELOAD":"canary"}`) }},
		"UNTRUSTED_ARTIFACT": {nil, func(n *node) reply { return n.sim(`,"model_path":"/etc/passwd"`) }},
		"DIR_NOT_WRITABLE": {
			func(_ *testing.T, cfg *poolcore.Config) { cfg.StateDir = "" },
			func(n *node) reply { return n.sim("") },
		},
		"BINARY_MISSING": {
			func(_ *testing.T, cfg *poolcore.Config) { cfg.Binaries["simulator"] = "/nonexistent/canary" },
			func(n *node) reply { return n.sim("") },
		},
		"BINARY_NOT_EXECUTABLE": {
			func(t *testing.T, cfg *poolcore.Config) {
				cfg.Binaries["simulator"] = write(t, filepath.Join(t.TempDir(), "canary"), "x", 0o600)
			},
			func(n *node) reply { return n.sim("") },
		},
		"PORT_UNAVAILABLE": {nil, func(n *node) reply {
			ln, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				n.t.Fatal(err)
			}
			defer ln.Close()
			return n.sim(`,"port":` + strconv.Itoa(ln.Addr().(*net.TCPAddr).Port))
		}},
		"DEVICE_MASK_INVALID": {devices(asIs), func(n *node) reply { return n.sim(`,"devices":"7"`) }},
		"GPU_UNAVAILABLE":     {nil, func(n *node) reply { return n.sim(`,"devices":"0"`) }},
		"GPU_UNHEALTHY": {
			devices(func(d *gpuinfo.Device) { d.Health = gpuinfo.Health{State: gpuinfo.Broken} }),
			func(n *node) reply { return n.sim(`,"devices":"0"`) },
		},
		"COMPUTE_CAPABILITY": {
			devices(func(d *gpuinfo.Device) { d.Compute = gpuinfo.Capability{Major: 3} }),
			func(n *node) reply { return n.llama(`,"ctx":64`) },
		},
		"INSUFFICIENT_VRAM": {devices(asIs), func(n *node) reply { return n.sim(`,"devices":"0"` + huge) }},
		"INSUFFICIENT_RAM":  {nil, func(n *node) reply { return n.sim(`,"devices":"cpu"` + huge) }},
		"CONFLICTING_WORKER": {devices(asIs), func(n *node) reply {
			n.preloadSim("p2", `,"devices":"0"`)
			return n.sim(`,"devices":"0"`)
		}},
		"CTX_TOO_LARGE": {withModel(nil), func(n *node) reply { return n.llama(`,"ctx":129`) }},
		"MODEL_INCOMPATIBLE": {devices(asIs), func(n *node) reply {
			return n.op("POST /pools/p1/preload", `{"spec":{"engine":"vllm","model":"`+modelRef+`","ctx":64}}`, "Prefer: wait=60")
		}},
		"MODEL_MISSING": {withModel(nil), func(n *node) reply {
			return n.op("POST /pools/p1/preload", `{"spec":{"engine":"llamacpp","model":"hf:a/b::file=c.gguf"}}`, "Prefer: wait=60")
		}},
		"MODEL_UNVERIFIED": {withModel(func(t *testing.T, c *catalog.Catalog) { tamper(t, c) }), func(n *node) reply { return n.llama(`,"ctx":64`) }},
		"MODEL_RETIRED": {withModel(func(t *testing.T, c *catalog.Catalog) {
			if err := c.SetState(modelRef, catalog.Retired, time.Time{}); err != nil {
				t.Error(err)
			}
		}), func(n *node) reply { return n.llama(`,"ctx":64`) }},
	}
}

// runningRows are refusals by what a pool does.
func runningRows() map[string]provoked {
	return map[string]provoked{
		"WORKER_START_FAILED":  {nil, func(n *node) reply { return n.sim(`,"ctx":13`) }},
		"WORKER_START_TIMEOUT": {nil, func(n *node) reply { return n.sim(`,"ctx":17,"start_timeout_ms":300`) }},
		"POOL_EXISTS": {nil, func(n *node) reply {
			n.preloadSim("p1", "")
			return n.sim(`,"slots":2`)
		}},
		"POOL_BUSY": {nil, func(n *node) reply {
			n.op("POST /pools/p1/preload", simSpec(`,"ctx":17`), "Prefer: wait=0")
			return n.op("POST /pools/p1/reload", `{"ctx":64}`)
		}},
		"DRAINING": {nil, func(n *node) reply {
			n.preloadSim("p1", "")
			n.op("POST /pools/p1/drain", `{"deadline_ms":60000}`, "Prefer: wait=60")
			return n.op("POST /pools/p1/reload", `{"ctx":64}`)
		}},
		"CANCELLED": {nil, func(n *node) reply {
			n.preloadSim("p1", "")
			_, release, err := n.Pool("p1").Acquire(n.t.Context())
			if err != nil {
				n.t.Fatal(err)
			}
			defer release()
			answer := make(chan reply, 1)
			go func() { answer <- n.op("POST /pools/p1/drain", `{"deadline_ms":60000}`, "Prefer: wait=60") }()
			until(n.t, func() bool { return n.Pool("p1").Status().Draining })
			n.op("POST /pools/p1/undrain", "")
			return <-answer
		}},
		"POOL_UNREADY": {nil, func(n *node) reply {
			w := n.preloadSim("p1", "").WorkerID
			n.op("POST /v2/workers/stop", `{"worker_id":"`+string(w)+`"}`, "Prefer: wait=60")
			return n.op("POST /pools/p1/drain", `{"deadline_ms":1}`)
		}},
		"BREAKER_OPEN": {
			func(_ *testing.T, cfg *poolcore.Config) {
				cfg.Timing.BreakerAfter = 1
				cfg.Pools = []poolcore.PoolConfig{{ID: "p1", Engine: "simulator", Model: "demo", Ctx: 13}}
			},
			func(n *node) reply {
				until(n.t, func() bool { return n.Pool("p1").Status().Breaker == "open" })
				return n.sim(`,"ctx":13`)
			},
		},
		"HOST_STOPPED": {nil, func(n *node) reply {
			idle, err := poolcore.New(n.cfg)
			if err != nil {
				n.t.Fatal(err)
			}
			n.Host = idle
			n.mount("root")
			withHost := n.op("POST /v2/workers/stop", `{"worker_id":"x"}`)
			checkRefusal(n.t.(*testing.T), withHost, 404, "WORKER_NOT_FOUND")
			cfg := n.cfg
			addModel(n.t, withCatalog(n.t, &cfg, nil))
			if n.Host, err = poolcore.New(cfg); err != nil {
				n.t.Fatal(err)
			}
			n.mount("root")
			return n.op("POST /models/"+modelPath+"/verify", "")
		}},
	}
}

func modelRows() map[string]provoked {
	return map[string]provoked{
		"ALIAS_NOT_ALLOWED": {withModel(nil), func(n *node) reply {
			return n.op("POST /models/fetch", `{"model_ref":"llama-3"}`, "Prefer: wait=60")
		}},
		"MODEL_IN_USE": {
			withModel(func(t *testing.T, c *catalog.Catalog) {
				if _, err := c.Use(modelRef); err != nil {
					t.Error(err)
				}
			}),
			func(n *node) reply { return n.op("DELETE /models/"+modelPath, "") },
		},
		"DIGEST_MISMATCH": {withModel(func(t *testing.T, c *catalog.Catalog) { tamper(t, c) }), func(n *node) reply {
			return n.op("POST /models/"+modelPath+"/verify", "", "Prefer: wait=60")
		}},
		"PURGE_FAILED": {
			withModel(func(t *testing.T, c *catalog.Catalog) {
				if err := c.Close(); err != nil {
					t.Error(err)
				}
			}),
			func(n *node) reply {
				n.preloadSim("p1", "")
				return n.op("POST /pools/p1/purge", `{"purge_models":["`+modelRef+`"]}`, "Prefer: wait=60")
			},
		},
		"CATALOG_CLOSED": {
			withModel(func(t *testing.T, c *catalog.Catalog) {
				if err := c.Close(); err != nil {
					t.Error(err)
				}
			}),
			func(n *node) reply { return n.op("DELETE /models/"+modelPath, "") },
		},
	}
}

func reloadRows() map[string]provoked {
	reload := func(body string) func(*node) reply {
		return func(n *node) reply {
			n.preloadSim("p1", "")
			return n.op("POST /pools/p1/reload", body, "Prefer: wait=60")
		}
	}
	return map[string]provoked{
		"RELOAD_STAGE_FAILED": {
			func(_ *testing.T, cfg *poolcore.Config) { cfg.Binaries["broken"] = "/nonexistent/canary" },
			reload(`{"binary":"broken"}`),
		},
		"RELOAD_ROLLED_BACK": {nil, reload(`{"ctx":13,"strategy":"in_place"}`)},
		"RELOAD_DRAIN_TIMEOUT": {nil, func(n *node) reply {
			n.preloadSim("p1", "")
			_, release, err := n.Pool("p1").Acquire(n.t.Context())
			if err != nil {
				n.t.Fatal(err)
			}
			defer release()
			return n.op("POST /pools/p1/reload", `{"ctx":64,"strategy":"in_place","deadline_ms":1}`, "Prefer: wait=60")
		}},
		"RELOAD_ROLLBACK_FAILED": {
			func(t *testing.T, cfg *poolcore.Config) {
				at := filepath.Join(t.TempDir(), "engine")
				link(t, at, cfg.Binaries["simulator"])
				cfg.Binaries["simulator"] = at
			},
			func(n *node) reply {
				n.preloadSim("p1", "")
				at := n.cfg.Binaries["simulator"]
				if err := os.Remove(at); err != nil {
					n.t.Fatal(err)
				}
				link(n.t, at, "/bin/false")
				return n.op("POST /pools/p1/reload", `{"ctx":64,"strategy":"in_place"}`, "Prefer: wait=60")
			},
		},
	}
}

// TestRefusalsAreQuiet (PCO-72): a refusal without a principal carries no details,
// and an answer to a HEAD no body of its own.
func TestRefusalsAreQuiet(t *testing.T) {
	n := newNode(t, nil)
	got := n.do("", "POST /v2/internal/workers/ready", `{"canary":1}`, "Peer: 127.0.0.1:1")
	checkRefusal(t, got, 400, "INVALID_PARAMS")
	if strings.Contains(got.body, `"details"`) {
		t.Errorf("details without a principal: %s", got.body)
	}
	if got := n.do("reader", "HEAD /pools", ""); got.status != http.StatusOK {
		t.Errorf("HEAD = %d", got.status)
	}
	if slices.ContainsFunc(poolhttp.Routes(), func(r nodeapi.Route) bool { return r.Path == "/metrics" }) {
		t.Error("/metrics is the program's")
	}
}
