package nodeagent_test

import (
	"context"
	"crypto/x509"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/llorch/llorch/inputvalidation"
	"github.com/llorch/llorch/poolregistry"
	"github.com/llorch/llorch/poolregistry/nodeagent"
	"github.com/llorch/llorch/poolregistry/nodeapi"
	"github.com/llorch/llorch/poolregistry/nodehttp"
)

func outside(t *testing.T, urls ...string) *nodeagent.Agent {
	t.Helper()
	a, err := nodeagent.New(nodeagent.Config{Orchestrators: urls, Token: func() string { return "t" }, Describe: describe("a")})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// G6, PRG-60: an orchestrator may be anywhere but at an address that only this
// machine's surroundings mean; no spelling of one is connected.
func TestOrchestratorAddressIsGuarded(t *testing.T) {
	for _, url := range []string{
		"http://169.254.169.254", "http://[::ffff:169.254.169.254]:80", "http://[fd00:ec2::254]:80", "http://[fe80::1]:9", "http://0.0.0.0:9",
	} {
		reg, tr := outside(t, url).Way()
		if tr.Proxy != nil {
			t.Error("proxy variables are honoured")
		}
		if err := reg.Leave(t.Context(), "a", "t"); !errors.Is(err, inputvalidation.RuleAddress) {
			t.Errorf("%s: %v, want %v", url, err, inputvalidation.RuleAddress)
		}
	}
}

// PRG-60, PRG-61: a redirect is an answer like any other; what it names is not asked.
func TestRedirectIsNotFollowed(t *testing.T) {
	var hits atomic.Int64
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		hits.Add(1)
		http.Redirect(w, r, "/elsewhere", http.StatusTemporaryRedirect)
	}))
	defer srv.Close()
	reg, tr := outside(t, srv.URL).Way()
	defer tr.CloseIdleConnections()
	if _, err := reg.Beat(t.Context(), poolregistry.Beat{NodeID: "a"}); err == nil || hits.Load() != 1 {
		t.Errorf("error %v, %d requests", err, hits.Load())
	}
}

// PRG-62: connections are reused, and one on which an attempt failed is not, also
// where the server offers HTTP/2.
func TestFailedConnectionIsNotReused(t *testing.T) {
	var mu sync.Mutex
	var from []string
	release, arrived := make(chan struct{}), make(chan struct{})
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		from = append(from, r.RemoteAddr)
		n := len(from)
		mu.Unlock()
		if n == 3 {
			close(arrived)
			<-release // as a connection to a machine that is gone
			return
		}
		_, _ = io.Copy(io.Discard, r.Body)
		_, _ = io.WriteString(w, goodReply)
	}))
	srv.EnableHTTP2 = true
	srv.StartTLS()
	defer srv.Close()
	defer close(release)
	reg, tr := outside(t, srv.URL).Way()
	defer tr.CloseIdleConnections()
	tr.TLSClientConfig.RootCAs = x509.NewCertPool()
	tr.TLSClientConfig.RootCAs.AddCert(srv.Certificate())
	for i := range 4 {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		if i == 2 {
			go func() { <-arrived; cancel() }()
		}
		if _, err := reg.Beat(ctx, poolregistry.Beat{NodeID: "a"}); (err != nil) != (i == 2) {
			t.Errorf("attempt %d: %v", i, err)
		}
		cancel()
	}
	if from[0] != from[1] || from[1] != from[2] || from[2] == from[3] {
		t.Errorf("connections %q", from)
	}
}

// Section 7: the crash of a worker is in the registry's view soon after Nudge,
// long before the next beat is due.
func TestCrashIsKnownAfterNudge(t *testing.T) {
	reg, err := poolregistry.New(poolregistry.Config{PublishEvery: -1})
	if err != nil {
		t.Fatal(err)
	}
	h, err := nodehttp.New(nodehttp.Config{Registry: reg, Authorize: func(*http.Request) (nodeapi.Principal, error) {
		return nodeapi.Principal{ID: "nodes", Role: nodeapi.RoleNode}, nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(h)
	defer srv.Close()
	var crashes atomic.Int64
	a, err := nodeagent.New(nodeagent.Config{
		Orchestrators: []string{srv.URL}, Token: func() string { return "t" }, Describe: describe("a"),
		Snapshot: func(context.Context) (poolregistry.Beat, error) {
			b := poolregistry.Beat{Pools: []poolregistry.Pool{{ID: "p0", State: "ready", Ready: crashes.Load() == 0}}}
			for id := range crashes.Load() {
				b.Events = append(b.Events, poolregistry.Event{ID: uint64(id + 1), PoolID: "p0", WorkerID: "w", Class: "crash"})
			}
			return b, nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	await := func(events int) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		for v := range reg.Watch(ctx) {
			if n, ok := v.Node("a"); ok && n.Liveness == poolregistry.Online && len(n.Events) == events {
				return
			}
		}
		t.Fatalf("%d crashes were not known in time", events)
	}
	await(0)
	best := time.Hour
	for i := range 3 {
		crashed := time.Now()
		crashes.Add(1)
		a.Nudge()
		await(i + 1)
		best = min(best, time.Since(crashed))
	}
	t.Logf("a crash was known after %v", best)
	if best > 3*time.Second { // the goal is 100 ms; the beat is every 10 s
		t.Errorf("a crash was known after %v", best)
	}
	if n, _ := reg.View().Node("a"); n.Pools[0].Ready || !strings.Contains(n.Events[0].Class, "crash") {
		t.Errorf("node %+v", n)
	}
	cancel()
	<-done
}
