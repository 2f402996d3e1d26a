package poolhttp_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/llorch/llorch/poolcore"
	"github.com/llorch/llorch/poolcore/poolhttp"
	"github.com/llorch/llorch/poolregistry/nodeapi"
)

// TestNewNeedsAuthorize (PCO-72).
func TestNewNeedsAuthorize(t *testing.T) {
	if _, err := poolhttp.New(poolhttp.Config{}); err == nil || !strings.Contains(err.Error(), "Authorize") || !strings.Contains(err.Error(), "Host") {
		t.Errorf("New = %v, want both faults", err)
	}
}

func ExampleNew() {
	host, err := poolcore.New(poolcore.Config{NodeID: "gpu-7"})
	if err != nil {
		fmt.Println(err)
		return
	}
	h, err := poolhttp.New(poolhttp.Config{Host: host, Version: "v1", Authorize: func(*http.Request) (nodeapi.Principal, error) {
		return nodeapi.Principal{ID: "ops", Role: nodeapi.RoleOperator}, nil
	}})
	if err != nil {
		fmt.Println(err)
		return
	}
	rec := httptest.NewRecorder()
	h.ServeHTTP(rec, httptest.NewRequest(http.MethodGet, "/pools", http.NoBody))
	fmt.Print(rec.Body)
	// Output: {"pools":[]}
}
