package metrics_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/llorch/llorch/poolregistry"
	"github.com/llorch/llorch/poolregistry/metrics"
	"github.com/llorch/llorch/poolregistry/nodeagent"
	"github.com/llorch/llorch/poolregistry/nodeapi"
	"github.com/llorch/llorch/poolregistry/nodehttp"
)

func registration(id string) poolregistry.Registration {
	return poolregistry.Registration{
		NodeID: poolregistry.NodeID(id), InstanceID: "00000000-0000-4000-8000-000000000001",
		Pools: []poolregistry.Pool{{ID: "p0"}, {ID: "p1"}}, InProcess: true,
	}
}

func newRegistry(t *testing.T) *poolregistry.Registry {
	t.Helper()
	r, err := poolregistry.New(poolregistry.Config{Timing: poolregistry.Fast(), PublishEvery: -1})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// PRG-72: every family, as it is scraped.
func TestFamilies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRegistry(t)
		go func() { _ = r.Run(t.Context()) }()
		synctest.Wait()
		for _, id := range []string{"a", "b", "gone", "other"} {
			g, err := r.Register(t.Context(), registration(id))
			if err != nil {
				t.Fatal(err)
			}
			beat := poolregistry.Beat{
				NodeID: poolregistry.NodeID(id), LeaseToken: g.LeaseToken, Seq: 1,
				Pools: []poolregistry.Pool{{ID: "p0", Ready: true, SlotsFree: 1, SlotsTotal: 1}, {ID: "p1"}},
			}
			if id == "b" {
				beat.LeaseToken = "wrong"
			}
			_, _ = r.Beat(t.Context(), beat)
			if id == "gone" {
				if err := r.Leave(t.Context(), "gone", g.LeaseToken); err != nil {
					t.Fatal(err)
				}
			}
		}
		if err := r.Drain("other", time.Hour); err != nil {
			t.Fatal(err)
		}
		_, _ = r.Beat(t.Context(), poolregistry.Beat{NodeID: "never-registered", Seq: 1})
		_, _ = r.Register(t.Context(), poolregistry.Registration{})
		reg := prometheus.NewPedanticRegistry()
		if _, err := metrics.New(reg, r); err != nil {
			t.Fatal(err)
		}
		if _, err := metrics.New(reg, r); err == nil {
			t.Error("registered twice")
		}
		const want = `
# HELP orchd_node_deregistrations_total Nodes that left.
# TYPE orchd_node_deregistrations_total counter
orchd_node_deregistrations_total{outcome="success"} 1
# HELP orchd_node_heartbeats_total Heartbeats received.
# TYPE orchd_node_heartbeats_total counter
orchd_node_heartbeats_total{node_id="a",outcome="success"} 1
orchd_node_heartbeats_total{node_id="b",outcome="unauthorized"} 1
orchd_node_heartbeats_total{node_id="other",outcome="success"} 1
orchd_node_heartbeats_total{node_id="other",outcome="unknown"} 1
# HELP orchd_node_registrations_total Registrations of nodes.
# TYPE orchd_node_registrations_total counter
orchd_node_registrations_total{outcome="invalid"} 1
orchd_node_registrations_total{outcome="success"} 4
# HELP orchd_nodes Nodes by status, each counted once.
# TYPE orchd_nodes gauge
orchd_nodes{status="draining"} 1
orchd_nodes{status="failed"} 0
orchd_nodes{status="offline"} 0
orchd_nodes{status="online"} 1
orchd_nodes{status="registering"} 1
orchd_nodes{status="suspect"} 0
# HELP orchd_nodes_online Nodes that are online.
# TYPE orchd_nodes_online gauge
orchd_nodes_online 2
# HELP orchd_pools_available Online nodes on which a pool takes work.
# TYPE orchd_pools_available gauge
orchd_pools_available{pool_id="p0"} 1
orchd_pools_available{pool_id="p1"} 0
# HELP orchd_registry_guard_held Whether the mass-failure guard is held.
# TYPE orchd_registry_guard_held gauge
orchd_registry_guard_held 0
# HELP orchd_registry_stall_seconds_total Pauses of this process that were not held against nodes.
# TYPE orchd_registry_stall_seconds_total counter
orchd_registry_stall_seconds_total 0
`
		if err := testutil.GatherAndCompare(reg, strings.NewReader(want),
			"orchd_node_deregistrations_total", "orchd_node_heartbeats_total", "orchd_node_registrations_total", "orchd_nodes",
			"orchd_nodes_online", "orchd_pools_available", "orchd_registry_guard_held", "orchd_registry_stall_seconds_total"); err != nil {
			t.Error(err)
		}
		time.Sleep(time.Minute) // three silent nodes: the guard
		if err := testutil.GatherAndCompare(reg, strings.NewReader("# HELP orchd_registry_guard_held Whether the mass-failure guard is held.\n# TYPE orchd_registry_guard_held gauge\norchd_registry_guard_held 1\n"), "orchd_registry_guard_held"); err != nil {
			t.Error(err)
		}
		r.ReleaseGuard()
		families, err := reg.Gather()
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range families {
			if f.GetName() == "orchd_node_detection_delay_seconds" {
				if h := f.GetMetric()[0].GetHistogram(); h.GetSampleCount() != 3 || h.GetSampleSum() < 100 {
					t.Errorf("detection delay %v", h)
				}
			}
		}
	})
}

// PRG-73: ids that nobody registered make no series, however many there are; the
// 257th registered node counts with the others.
func TestUnauthenticatedIdNoLabel(t *testing.T) {
	r := newRegistry(t)
	for i := range 1000 {
		_, _ = r.Beat(t.Context(), poolregistry.Beat{NodeID: poolregistry.NodeID(fmt.Sprintf("stranger-%d", i)), Seq: 1})
	}
	for i := range 300 {
		id := fmt.Sprintf("node-%d", i)
		g, err := r.Register(t.Context(), registration(id))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := r.Beat(t.Context(), poolregistry.Beat{NodeID: poolregistry.NodeID(id), LeaseToken: g.LeaseToken, Seq: 1}); err != nil {
			t.Fatal(err)
		}
	}
	reg := prometheus.NewPedanticRegistry()
	if _, err := metrics.New(reg, r); err != nil {
		t.Fatal(err)
	}
	n, err := testutil.GatherAndCount(reg, "orchd_node_heartbeats_total")
	if err != nil || n != 256+2 { // the named ones; other: success, unknown
		t.Errorf("%d series, %v, want 258", n, err)
	}
}

// PRG-73: a node may be called like the series of those without a name: it counts
// there, and no scrape fails.
func TestNodeCalledOther(t *testing.T) {
	r := newRegistry(t)
	for i := range 258 {
		in := registration(fmt.Sprint("node-", i))
		if i == 0 {
			in = registration("other")
		}
		g, err := r.Register(t.Context(), in)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := r.Beat(t.Context(), poolregistry.Beat{NodeID: in.NodeID, LeaseToken: g.LeaseToken, Seq: 1}); err != nil {
			t.Fatal(err)
		}
	}
	reg := prometheus.NewPedanticRegistry()
	if _, err := metrics.New(reg, r); err != nil {
		t.Fatal(err)
	}
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				if l.GetName() == "node_id" && l.GetValue() == "other" && m.GetCounter().GetValue() != 3 {
					t.Errorf("other counts %v beats, want 3: its own and those of two without a series", m.GetCounter().GetValue())
				}
			}
		}
	}
}

// PRG-73: at most 256 pools have a series of their own, the rest is one more; the
// series of a node that is released are gone.
func TestLabelsAreBounded(t *testing.T) {
	r := newRegistry(t)
	for i := range 5 {
		in := registration(fmt.Sprint("n", i))
		in.Pools = nil
		for j := range 64 {
			in.Pools = append(in.Pools, poolregistry.Pool{ID: poolregistry.PoolID(fmt.Sprintf("p-%d-%d", i, j))})
		}
		g, err := r.Register(t.Context(), in)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := r.Beat(t.Context(), poolregistry.Beat{NodeID: in.NodeID, LeaseToken: g.LeaseToken, Seq: 1}); err != nil {
			t.Fatal(err)
		}
	}
	reg := prometheus.NewPedanticRegistry()
	if _, err := metrics.New(reg, r); err != nil {
		t.Fatal(err)
	}
	count := func(family string, want int) {
		t.Helper()
		if n, err := testutil.GatherAndCount(reg, family); err != nil || n != want {
			t.Errorf("%s has %d series, %v, want %d", family, n, err, want)
		}
	}
	count("orchd_pools_available", 257)
	count("orchd_node_heartbeats_total", 5)
	for i := range 4 {
		if err := r.Release(poolregistry.NodeID(fmt.Sprint("n", i))); err != nil {
			t.Fatal(err)
		}
	}
	count("orchd_pools_available", 64)
	count("orchd_node_heartbeats_total", 1)
}

// PRG-73: over HTTP too: what callers without a token, of another role or of
// another principal name in a path makes no series.
func TestUnauthenticatedPathNoLabel(t *testing.T) {
	r := newRegistry(t)
	h, err := nodehttp.New(nodehttp.Config{Registry: r, Authorize: func(req *http.Request) (nodeapi.Principal, error) {
		switch who := req.Header.Get("Authorization"); who {
		case "":
			return nodeapi.Principal{}, errors.New("no token")
		default:
			return nodeapi.Principal{ID: who, Role: nodeapi.Role(who)}, nil
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	reg := prometheus.NewPedanticRegistry()
	if _, err := metrics.New(reg, r); err != nil {
		t.Fatal(err)
	}
	before, err := testutil.GatherAndCount(reg)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 500 {
		for _, who := range []string{"", "reader", "node", "operator"} {
			for _, route := range []string{"POST /v2/nodes/%s/heartbeat", "DELETE /v2/nodes/%s", "POST /v2/nodes/%s/drain", "POST /%s"} {
				method, path, _ := strings.Cut(fmt.Sprintf(route, fmt.Sprint("stranger-", i)), " ")
				req := httptest.NewRequestWithContext(t.Context(), method, path, strings.NewReader(`{}`))
				req.Header.Set("Authorization", who)
				req.Header.Set("Content-Type", "application/json")
				h.ServeHTTP(httptest.NewRecorder(), req)
			}
		}
	}
	if after, err := testutil.GatherAndCount(reg); err != nil || after != before {
		t.Errorf("%d series, %d before, %v", after, before, err)
	}
}

func TestAgentFamily(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRegistry(t)
		a, err := nodeagent.New(nodeagent.Config{Registrar: r, Describe: func(context.Context) (poolregistry.Registration, error) {
			return registration("a"), nil
		}})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- a.Run(ctx) }()
		time.Sleep(time.Millisecond)
		reg := prometheus.NewPedanticRegistry()
		if _, err := metrics.NewAgent(reg, a); err != nil {
			t.Fatal(err)
		}
		const want = `
# HELP pool_heartbeat_sent_total Heartbeats sent to the registry.
# TYPE pool_heartbeat_sent_total counter
pool_heartbeat_sent_total{outcome="success"} 1
`
		if err := testutil.GatherAndCompare(reg, strings.NewReader(want)); err != nil {
			t.Error(err)
		}
		cancel()
		<-done
	})
}
