package poolclient_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/llorch/llorch/inputvalidation"
	"github.com/llorch/llorch/poolregistry"
	"github.com/llorch/llorch/poolregistry/nodeapi"
	"github.com/llorch/llorch/poolregistry/poolclient"
)

func loopback() poolregistry.AddressPolicy {
	return poolregistry.AddressPolicy{Allow: []inputvalidation.AddrKind{inputvalidation.AddrLoopback}, MinPort: 1}
}

func newClient(t *testing.T, edit func(*poolclient.Config)) *poolclient.Client {
	t.Helper()
	cfg := poolclient.Config{Token: func() string { return "the-token" }, Address: loopback()}
	if edit != nil {
		edit(&cfg)
	}
	c, err := poolclient.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// PRG-69, PRG-70: what is sent and what comes back.
func TestWorkers(t *testing.T) {
	var got *http.Request
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got = r
		_, _ = io.WriteString(w, `{"workers":[{"worker_id":"w1","url":"http://10.0.0.1:8000","token":"k","model_ref":"m","slots_total":4}]}`)
	}))
	defer srv.Close()
	c := newClient(t, func(c *poolclient.Config) {
		c.Header = func(_ context.Context, h http.Header) { h.Set("X-Correlation-Id", "from-ctx") }
	})
	list, err := c.Workers(t.Context(), srv.URL, "p.0")
	if err != nil {
		t.Fatal(err)
	}
	want := []nodeapi.WorkerAccess{{WorkerID: "w1", URL: "http://10.0.0.1:8000", Token: "k", ModelRef: "m", SlotsTotal: 4}}
	if !slices.Equal(list, want) {
		t.Error("another list came back") // not printed: it holds a token
	}
	h := got.Header
	if got.Method != "GET" || got.URL.Path != "/pools/p.0/workers" || h.Get("Authorization") != "Bearer the-token" || h.Get("X-Correlation-Id") != "from-ctx" {
		t.Errorf("%s %s %v", got.Method, got.URL, h)
	}
	if ms := h.Get("X-Request-Timeout-Ms"); ms == "" || len(ms) > 4 {
		t.Errorf("X-Request-Timeout-Ms %q, want at most 5000", ms)
	}
	if _, err := newClient(t, nil).Workers(t.Context(), srv.URL, "p0"); err != nil || !correlation(got.Header.Get("X-Correlation-Id")) {
		t.Errorf("correlation id %q, %v", got.Header.Get("X-Correlation-Id"), err)
	}
}

func correlation(s string) bool {
	return s != "" && len(s) <= 64 && inputvalidation.CheckIdentifier("id", s, inputvalidation.IdentRules{Extra: "-"}) == nil
}

// PRG-69, PRG-71: which answers are tried again, and what error comes out.
func TestAnswers(t *testing.T) {
	for _, c := range []struct {
		status int
		body   string
		tries  int64
		want   error
	}{
		{200, `{"workers":[]}`, 1, nil},
		{404, `{"error":{"code":"POOL_UNKNOWN"}}`, 1, poolregistry.Code("POOL_UNKNOWN")},
		{503, `{"error":{"code":"POOL_UNREADY","retry_after_ms":1500}}`, 4, poolregistry.Code("POOL_UNREADY")},
		{502, `<html>`, 4, nil},
		{500, `{}`, 1, nil},
		{302, ``, 1, nil},
		{200, `{"workers":`, 1, inputvalidation.RuleSyntax},
		{200, `{"workers":[],"workers":[]}`, 1, inputvalidation.RuleDuplicate},
		{200, `{"workers":7}`, 1, nil},
		{200, strings.Repeat(" ", 4<<20) + "{}", 1, nil},
	} {
		var tries int64
		var err error
		synctest.Test(t, func(t *testing.T) {
			client := newClient(t, nil)
			client.SetTransport(way(func(*http.Request) (*http.Response, error) {
				tries++
				res := reply(c.status, c.body)
				res.Header.Set("Location", "/elsewhere")
				return res, nil
			}))
			_, err = client.Workers(t.Context(), "http://127.0.0.1:9200", "p0")
		})
		if good := c.status == 200 && c.body == `{"workers":[]}`; (err == nil) != good || c.want != nil && !errors.Is(err, c.want) {
			t.Errorf("%d %.30q: error %v", c.status, c.body, err)
		}
		if tries != c.tries {
			t.Errorf("%d %.30q: %d tries, want %d", c.status, c.body, tries, c.tries)
		}
		if e, ok := errors.AsType[*poolclient.APIError](err); c.status != 200 && (!ok || e.Status != c.status) {
			t.Errorf("%d: error %v", c.status, err)
		} else if ok && e.Code == "POOL_UNREADY" && e.RetryAfter != 1500*time.Millisecond {
			t.Errorf("retry after %v", e.RetryAfter)
		}
	}
}

// PRG-71: a refused connection is heard of; PRG-57, PRG-60: what is outside the
// policy is not connected, and not tried again.
func TestNoConnection(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed := "http://" + l.Addr().String()
	l.Close()
	var refused []string
	c := newClient(t, func(c *poolclient.Config) { c.Refused = func(a string) { refused = append(refused, a) } })
	if _, err := c.Workers(t.Context(), closed, "p0"); err == nil || len(refused) != 4 || refused[0] != closed {
		t.Errorf("error %v, refused %v", err, refused)
	}
	outside := newClient(t, func(c *poolclient.Config) { c.Address = poolregistry.AddressPolicy{} })
	if _, err := outside.Workers(t.Context(), "http://127.0.0.1:9200", "p0"); !errors.Is(err, poolregistry.AddressNotAllowed) {
		t.Errorf("an address outside the policy: %v", err)
	}
	if _, err := outside.Workers(t.Context(), "http://localhost:9200", "p0"); !errors.Is(err, inputvalidation.RuleAddress) {
		t.Errorf("a name outside the policy: %v", err)
	}
	if _, err := c.Workers(t.Context(), closed, "../p"); !errors.Is(err, poolregistry.InvalidNode) {
		t.Errorf("a pool id with a path: %v", err)
	}
	if _, err := poolclient.New(poolclient.Config{}); err == nil {
		t.Error("New without Token")
	}
}

// PRG-69: the caller's deadline ends it.
func TestDeadline(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
	defer srv.Close()
	c := newClient(t, func(c *poolclient.Config) { c.Timeout = 50 * time.Millisecond })
	if _, err := c.Workers(t.Context(), srv.URL, "p0"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error %v", err)
	}
}

// A worker's token is in its JSON and in no other rendering.
func TestAccessIsRedacted(t *testing.T) {
	a := nodeapi.WorkerAccess{WorkerID: "w", Token: "s3cr3t"}
	var log strings.Builder
	slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "a", a, "p", &a)
	s := fmt.Sprintf("%v %+v %#v %s %q %d %v %+v", a, a, a, a, a, a, &a, []nodeapi.WorkerAccess{a}) + log.String()
	if strings.Contains(s, "s3cr3t") {
		t.Errorf("token in %s", s)
	}
}

func ExampleClient_Workers() {
	node := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, `{"workers":[{"worker_id":"r0","url":"http://10.0.0.7:8000","token":"secret","model_ref":"llama3:8b","slots_total":4}]}`)
	}))
	defer node.Close()
	c, err := poolclient.New(poolclient.Config{Token: func() string { return "token" }, Address: loopback()})
	if err != nil {
		fmt.Println(err)
		return
	}
	workers, err := c.Workers(context.Background(), node.URL, "chat")
	fmt.Println(workers, err)
	// Output:
	// [worker{worker_id:"r0" url:"http://10.0.0.7:8000" model_ref:"llama3:8b" slots_total:4}] <nil>
}
