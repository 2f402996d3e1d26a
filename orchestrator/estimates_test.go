package orchestrator_test

import (
	"bytes"
	"testing"
	"testing/synctest"
	"time"

	"github.com/llorch/llorch/orchestrator"
	"github.com/llorch/llorch/orchestrator/store"
	"github.com/llorch/llorch/orchestrator/worker/workertest"
)

// TestEstimatesOutlive: what the core has learned is stored within a second and
// given to the next start; what no core wrote is not used (ORC-654, ORC-252).
func TestEstimatesOutlive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net, st, lines := new(workertest.Net), durable{store.NewMemory()}, new(records)
		e := start(t, net, workertest.Config{})
		cfg := orchestrator.Config{Pools: newPools(e), Workers: dialer(t, net), Store: st, SealKeys: [][]byte{sealKey(1)}, Logger: lines.logger()}
		o, stop := serve(t, cfg)
		naive := o.Learned()
		acc, err := o.Submit(t.Context(), me, fill(orchestrator.Spec{}))
		if err != nil {
			t.Fatal(err)
		}
		ends(t, o, acc.ID)
		time.Sleep(2 * time.Second)
		synctest.Wait()
		learned := o.Learned()
		if bytes.Equal(learned, naive) {
			t.Fatalf("the core learned nothing of a task: %s", learned)
		}
		d, err := st.Doc(t.Context(), store.KindEstimate, "core")
		if err != nil || !bytes.Equal(d.Data, learned) {
			t.Errorf("stored %s, %v, want %s", d.Data, err, learned)
		}
		if err := stop(); err != nil {
			t.Fatal(err)
		}
		o, stop = serve(t, cfg)
		if got := o.Learned(); !bytes.Equal(got, learned) {
			t.Errorf("after a restart %s, want %s", got, learned)
		}
		if err := stop(); err != nil {
			t.Fatal(err)
		}
		d.Data = []byte(`{"learned":7}`)
		if now, err := st.Doc(t.Context(), d.Kind, d.Key); err != nil {
			t.Fatal(err)
		} else if _, err := st.PutDoc(t.Context(), d, now.Version); err != nil {
			t.Fatal(err)
		}
		o, _ = serve(t, cfg)
		if got := o.Learned(); !bytes.Equal(got, naive) {
			t.Errorf("after a damaged document %s, want %s", got, naive)
		}
		if !bytes.Contains([]byte(lines.text()), []byte(`"event":"estimates_lost"`)) {
			t.Error("nobody was told of the damaged document")
		}
	})
}
