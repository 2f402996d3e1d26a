package metrics_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/llorch/llorch/gpuinfo"
	"github.com/llorch/llorch/poolcore"
	"github.com/llorch/llorch/poolcore/metrics"
)

// families of PCO-77 with their labels beside node_id.
func families() map[string]string {
	return map[string]string{
		"preload_success_total": "", "preload_failure_total": "reason", "vram_total_bytes": "device", "vram_free_bytes": "device",
		"vram_reserved_bytes": "device", "restart_total": "pool_id", "circuit_breaker_state": "pool_id", "drain_duration_ms": "",
		"reload_success_total": "", "reload_failure_total": "reason", "slots_total": "pool_id", "slots_free": "pool_id", "active_leases": "pool_id",
		"pool_ready": "pool_id", "pool_mgr_workers": "status", "pool_health_checks_total": "outcome", "pool_health_check_seconds": "",
		"worker_start_seconds": "engine", "model_fetch_bytes_total": "", "pool_events_dropped_total": "",
	}
}

// TestFamilies (PCO-77): every family with its labels and values, after a preload, a
// refused one, a drain, a reload that fails, and a fetch.
func TestFamilies(t *testing.T) {
	up := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok") }))
	defer up.Close()
	total, free := uint64(8<<30), uint64(5<<30)
	h, err := poolcore.New(poolcore.Config{NodeID: "gpu-7", Devices: gpuinfo.Static(gpuinfo.Snapshot{Devices: []gpuinfo.Device{
		{Index: 3, Vendor: "nvidia", UUID: "GPU-1", Health: gpuinfo.Health{State: gpuinfo.Healthy}, Memory: gpuinfo.Memory{Total: &total, Free: &free}},
		{Index: 4, Vendor: "nvidia", UUID: "GPU-2", Health: gpuinfo.Health{State: gpuinfo.Lost}}, // tells nothing
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
	live(t, h, up.URL)
	text := gather(t, reg)
	for _, want := range []string{
		"preload_success_total 1", "circuit_breaker_state p 0", "slots_total p 4", "slots_free p 4", "active_leases p 0", "pool_ready p 1",
		"pool_mgr_workers ready 1", "restart_total p 0", "pool_ready q 0", "vram_total_bytes 3 8.589934592e+09", "vram_free_bytes 3 5.36870912e+09",
		"vram_reserved_bytes 3 0", "vram_reserved_bytes 4 0", "worker_start_seconds external 2", "drain_duration_ms 1", "reload_success_total 1",
		"reload_failure_total RELOAD_DRAIN_TIMEOUT 1", "model_fetch_bytes_total 7", "preload_failure_total WORKER_START_TIMEOUT 1",
	} {
		if !strings.Contains(text, want+"\n") {
			t.Errorf("%q is missing in\n%s", want, text)
		}
	}
	if strings.Contains(text, "vram_total_bytes 4") {
		t.Error("what is not known is shown as a number")
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// live makes one of everything happen.
func live(t *testing.T, h *poolcore.Host, url string) {
	t.Helper()
	run := func(op *poolcore.Operation, err error) error {
		if err == nil {
			err = op.Wait(t.Context())
		}
		return err
	}
	cfg := poolcore.PoolConfig{ID: "p", Engine: "external", URL: url, Slots: 3}
	if err := run(h.Preload(t.Context(), cfg)); err != nil {
		t.Fatal(err)
	}
	silent := poolcore.PoolConfig{ID: "q", Engine: "external", URL: "http://127.0.0.1:1", StartTimeoutMS: 20}
	if err := run(h.Preload(t.Context(), silent)); !errors.Is(err, poolcore.WorkerStartTimeout) {
		t.Fatal(err)
	}
	p := h.Pool("p")
	if _, err := p.Drain(t.Context(), time.Minute); err != nil {
		t.Fatal(err)
	}
	if err := p.Undrain(); err != nil {
		t.Fatal(err)
	}
	_, release, err := p.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	more := poolcore.ReloadRequest{Slots: 4, Strategy: "in_place", Within: time.Millisecond}
	if err := run(p.Reload(t.Context(), more)); !errors.Is(err, poolcore.ReloadDrainTimeout) {
		t.Fatal(err)
	}
	release()
	more.Within = time.Minute
	if err := run(p.Reload(t.Context(), more)); err != nil {
		t.Fatal(err)
	}
	err = run(h.Operate("fetch", "", func(_ context.Context, o *poolcore.Operation) (any, error) {
		o.Report("downloading", poolcore.Progress{Received: 5})
		o.Report("downloading", poolcore.Progress{Received: 2}) // again from its start
		o.Report("downloading", poolcore.Progress{Received: 4})
		return nil, errors.New("cut")
	}))
	if err == nil {
		t.Fatal("the fetch went well")
	}
	if _, err := h.Snapshot(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// TestLabels (PCO-77): each family has one label beside node_id at most, the one
// that the specification names.
func TestLabels(t *testing.T) {
	h, err := poolcore.New(poolcore.Config{NodeID: "gpu-7"})
	if err != nil {
		t.Fatal(err)
	}
	m, err := metrics.New(prometheus.NewRegistry(), h)
	if err != nil {
		t.Fatal(err)
	}
	descs := make(chan *prometheus.Desc, 100)
	m.Describe(descs)
	close(descs)
	want := families()
	for d := range descs {
		text := d.String()
		_, name, _ := strings.Cut(text, `fqName: "`)
		name, _, _ = strings.Cut(name, `"`)
		label, ok := want[name]
		if !ok || !strings.Contains(text, `constLabels: {node_id="gpu-7"}`) || !strings.Contains(text, "variableLabels: {"+label+"}") {
			t.Errorf("%s, want the label %q", text, label)
		}
		delete(want, name)
	}
	if len(want) > 0 {
		t.Errorf("families are missing: %v", want)
	}
}

// gather writes one line per series: name, labels without node_id, value.
func gather(t *testing.T, reg *prometheus.Registry) string {
	t.Helper()
	found, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for _, f := range found {
		label, known := families()[f.GetName()]
		if !known {
			t.Errorf("%s is no family of the specification", f.GetName())
		}
		for _, m := range f.GetMetric() {
			b.WriteString(f.GetName())
			var names []string
			for _, l := range m.GetLabel() {
				names = append(names, l.GetName())
				if l.GetName() != "node_id" {
					b.WriteString(" " + l.GetValue())
				}
			}
			want := []string{label, "node_id"}
			if slices.Sort(want); !slices.Equal(names, slices.DeleteFunc(want, func(s string) bool { return s == "" })) {
				t.Errorf("%s has the labels %q", f.GetName(), names)
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

// TestReserved (PCO-77): a device's slices count as the device.
func TestReserved(t *testing.T) {
	d := gpuinfo.Device{UUID: "GPU-1", MIG: []gpuinfo.MIGDevice{{UUID: "MIG-1"}, {UUID: "MIG-2"}}}
	promised := map[string]uint64{"GPU-1": 1, "MIG-2": 4, "GPU-2": 8, "host": 16}
	if got := metrics.Reserved(d, promised); got != 5 {
		t.Errorf("reserved = %d, want 5", got)
	}
}

// TestDrainMilliseconds (PCO-77): the name says milliseconds, and so do bounds and
// sum.
func TestDrainMilliseconds(t *testing.T) {
	h, err := poolcore.New(poolcore.Config{NodeID: "gpu-7"})
	if err != nil {
		t.Fatal(err)
	}
	reg := prometheus.NewRegistry()
	if _, err := metrics.New(reg, h); err != nil {
		t.Fatal(err)
	}
	found, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]float64{"drain_duration_ms": 600_000, "pool_health_check_seconds": 600} {
		i := 0
		for found[i].GetName() != name {
			i++
		}
		buckets := found[i].GetMetric()[0].GetHistogram().GetBucket()
		if got := buckets[len(buckets)-1].GetUpperBound(); got != want {
			t.Errorf("%s ends at %v, want %v", name, got, want)
		}
	}
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
	found, err := reg.Gather()
	for _, f := range found {
		fmt.Println(f.GetName())
	}
	fmt.Println(err)
	// Output:
	// drain_duration_ms
	// model_fetch_bytes_total
	// pool_events_dropped_total
	// pool_health_check_seconds
	// preload_success_total
	// reload_success_total
	// <nil>
}
