package poolcore

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/llorch/llorch/poolregistry"
)

func sampleRecord() record {
	pc := PoolConfig{ID: "p-1", Engine: "llamacpp", Model: "m"}
	return record{Schema: 1, WorkerID: "p-1-r3-abcdef", Pool: "p-1", Replica: 3, Config: pc, ConfigSHA256: configDigest(pc), Token: "SECRET", State: stateRunning}
}

// FuzzWorkerRecord (PCO-26): what is not a record that agrees with itself is an
// error that repeats nothing of it.
func FuzzWorkerRecord(f *testing.F) {
	b, err := json.Marshal(sampleRecord())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte(`{"schema":1}`))
	f.Add([]byte("null"))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := parseRecord(b)
		if err != nil {
			if strings.Contains(err.Error(), "SECRET") {
				t.Errorf("the error repeats the record: %v", err)
			}
			return
		}
		if _, err := poolregistry.ParseWorkerID(string(r.WorkerID)); err != nil || r.Pool != r.Config.ID || poolOf(string(r.WorkerID)) != r.Pool && !strings.HasPrefix(string(r.WorkerID), r.Pool+"-r") {
			t.Errorf("accepted %+v", r)
		}
	})
}

// TestRecordAgreesWithItself (PCO-26).
func TestRecordAgreesWithItself(t *testing.T) {
	for name, edit := range map[string]func(*record){
		"schema":  func(r *record) { r.Schema = 2 },
		"worker":  func(r *record) { r.WorkerID = "../x" },
		"pool":    func(r *record) { r.Pool = "q" },
		"replica": func(r *record) { r.Replica = 4 },
		"config":  func(r *record) { r.Config.Slots = 9 },
		"digest":  func(r *record) { r.ConfigSHA256 = "" },
	} {
		r := sampleRecord()
		edit(&r)
		b, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := parseRecord(b); err == nil {
			t.Errorf("%s: accepted %+v", name, got)
		}
	}
	b, err := json.Marshal(sampleRecord())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := parseRecord(b); err != nil {
		t.Errorf("a whole record: %v", err)
	}
}

func TestPoolOf(t *testing.T) {
	for id, want := range map[string]string{"p-r0-abc": "p", "a-b-r12-xyz": "a-b", "p": "", "p-r0": ""} {
		if got := poolOf(id); got != want {
			t.Errorf("poolOf(%q) = %q, want %q", id, got, want)
		}
	}
}
