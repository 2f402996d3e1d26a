package nodeapi_test

import (
	"encoding/json"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/llorch/llorch/poolregistry"
	"github.com/llorch/llorch/poolregistry/nodeapi"
)

// TestSchemas: the members of the documented types are those of the wire types,
// and every reference in the document leads somewhere (PRG-2, PRG-55, PRG-70).
func TestSchemas(t *testing.T) {
	var doc struct {
		Components map[string]map[string]json.RawMessage `json:"components"`
	}
	if err := json.Unmarshal(nodeapi.OpenAPI(), &doc); err != nil {
		t.Fatal(err)
	}
	for name, v := range map[string]any{
		"Error": nodeapi.ErrorReply{}, "ErrorDetail": nodeapi.ErrorDetail{}, "Registration": poolregistry.Registration{}, "Grant": poolregistry.Grant{}, "Beat": poolregistry.Beat{},
		"BeatReply": poolregistry.BeatReply{}, "NodeList": nodeapi.NodeList{}, "Pool": poolregistry.Pool{}, "Worker": poolregistry.Worker{},
		"GPU": poolregistry.GPU{}, "Event": poolregistry.Event{}, "Availability": poolregistry.Availability{}, "StaticWorker": nodeapi.StaticWorker{},
		"DrainRequest": nodeapi.DrainRequest{}, "FailRequest": nodeapi.FailRequest{}, "Health": nodeapi.Health{}, "PoolList": nodeapi.PoolList{},
		"WorkerList": nodeapi.WorkerList{}, "PreloadRequest": nodeapi.PreloadRequest{}, "PreloadReply": nodeapi.PreloadReply{},
		"ReloadRequest": nodeapi.ReloadRequest{}, "PurgeRequest": nodeapi.PurgeRequest{}, "Operation": nodeapi.Operation{},
	} {
		compare(t, name, doc.Components["schemas"][name], reflect.TypeOf(v))
	}
	for rest := string(nodeapi.OpenAPI()); ; {
		_, after, found := strings.Cut(rest, `"#/components/`)
		if !found {
			break
		}
		ref, _, _ := strings.Cut(after, `"`)
		kind, name, _ := strings.Cut(ref, "/")
		if doc.Components[kind][name] == nil {
			t.Errorf("%s is not there", ref)
		}
		rest = after
	}
}

// compare walks a documented object and its type together.
func compare(t *testing.T, path string, raw json.RawMessage, typ reflect.Type) {
	t.Helper()
	var schema struct {
		Properties map[string]json.RawMessage `json:"properties"`
		Items      json.RawMessage            `json:"items"`
	}
	if err := json.Unmarshal(raw, &schema); err != nil {
		t.Errorf("%s: %v", path, err)
		return
	}
	for typ.Kind() == reflect.Pointer {
		typ = typ.Elem()
	}
	if typ.Kind() == reflect.Slice && schema.Items != nil {
		compare(t, path+"[]", schema.Items, typ.Elem())
		return
	}
	if typ.Kind() != reflect.Struct || schema.Properties == nil {
		return
	}
	fields := map[string]reflect.Type{}
	for f := range typ.Fields() {
		if name, _, _ := strings.Cut(f.Tag.Get("json"), ","); name != "" && name != "-" {
			fields[name] = f.Type
		}
	}
	want, got := slices.Sorted(maps.Keys(fields)), slices.Sorted(maps.Keys(schema.Properties))
	if !slices.Equal(got, want) {
		t.Errorf("%s has %q, documented are %q", path, want, got)
	}
	for name, f := range fields {
		if sub := schema.Properties[name]; sub != nil {
			compare(t, path+"."+name, sub, f)
		}
	}
}
