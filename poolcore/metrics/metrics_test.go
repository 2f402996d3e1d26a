package metrics_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/llorch/llorch/gpuinfo"
	"github.com/llorch/llorch/poolcore"
	"github.com/llorch/llorch/poolcore/metrics"
	"github.com/prometheus/client_golang/prometheus"
)

// TestFamilies (PCO-77): what one external pool shows.
func TestFamilies(t *testing.T) {
	engine := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok") }))
	defer engine.Close()
	total := uint64(8 << 30)
	h, err := poolcore.New(poolcore.Config{NodeID: "gpu-7", Devices: gpuinfo.Static(gpuinfo.Snapshot{Devices: []gpuinfo.Device{
		{Vendor: "nvidia", Health: gpuinfo.Health{State: gpuinfo.Healthy}, Memory: gpuinfo.Memory{Total: &total}},
	}})})
	if err != nil {
		t.Fatal(err)
	}
	reg := prometheus.NewPedanticRegistry()
	if _, err := metrics.New(reg, h); err != nil {
		t.Fatal(err)
	}
	if _, err := metrics.New(reg, h); err == nil {
		t.Error("a second registration is no error")
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- h.Run(ctx) }()
	op, err := h.Preload(ctx, poolcore.PoolConfig{ID: "p", Engine: "external", URL: engine.URL, Slots: 3})
	if err == nil {
		err = op.Wait(ctx)
	}
	if err != nil {
		t.Fatal(err)
	}
	if _, err := h.Snapshot(ctx); err != nil {
		t.Fatal(err)
	}
	text := gather(t, reg)
	for _, want := range []string{
		"preload_success_total 1", "circuit_breaker_state p 0", "slots_total p 3", "slots_free p 3", "active_leases p 0", "pool_ready p 1",
		"pool_mgr_workers ready 1", "restart_total p 0", "vram_total_bytes 0 8.589934592e+09", "worker_start_seconds external 1", "pool_health_check_seconds 0",
	} {
		if !strings.Contains(text, want+"\n") {
			t.Errorf("%q is missing in\n%s", want, text)
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// gather writes one line per series: name, labels without node_id, value.
func gather(t *testing.T, reg *prometheus.Registry) string {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for _, f := range families {
		for _, m := range f.GetMetric() {
			b.WriteString(f.GetName())
			node := false
			for _, l := range m.GetLabel() {
				if l.GetName() == "node_id" {
					node = l.GetValue() == "gpu-7"
					continue
				}
				b.WriteString(" " + l.GetValue())
			}
			if !node {
				t.Errorf("%s has no node_id", f.GetName())
			}
			switch {
			case m.GetCounter() != nil:
				fmt.Fprintln(&b, "", m.GetCounter().GetValue())
			case m.GetGauge() != nil:
				fmt.Fprintln(&b, "", m.GetGauge().GetValue())
			default:
				fmt.Fprintln(&b, "", m.GetHistogram().GetSampleCount())
			}
		}
	}
	return b.String()
}

func ExampleNew() {
	host, err := poolcore.New(poolcore.Config{NodeID: "gpu-7"})
	if err != nil {
		fmt.Println(err)
		return
	}
	reg := prometheus.NewRegistry()
	if _, err := metrics.New(reg, host); err != nil {
		fmt.Println(err)
		return
	}
	families, err := reg.Gather()
	fmt.Println(families[0].GetName(), err)
	// Output: pool_events_dropped_total <nil>
}
