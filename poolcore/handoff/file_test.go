package handoff_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	. "github.com/llorch/llorch/poolcore/handoff"
	"github.com/llorch/llorch/poolregistry"
)

func golden(t testing.TB, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// TestHandoffThreeShapes (PCO-50): short, long, http_endpoint, and a mixture; what
// is missing has its default and what is unknown is ignored.
func TestHandoffThreeShapes(t *testing.T) {
	for name, want := range map[string]File{
		"short.json": {
			Schema: 1, PoolID: "pool-0", ReplicaID: "r0", Engine: "llamacpp", EngineVersion: "b6123", URL: "http://127.0.0.1:8001",
			DeviceMask: "GPU0", SlotsTotal: 4, SlotsFree: 4, PID: 4711,
		},
		"long.json": {
			Schema: 1, PoolID: "pool-0", ReplicaID: "r1", WorkerID: "pool-0-r1-abcdef", Engine: "vllm", EngineVersion: "0.10.1",
			URL: "http://127.0.0.1:8002", DeviceMask: "0,1", SlotsTotal: 8, SlotsFree: 3, PID: 4712,
			Model:            Model{ID: "hf:org/m@abc", Path: "/var/lib/llorch/models/m", Digest: "sha256:00"},
			ProvisioningMode: "preload", Flags: []string{"--dtype=half"}, WrittenAt: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC),
		},
		"endpoint.json": {
			Schema: 1, PoolID: "pool-1", ReplicaID: "r0", Engine: "generic", URL: "http://127.0.0.1:8003", SlotsTotal: 1, SlotsFree: 1,
		},
		"mixed.json": {
			Schema: 1, PoolID: "pool-1", ReplicaID: "r1", Engine: "generic", EngineVersion: "2", URL: "http://127.0.0.1:8004",
			SlotsTotal: 6, SlotsFree: 2, Model: Model{ID: "m"}, Flags: []string{"--x"},
		},
	} {
		got, err := Parse(golden(t, name))
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %+v, %v\nwant %+v", name, got, err, want)
		}
		if _, err := got.Bind(LoopbackOnly()); err != nil {
			t.Errorf("%s: bind: %v", name, err)
		}
	}
}

// edit returns short.json with members replaced; nil removes one.
func edit(t testing.TB, members map[string]any) []byte {
	t.Helper()
	var m map[string]any
	if err := json.Unmarshal(golden(t, "short.json"), &m); err != nil {
		t.Fatal(err)
	}
	for k, v := range members {
		if m[k] = v; v == nil {
			delete(m, k)
		}
	}
	data, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// TestParseRefusals (PCO-50, PCO-52): each fault is a code and a field, and never
// repeats the content.
func TestParseRefusals(t *testing.T) {
	long := strings.Repeat("x", 200)
	for _, c := range []struct {
		name    string
		members map[string]any
		code    Code
		field   string
	}{
		{"pool missing", map[string]any{"pool_id": nil}, Invalid, "pool_id"},
		{"pool malformed", map[string]any{"pool_id": "../x"}, Invalid, "pool_id"},
		{"replica missing", map[string]any{"replica_id": nil}, Invalid, "replica_id"},
		{"replica a path", map[string]any{"replica_id": "a/b"}, Invalid, "replica_id"},
		{"worker malformed", map[string]any{"worker_id": " "}, Invalid, "worker_id"},
		{"engine missing", map[string]any{"engine": nil}, Invalid, "engine"},
		{"engine a line break", map[string]any{"engine": "a\nb"}, Invalid, "engine"},
		{"engine long", map[string]any{"engine": long}, Invalid, "engine"},
		{"url missing", map[string]any{"url": nil}, Invalid, "url"},
		{"urls differ", map[string]any{"http_endpoint": "http://127.0.0.1:9999"}, Invalid, "http_endpoint"},
		{"slots 0", map[string]any{"slots": 0}, Invalid, "slots_total"},
		{"slots 4097", map[string]any{"slots": 4097}, Invalid, "slots_total"},
		{"slots differ", map[string]any{"slots_total": 5}, Invalid, "slots"},
		{"more free than slots", map[string]any{"slots_free": 5}, Invalid, "slots_free"},
		{"slots_free negative", map[string]any{"slots_free": -1}, Invalid, "slots_free"},
		{"slots a string", map[string]any{"slots": "4"}, Invalid, "slots"},
		{"pid 0", map[string]any{"pid": 0}, Invalid, "pid"},
		{"pid huge", map[string]any{"pid": 1 << 40}, Invalid, "pid"},
		{"schema 2", map[string]any{"schema": 2}, Invalid, "schema"},
		{"flags many", map[string]any{"flags": make([]string, 65)}, Invalid, "flags"},
		{"flag long", map[string]any{"flags": []string{"a", strings.Repeat("x", 513)}}, Invalid, "flags[1]"},
		{"model path control", map[string]any{"model": map[string]any{"path": "/a\x1b"}}, Invalid, "model.path"},
		{"mask long", map[string]any{"device_mask": strings.Repeat("0", 2000)}, Invalid, "device_mask"},
		{"written_at no time", map[string]any{"written_at": "yesterday"}, Invalid, ""},
	} {
		_, err := Parse(edit(t, c.members))
		e, ok := errors.AsType[*Error](err)
		if !ok || e.Code != c.code || e.Field != c.field || !errors.Is(err, c.code) {
			t.Errorf("%s: %v, want %s of %s", c.name, err, c.code, c.field)
		}
		if ok && (strings.Contains(err.Error(), "xxx") || strings.Contains(err.Error(), "../")) {
			t.Errorf("%s: the error repeats content: %v", c.name, err)
		}
	}
	for name, text := range map[string]string{"empty": "", "half": `{"pool_id": "p`, "array": `[]`, "two": `{}{}`, "huge": strings.Repeat(" ", MaxBytes) + "{}"} {
		_, err := Parse([]byte(text))
		if want := map[bool]Code{true: Invalid, false: Unreadable}[name == "array"]; !errors.Is(err, want) {
			t.Errorf("%s: %v, want %s", name, err, want)
		}
	}
	if f, err := Parse(edit(t, map[string]any{"slots": 4096})); err != nil || f.SlotsTotal != 4096 {
		t.Errorf("4,096 slots: %v", err)
	}
}

// TestBindPolicy (PCO-52): loopback only unless the caller says otherwise.
func TestBindPolicy(t *testing.T) {
	open := poolregistry.AddressPolicy{}
	for url, want := range map[string][2]bool{ // loopback only; private
		"http://127.0.0.1:8001": {true, false}, "http://[::1]:8001": {true, false}, "http://10.0.0.7:8001": {false, true},
		"http://169.254.169.254:8001": {false, false}, "http://u:p@127.0.0.1:8001": {false, false}, "file:///etc/passwd": {false, false},
		"http://127.0.0.1:22": {false, false}, "http://127.0.0.1:8001/x": {false, false}, "http://127.0.0.1": {false, false},
	} {
		f, err := Parse(edit(t, map[string]any{"url": url}))
		if err != nil {
			t.Errorf("%s: %v", url, err)
			continue
		}
		for i, policy := range []poolregistry.AddressPolicy{LoopbackOnly(), open} {
			b, err := f.Bind(policy)
			if (err == nil) != want[i] || err != nil && (!errors.Is(err, AddressNotAllowed) || b != (Binding{})) || err == nil && b.URL != url {
				t.Errorf("%s: policy %d: %+v, %v; want %v", url, i, b, err, want[i])
			}
		}
	}
	if _, err := (File{}).Bind(open); !errors.Is(err, Invalid) {
		t.Errorf("the zero file binds: %v", err)
	}
}

// FuzzHandoffFile: no panic, bounded, and what is believed can be written and read
// again as the same thing.
func FuzzHandoffFile(f *testing.F) {
	for _, name := range []string{"short.json", "long.json", "endpoint.json", "mixed.json"} {
		f.Add(golden(f, name))
	}
	f.Add([]byte(`{"pool_id":"p","replica_id":"r0","engine":"e","url":"http://[::1]:1","slots":0}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		file, err := Parse(data)
		if err != nil {
			if e, ok := errors.AsType[*Error](err); !ok || e.Code != Unreadable && e.Code != Invalid {
				t.Fatalf("untyped error %v", err)
			}
			return
		}
		if file.SlotsTotal < 1 || file.SlotsTotal > 4096 || file.SlotsFree < 0 || file.SlotsFree > file.SlotsTotal || len(file.Flags) > 64 {
			t.Fatalf("out of range: %+v", file)
		}
		again, err := json.Marshal(file)
		if err != nil {
			t.Fatal(err)
		}
		second, err := Parse(again)
		if len(again) <= MaxBytes && (err != nil || second.Engine != file.Engine || second.SlotsFree != file.SlotsFree || !second.WrittenAt.Equal(file.WrittenAt)) {
			t.Fatalf("%s does not come back: %+v, %v", again, second, err)
		}
	})
}

func ExampleParse() {
	f, err := Parse([]byte(`{"pool_id":"pool-0","replica_id":"r0","engine":"llamacpp","engine_version":"b6123","http_endpoint":"http://127.0.0.1:8001","slots":4}`))
	fmt.Println(f.URL, f.SlotsTotal, f.SlotsFree, err)
	_, err = Parse([]byte(`{"pool_id":"pool-0","repl`))
	fmt.Println(err)
	// Output:
	// http://127.0.0.1:8001 4 4 <nil>
	// HANDOFF_UNREADABLE: not a whole JSON object of at most 64 KiB
}
