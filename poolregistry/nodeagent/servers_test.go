package nodeagent_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/llorch/llorch/poolregistry"
	"github.com/llorch/llorch/poolregistry/nodeagent"
)

// behaviour is what a server does with one request.
type behaviour func(w http.ResponseWriter, r *http.Request)

// answers replies with a status and a body.
func answers(status int, body string) behaviour {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}
}

// refuses replies with the error body of a code.
func refuses(status int, code string, retryMS int) behaviour {
	return answers(status, fmt.Sprintf(`{"success":false,"error":{"code":%q,"retry_after_ms":%d}}`, code, retryMS))
}

const (
	goodGrant = `{"success":true,"node_id":"a","epoch":1,"lease_token":"lease-canary","heartbeat_interval_ms":10000,"timeout_ms":30000}`
	goodReply = `{"success":true,"next_heartbeat_ms":10000,"timeout_ms":30000,"epoch":1}`
)

// PRG-61, PRG-62, PRG-63, PRG-66, PRG-67: what an agent does with each way in which a server can
// behave over HTTP, to the instant. Register is R, beat B, leave L.
func TestServerBehaviours(t *testing.T) {
	hangs := func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }
	drops := func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }
	ok := behaviour(nil)
	for _, c := range []struct {
		name string
		end  time.Duration
		do   []behaviour
		want string
	}{
		{"is well", 11 * time.Second, nil, "R@0s B@0s B@10s L@11s"},
		{"drops connections", 8 * time.Second, []behaviour{drops, ok, drops, drops}, "R@0s R@1s B@1s B@1.5s B@2s L@8s"},
		{"hangs", 13 * time.Second, []behaviour{hangs, ok, hangs, hangs}, "R@0s R@6s B@6s B@8.5s B@11s L@13s"},
		{"404", 2 * time.Second, []behaviour{ok, refuses(404, "NODE_UNKNOWN", 0)}, "R@0s B@0s R@500ms B@500ms L@2s"},
		{"404 of a proxy", 2 * time.Second, []behaviour{ok, answers(404, "<html>")}, "R@0s B@0s B@500ms L@2s"},
		{"taken", 61 * time.Second, []behaviour{refuses(409, "NODE_ID_TAKEN", 0)}, "R@0s R@1m0s B@1m0s L@1m1s"},
		{"taken for a while", 13 * time.Second, []behaviour{refuses(409, "NODE_ID_TAKEN", 12_000)}, "R@0s R@12.5s B@12.5s L@13s"},
		{"fenced", time.Hour, []behaviour{ok, ok, refuses(409, "LEASE_FENCED", 0)}, "R@0s B@0s B@10s"},
		{"longer interval", 45 * time.Second, []behaviour{ok, answers(200, strings.ReplaceAll(goodReply, "10000", "40000"))}, "R@0s B@0s B@40s L@45s"},
		{"absurd interval", 302 * time.Second, []behaviour{ok, answers(200, strings.ReplaceAll(goodReply, "10000", "999999999999"))}, "R@0s B@0s B@5m0s L@5m2s"},
		{"garbage", 3 * time.Second, []behaviour{answers(200, `{"node_id":`), ok, answers(200, `[]`), answers(200, `{"next_heartbeat_ms":1,"next_heartbeat_ms":2}`)}, "R@0s R@1s B@1s B@1.5s B@2s L@3s"},
		{"empty answers", 2 * time.Second, []behaviour{answers(200, `{}`), ok, answers(200, `{}`)}, "R@0s R@1s B@1s B@1.5s L@2s"},
		{"grants to another", 2 * time.Second, []behaviour{answers(200, strings.Replace(goodGrant, `"a"`, `"b"`, 1))}, "R@0s R@1s B@1s L@2s"},
		{"endless answer", 2 * time.Second, []behaviour{answers(200, strings.Repeat(" ", 2<<20))}, "R@0s R@1s B@1s L@2s"},
		{"redirects", 2 * time.Second, []behaviour{func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://control.test/v2/nodes/register?again", http.StatusTemporaryRedirect)
		}}, "R@0s R@1s B@1s L@2s"},
		{"401", 2 * time.Second, []behaviour{ok, answers(401, `{"error":{"code":"UNAUTHORIZED"}}`)}, "R@0s B@0s B@500ms L@2s"},
		{"500", 2 * time.Second, []behaviour{ok, refuses(500, "INTERNAL", 0), refuses(503, "UNAVAILABLE", 0)}, "R@0s B@0s B@500ms B@1s L@2s"},
		{"asks to register", 2 * time.Second, []behaviour{ok, answers(200, strings.Replace(goodReply, "{", `{"reregister":true,`, 1))}, "R@0s B@0s R@500ms B@500ms L@2s"},
		{"hangs at the end", time.Second, []behaviour{ok, ok, hangs, hangs}, "R@0s B@0s L@1s L@3.5s"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				got, took := visit(t, c.end, c.do)
				if g := strings.Join(got, " "); g != c.want {
					t.Errorf("sent %s, want %s", g, c.want)
				}
				if took > 5*time.Second+100*time.Millisecond {
					t.Errorf("leaving took %v", took)
				}
			})
		})
	}
}

// visit runs an agent against a server until end, and returns what was sent when
// and how long the agent took to leave.
func visit(t *testing.T, end time.Duration, do []behaviour) (sent []string, took time.Duration) {
	t.Helper()
	var mu sync.Mutex
	start := time.Now()
	n := serve(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		what := "B"
		switch {
		case r.Method == http.MethodDelete:
			what = "L"
		case strings.HasSuffix(r.URL.Path, "/register"):
			what = "R"
		}
		sent = append(sent, what+"@"+time.Since(start).String())
		var b behaviour
		if len(do) > 0 {
			b, do = do[0], do[1:]
		}
		mu.Unlock()
		_, _ = io.Copy(io.Discard, r.Body)
		switch {
		case b != nil:
			b(w, r)
		case what == "R":
			_, _ = io.WriteString(w, goodGrant)
		case what == "B":
			_, _ = io.WriteString(w, goodReply)
		default:
			w.WriteHeader(http.StatusNoContent)
		}
	}))
	way := n.way()
	defer func() { way.tr.CloseIdleConnections(); n.stop(); time.Sleep(time.Second); synctest.Wait() }()
	var log bytes.Buffer // PRG-74: no token in it, whatever happens
	defer func() {
		if strings.Contains(log.String(), "canary") || log.Len() == 0 {
			t.Errorf("the log is %s", &log)
		}
	}()
	a, err := nodeagent.New(nodeagent.Config{
		Orchestrators: []string{"http://control.test"}, Token: func() string { return "bearer-canary" }, HTTP: way.client, Describe: describe("a"),
		Logger: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	})
	if err != nil {
		t.Fatal(err)
	}
	a.Fix(0.5)
	ctx, cancel := context.WithTimeout(t.Context(), end)
	defer cancel()
	_ = a.Run(ctx)
	mu.Lock()
	defer mu.Unlock()
	return slices.Clone(sent), time.Since(start) - end
}

// PRG-39, PRG-45: the schedule of the last reply is repeated in beats and when the
// node registers again; one that nobody knows is not. OnReply sees it all.
func TestScheduleIsRepeated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reply := func(s poolregistry.Schedule) poolregistry.BeatReply {
			return poolregistry.BeatReply{NextHeartbeatMS: 10_000, TimeoutMS: 30_000, Schedule: s, DrainMS: 7000}
		}
		var told []string
		s, _ := play(t, 45*time.Second, []any{
			nil, reply(poolregistry.Draining), reply("canary"), code(poolregistry.NodeUnknown), nil, reply(poolregistry.Open), reply(poolregistry.Open),
		}, func(c *nodeagent.Config) {
			c.OnReply = func(r poolregistry.BeatReply) { told = append(told, fmt.Sprint(r.Schedule, r.DrainMS)) }
		}, nil)
		var got []string
		for _, b := range s.beats {
			got = append(got, string(b.Schedule))
		}
		if want := []string{"", "draining", "draining", "draining", "open", "open"}; !slices.Equal(got[:len(want)], want) {
			t.Errorf("beats say %q, want %q", got, want)
		}
		if want := []poolregistry.Schedule{"", poolregistry.Draining}; !slices.Equal(s.schedules, want) {
			t.Errorf("registrations say %q, want %q", s.schedules, want)
		}
		if want := []string{"draining7000", "canary7000"}; len(told) < 2 || !slices.Equal(told[:2], want) {
			t.Errorf("OnReply saw %q", told)
		}
	})
}
