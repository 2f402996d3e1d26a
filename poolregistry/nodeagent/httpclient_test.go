package nodeagent_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/llorch/llorch/poolregistry/nodeagent"
)

// PRG-61, PRG-68: orchestrators are tried in order, the last good one first; the token
// may change between two requests; answers that are no answers are failures.
func TestOrchestrators(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var asked []string
		down := map[string]string{"one.test": "redirect", "two.test": "garbage"}
		n := serve(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			mu.Lock()
			defer mu.Unlock()
			asked = append(asked, r.Host+" "+r.Header.Get("Authorization"))
			switch down[r.Host] {
			case "redirect":
				http.Redirect(w, r, "http://three.test/", http.StatusTemporaryRedirect)
			case "garbage":
				_, _ = io.WriteString(w, `{"node_id":`)
			case "500":
				w.WriteHeader(http.StatusInternalServerError)
			default:
				if strings.HasSuffix(r.URL.Path, "register") {
					_, _ = io.WriteString(w, `{"success":true,"node_id":"a","epoch":1,"lease_token":"t","heartbeat_interval_ms":1000,"timeout_ms":3000}`)
					return
				}
				_, _ = io.WriteString(w, `{"success":true,"next_heartbeat_ms":1000,"timeout_ms":3000,"epoch":1}`)
			}
		}))
		way := n.way()
		defer func() { way.tr.CloseIdleConnections(); n.stop(); synctest.Wait() }()
		tokens := 0
		a, err := nodeagent.New(nodeagent.Config{
			Orchestrators: []string{"http://one.test", "http://two.test", "http://three.test"},
			Token:         func() string { tokens++; return fmt.Sprint("t", tokens) },
			HTTP:          way.client, Describe: describe("a"),
		})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- a.Run(ctx) }()
		time.Sleep(1500 * time.Millisecond)
		mu.Lock()
		down = map[string]string{"three.test": "500"}
		mu.Unlock()
		time.Sleep(time.Second)
		cancel()
		<-done
		mu.Lock()
		defer mu.Unlock()
		want := []string{
			"one.test Bearer t1", "two.test Bearer t2", "three.test Bearer t3", // registration
			"three.test Bearer t4", "three.test Bearer t5", // beats
			"three.test Bearer t6", "one.test Bearer t7", // it fails, the next one takes over
			"one.test Bearer t8", // leave
		}
		if !slices.Equal(asked, want) {
			t.Errorf("asked %q, want %q", asked, want)
		}
	})
}
