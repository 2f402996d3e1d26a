package nodehttp_test

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/llorch/llorch/poolregistry"
	"github.com/llorch/llorch/poolregistry/nodeapi"
)

// PRG-2, PRG-15, PRG-39, PRG-55: the bytes of every kind of answer. Only the lease token is
// not the same each time.
func TestGoldenAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t, poolregistry.Config{Active: func(poolregistry.NodeID) map[poolregistry.PoolID]int {
			return map[poolregistry.PoolID]int{"p0": 2}
		}}, "root")
		var out strings.Builder
		say := func(who, route, body string, edit ...func(*http.Request)) {
			t.Helper()
			res := s.do(who, route, body, edit...)
			got, err := io.ReadAll(res.Body)
			if err != nil {
				t.Fatal(err)
			}
			text := string(got)
			if strings.Contains(route, "register") && s.lease == "" {
				_, after, _ := strings.Cut(text, `"lease_token":"`)
				s.lease, _, _ = strings.Cut(after, `"`)
			}
			text = strings.ReplaceAll(text, s.lease, "TOKEN")
			fmt.Fprintf(&out, "%s %s\n%d %s %s\n%s\n", who, route, res.StatusCode, res.Header.Get("Content-Type"), res.Header.Get("Cache-Control"), strings.TrimSuffix(text, "\n"))
		}
		say("node", "POST /v2/nodes/register", registration("a"))
		time.Sleep(1234 * time.Millisecond)
		say("node", beatA, s.beat("a"))
		time.Sleep(time.Second)
		say("reader", "GET /v2/nodes/a", "")
		say("reader", "GET /v2/nodes?limit=1", "")
		say("operator", "POST /v2/nodes/a/drain", `{"deadline_ms":60000}`)
		say("node", beatA, s.beat("a"))
		say("reader", "GET /v2/catalog/availability", "")
		say("node", "POST /workers/register", `{"id":"vllm","host":"10.0.0.9","port":8000,"model":"m"}`)
		say("node", "POST /v2/nodes/register", `{"node_id":"-"}`)
		say("", "GET /v2/nodes", "")
		say("node", "DELETE /v2/nodes/a", "", func(r *http.Request) { r.Header.Set(nodeapi.HeaderLease, s.lease) })
		const file = "testdata/answers.golden"
		want, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if strings.TrimSpace(out.String()) != strings.TrimSpace(string(want)) {
			t.Errorf("answers are\n%s\n%s holds\n%s", &out, file, want)
		}
	})
}
