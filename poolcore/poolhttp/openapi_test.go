package poolhttp_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/llorch/llorch/poolcore/poolhttp"
	"github.com/llorch/llorch/poolregistry/nodeapi"
)

// documented is one route of the OpenAPI description.
type documented struct {
	Role      nodeapi.Role               `json:"x-role"`
	Strict    bool                       `json:"x-strict"`
	Security  []map[string][]string      `json:"security"` // empty, but there: nobody is asked
	Body      json.RawMessage            `json:"requestBody"`
	Responses map[string]json.RawMessage `json:"responses"`
}

// description reads the routes of the description by their patterns.
func description() (map[string]documented, error) {
	var doc struct {
		Paths map[string]map[string]documented `json:"paths"`
	}
	if err := json.Unmarshal(nodeapi.OpenAPI(), &doc); err != nil {
		return nil, err
	}
	out := map[string]documented{}
	for path, methods := range doc.Paths {
		for method, d := range methods {
			out[strings.ToUpper(method)+" "+path] = d
		}
	}
	return out, nil
}

// TestOpenAPI (PCO-75): every route is described with its role, and takes a body
// where the description says so; every status of the table of errors is one that
// the description knows.
func TestOpenAPI(t *testing.T) {
	docs, err := description()
	if err != nil {
		t.Fatal(err)
	}
	statuses := map[string]bool{}
	for _, r := range poolhttp.Routes() {
		d, ok := docs[r.Pattern()]
		if !ok {
			t.Errorf("%s is not described", r.Pattern())
			continue
		}
		if open := d.Security != nil && len(d.Security) == 0; d.Role != r.Role || d.Strict != r.Strict || open != r.Open {
			t.Errorf("%s is described with role %q, strict %v, open %v", r.Pattern(), d.Role, d.Strict, open)
		}
		if takes := bodies()[r.Pattern()] != "" && bodies()[r.Pattern()] != "{}" || r.Pattern() == nodeapi.RoutePurge; takes != (d.Body != nil) {
			t.Errorf("%s is described with a body: %v", r.Pattern(), d.Body != nil)
		}
		for s := range d.Responses {
			statuses[s] = true
		}
	}
	for _, r := range poolhttp.Table() {
		// 429 is what a program's own gate says.
		if s := strconv.Itoa(r.Status); !statuses[s] && r.Status != http.StatusTooManyRequests {
			t.Errorf("no route is described with %s, the status of %s", s, r.Code)
		}
	}
}

// observations are the statuses with which each route has answered in this run.
// They are safe for concurrent use.
type observations struct {
	mu   sync.Mutex
	seen map[string]map[int]bool
	mux  *http.ServeMux
}

func newObservations() *observations {
	o := &observations{seen: map[string]map[int]bool{}, mux: http.NewServeMux()}
	for _, r := range poolhttp.Routes() {
		o.mux.Handle(r.Pattern(), http.NotFoundHandler())
	}
	return o
}

// note remembers an answer to a caller with a role of the contract.
func (o *observations) note(role string, r *http.Request, status int) {
	_, pattern := o.mux.Handler(r)
	if pattern == "" || !slices.Contains([]string{"", "reader", "operator", "node"}, role) {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.seen[pattern] == nil {
		o.seen[pattern] = map[int]bool{}
	}
	o.seen[pattern][status] = true
}

// undocumented are the answers that the description does not know (PCO-75).
func (o *observations) undocumented() []string {
	docs, err := description()
	if err != nil {
		return []string{err.Error()}
	}
	var out []string
	for pattern, statuses := range o.seen {
		for _, s := range slices.Sorted(maps.Keys(statuses)) {
			if _, ok := docs[pattern].Responses[strconv.Itoa(s)]; !ok {
				out = append(out, fmt.Sprint(pattern, " answers ", s))
			}
		}
	}
	slices.Sort(out)
	return out
}
