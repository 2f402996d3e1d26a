package nodehttp_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/llorch/llorch/poolregistry"
	"github.com/llorch/llorch/poolregistry/nodeapi"
	"github.com/llorch/llorch/poolregistry/nodehttp"
)

// PRG-42: a node whose beats cannot be decoded, as after an upgrade of the node
// alone, is told so and stays; what proves nothing keeps nobody alive.
func TestUnreadableBeatKeepsTheNode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t, poolregistry.Config{Timing: poolregistry.Fast(), RestartGrace: -1}, "root")
		go func() { _ = s.reg.Run(t.Context()) }()
		s.register("a")
		if res := s.do("node", beatA, s.beat("a")); res.StatusCode != http.StatusOK {
			t.Fatal(res.Status)
		}
		for i, pools := range []string{`7`, `[{"pool_id":"p0","slots_free":"many"}]`, `[{"pool_id":"p0","workers":[{"started_at":"soon"}]}]`} {
			time.Sleep(time.Second)
			body := strings.Replace(s.beat("a"), `[{"pool_id":"p0","state":"Ready","ready":true}]`, pools, 1)
			res := s.do("node", beatA, body)
			e := read[nodeapi.ErrorReply](t, res).Error
			if res.StatusCode != http.StatusBadRequest || e.Code != "INVALID_BEAT" || e.Details == nil || !strings.HasSuffix(e.Details.Fields[0], ": type") {
				t.Errorf("%d: %s %+v", i, res.Status, e)
			}
			n, _ := s.reg.View().Node("a")
			if n.Liveness != poolregistry.Online || !n.Pools[0].Ready || time.Since(n.LastHeartbeat()) != 0 {
				t.Errorf("%d: node is %s, pool %+v, heard %v ago", i, n.Liveness, n.Pools[0], time.Since(n.LastHeartbeat()))
			}
		}
		for want, body := range map[string]string{
			"LEASE_INVALID": strings.Replace(strings.Replace(s.beat("a"), s.lease, "canary", 1), `"seq"`, `"uptime_ms":[],"seq"`, 1),
			"INVALID_BEAT":  strings.Replace(s.beat("a"), `"seq":`, `"seq":-`, 1),
		} {
			time.Sleep(time.Millisecond)
			if e := read[nodeapi.ErrorReply](t, s.do("node", beatA, body)).Error; e.Code != want {
				t.Errorf("%s: %+v", want, e)
			}
			if n, _ := s.reg.View().Node("a"); time.Since(n.LastHeartbeat()) == 0 {
				t.Errorf("%s: noted as a sign of life", want)
			}
		}
	})
}

// PRG-54: a query cannot make the server compare every node with thousands of
// words.
func TestFiltersAreBounded(t *testing.T) {
	s := newServer(t, poolregistry.Config{}, "root")
	for _, word := range []string{"status=online", "label=zone"} {
		for n, want := range map[int]int{32: http.StatusOK, 33: http.StatusBadRequest} {
			res := s.do("reader", "GET /v2/nodes?"+strings.TrimSuffix(strings.Repeat(word+"&", n), "&"), "")
			if res.StatusCode != want {
				t.Errorf("%d times %s: %s", n, word, res.Status)
			}
			if key, _, _ := strings.Cut(word, "="); want != http.StatusOK {
				if d := read[nodeapi.ErrorReply](t, res).Error.Details; d == nil || fmt.Sprint(d.Fields) != "["+key+": too_long]" {
					t.Errorf("details %+v", d)
				}
			}
		}
	}
}

// PRG-56: a hook that aborts the answer, as net/http lets it, is let.
func TestAbortIsPassedOn(t *testing.T) {
	s := newServer(t, poolregistry.Config{}, "root", func(c *nodehttp.Config) {
		c.Authorize = func(*http.Request) (nodeapi.Principal, error) { panic(http.ErrAbortHandler) }
	})
	defer func() {
		if v := recover(); v != http.ErrAbortHandler {
			t.Errorf("panic %v, want %v", v, http.ErrAbortHandler)
		}
	}()
	t.Errorf("answered %s", s.do("node", "GET /v2/nodes", "").Status)
}
