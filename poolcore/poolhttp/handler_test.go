package poolhttp_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/llorch/llorch/poolcore"
	"github.com/llorch/llorch/poolcore/poolhttp"
	"github.com/llorch/llorch/poolregistry/nodeapi"
)

// external runs a host with one external pool, which needs no process.
func external(t testing.TB) *poolcore.Host {
	t.Helper()
	engine := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, `{"data":[{"id":"m"}]}`)
	}))
	t.Cleanup(engine.Close)
	h, err := poolcore.New(poolcore.Config{NodeID: "n"})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- h.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	op, err := h.Preload(t.Context(), poolcore.PoolConfig{ID: "p1", Engine: "external", Model: "m", URL: engine.URL, Slots: 2})
	if err == nil {
		err = op.Wait(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	return h
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
	default:
		return nodeapi.Principal{ID: "x", Role: nodeapi.Role(role)}, nil
	}
}

func call(t *testing.T, h http.Handler, method, path, role string) (*http.Response, string) {
	t.Helper()
	req := httptest.NewRequest(method, path, http.NoBody)
	if role != "" {
		req.Header.Set("Authorization", "Bearer "+role)
	}
	rec := httptest.NewRecorder()
	rec.Header().Set(nodeapi.HeaderCorrelation, "corr-1")
	h.ServeHTTP(rec, req)
	return rec.Result(), rec.Body.String()
}

// TestRoutes: each route with each kind of caller (PCO-72, PCO-73).
func TestRoutes(t *testing.T) {
	h, err := poolhttp.New(poolhttp.Config{Host: external(t), Authorize: authorize, Version: "v1"})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		method, path, role string
		status             int
		code               string
	}{
		{"GET", "/health", "", 200, ""},
		{"GET", "/pools", "reader", 200, ""},
		{"GET", "/pools", "operator", 200, ""},
		{"GET", "/pools", "", 401, "UNAUTHORIZED"},
		{"GET", "/pools", "node", 403, "FORBIDDEN"},
		{"GET", "/pools", "limited", 429, "TOO_MANY_REQUESTS"},
		{"GET", "/pools/p1/status", "reader", 200, ""},
		{"GET", "/pools/p1/status", "", 401, "UNAUTHORIZED"},
		{"GET", "/pools/nope/status", "reader", 404, "POOL_UNKNOWN"},
		{"GET", "/pools/p1/workers", "operator", 200, ""},
		{"GET", "/pools/p1/workers", "reader", 403, "FORBIDDEN"},
		{"GET", "/pools/p1/workers", "", 401, "UNAUTHORIZED"},
		{"GET", "/pools/nope/workers", "operator", 404, "POOL_UNKNOWN"},
		{"GET", "/pools/nope/workers", "", 401, "UNAUTHORIZED"},
		{"POST", "/pools", "operator", 405, "METHOD_NOT_ALLOWED"},
		{"POST", "/pools/p1/status", "operator", 405, "METHOD_NOT_ALLOWED"}, // TestStatusIsGET
		{"GET", "/nothing", "operator", 404, "POOL_UNKNOWN"},
	} {
		res, body := call(t, h, c.method, c.path, c.role)
		if res.StatusCode != c.status {
			t.Errorf("%s %s as %q = %d, want %d", c.method, c.path, c.role, res.StatusCode, c.status)
		}
		if got := res.Header.Get("Cache-Control"); got != "no-store" {
			t.Errorf("%s %s: Cache-Control = %q", c.method, c.path, got)
		}
		if c.code == "" {
			continue
		}
		var reply nodeapi.ErrorReply
		if err := json.Unmarshal([]byte(body), &reply); err != nil || reply.Error.Code != c.code || reply.Success || reply.Message == "" || reply.Error.CorrelationID != "corr-1" {
			t.Errorf("%s %s as %q: body %s, want code %s", c.method, c.path, c.role, body, c.code)
		}
		if c.status == 405 && res.Header.Get("Allow") == "" {
			t.Errorf("%s %s: 405 without Allow", c.method, c.path)
		}
		if c.status == 401 && res.Header.Get("WWW-Authenticate") != "Bearer" {
			t.Errorf("%s %s: 401 without WWW-Authenticate", c.method, c.path)
		}
	}
}

func TestBodies(t *testing.T) {
	h, err := poolhttp.New(poolhttp.Config{Host: external(t), Authorize: authorize, Version: "v1"})
	if err != nil {
		t.Fatal(err)
	}
	under := http.StripPrefix("/node", h)
	if _, body := call(t, under, "GET", "/node/health", ""); body != `{"status":"ok","version":"v1"}`+"\n" {
		t.Errorf("health = %s", body)
	}
	var list nodeapi.PoolList
	_, body := call(t, under, "GET", "/node/pools", "reader")
	if err := json.Unmarshal([]byte(body), &list); err != nil || len(list.Pools) != 1 || !list.Pools[0].Ready || list.Pools[0].SlotsTotal != 2 {
		t.Errorf("pools = %s, %v", body, err)
	}
	var workers nodeapi.WorkerList
	_, body = call(t, under, "GET", "/node/pools/p1/workers", "operator")
	if err := json.Unmarshal([]byte(body), &workers); err != nil || len(workers.Workers) != 1 || workers.Workers[0].ModelRef != "m" || workers.Workers[0].SlotsTotal != 2 {
		t.Errorf("workers = %s, %v", body, err)
	}
}

func TestNewNeedsAuthorize(t *testing.T) {
	if _, err := poolhttp.New(poolhttp.Config{}); err == nil || !strings.Contains(err.Error(), "Authorize") || !strings.Contains(err.Error(), "Host") {
		t.Errorf("New = %v, want both faults", err)
	}
}

func ExampleNew() {
	host, err := poolcore.New(poolcore.Config{NodeID: "gpu-7"})
	if err != nil {
		fmt.Println(err)
		return
	}
	h, err := poolhttp.New(poolhttp.Config{Host: host, Version: "v1", Authorize: func(*http.Request) (nodeapi.Principal, error) {
		return nodeapi.Principal{ID: "ops", Role: nodeapi.RoleOperator}, nil
	}})
	if err != nil {
		fmt.Println(err)
		return
	}
	rec := httptest.NewRecorder()
	h.ServeHTTP(rec, httptest.NewRequest(http.MethodGet, "/pools", http.NoBody))
	fmt.Print(rec.Body)
	// Output: {"pools":[]}
}
