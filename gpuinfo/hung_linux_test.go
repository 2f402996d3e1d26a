package gpuinfo

import (
	"testing"
	"time"
)

// TestOneHungChildAtMost (G1, GPU-8): while a child is not reaped, none is started.
func TestOneHungChildAtMost(t *testing.T) {
	r := newRunner()
	stuck := &child{since: time.Now().Add(-time.Minute), reaped: make(chan struct{})}
	r.child = stuck
	res := r.run(t.Context(), "/bin/true", nil, nil, 4096)
	if res.end != hung || res.age < time.Minute {
		t.Fatalf("run beside an unreaped child = %+v, want hung", res)
	}
	if s := smiSnapshot(res, smiFields()); s.Reason != DriverHung {
		t.Errorf("Reason = %s, want driver_hung", s.Reason)
	}
	close(stuck.reaped)
	if res := r.run(t.Context(), "/bin/true", nil, nil, 4096); res.end != ended || res.code != 0 {
		t.Errorf("run after the child was reaped = %+v, want success", res)
	}
}
