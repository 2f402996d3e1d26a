package poolhttp_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/llorch/llorch/poolcore"
	"github.com/llorch/llorch/poolcore/catalog"
	"github.com/llorch/llorch/poolcore/engine"
	"github.com/llorch/llorch/poolcore/poolhttp"
	"github.com/llorch/llorch/poolregistry/nodeapi"
)

// node is a host that runs behind the handler.
type node struct {
	*poolcore.Host
	t      testing.TB
	h      http.Handler
	prefix string
	cfg    poolcore.Config
}

const correlation = "corr-1"

// nodes counts those of this run.
var nodes atomic.Uint32

// mounts are the ways in which a program may mount the handler.
func mounts() map[string]func(http.Handler) (http.Handler, string) {
	return map[string]func(http.Handler) (http.Handler, string){
		"root":   func(h http.Handler) (http.Handler, string) { return h, "" },
		"prefix": func(h http.Handler) (http.Handler, string) { return http.StripPrefix("/a/node", h), "/a/node" },
		"foreign mux": func(h http.Handler) (http.Handler, string) {
			mux := http.NewServeMux()
			mux.Handle("/", h)
			mux.HandleFunc("/other", http.NotFound)
			return mux, ""
		},
	}
}

// newNode runs a host with the test binary as its simulated engine.
func newNode(t testing.TB, edit func(*poolcore.Config)) *node {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	ports := 21000 + 20*uint16(nodes.Add(1)%500)
	n := &node{t: t, cfg: poolcore.Config{
		Ports:  poolcore.PortRange{First: ports, Last: ports + 19}, // of its own: tests run side by side
		NodeID: "node-1", StateDir: filepath.Join(t.TempDir(), "state"), Binaries: map[string]string{"simulator": self},
		Engines: []engine.Kind{engine.Simulator{Args: []string{stubWord}}, engine.LlamaCPP{}, engine.External{}},
		Timing: poolcore.Timing{
			ProbeFast: 10 * time.Millisecond, ProbeSlow: 20 * time.Millisecond, Health: 50 * time.Millisecond, StopGrace: 500 * time.Millisecond,
			StopBudget: 10 * time.Second,
		},
	}}
	if edit != nil {
		edit(&n.cfg)
	}
	if n.Host, err = poolcore.New(n.cfg); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- n.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	// Refused, but not before the host has started.
	if _, err := n.Preload(t.Context(), poolcore.PoolConfig{}); !errors.Is(err, poolcore.InvalidParams) {
		t.Fatal(err)
	}
	n.mount("root")
	return n
}

func (n *node) mount(how string) {
	n.t.Helper()
	h, err := poolhttp.New(poolhttp.Config{Host: n.Host, Authorize: authorize, Version: "v1"})
	if err != nil {
		n.t.Fatal(err)
	}
	n.h, n.prefix = mounts()[how](h)
}

type statusError int

func (statusError) Error() string     { return "no" }
func (e statusError) HTTPStatus() int { return int(e) }

// authorize takes the role from the bearer token.
func authorize(r *http.Request) (nodeapi.Principal, error) {
	switch role := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer "); role {
	case "":
		return nodeapi.Principal{}, errors.New("no token")
	case "limited":
		return nodeapi.Principal{}, statusError(http.StatusTooManyRequests)
	case "busy":
		return nodeapi.Principal{}, statusError(http.StatusServiceUnavailable)
	case "misdirected":
		return nodeapi.Principal{}, statusError(http.StatusMisdirectedRequest)
	case "wrong status":
		return nodeapi.Principal{}, statusError(200)
	case "panic":
		panic("canary")
	default:
		return nodeapi.Principal{ID: "x", Role: nodeapi.Role(role)}, nil
	}
}

// reply is an answer as a client sees it.
type reply struct {
	status int
	header http.Header
	body   string
}

// do sends "METHOD /path" with a body of JSON; headers are "Name: value".
func (n *node) do(role, route, body string, headers ...string) reply {
	n.t.Helper()
	method, path, _ := strings.Cut(route, " ")
	var in io.Reader = http.NoBody
	if body != "" {
		in = strings.NewReader(body)
	}
	r := httptest.NewRequestWithContext(n.t.Context(), method, n.prefix+path, in)
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	if role != "" {
		r.Header.Set("Authorization", "Bearer "+role)
	}
	for _, line := range headers {
		name, value, _ := strings.Cut(line, ": ")
		r.Header.Set(name, value)
		if name == "Peer" {
			r.RemoteAddr = value
		}
	}
	rec := httptest.NewRecorder()
	rec.Header().Set(nodeapi.HeaderCorrelation, correlation)
	n.h.ServeHTTP(rec, r)
	r.URL.Path, r.URL.RawPath = strings.TrimPrefix(r.URL.Path, n.prefix), strings.TrimPrefix(r.URL.RawPath, n.prefix)
	observed.note(role, r, rec.Code)
	return reply{rec.Code, rec.Header(), rec.Body.String()}
}

// op is do for an operator.
func (n *node) op(route, body string, headers ...string) reply {
	n.t.Helper()
	return n.do("operator", route, body, headers...)
}

// want checks the status and returns the body decoded.
func want[T any](t testing.TB, r reply, status int) (v T) {
	t.Helper()
	if r.status != status {
		t.Fatalf("answer = %d, want %d: %s", r.status, status, r.body)
	}
	if err := json.Unmarshal([]byte(r.body), &v); err != nil {
		t.Fatalf("body %q: %v", r.body, err)
	}
	return v
}

// ended polls an operation to its end.
func (n *node) ended(o nodeapi.Operation) nodeapi.Operation {
	n.t.Helper()
	for deadline := time.Now().Add(20 * time.Second); o.State == "queued" || o.State == "running"; {
		if time.Now().After(deadline) {
			n.t.Fatalf("operation %+v does not end", o)
		}
		o = want[nodeapi.Operation](n.t, n.do("reader", "GET /operations/"+o.ID, ""), 200)
	}
	return o
}

// preloadSim starts a pool of the stub and waits for it.
func (n *node) preloadSim(pool, members string) nodeapi.PreloadReply {
	n.t.Helper()
	return want[nodeapi.PreloadReply](n.t, n.op("POST /pools/"+pool+"/preload", simSpec(members), "Prefer: wait=60"), 200)
}

func simSpec(members string) string {
	return `{"spec":{"engine":"simulator","model":"demo"` + members + `}}`
}

// withCatalog gives the node a catalogue with one model, and returns its path id.
func withCatalog(t testing.TB, cfg *poolcore.Config, sources catalog.Sources) *catalog.Catalog {
	t.Helper()
	c, err := catalog.Open(t.Context(), catalog.Config{
		Dir: filepath.Join(t.TempDir(), "models"), Sources: sources, FreeSpace: func(string) (uint64, error) { return 1 << 50, nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	cfg.Catalog = c
	return c
}

// modelRef names the model that addModel puts; modelPath is its id in a path.
const (
	modelRef  = "hf:acme/tiny@0123456789abcdef0123456789abcdef01234567::file=tiny.gguf"
	modelPath = "hf:acme%2Ftiny@0123456789abcdef0123456789abcdef01234567::file=tiny.gguf"
)

// gguf is the header of a model without tensors that knows 128 tokens.
func gguf() []byte {
	var b strings.Builder
	number := func(n uint64) {
		for i := range 8 {
			b.WriteByte(byte(n >> (8 * i)))
		}
	}
	text := func(s string) {
		number(uint64(len(s)))
		b.WriteString(s)
	}
	b.WriteString("GGUF\x03\x00\x00\x00")
	number(0) // tensors
	number(2) // members
	text("general.architecture")
	b.WriteString("\x08\x00\x00\x00") // a text
	text("llama")
	text("llama.context_length")
	b.WriteString("\x04\x00\x00\x00") // a number of 32 bits
	b.WriteString("\x80\x00\x00\x00")
	return []byte(b.String())
}

func sum(b []byte) string {
	s := sha256.Sum256(b)
	return hex.EncodeToString(s[:])
}

func addModel(t testing.TB, c *catalog.Catalog) catalog.Model {
	t.Helper()
	file := filepath.Join(t.TempDir(), "tiny.gguf")
	if err := os.WriteFile(file, gguf(), 0o600); err != nil {
		t.Fatal(err)
	}
	m, err := c.Put(t.Context(), catalog.Put{Ref: modelRef, From: file})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// externalEngine is a server that somebody else runs.
func externalEngine(t testing.TB) string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, `{"data":[{"id":"m"}]}`)
	}))
	t.Cleanup(s.Close)
	return s.URL
}

// bodies is one good body for each route that takes one, by pattern.
func bodies() map[string]string {
	b := map[string]string{
		nodeapi.RoutePreload: simSpec(""), nodeapi.RoutePoolDrain: `{"deadline_ms":1}`, nodeapi.RouteReload: `{"ctx":64}`, nodeapi.RoutePurge: `{}`,
		nodeapi.RouteWorkerStart: `{"model_ref":"demo","gpu_id":0}`, nodeapi.RouteWorkerStop: `{"worker_id":"w"}`,
		nodeapi.RouteWorkerDrain: `{"deadline_ms":1}`, nodeapi.RouteWorkerReady: `{"worker_id":"w","model":"m","url":"u"}`,
		nodeapi.RouteModelFetch: `{"model_ref":"demo"}`, nodeapi.RouteModelState: `{"state":"Active"}`,
	}
	maps.Copy(b, map[string]string{
		nodeapi.RouteUndrain: `{}`, nodeapi.RouteRestart: `{}`, nodeapi.RouteBreakerReset: `{}`, nodeapi.RouteModelVerify: `{}`,
	})
	return b
}

// until polls what another goroutine brings about.
func until(t testing.TB, ok func() bool) {
	t.Helper()
	tick, late := time.NewTicker(time.Millisecond), time.After(30*time.Second)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-late:
			t.Fatal("it did not come to that within 30 s")
		}
	}
}
