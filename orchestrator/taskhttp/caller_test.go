package taskhttp_test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/llorch/llorch/orchestrator"
	"github.com/llorch/llorch/orchestrator/taskapi"
	"github.com/llorch/llorch/orchestrator/taskhttp"
)

// TestLocalOnly proves ORC-765: without Authorize only strictly local requests
// are served.
func TestLocalOnly(t *testing.T) {
	h := handler(&fake{}, func(c *taskhttp.Config) { c.Authorize = nil })
	tests := []struct {
		name, peer, host, head string
		want                   int
	}{
		{"v4", "127.0.0.1:9", "127.0.0.1:8080", "", 202},
		{"v6", "[::1]:9", "[::1]:8080", "", 202},
		{"mapped", "[::ffff:127.0.0.1]:9", "localhost", "", 202},
		{"name in capitals", "127.0.0.1:9", "LOCALHOST:8080", "", 202},
		{"own page", "127.0.0.1:9", "localhost:8080", "Sec-Fetch-Site: same-origin", 202},
		{"other peer", "192.0.2.1:9", "127.0.0.1", "", 401},
		{"no peer", "pipe", "127.0.0.1", "", 401},
		{"rebound name", "127.0.0.1:9", "attacker.example", "", 401},
		{"name like an address", "127.0.0.1:9", "127.0.0.1.nip.io", "", 401},
		{"no host", "127.0.0.1:9", "", "", 401},
		{"other host", "127.0.0.1:9", "192.0.2.1", "", 401},
		{"proxy", "127.0.0.1:9", "localhost", "X-Forwarded-For: 127.0.0.1", 401},
		{"proxy", "127.0.0.1:9", "localhost", "Forwarded: for=127.0.0.1", 401},
		{"proxy", "127.0.0.1:9", "localhost", "Via: 1.1 x", 401},
		{"other page", "127.0.0.1:9", "localhost", "Sec-Fetch-Site: cross-site", 403},
		{"other page", "127.0.0.1:9", "localhost", "Origin: http://attacker.example", 403},
	}
	for _, tt := range tests {
		r := httptest.NewRequest("POST", "/v2/tasks", strings.NewReader(simpleBody))
		r.RemoteAddr, r.Host = tt.peer, tt.host
		r.Header.Set("Content-Type", "application/json")
		if name, value, ok := strings.Cut(tt.head, ": "); ok {
			r.Header.Set(name, value)
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code != tt.want {
			t.Errorf("%s (%s, %s, %s): %d, want %d", tt.name, tt.peer, tt.host, tt.head, w.Code, tt.want)
		}
	}
}

type statusError int

func (e statusError) Error() string   { return "refused" }
func (e statusError) HTTPStatus() int { return int(e) }

// TestAuthorizeErrors proves that a refusal keeps the status it carries, and is
// 401 otherwise (ORC-765).
func TestAuthorizeErrors(t *testing.T) {
	for err, want := range map[error]string{
		errors.New("no"):                    "UNAUTHENTICATED",
		statusError(401):                    "UNAUTHENTICATED",
		statusError(403):                    "FORBIDDEN",
		statusError(421):                    "HOST_NOT_LISTED",
		statusError(503):                    "AUTH_UNAVAILABLE",
		statusError(200):                    "UNAUTHENTICATED",
		taskapi.NewError(taskapi.QueueFull): "QUEUE_FULL",
		taskapi.TenantMismatch:              "UNAUTHENTICATED",
	} {
		f := &fake{}
		h := handler(f, func(c *taskhttp.Config) {
			c.Authorize = func(*http.Request) (orchestrator.Principal, error) { return orchestrator.Principal{}, err }
		})
		if w := do(h, "POST", "/v2/tasks", simpleBody); code(w) != want {
			t.Errorf("%v: %d %s, want %s", err, w.Code, w.Body, want)
		}
		if len(f.specs) > 0 {
			t.Errorf("%v: the engine was reached", err)
		}
	}
}

// TestRoles: an operator sees metadata of tasks and submits none; nobody
// without a role does anything.
func TestRoles(t *testing.T) {
	for _, rt := range taskhttp.Routes() {
		for _, role := range []orchestrator.Role{0, orchestrator.RoleUser, orchestrator.RoleOperator, orchestrator.RolePrivacy} {
			h := handler(&fake{script: []step{end}}, func(c *taskhttp.Config) {
				c.Authorize = func(*http.Request) (orchestrator.Principal, error) { return orchestrator.Principal{Roles: role}, nil }
			})
			w := do(h, rt.Method, strings.ReplaceAll(rt.Path, "{id}", theID.String()), "")
			if allowed := rt.Role&role != 0 || rt.Role == 0; allowed == (w.Code == 403) {
				t.Errorf("%s %s with role %d: %d", rt.Method, rt.Path, role, w.Code)
			}
		}
	}
}

// TestTenantHeader proves that X-Tenant-Id can not choose a tenant (ORC-765).
func TestTenantHeader(t *testing.T) {
	for _, tt := range []struct {
		own, said string
		want      int
	}{{"", "default", 200}, {"", "acme", 403}, {"acme", "acme", 200}, {"acme", "other", 403}} {
		h := handler(&fake{}, func(c *taskhttp.Config) {
			c.Authorize = func(*http.Request) (orchestrator.Principal, error) {
				return orchestrator.Principal{Tenant: tt.own, Roles: orchestrator.RoleUser}, nil
			}
		})
		if w := do(h, "GET", "/v2/tasks", "", "X-Tenant-Id: "+tt.said); w.Code != tt.want {
			t.Errorf("tenant %q said %q: %d, want %d", tt.own, tt.said, w.Code, tt.want)
		}
	}
}
