package nodeagent_test

import (
	"context"
	"fmt"
	"net/http"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/llorch/llorch/poolregistry"
	"github.com/llorch/llorch/poolregistry/nodeagent"
)

// PRG-9, PRG-62: a node whose beats are too large to be taken sends less and stays,
// rather than the same again and again until it is offline. What cannot be made
// small enough is sent once an interval.
func TestTooLargeBeats(t *testing.T) {
	for name, c := range map[string]struct {
		pools int
		live  poolregistry.Liveness
		most  int64 // beats in a minute
	}{
		"models": {0, poolregistry.Online, 8}, "pools": {3000, poolregistry.Offline, 8},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				cl := newCluster(t, poolregistry.Default())
				var beats atomic.Int64
				h := handler(t, cl)
				n := serve(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					beats.Add(1)
					h.ServeHTTP(w, r)
				}))
				way := n.way()
				defer func() { way.tr.CloseIdleConnections(); n.stop(); time.Sleep(time.Second); synctest.Wait() }()
				a, err := nodeagent.New(nodeagent.Config{
					Orchestrators: []string{"http://one.test"}, Token: func() string { return "right" }, HTTP: way.client, Describe: describe("a"),
					Snapshot: func(ctx context.Context) (poolregistry.Beat, error) {
						b, err := snapshot(ctx)
						for i := range c.pools {
							b.Pools = append(b.Pools, poolregistry.Pool{ID: poolregistry.PoolID(fmt.Sprint("x", i))})
						}
						for i := range 10_000 {
							b.Pools[0].ModelsAvailable = append(b.Pools[0].ModelsAvailable, poolregistry.Model{Ref: fmt.Sprintf("hf:owner/model-%05d", i)})
						}
						return b, err
					},
				})
				if err != nil {
					t.Fatal(err)
				}
				ctx, cancel := context.WithCancel(t.Context())
				done := make(chan error, 1)
				go func() { done <- a.Run(ctx) }()
				time.Sleep(65 * time.Second)
				node, _ := cl.reg.Load().View().Node("a")
				if p, _ := node.Pool("p0"); node.Liveness != c.live || p.Ready != (c.live == poolregistry.Online) {
					t.Errorf("node is %s, pool ready %t", node.Liveness, p.Ready)
				}
				if n := beats.Load(); n > c.most+3 { // the registrations come on top
					t.Errorf("%d requests in a minute", n)
				}
				cancel()
				<-done
			})
		})
	}
}
