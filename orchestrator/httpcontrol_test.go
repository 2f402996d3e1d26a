package orchestrator_test

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/llorch/llorch/inputvalidation"
	"github.com/llorch/llorch/orchestrator"
	"github.com/llorch/llorch/poolregistry"
	"github.com/llorch/llorch/poolregistry/nodeapi"
	"github.com/llorch/llorch/poolregistry/poolclient"
)

// TestHTTPControl: the node of a pool is asked at the address that it
// registered, with the bearer token; nodes that are unknown or have no address
// are told apart.
func TestHTTPControl(t *testing.T) {
	const token = "node-token-0123456789abcdef01234567"
	node := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer "+token || r.URL.Path != "/pools/chat/workers" {
			http.Error(w, "no", http.StatusUnauthorized)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		json.NewEncoder(w).Encode(nodeapi.WorkerList{Workers: []nodeapi.WorkerAccess{{WorkerID: "chat-r0-5f3b1c", URL: "http://127.0.0.1:9000", Token: "worker-secret"}}})
	}))
	defer node.Close()
	policy := poolregistry.AddressPolicy{Allow: []inputvalidation.AddrKind{inputvalidation.AddrLoopback}}
	reg, err := poolregistry.New(poolregistry.Config{Address: policy, PublishEvery: -1})
	if err != nil {
		t.Fatal(err)
	}
	for id, address := range map[poolregistry.NodeID]string{"gpu-1": node.URL, "here": ""} {
		if _, err := reg.Register(t.Context(), poolregistry.Registration{NodeID: id, InstanceID: firstLife, Address: address, InProcess: address == "", Pools: []poolregistry.Pool{{ID: "chat"}}}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := orchestrator.HTTPControl(reg, poolclient.Config{}); err == nil {
		t.Error("HTTPControl without a token = nil, want an error")
	}
	ctl, err := orchestrator.HTTPControl(reg, poolclient.Config{Token: func() string { return token }, Address: policy})
	if err != nil {
		t.Fatal(err)
	}
	got, err := ctl.Workers(t.Context(), poolregistry.PoolKey{Node: "gpu-1", Pool: "chat"})
	want := orchestrator.WorkerAccess{Worker: "chat-r0-5f3b1c", URL: "http://127.0.0.1:9000", Token: "worker-secret"}
	if err != nil || len(got) != 1 || got[0] != want {
		t.Errorf("Workers = %+v, %v", got, err)
	}
	if _, err := ctl.Workers(t.Context(), poolregistry.PoolKey{Node: "gone", Pool: "chat"}); !errors.Is(err, poolregistry.NodeUnknown) {
		t.Errorf("of an unknown node = %v, want NODE_UNKNOWN", err)
	}
	if _, err := ctl.Workers(t.Context(), poolregistry.PoolKey{Node: "here", Pool: "chat"}); err == nil {
		t.Error("of a node without an address = nil, want an error")
	}
	if _, err := ctl.Workers(t.Context(), poolregistry.PoolKey{Node: "gpu-1", Pool: "other"}); err == nil {
		t.Error("of a refused pool = nil, want an error")
	}
}
