package poolclient_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/llorch/llorch/inputvalidation"
	"github.com/llorch/llorch/poolregistry"
	"github.com/llorch/llorch/poolregistry/nodeapi"
	"github.com/llorch/llorch/poolregistry/poolclient"
)

// command is one method of the client.
type command struct {
	name  string
	send  func(ctx context.Context, c *poolclient.Client, at string) (any, error)
	route string // of nodeapi
	path  string // escaped, as it is sent
	body  string
	reply string
	want  string // of the result, printed
}

func commands() []command {
	no := false
	op := `{"id":"o1","kind":"drain","state":"running","pool_id":"p.0","progress":{"bytes_done":1,"bytes_total":2,"pct":50,"human":"x"}}`
	return []command{
		{
			"Health", func(ctx context.Context, c *poolclient.Client, at string) (any, error) { return c.Health(ctx, at) },
			nodeapi.RouteHealth, "/health", "", `{"status":"ok","version":"1"}`, "{ok 1}",
		},
		{"Pools", func(ctx context.Context, c *poolclient.Client, at string) (any, error) {
			l, err := c.Pools(ctx, at)
			return len(l), err
		}, nodeapi.RoutePools, "/pools", "", `{"pools":[{"pool_id":"a"},{"pool_id":"b"}]}`, "2"},
		{"Status", func(ctx context.Context, c *poolclient.Client, at string) (any, error) {
			s, err := c.Status(ctx, at, "p.0")
			return fmt.Sprint(s.ID, s.Ready, s.ActiveLeases), err
		}, nodeapi.RoutePoolStatus, "/pools/p.0/status", "", `{"pool_id":"p.0","ready":true,"active_leases":3}`, "p.0true 3"},
		{"Workers", func(ctx context.Context, c *poolclient.Client, at string) (any, error) {
			l, err := c.Workers(ctx, at, "p.0")
			return len(l), err
		}, nodeapi.RoutePoolWorkers, "/pools/p.0/workers", "", `{"workers":[{"worker_id":"w"}]}`, "1"},
		{"Drain", func(ctx context.Context, c *poolclient.Client, at string) (any, error) {
			o, err := c.Drain(ctx, at, "p.0", 1500*time.Millisecond)
			return fmt.Sprint(o.ID, o.State, o.Progress.Pct), err
		}, nodeapi.RoutePoolDrain, "/pools/p.0/drain", `{"deadline_ms":1500}`, op, "o1running50"},
		{
			"Undrain", func(ctx context.Context, c *poolclient.Client, at string) (any, error) {
				return nil, c.Undrain(ctx, at, "p.0")
			},
			nodeapi.RouteUndrain, "/pools/p.0/undrain", "", `{"pool_id":"p.0"}`, "<nil>",
		},
		{"Reload", func(ctx context.Context, c *poolclient.Client, at string) (any, error) {
			o, err := c.Reload(ctx, at, "p.0", nodeapi.ReloadRequest{NewModelRef: "hf:m", Strategy: "alongside"})
			return o.ID, err
		}, nodeapi.RouteReload, "/pools/p.0/reload", `{"new_model_ref":"hf:m","strategy":"alongside"}`, op, "o1"},
		{"Restart", func(ctx context.Context, c *poolclient.Client, at string) (any, error) {
			o, err := c.Restart(ctx, at, "p.0")
			return o.ID, err
		}, nodeapi.RouteRestart, "/pools/p.0/restart", "", op, "o1"},
		{
			"ResetBreaker", func(ctx context.Context, c *poolclient.Client, at string) (any, error) {
				return nil, c.ResetBreaker(ctx, at, "p.0")
			},
			nodeapi.RouteBreakerReset, "/pools/p.0/breaker/reset", "", "", "<nil>",
		},
		{"Purge", func(ctx context.Context, c *poolclient.Client, at string) (any, error) {
			o, err := c.Purge(ctx, at, "p.0", nodeapi.PurgeRequest{PurgeModels: []string{"m"}, DrainFirst: &no})
			return o.ID, err
		}, nodeapi.RoutePurge, "/pools/p.0/purge", `{"purge_models":["m"],"drain_first":false}`, op, "o1"},
		{"VerifyModel", func(ctx context.Context, c *poolclient.Client, at string) (any, error) {
			o, err := c.VerifyModel(ctx, at, "hf:org/name?x#y %2e")
			return o.ID, err
		}, nodeapi.RouteModelVerify, "/models/hf:org%2Fname%3Fx%23y%20%252e/verify", "", op, "o1"},
		{"Operation", func(ctx context.Context, c *poolclient.Client, at string) (any, error) {
			o, err := c.Operation(ctx, at, "o/1")
			return o.Kind, err
		}, nodeapi.RouteOperation, "/operations/o%2F1", "", op, "drain"},
		{"Cancel", func(ctx context.Context, c *poolclient.Client, at string) (any, error) {
			o, err := c.Cancel(ctx, at, "o1")
			return o.State, err
		}, nodeapi.RouteCancel, "/operations/o1", "", op, "running"},
		{
			"Preload, up", func(ctx context.Context, c *poolclient.Client, at string) (any, error) {
				r, o, err := c.Preload(ctx, at, "p.0", nodeapi.PreloadRequest{Spec: &nodeapi.PoolSpec{Engine: "llamacpp", Model: "m"}})
				return fmt.Sprint(r.PoolID, r.PID, r.URL, o == nil), err
			}, nodeapi.RoutePreload, "/pools/p.0/preload", `{"spec":{"engine":"llamacpp","model":"m"}}`,
			`{"pool_id":"p.0","pid":7,"worker_id":"w","url":"http://10.0.0.1:8000"}`, "p.07http://10.0.0.1:8000true",
		},
	}
}

// PRG-69, PRG-70, TestStatusIsGET: every command has its method and path, an id with a
// slash stays one segment, and the headers that bind a request go with it.
func TestCommands(t *testing.T) {
	for _, k := range commands() {
		t.Run(k.name, func(t *testing.T) {
			var got *http.Request
			var body string
			srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				raw, _ := io.ReadAll(r.Body)
				got, body = r, string(raw)
				_, _ = io.WriteString(w, k.reply)
			}))
			defer srv.Close()
			c := newClient(t, func(c *poolclient.Config) {
				c.Header = func(_ context.Context, h http.Header) { h.Set("traceparent", "00-1") }
			})
			res, err := k.send(t.Context(), c, srv.URL)
			if err != nil || fmt.Sprint(res) != k.want {
				t.Errorf("answer %v, %v, want %s", res, err, k.want)
			}
			method, _, _ := strings.Cut(k.route, " ")
			if got.Method != method || got.URL.EscapedPath() != k.path || body != k.body {
				t.Errorf("sent %s %s %s", got.Method, got.URL.EscapedPath(), body)
			}
			h := got.Header
			if h.Get("Authorization") != "Bearer the-token" || h.Get("traceparent") != "00-1" || !correlation(h.Get("X-Correlation-Id")) || h.Get("X-Request-Timeout-Ms") == "" {
				t.Errorf("headers %v", h)
			}
			if want := map[bool]string{true: "application/json"}[k.body != ""]; h.Get("Content-Type") != want {
				t.Errorf("Content-Type %q", h.Get("Content-Type"))
			}
			mux := http.NewServeMux()
			mux.Handle(k.route, http.NotFoundHandler())
			if _, pattern := mux.Handler(got); pattern != k.route {
				t.Errorf("%s is not the route %s", got.URL.EscapedPath(), k.route)
			}
		})
	}
}

// The other client posted to a read route: every read of ours is a GET.
func TestStatusIsGET(t *testing.T) {
	for _, k := range commands() {
		reads := slices.Contains([]string{"Health", "Pools", "Status", "Workers", "Operation"}, k.name)
		if got := strings.HasPrefix(k.route, "GET "); got != reads {
			t.Errorf("%s is %s", k.name, k.route)
		}
	}
}

// PRG-69, PRG-70: a preload that is not done within the wait is an
// operation, and the node is told how long it may wait: to a second before the
// caller's deadline, and below what the transport gives an answer to begin.
func TestPreloadWaits(t *testing.T) {
	for _, c := range []struct {
		within time.Duration
		want   string
	}{{500 * time.Millisecond, "wait=0"}, {4500 * time.Millisecond, "wait=3"}, {time.Hour, "wait=10"}} {
		synctest.Test(t, func(t *testing.T) {
			client := newClient(t, nil)
			client.SetTransport(way(func(r *http.Request) (*http.Response, error) {
				if got := r.Header.Get("Prefer"); got != c.want {
					t.Errorf("within %v: Prefer %q, want %q", c.within, got, c.want)
				}
				return reply(202, `{"id":"o1","kind":"preload","state":"running","pool_id":"p"}`), nil
			}))
			ctx, cancel := context.WithTimeout(t.Context(), c.within)
			defer cancel()
			r, op, err := client.Preload(ctx, "http://127.0.0.1:9200", "p", nodeapi.PreloadRequest{})
			if err != nil || r != nil || op == nil || op.ID != "o1" || op.PoolID != "p" {
				t.Errorf("Preload = %v, %v, %v", r, op, err)
			}
		})
	}
}

// way is a transport made of a function.
type way func(*http.Request) (*http.Response, error)

func (w way) RoundTrip(r *http.Request) (*http.Response, error) { return w(r) }

func reply(status int, body string) *http.Response {
	return &http.Response{StatusCode: status, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(body))}
}

// PRG-69: what is sent again, and when, to the instant.
func TestRetries(t *testing.T) {
	never := &net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}
	cut := &net.OpError{Op: "read", Err: syscall.ECONNRESET}
	read := func(ctx context.Context, c *poolclient.Client) error {
		_, err := c.Pools(ctx, "http://127.0.0.1:9200")
		return err
	}
	remove := func(ctx context.Context, c *poolclient.Client) error {
		_, err := c.Cancel(ctx, "http://127.0.0.1:9200", "o")
		return err
	}
	post := func(ctx context.Context, c *poolclient.Client) error {
		return c.Undrain(ctx, "http://127.0.0.1:9200", "p")
	}
	const all, once = "0s 100ms 300ms 700ms", "0s"
	for _, c := range []struct {
		name   string
		send   func(context.Context, *poolclient.Client) error
		status int
		err    error
		want   string
	}{
		{"read, refused", read, 0, never, all},
		{"read, cut", read, 0, cut, all},
		{"read, 502", read, 502, nil, all},
		{"read, 503", read, 503, nil, all},
		{"read, 504", read, 504, nil, all},
		{"read, 500", read, 500, nil, once},
		{"read, 429", read, 429, nil, once},
		{"read, 404", read, 404, nil, once},
		{"read, outside the policy", read, 0, &net.OpError{Op: "dial", Err: &inputvalidation.Error{Rule: inputvalidation.RuleAddress}}, once},
		{"delete, 503", remove, 503, nil, all},
		{"command, refused", post, 0, never, all},
		{"command, cut", post, 0, cut, once},
		{"command, 503", post, 503, nil, once},
		{"command, 504", post, 504, nil, once},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				client := newClient(t, nil)
				start := time.Now()
				var at, ids []string
				client.SetTransport(way(func(r *http.Request) (*http.Response, error) {
					at, ids = append(at, time.Since(start).String()), append(ids, r.Header.Get("X-Correlation-Id"))
					if c.err != nil {
						return nil, c.err
					}
					return reply(c.status, `{}`), nil
				}))
				if err := c.send(t.Context(), client); err == nil {
					t.Error("no error")
				}
				if got := strings.Join(at, " "); got != c.want {
					t.Errorf("sent at %s, want %s", got, c.want)
				}
				if len(slices.Compact(ids)) != 1 {
					t.Errorf("attempts of one command have the ids %q", ids)
				}
			})
		})
	}
}

// PRG-69, PRG-71: ids that are none are refused before anything is sent, and a path
// can not be climbed.
func TestIDsAreChecked(t *testing.T) {
	c := newClient(t, nil)
	c.SetTransport(way(func(r *http.Request) (*http.Response, error) {
		t.Errorf("sent %s", r.URL.Path)
		return nil, errors.New("no")
	}))
	const at = "http://127.0.0.1:9200"
	for _, id := range []string{"", ".", "..", "a\nb", strings.Repeat("x", 513), "\xff"} {
		_, err1 := c.VerifyModel(t.Context(), at, id)
		_, err2 := c.Operation(t.Context(), at, id)
		_, err3 := c.Status(t.Context(), at, poolregistry.PoolID(id))
		for _, err := range []error{err1, err2, err3} {
			if !errors.Is(err, poolregistry.InvalidNode) || id != "" && len(id) > 2 && strings.Contains(err.Error(), id) {
				t.Errorf("%q: %v", id, err)
			}
		}
	}
}

func ExampleClient_Drain() {
	node := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusAccepted)
		_, _ = io.WriteString(w, `{"id":"op-1","kind":"drain","state":"running","pool_id":"chat"}`)
	}))
	defer node.Close()
	c, err := poolclient.New(poolclient.Config{Token: func() string { return "token" }, Address: loopback()})
	if err != nil {
		fmt.Println(err)
		return
	}
	op, err := c.Drain(context.Background(), node.URL, "chat", 30*time.Second)
	fmt.Println(op.ID, op.Kind, op.State, err)
	// Output: op-1 drain running <nil>
}
