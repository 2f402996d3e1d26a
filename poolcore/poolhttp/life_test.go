package poolhttp_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/llorch/llorch/poolcore"
	"github.com/llorch/llorch/poolregistry"
	"github.com/llorch/llorch/poolregistry/nodeapi"
)

// TestLifeOfAPool (PCO-73, PCO-74): a real engine from its preload to its stop, all
// by the routes.
func TestLifeOfAPool(t *testing.T) {
	t.Parallel()
	n := newNode(t, nil)
	first := n.preloadSim("p1", `,"slots":3`)
	if first.PoolID != "p1" || first.PID <= 1 || !strings.HasPrefix(string(first.WorkerID), "p1-r0-") || !strings.HasPrefix(first.URL, "http://127.0.0.1:") {
		t.Errorf("preload = %+v", first)
	}
	if want := filepath.Join(n.cfg.StateDir, "handoff", "p1-r0.json"); first.HandoffPath != want {
		t.Errorf("handoff_path = %q, want %q", first.HandoffPath, want)
	}
	file, err := os.ReadFile(first.HandoffPath)
	if err != nil || !strings.Contains(string(file), string(first.WorkerID)) {
		t.Errorf("handoff file = %s, %v", file, err)
	}
	if again := n.preloadSim("p1", `,"slots":3`); again != first {
		t.Errorf("an identical preload = %+v, want %+v", again, first)
	}
	checkRefusal(t, n.op("POST /pools/p1/preload", simSpec(`,"slots":4`)), 409, "POOL_EXISTS")

	status := want[nodeapi.PoolStatus](t, n.do("reader", "GET /pools/p1/status", ""), 200)
	if !status.Ready || !status.Live || status.SlotsTotal != 3 || status.SlotsFree != 3 || status.ActiveLeases != 0 || status.Breaker != "closed" || len(status.Workers) != 1 {
		t.Errorf("status = %+v", status)
	}
	keys := want[nodeapi.WorkerList](t, n.op("GET /pools/p1/workers", ""), 200)
	if len(keys.Workers) != 1 || len(keys.Workers[0].Token) < 32 || keys.Workers[0].WorkerID != first.WorkerID {
		t.Errorf("workers = %+v", keys)
	}
	for _, route := range []string{"GET /pools", "GET /pools/p1/status", "GET /v2/state", "GET /v2/workers/" + string(first.WorkerID)} {
		if got := n.do("reader", route, ""); got.status != 200 || strings.Contains(got.body, keys.Workers[0].Token) {
			t.Errorf("%s shows a reader the worker's key, or nothing: %d", route, got.status)
		}
	}

	n.drains()
	n.reloads(first)
	n.ends()
}

// drains takes the pool out of service and back.
func (n *node) drains() {
	t := n.t
	t.Helper()
	drain := n.op("POST /pools/p1/drain", `{"deadline_ms":20000}`)
	o := want[nodeapi.Operation](t, drain, 202)
	if o.Kind != "drain" || o.PoolID != "p1" || drain.header.Get("Location") != "../../operations/"+o.ID {
		t.Errorf("drain = %+v, Location %q", o, drain.header.Get("Location"))
	}
	if o = n.ended(o); o.State != "done" || o.Error != nil {
		t.Errorf("drain ended as %+v", o)
	}
	if result, ok := o.Result.(map[string]any); !ok || result["forced"] != false || result["active_left"] != 0.0 {
		t.Errorf("drain's result = %v", o.Result)
	}
	if s := want[nodeapi.PoolStatus](t, n.op("GET /pools/p1/status", ""), 200); !s.Draining || s.Ready {
		t.Errorf("drained: %+v", s)
	}
	if s := want[nodeapi.PoolStatus](t, n.op("POST /pools/p1/undrain", ""), 200); s.Draining || !s.Ready {
		t.Errorf("undrained: %+v", s)
	}
	if s := want[nodeapi.PoolStatus](t, n.op("POST /pools/p1/breaker/reset", "{}"), 200); s.Breaker != "closed" {
		t.Errorf("reset: %+v", s)
	}
}

// ends replaces the workers, purges what is left over, and stops the last one.
func (n *node) ends() {
	t := n.t
	t.Helper()
	if o := n.ended(want[nodeapi.Operation](t, n.op("POST /pools/p1/restart", ""), 202)); o.State != "done" || o.Kind != "restart" {
		t.Errorf("restart = %+v", o)
	}
	last := want[nodeapi.PoolStatus](t, n.op("GET /pools/p1/status", ""), 200).Workers[0]
	purged := n.ended(want[nodeapi.Operation](t, n.op("POST /pools/p1/purge", `{"delete_cache_dirs":true}`), 202))
	if purged.State != "done" {
		t.Errorf("purge = %+v", purged)
	}
	stopped := n.op("POST /v2/workers/stop", `{"worker_id":"`+string(last.ID)+`"}`)
	if got := want[map[string]string](t, stopped, 200); got["status"] != "stopped" || got["worker_id"] != string(last.ID) {
		t.Errorf("stop = %v", got)
	}
	if s := want[nodeapi.PoolStatus](t, n.op("GET /pools/p1/status", ""), 200); s.Live || s.State != "offline" || len(s.Workers) != 0 {
		t.Errorf("stopped: %+v", s)
	}
	for _, route := range []string{"drain", "restart", "reload"} {
		checkRefusal(t.(*testing.T), n.op("POST /pools/p1/"+route, bodies()["POST /pools/{id}/"+route]), 503, "POOL_UNREADY")
	}
}

// reloads replaces the engine, and then fails to: the old one serves again.
func (n *node) reloads(first nodeapi.PreloadReply) {
	t := n.t
	t.Helper()
	o := n.ended(want[nodeapi.Operation](t, n.op("POST /pools/p1/reload", `{"new_model_ref":"demo-2","strategy":"alongside"}`), 202))
	s := want[nodeapi.PoolStatus](t, n.op("GET /pools/p1/status", ""), 200)
	s.Workers = slices.DeleteFunc(s.Workers, func(w poolregistry.Worker) bool { return !w.Usable() }) // the old one may be on its way out
	if o.State != "done" || !s.Ready || len(s.Workers) != 1 || s.Workers[0].ID == first.WorkerID || s.Workers[0].ModelRef != "demo-2" {
		t.Errorf("reload = %+v: %+v", o, s)
	}
	o = n.ended(want[nodeapi.Operation](t, n.op("POST /pools/p1/reload", `{"ctx":13,"strategy":"in_place"}`), 202))
	if o.State != "failed" || o.Error == nil || o.Error.Code != "RELOAD_ROLLED_BACK" || o.Error.Details == nil || o.Error.Details.Class == "" {
		t.Fatalf("a reload that can not work = %+v", o)
	}
	if tail := strings.Join(o.Error.Details.Tail, "\n"); !strings.Contains(tail, "out of luck") || strings.Contains(tail, "\x1b") {
		t.Errorf("tail = %q, want the escaped last words of the engine", tail)
	}
	s = want[nodeapi.PoolStatus](t, n.op("GET /pools/p1/status", ""), 200)
	if !s.Ready || s.ModelsLoaded[0] != "demo-2" {
		t.Errorf("rolled back: %+v", s)
	}
}

// TestExternalEngine (PCO-73): an engine that somebody else runs has no process and
// no handoff file of ours, and is let go by a stop.
func TestExternalEngine(t *testing.T) {
	t.Parallel()
	n := newNode(t, nil)
	url := externalEngine(t)
	r := n.op("POST /pools/ext/preload", `{"spec":{"engine":"external","model":"m","url":"`+url+`","slots":2}}`, "Prefer: wait=60")
	got := want[nodeapi.PreloadReply](t, r, 200)
	if got.PID != 0 || got.HandoffPath != "" || got.URL != url || strings.Contains(r.body, "pid") {
		t.Errorf("preload = %s", r.body)
	}
	keys := want[nodeapi.WorkerList](t, n.op("GET /pools/ext/workers", ""), 200)
	if len(keys.Workers) != 1 || keys.Workers[0].Token != "" || keys.Workers[0].SlotsTotal != 2 {
		t.Errorf("workers = %+v", keys)
	}
	if lines := want[struct{ Lines []string }](t, n.op("GET /v2/workers/"+string(got.WorkerID)+"/logs", ""), 200); lines.Lines == nil || len(lines.Lines) != 0 {
		t.Errorf("logs = %v", lines)
	}
	if r := n.op("POST /v2/workers/stop", `{"worker_id":"`+string(got.WorkerID)+`"}`, "Prefer: wait=60"); r.status != 200 {
		t.Errorf("stop = %d %s", r.status, r.body)
	}
}

// TestPurgeStopsEngines (PCO-73): purge_engine ends with nothing running.
func TestPurgeStopsEngines(t *testing.T) {
	t.Parallel()
	n := newNode(t, nil)
	n.preloadSim("p1", "")
	o := n.ended(want[nodeapi.Operation](t, n.op("POST /pools/p1/purge", `{"purge_engine":true,"drain_first":false}`), 202))
	s := want[nodeapi.PoolStatus](t, n.op("GET /pools/p1/status", ""), 200)
	if o.State != "done" || s.Live || len(s.Workers) != 0 {
		t.Errorf("purge = %+v: %+v", o, s)
	}
}

// TestPreferWait (PCO-74): the caller says how long it likes to wait; the operation
// goes on after that, and is cancelled by its own route.
func TestPreferWait(t *testing.T) {
	t.Parallel()
	n := newNode(t, nil)
	r := n.op("POST /pools/p1/preload", simSpec(`,"ctx":17`), "Prefer: respond-async, wait=0")
	o := want[nodeapi.Operation](t, r, 202)
	if r.header.Get("Location") != "../../operations/"+o.ID || o.Kind != "preload" || o.State != "running" {
		t.Errorf("preload = %+v, Location %q", o, r.header.Get("Location"))
	}
	checkRefusal(t, n.op("POST /pools/p1/preload", simSpec(`,"ctx":17`)), 409, "POOL_BUSY")
	checkRefusal(t, n.op("POST /pools/p1/drain", `{"deadline_ms":1}`, "Prefer: wait=60"), 409, "POOL_BUSY")
	if o = want[nodeapi.Operation](t, n.op("DELETE /operations/"+o.ID, ""), 202); o.State != "running" && o.State != "cancelled" {
		t.Errorf("cancel = %+v", o)
	}
	if o = n.ended(o); o.State != "cancelled" || o.Error == nil || o.Error.Code != "CANCELLED" {
		t.Errorf("cancelled: %+v", o)
	}
	if got := n.op("DELETE /operations/"+o.ID, ""); got.status != 200 {
		t.Errorf("cancelling what has ended = %d", got.status)
	}
	checkRefusal(t, n.op("GET /operations/op-999999", ""), 404, "OPERATION_NOT_FOUND")
	checkRefusal(t, n.op("DELETE /operations/op-999999", ""), 404, "OPERATION_NOT_FOUND")
}

// TestDeadlineEndsTheWait (PCO-75): a caller with a deadline hears of the operation
// before it, and a start goes on.
func TestDeadlineEndsTheWait(t *testing.T) {
	t.Parallel()
	n := newNode(t, nil)
	r := n.op("POST /pools/p1/preload", simSpec(`,"ctx":17`), "X-Request-Timeout-Ms: 700", "Prefer: wait=100")
	if o := want[nodeapi.Operation](t, r, 202); o.State != "running" {
		t.Errorf("preload = %+v", o)
	}
	checkRefusal(t, n.op("POST /pools/p1/preload", simSpec(""), "X-Deadline: 2020-01-01T00:00:00Z"), 504, "DEADLINE_EXCEEDED")
	checkRefusal(t, n.op("POST /pools/p2/preload", simSpec(""), "X-Request-Timeout-Ms: 0"), 504, "DEADLINE_EXCEEDED")
	checkRefusal(t, n.op("DELETE /models/x", "", "X-Request-Timeout-Ms: 0"), 404, "MODEL_NOT_FOUND")
	if n.Pool("p2") != nil {
		t.Error("something was begun after the deadline")
	}
}

// TestHandlersNeverBlockALoop (PCO-76): while many callers wait for a pool, it goes
// on answering.
func TestHandlersNeverBlockALoop(t *testing.T) {
	t.Parallel()
	n := newNode(t, nil)
	n.preloadSim("p1", "")
	_, release, err := n.Pool("p1").Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for range 20 { // as many as there are pools and more: none waits for another's end
		o := want[nodeapi.Operation](t, n.op("POST /pools/p1/drain", `{"deadline_ms":86400000}`, "Prefer: wait=0"), 202)
		for deadline := time.Now().Add(10 * time.Second); o.State != "running"; {
			if time.Now().After(deadline) {
				t.Fatalf("a drain is %s", o.State)
			}
			o = want[nodeapi.Operation](t, n.op("GET /operations/"+o.ID, ""), 200)
		}
	}
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			if r := n.op("POST /pools/p1/drain", `{"deadline_ms":86400000}`, "Prefer: wait=120"); r.status != 202 {
				t.Errorf("drain = %d %s", r.status, r.body)
			}
		})
	}
	until(n.t, func() bool { return n.Pool("p1").Status().Draining })
	for range 200 { // each needs the loop
		checkRefusal(t, n.op("POST /pools/p1/reload", `{"ctx":64}`), 409, "DRAINING")
	}
	if n.Pool("p1").Phase() != "draining" {
		t.Errorf("phase = %s", n.Pool("p1").Phase())
	}
	release()
	wg.Wait()
	if n.Pool("p1").Phase() != "drained" {
		t.Errorf("phase = %s", n.Pool("p1").Phase())
	}
}

// golden replaces what differs between two runs.
func golden(body string) string {
	for pattern, to := range map[string]string{
		`-r0-[a-z2-7]{6}`: "-r0-xxxxxx", `127\.0\.0\.1:\d+`: "127.0.0.1:8001", `"started_at":"[^"]+"`: `"started_at":"T"`, `"op-\d+"`: `"op-1"`,
		`"pid":\d+`: `"pid":7`, `"handoff_path":"[^"]*/handoff/`: `"handoff_path":"/state/handoff/`, `"duration_ms":\d+`: `"duration_ms":0`,
		`"token":"[^"]+"`: `"token":"K"`,
	} {
		body = regexp.MustCompile(pattern).ReplaceAllString(body, to)
	}
	return strings.TrimSpace(body)
}

// TestGoldenBodies (PCO-74, PCO-75): answers byte for byte, under a prefix.
func TestGoldenBodies(t *testing.T) {
	t.Parallel()
	n := newNode(t, nil)
	n.mount("prefix")
	const worker = `{"worker_id":"p1-r0-xxxxxx","status":"ready","url":"http://127.0.0.1:8001","model_ref":"demo","engine":"simulator","protocol":"openai","ctx_max":8192,"slots_free":1,"slots_total":1,"started_at":"T"}`
	const pool = `{"pool_id":"p1","state":"ready","engine":"simulator","live":true,"ready":true,"draining":false,"slots_free":1,"slots_total":1,"active_leases":0,"idle":true,"vram_free_bytes":0,"vram_total_bytes":0,"models_available":[{"model":"demo"}],"models_loaded":["demo"],"breaker":"closed","workers":[` + worker + `]}`
	var id string
	for _, c := range []struct{ route, body, want string }{
		{"GET /health", "", `{"status":"ok","version":"v1"}`},
		{"GET /pools", "", `{"pools":[]}`},
		{"GET /models", "", `{"models":[]}`},
		{"POST /pools/p1/preload", simSpec(""), `{"pool_id":"p1","pid":7,"handoff_path":"/state/handoff/p1-r0.json","worker_id":"p1-r0-xxxxxx","url":"http://127.0.0.1:8001"}`},
		{"GET /pools/p1/status", "", pool},
		{"GET /pools", "", `{"pools":[` + pool + `]}`},
		{"GET /pools/p1/workers", "", `{"workers":[{"worker_id":"p1-r0-xxxxxx","url":"http://127.0.0.1:8001","token":"K","model_ref":"demo","slots_total":1}]}`},
		{"GET /v2/state", "", `{"node_id":"node-1","version":"v1","pools":[` + pool + `],"workers":{"ready":1},"gpus":[]}`},
		{"GET /v2/workers/{worker}", "", worker},
		{"GET /v2/workers/{worker}/logs?tail=1", "", `{"worker_id":"p1-r0-xxxxxx","lines":["stub of p1-r0-xxxxxx \\x1b[31mstarts"]}`},
		{"GET /operations/op-1", "", `{"id":"op-1","kind":"preload","state":"done","pool_id":"p1","result":{"pool_id":"p1","pid":7,"handoff_path":"/state/handoff/p1-r0.json","worker_id":"p1-r0-xxxxxx","url":"http://127.0.0.1:8001"}}`},
		{"POST /pools/p1/preload", simSpec(`,"slots":9999,"port":-1`), `{"success":false,"message":"the request is malformed; see details","error":{"code":"INVALID_PARAMS","message":"the request is malformed; see details","retriable":false,"correlation_id":"corr-1","details":{"fields":["slots is out of range: INVALID_PARAMS","port is out of range: INVALID_PARAMS"]}}}`},
		{"POST /pools/p2/preload", `{"spec":{"engine":"llamacpp","model":"m","model_path":"/etc/passwd"}}`, `{"success":false,"message":"the policy of this node refuses where the model comes from, or what it is","error":{"code":"UNTRUSTED_ARTIFACT","message":"the policy of this node refuses where the model comes from, or what it is","retriable":false,"correlation_id":"corr-1","details":{"fields":["model_path: outside"]}}}`},
		{"GET /operations/op-7", "", `{"success":false,"message":"there is no such operation, or it ended long ago","error":{"code":"OPERATION_NOT_FOUND","message":"there is no such operation, or it ended long ago","retriable":false,"correlation_id":"corr-1"}}`},
		{"POST /pools/p1/drain", `{"deadline_ms":5000}`, `{"id":"op-1","kind":"drain","state":"done","pool_id":"p1","result":{"forced":false,"duration_ms":0,"active_left":0}}`},
	} {
		wait := "Prefer: wait=60"
		ask := func() string { return golden(n.op(strings.ReplaceAll(c.route, "{worker}", id), c.body, wait).body) }
		got := ask()
		for deadline := time.Now().Add(10 * time.Second); strings.Contains(got, `"lines":[]`) && time.Now().Before(deadline); {
			got = ask() // the log is read every now and then
		}
		if got != c.want {
			t.Errorf("%s =\n%s, want\n%s", c.route, got, c.want)
		}
		for w := range n.Pool("p1").Workers() {
			id = string(w.ID)
		}
	}
}

// TestManyReplicas: what is asked of one worker is asked of its pool, so it must be
// the only one.
func TestManyReplicas(t *testing.T) {
	t.Parallel()
	n := newNode(t, nil)
	w := n.preloadSim("p1", `,"replicas":2`).WorkerID
	checkRefusal(t, n.op("POST /v2/workers/stop", `{"worker_id":"`+string(w)+`"}`), 501, "UNSUPPORTED")
	checkRefusal(t, n.op("POST /v2/workers/"+string(w)+"/drain", `{"deadline_ms":1}`), 501, "UNSUPPORTED")
	if !n.Pool("p1").Status().Ready {
		t.Error("the pool does not serve any more")
	}
}

// TestWorkersOneByOne (PCO-73): start, look, drain and stop by worker; PCO-31: an
// engine's callback needs loopback and its own key.
func TestWorkersOneByOne(t *testing.T) {
	t.Parallel()
	def := poolcore.PoolConfig{Engine: "simulator", Slots: 2, Ctx: 4096}
	n := newNode(t, func(cfg *poolcore.Config) { cfg.DefaultPool = &def })
	for _, body := range []string{`{"gpu_id":0}`, `{"model_ref":"demo"}`, `{"model_ref":"demo","gpu_id":-1}`, `{"model_ref":"demo","gpu_id":65536}`, `{"model_ref":"demo","gpu_id":"0"}`} {
		checkRefusal(t, n.op("POST /v2/workers/start", body), 400, "INVALID_PARAMS")
	}
	checkRefusal(t, n.op("POST /v2/workers/start", `{"model_ref":"demo","gpu_id":5}`), 503, "GPU_UNAVAILABLE")
	checkRefusal(t, n.op("GET /v2/workers/unknown", ""), 404, "WORKER_NOT_FOUND")
	checkRefusal(t, n.op("GET /v2/workers/unknown/logs", ""), 404, "WORKER_NOT_FOUND")
	n.preloadSim("p1", "")
	var w poolcore.Worker
	for w = range n.Pool("p1").Workers() {
		break
	}
	for _, tail := range []string{"0", "201", "-1", "x"} {
		checkRefusal(t, n.op("GET /v2/workers/"+string(w.ID)+"/logs?tail="+tail, ""), 400, "INVALID_PARAMS")
	}
	ready := func(token, model, url, peer string) reply {
		body, _ := json.Marshal(map[string]string{"worker_id": string(w.ID), "model": model, "url": url})
		return n.do(token, "POST /v2/internal/workers/ready", string(body), "Peer: "+peer)
	}
	if got := ready(w.Token, "demo", w.URL, "127.0.0.1:9"); got.status != 204 || got.body != "" {
		t.Errorf("callback = %d %s", got.status, got.body)
	}
	if got := ready(w.Token, "demo", w.URL, "[::ffff:127.0.0.1]:9"); got.status != 204 {
		t.Errorf("callback from mapped loopback = %d", got.status)
	}
	checkRefusal(t, ready(w.Token, "demo", w.URL, "192.0.2.1:9"), 403, "FORBIDDEN")
	checkRefusal(t, ready(w.Token, "demo", w.URL, "garbage"), 403, "FORBIDDEN")
	checkRefusal(t, ready("", "demo", w.URL, "127.0.0.1:9"), 404, "WORKER_NOT_FOUND")
	checkRefusal(t, ready("operator", "demo", w.URL, "127.0.0.1:9"), 404, "WORKER_NOT_FOUND")
	checkRefusal(t, ready(w.Token, "other", w.URL, "127.0.0.1:9"), 404, "WORKER_NOT_FOUND")
	checkRefusal(t, ready(w.Token, "demo", "http://127.0.0.1:1", "127.0.0.1:9"), 404, "WORKER_NOT_FOUND")
	o := n.ended(want[nodeapi.Operation](t, n.op("POST /v2/workers/"+string(w.ID)+"/drain", `{"deadline_ms":9000}`), 202))
	if o.Kind != "drain" || o.PoolID != poolregistry.PoolID("p1") || o.State != "done" {
		t.Errorf("drain = %+v", o)
	}
}

// TestStartWorker (PCO-73): the default pool with another model, on one device.
func TestStartWorker(t *testing.T) {
	t.Parallel()
	def := poolcore.PoolConfig{Engine: "simulator", Slots: 2, Model: "demo", ModelPath: "/srv/m.gguf", VRAMDeclared: 1 << 30}
	n := newNode(t, func(cfg *poolcore.Config) {
		cfg.DefaultPool = &def
		cfg.Devices = oneGPU()
	})
	start := n.op("POST /v2/workers/start", `{"model_ref":"other","gpu_id":0}`)
	got := want[map[string]string](t, start, 200)
	if !strings.HasPrefix(got["worker_id"], "gpu0-r0-") || got["status"] != "starting" && got["status"] != "ready" {
		t.Errorf("start = %v", got)
	}
	if c := n.Pool("gpu0").Config(); c.Model != "other" || c.ModelPath != "" || c.Devices != "0" || c.Slots != 2 || c.Replicas != 1 {
		t.Errorf("configuration = %+v", c)
	}
	if got := n.Stats().ReservedBytes["GPU-00000000-0000-0000-0000-000000000000"]; got < 1<<30 {
		t.Errorf("%d bytes are promised", got)
	}
	if def.Model != "demo" {
		t.Error("the template was changed")
	}
}
