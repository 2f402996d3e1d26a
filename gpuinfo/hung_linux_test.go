package gpuinfo

import (
	"strings"
	"testing"
	"time"
)

// TestOneHungChildAtMost (G1, GPU-8): while a child is not reaped, none is started.
func TestOneHungChildAtMost(t *testing.T) {
	r := newRunner()
	stuck := &child{since: time.Now().Add(-time.Minute), dead: make(chan struct{})}
	r.child = stuck
	res := r.run(t.Context(), "/bin/true", nil, nil, 4096)
	if res.end != hung || res.age < time.Minute {
		t.Fatalf("run beside an unreaped child = %+v, want hung", res)
	}
	if s := smiSnapshot(res, smiFields(), nil, nil); s.Reason != DriverHung || !strings.Contains(s.Detail, " for 6") {
		t.Errorf("%s %q, want driver_hung with the age of the child", s.Reason, s.Detail)
	}
	close(stuck.dead)
	if res := r.run(t.Context(), "/bin/true", nil, nil, 4096); res.end != ended || res.code != 0 {
		t.Errorf("run after the child was reaped = %+v, want success", res)
	}
}

// OwnerMayBeRoot is the rule for files of the overflow user.
func OwnerMayBeRoot(self int, uidMap string, writable bool) bool {
	return ownerMayBeRoot(self, uidMap, writable)
}
