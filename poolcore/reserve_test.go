package poolcore

import (
	"path/filepath"
	"testing"

	"github.com/llorch/llorch/poolcore/internal/fit"
	"github.com/llorch/llorch/poolregistry"
)

// TestReservationDecides (PCO-17, PCO-6): two starts that both passed the preflight
// do not both get memory for one, and the loser holds neither memory nor a port.
func TestReservationDecides(t *testing.T) {
	c, release, err := openCrew(Config{NodeID: "n", StateDir: filepath.Join(t.TempDir(), "state")}.withDefaults())
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	d := fit.Device{ID: "GPU-1", Total: 16 << 30, Free: 16 << 30}
	ws := [2]*worker{}
	failed := 0
	for i := range ws {
		ws[i] = &worker{id: poolregistry.WorkerID([]string{"a-r0-x", "b-r0-x"}[i]), plan: plan{wants: []fit.Want{{Device: d, Bytes: 10 << 30}}}}
		if f := c.reserve(ws[i]); f != nil {
			failed++
			if f.errorCode() != InsufficientVRAM || ws[i].port != 0 {
				t.Errorf("failure = %+v, port %d", f, ws[i].port)
			}
		}
	}
	if failed != 1 {
		t.Fatalf("%d reservations failed, want 1", failed)
	}
	for _, w := range ws {
		c.clean(w)
	}
	if left := c.memory.ledger.Workers(); len(left) != 0 || len(c.ports.taken) != 0 {
		t.Errorf("left: %v, %v", left, c.ports.taken)
	}
}
