package nodeagent_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/llorch/llorch/poolregistry"
	"github.com/llorch/llorch/poolregistry/nodeagent"
)

// PRG-24, PRG-61, PRG-68: somebody who had the id before has pushed its epoch to
// the end of what a registry believes; the node itself can still register again,
// also with its lease file.
func TestNodeOutlivesAClaimedEpoch(t *testing.T) {
	dir := t.TempDir()
	tree := openTree(t, dir)
	synctest.Test(t, func(t *testing.T) {
		reg, err := poolregistry.New(poolregistry.Config{})
		if err != nil {
			t.Fatal(err)
		}
		liar := poolregistry.Registration{
			NodeID: "a", InstanceID: "00000000-0000-4000-8000-000000000009", InProcess: true, PrevEpoch: 1<<52 - 1,
		}
		if _, err := reg.Register(t.Context(), liar); err != nil {
			t.Fatal(err)
		}
		if err := reg.Fail("a", "not ours"); err != nil {
			t.Fatal(err)
		}
		for range 2 { // the second one has the lease file of the first
			ctx, cancel := context.WithCancelCause(t.Context())
			a, err := nodeagent.New(nodeagent.Config{Registrar: crash{reg}, Describe: describe("a"), StateDir: tree})
			if err != nil {
				t.Fatal(err)
			}
			done := make(chan error, 1)
			go func() { done <- a.Run(ctx) }()
			time.Sleep(time.Second)
			n, _ := reg.View().Node("a")
			if n.Liveness != poolregistry.Online || n.Epoch <= 1<<52 || a.State() != nodeagent.Online {
				t.Errorf("node is %s in epoch %d, its agent %s", n.Liveness, n.Epoch, a.State())
			}
			cancel(errors.New("crash"))
			<-done
			n, _ = reg.View().Node("a")
			last := n.Epoch
			defer func() {
				if n, _ := reg.View().Node("a"); n.Epoch < last {
					t.Errorf("epoch %d after %d", n.Epoch, last)
				}
			}()
		}
	})
}

// crash is a registry that hears of no leave.
type crash struct{ nodeagent.Registrar }

func (crash) Leave(context.Context, poolregistry.NodeID, string) error { return errors.New("cut off") }

// PRG-64: a hook that never had content says so with its first beat: a drain must
// not end on the word of a node that knows nothing.
func TestNoContentIsStaleContent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		never := func(ctx context.Context) (poolregistry.Beat, error) {
			<-ctx.Done()
			return poolregistry.Beat{}, ctx.Err()
		}
		s, _ := play(t, 15*time.Second, nil, func(c *nodeagent.Config) { c.Snapshot = never }, nil)
		if len(s.beats) == 0 {
			t.Fatal("no beat")
		}
		for i, b := range s.beats {
			if b.StaleMS == 0 || b.Pools != nil {
				t.Errorf("beat %d: %+v", i, b)
			}
		}
	})
}
