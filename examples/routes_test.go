package examples_test

import (
	"net/http"
	"regexp"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/llorch/llorch/examples/internal/server"
)

// routeTables are the routes of both daemons, as their muxes are made of them.
func routeTables() (orchestratord, poolManagerd []server.Route) {
	nobody, numbers := http.NotFoundHandler(), prometheus.NewRegistry()
	return server.Routes(server.Parts{Tasks: nobody, Nodes: nobody, Metrics: numbers, Ready: func() error { return nil }}),
		server.Routes(server.Parts{Pools: nobody, Metrics: numbers})
}

var wildcard = regexp.MustCompile(`\{[^}]*\}`)

// TestEveryRouteAsks: every route of both daemons × {no token, a wrong, a short,
// a longer one, another case, another scheme, two fields, in the query, in a
// cookie} is 401 with a correlation id and the scheme, whatever the method; the
// right token is never refused for itself. Only /health is open (AUTH-1 to AUTH-3,
// PM-2, SRV-5, SEC-1, PCO-72, PRG-54).
func TestEveryRouteAsks(t *testing.T) {
	tokens := tokenFile(t)
	o := controlPlane(t, t.TempDir(), "LLORCH_API_TOKEN_FILE="+tokens, "ORCHESTRATORD_STORE=memory")
	n := nodeDaemon(t, t.TempDir(), o.url, tokens)
	control, node := routeTables()
	asked := 0
	for _, daemon := range []struct {
		p      *program
		routes []server.Route
	}{{o, control}, {n, node}} {
		for _, r := range daemon.routes {
			path := wildcard.ReplaceAllString(r.Path, "x")
			if r.Auth == server.Open {
				if r.Path != "/health" {
					t.Errorf("%s %s is open", r.Method, r.Path)
				}
				continue
			}
			for name, dress := range doors() {
				for _, method := range []string{r.Method, http.MethodOptions, http.MethodPut} {
					res := daemon.p.dressed(method, path, dress)
					asked++
					if res.StatusCode != http.StatusUnauthorized || res.Header.Get("X-Correlation-Id") == "" || res.Header.Get("WWW-Authenticate") == "" {
						t.Errorf("%s %s, %s = %d, correlation id %q", method, r.Path, name, res.StatusCode, res.Header.Get("X-Correlation-Id"))
					}
				}
			}
		}
		for _, path := range []string{"/", "/nowhere", "/pools/", "/v2", "/debug/pprof/", "/health/x", "/v2/internal/workers/ready"} {
			if res := daemon.p.call("GET", path, "", ""); res.StatusCode != http.StatusUnauthorized {
				t.Errorf("GET %s without a token = %d", path, res.StatusCode)
			}
		}
		if res := daemon.p.call("GET", "/health", "", ""); res.StatusCode != http.StatusOK || res.Header.Get("X-Correlation-Id") == "" {
			t.Errorf("/health = %d", res.StatusCode)
		}
		for _, r := range daemon.routes { // last: some of them stop what the others ask
			res := daemon.p.call(r.Method, wildcard.ReplaceAllString(r.Path, "x"), apiToken, "")
			if res.StatusCode == http.StatusUnauthorized || res.StatusCode >= 500 && res.StatusCode != http.StatusServiceUnavailable {
				t.Errorf("%s %s with the right token = %d", r.Method, r.Path, res.StatusCode)
			}
		}
		if strings.Contains(daemon.p.errs.String(), apiToken) {
			t.Error("the log holds the token")
		}
	}
	t.Logf("%d + %d routes, %d requests without the right token", len(control), len(node), asked)
}

// doors are the ways to knock without the right token in its place.
func doors() map[string]func(*http.Request) {
	field := func(values ...string) func(*http.Request) {
		return func(r *http.Request) { r.Header["Authorization"] = values }
	}
	return map[string]func(*http.Request){
		"no token":        func(*http.Request) {},
		"a wrong token":   field("Bearer " + strings.Repeat("w", len(apiToken))),
		"a short token":   field("Bearer " + apiToken[:8]),
		"a longer token":  field("Bearer " + apiToken + "x"),
		"another case":    field("Bearer " + strings.ToLower(apiToken)),
		"another scheme":  field("Basic " + apiToken),
		"two fields":      field("Bearer "+apiToken, "Bearer "+apiToken),
		"two in a field":  field("Bearer " + apiToken + ", Bearer " + apiToken),
		"in the query":    func(r *http.Request) { r.URL.RawQuery = "token=" + apiToken + "&access_token=" + apiToken },
		"in a cookie":     func(r *http.Request) { r.Header.Set("Cookie", "token="+apiToken) },
		"from a stranger": func(r *http.Request) { r.Header.Set("X-Forwarded-For", "127.0.0.1") },
	}
}

// dressed sends a request as dress makes it.
func (p *program) dressed(method, path string, dress func(*http.Request)) *http.Response {
	p.t.Helper()
	req, err := http.NewRequestWithContext(p.t.Context(), method, p.url+path, nil)
	if err != nil {
		p.t.Fatal(err)
	}
	dress(req)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		p.t.Fatalf("%s %s: %v", method, path, err)
	}
	res.Body.Close()
	return res
}

// TestNoHandlerOutsideRoutes: what is not in the table does not exist; a path of
// the table with another method is answered by its owner, not by accident (SEC-1).
func TestNoHandlerOutsideRoutes(t *testing.T) {
	control, node := routeTables()
	for _, routes := range [][]server.Route{control, node} {
		known := map[string]bool{}
		for _, r := range routes {
			switch {
			case known[r.Method+r.Path]:
				t.Errorf("%s %s is listed twice", r.Method, r.Path)
			case r.Owner == "" || r.Handler == nil:
				t.Errorf("%s %s has no owner or no handler", r.Method, r.Path)
			case r.Auth != server.Open && r.Auth != server.Token && r.Auth != server.Strict:
				t.Errorf("%s %s has no class", r.Method, r.Path)
			case r.Auth == server.Token && (r.Owner == "nodehttp" || r.Owner == "poolhttp") && r.Method != http.MethodGet:
				t.Errorf("%s %s changes something and is not strict", r.Method, r.Path)
			}
			known[r.Method+r.Path] = true
		}
	}
}
