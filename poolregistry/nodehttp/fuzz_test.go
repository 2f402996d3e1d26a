package nodehttp_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/llorch/llorch/poolregistry"
	"github.com/llorch/llorch/poolregistry/nodeapi"
	"github.com/llorch/llorch/poolregistry/nodehttp"
	"github.com/llorch/llorch/poolregistry/poolclient"
)

// FuzzBodies: no path, query or body makes a route panic or answer with anything
// but its own kinds of answers, and no error repeats a long part of it.
func FuzzBodies(f *testing.F) {
	for i := range nodehttp.Routes() {
		f.Add(i, "a", "limit=3&status=online&label=k=v&after=a", registration("a"))
		f.Add(i, "a", "limit=-1&after=%00", `{"deadline_ms":1e400,"reason":"\u0000"}`)
		f.Add(i, "..", "", `{"id":"w","host":"gpu.lan","port":8000,"model":"m","region":"EU-DE","slots":2}`)
	}
	f.Fuzz(func(t *testing.T, at int, id, query, body string) {
		reg, err := poolregistry.New(poolregistry.Config{})
		if err != nil {
			t.Fatal(err)
		}
		probe, err := poolclient.NewStaticProbe(poolclient.StaticConfig{Registry: reg})
		if err != nil {
			t.Fatal(err)
		}
		h, err := nodehttp.New(nodehttp.Config{Registry: reg, Static: probe, Authorize: func(*http.Request) (nodeapi.Principal, error) {
			return nodeapi.Principal{ID: "p", Role: nodeapi.RoleOperator}, nil
		}})
		if err != nil {
			t.Fatal(err)
		}
		routes := nodehttp.Routes()
		route := routes[(at%len(routes)+len(routes))%len(routes)]
		r := httptest.NewRequestWithContext(t.Context(), route.Method, "/", strings.NewReader(body))
		r.URL.Path, r.URL.RawQuery = strings.Replace(route.Path, "{id}", id, 1), query
		r.Header.Set("Content-Type", "application/json")
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code >= 500 && w.Code != http.StatusServiceUnavailable || w.Code/100 == 3 {
			t.Fatalf("%s %q %q: %d %s", route.Pattern(), id, body, w.Code, w.Body)
		}
		if w.Code/100 == 2 {
			return
		}
		var e nodeapi.ErrorReply
		if err := json.Unmarshal(w.Body.Bytes(), &e); err != nil || e.Error.Code == "" {
			t.Errorf("error body %s", w.Body)
		}
		if len(body) > 64 && strings.Contains(w.Body.String(), body) {
			t.Error("the error repeats the body")
		}
	})
}
