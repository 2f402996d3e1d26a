package poolregistry_test

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/llorch/llorch/inputvalidation"
	. "github.com/llorch/llorch/poolregistry"
)

// PRG-8.
func TestParseRegion(t *testing.T) {
	for in, want := range map[string]string{
		"": "UNKNOWN", "unknown": "UNKNOWN", "UNKNOWN": "UNKNOWN", "EU": "EU", "eu": "EU", "asia": "ASIA", "OTHER": "OTHER",
		"de": "EU-DE", "EU-DE": "EU-DE", "us": "US", "US": "US", "US-US": "US", "jp": "ASIA-JP", "GB": "OTHER-GB", "CH": "OTHER-CH",
		"CY": "EU-CY", "TW": "ASIA-TW",
		"EU-US": "mismatch", "US-DE": "mismatch", "UNKNOWN-DE": "mismatch", "XX": "charset", "EU-XX": "charset", "E": "charset",
		"T ": "charset", "Germany": "charset", "XX-DE": "charset", "EU-EU": "charset", "D-E-F": "charset", "germany is too long": "too_long",
	} {
		r, err := ParseRegion(in)
		got := r.String()
		if err != nil {
			got = strings.TrimPrefix(wantCode(t, err, InvalidNode).Fields[0], "region: ")
		}
		if got != want {
			t.Errorf("ParseRegion(%q) = %s, want %s", in, got, want)
		}
		if again, err2 := ParseRegion(r.String()); err == nil && (again != r || err2 != nil) {
			t.Errorf("ParseRegion(%q) = %+v, %v, want %+v", r.String(), again, err2, r)
		}
	}
	if s := (Region{}).String(); s != "UNKNOWN" {
		t.Errorf("the zero region is %s", s)
	}
}

// PRG-8: 27 member states, and every other country is in one group.
func TestRegionTable(t *testing.T) {
	count := map[string]int{}
	for a := 'A'; a <= 'Z'; a++ {
		for b := 'A'; b <= 'Z'; b++ {
			if r, err := ParseRegion(string([]rune{a, b})); err == nil && r.Country != "" {
				count[r.Group]++
			}
		}
	}
	if want := map[string]int{"EU": 27, "US": 1, "ASIA": 50, "OTHER": 171}; !reflect.DeepEqual(count, want) {
		t.Errorf("countries per group: %v, want %v", count, want)
	}
}

// PRG-1.
func TestParseIDs(t *testing.T) {
	for in, ok := range map[string]bool{
		"a": true, "gpu-1.rack_2": true, "A9": true, strings.Repeat("x", 63): true,
		"": false, "-a": false, "a-": false, ".a": false, "a..b": false, "a/b": false, "a b": false, "ä": false, "a\x00": false,
		strings.Repeat("x", 254): false,
	} {
		_, err1 := ParseNodeID(in)
		_, err2 := ParsePoolID(in)
		_, err3 := ParseWorkerID(in)
		if (err1 == nil) != ok || (err2 == nil) != ok || (err3 == nil) != ok {
			t.Errorf("%.10q: %v, %v, %v, want ok %t", in, err1, err2, err3, ok)
		}
	}
	long := strings.Repeat("x", 100)
	if _, err := ParsePoolID(long); err == nil {
		t.Error("a pool id of 100 bytes")
	}
	if _, err := ParseWorkerID(long); err != nil {
		t.Error(err)
	}
}

// PRG-2, PRG-3, PRG-10: golden bytes of a node.
func TestNodeJSON(t *testing.T) {
	inBubble(t, Config{PublishEvery: -1}, func(t *testing.T, w *world) {
		r := describe("a")
		r.Principal = "must not show"
		r.Region, r.Version, r.Labels = Region{Country: "de", Evidence: "operator"}, "v1", map[string]string{"rack": "7", "a": "b"}
		r.Capabilities = Capabilities{GPUs: []GPU{{DeviceID: 1, Vendor: "Amd"}, {DeviceID: 0, VRAMTotalBytes: new(uint64(1 << 30)), Recovery: "DrainReset"}}, CPUCores: 8}
		w.must(w.try(r))
		time.Sleep(1250 * ms)
		_, err := w.beatWith("a", func(b *Beat) {
			b.Pools[0].Workers = []Worker{{ID: "w", Status: "READY", StartedAt: time.Now(), KVUsedRatio: new(0.0)}}
			b.Events = []Event{{ID: 1, WorkerID: "w", PoolID: "p0", ExitCode: new(0)}}
		})
		w.must(err)
		time.Sleep(2 * time.Second)
		got, err := json.MarshalIndent(w.node("a"), "", " ")
		w.must(err)
		golden(t, "testdata/node.golden.json", got)
	})
}

// golden compares got with a file; LLORCH_UPDATE=1 writes it.
func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	if os.Getenv("LLORCH_UPDATE") != "" {
		if err := os.WriteFile(name, append(got, '\n'), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if string(got)+"\n" != string(want) {
		t.Errorf("%s differs:\n%s", name, got)
	}
}

// PRG-14: names and objects, mixed.
func TestPoolsByName(t *testing.T) {
	var r Registration
	err := json.Unmarshal([]byte(`{"pools":["a",{"pool_id":"b","models_available":["m",{"model":"n","need_bytes":5,"fits":true}]}],"region":"EU-DE"}`), &r)
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Pools) != 2 || r.Pools[0].ID != "a" || r.Pools[1].ID != "b" || r.Region.Country != "DE" {
		t.Fatalf("%+v", r.Pools)
	}
	m := r.Pools[1].ModelsAvailable
	if len(m) != 2 || m[0].Ref != "m" || m[1].Ref != "n" || m[1].NeedBytes != 5 || !*m[1].Fits {
		t.Errorf("models %+v", m)
	}
	if err := json.Unmarshal([]byte(`{"pools":[1]}`), &r); err == nil {
		t.Error("a number was taken for a pool")
	}
}

// A lease token is in the JSON and in no other rendering.
func TestTokensAreRedacted(t *testing.T) {
	const token = "s3cr3t"
	var log strings.Builder
	l := slog.New(slog.NewJSONHandler(&log, nil))
	for _, v := range []any{
		Registration{NodeID: "n", LeaseToken: token},
		Grant{NodeID: "n", LeaseToken: token},
		Beat{NodeID: "n", LeaseToken: token},
		&Registration{NodeID: "n", LeaseToken: token}, &Grant{NodeID: "n", LeaseToken: token}, &Beat{NodeID: "n", LeaseToken: token},
	} {
		l.Info("x", "v", v)
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%d", "%x"} {
			if s := fmt.Sprintf(verb, v); strings.Contains(s, token) || strings.Contains(s, fmt.Sprintf("%x", token)) {
				t.Errorf("%s of %T: %s", verb, v, s)
			}
		}
	}
	if strings.Contains(log.String(), token) {
		t.Errorf("log: %s", log.String())
	}
}

func fuzzSeeds(f *testing.F, seeds ...string) {
	f.Helper()
	for _, s := range seeds {
		f.Add([]byte(s))
	}
}

// PRG-14, PRG-16: what is accepted means the same after a round trip, and the registry
// takes it again.
func FuzzRegistrationJSON(f *testing.F) {
	fuzzSeeds(f,
		`{"node_id":"a","instance_id":"`+uuid1+`","address":"http://10.0.0.1:9200","pools":["p",{"pool_id":"q"}]}`,
		`{"node_id":"a","instance_id":"`+uuid1+`","address":"http://10.0.0.1:9200","region":"EU-DE","labels":{"a":"b"},"capabilities":{"gpus":[{"device_id":0,"vram_total_bytes":1}]}}`,
		`{"node_id":"a","instance_id":"`+uuid1+`","address":"http://10.0.0.1:9200","models_available":["m"],"prev_epoch":4503599627370495}`,
		`{"pools":[{"pool_id":"a","workers":[{"worker_id":"w","status":"Ready","url":"http://127.0.0.1:1"}]}]}`, `{`, `null`)
	f.Fuzz(func(t *testing.T, raw []byte) {
		if inputvalidation.CheckJSON("body", raw, 256<<10) != nil {
			return
		}
		var r Registration
		if json.Unmarshal(raw, &r) != nil {
			return
		}
		first, ok := registered(t, r)
		if !ok {
			return
		}
		again, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		var r2 Registration
		if err := json.Unmarshal(again, &r2); err != nil {
			t.Fatalf("%v: %s", err, again)
		}
		second, ok := registered(t, r2)
		if !ok || second != first {
			t.Fatalf("after a round trip: %t\n%s\n%s", ok, first, second)
		}
	})
}

// registered returns the node that a fresh registry makes of r, without what
// depends on the clock.
func registered(t *testing.T, r Registration) (string, bool) {
	reg, err := New(Config{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := reg.Register(t.Context(), r); err != nil {
		return "", false
	}
	n := *reg.View().Nodes[0]
	n.Since, n.RegisteredAt = time.Time{}, time.Time{}
	out, err := json.Marshal(&n)
	if err != nil {
		t.Fatal(err)
	}
	return string(out), true
}

// PRG-38, PRG-42: no beat panics, and an accepted one means the same after a round trip.
func FuzzBeatJSON(f *testing.F) {
	fuzzSeeds(f,
		`{"pools":[{"pool_id":"p0","state":"ready","ready":true,"slots_free":1,"slots_total":2}],"timestamp":"2026-01-02T03:04:05.006Z"}`,
		`{"pools":[],"gpus":[{"uuid":"g","temperature_c":1e300,"vram_free_bytes":18446744073709551615}]}`,
		`{"pools":["p0"],"events":[{"event_id":1,"worker_id":"w","pool_id":"p0","exit_code":-1}]}`,
		`{"pools":[{"pool_id":"p0","workers":[{"worker_id":"w","status":"busy","kv_used_ratio":-1,"started_at":"0001-01-01T00:00:00Z"}]}]}`, `{`)
	f.Fuzz(func(t *testing.T, raw []byte) {
		var b Beat
		if inputvalidation.CheckJSON("body", raw, 256<<10) != nil || json.Unmarshal(raw, &b) != nil {
			return
		}
		first, ok := beaten(t, b)
		again, err := json.Marshal(b)
		if err != nil {
			return // a year that RFC 3339 cannot write is not one that a decoder reads
		}
		var b2 Beat
		if err := json.Unmarshal(again, &b2); err != nil {
			t.Fatalf("%v: %s", err, again)
		}
		if second, ok2 := beaten(t, b2); ok2 != ok || second != first {
			t.Fatalf("after a round trip: %t %t\n%s\n%s", ok, ok2, first, second)
		}
	})
}

func beaten(t *testing.T, b Beat) (string, bool) {
	reg, err := New(Config{PublishEvery: -1})
	if err != nil {
		t.Fatal(err)
	}
	r := describe("a")
	r.Capabilities.GPUs = []GPU{{DeviceID: 0, UUID: "g", VRAMTotalBytes: new(uint64(10))}}
	g, err := reg.Register(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	b.NodeID, b.LeaseToken, b.Seq = "a", g.LeaseToken, 1
	_, err = reg.Beat(t.Context(), b)
	n := reg.View().Nodes[0]
	if n.Liveness != Online {
		t.Fatalf("after a beat with the lease the node is %s (%v)", n.Liveness, err)
	}
	out, jerr := json.Marshal(struct {
		P []Pool
		C Capabilities
		E []Event
	}{n.Pools, n.Capabilities, n.Events})
	if jerr != nil {
		t.Fatal(jerr)
	}
	return string(out), err == nil
}

func FuzzParseIDs(f *testing.F) {
	for _, s := range []string{"a", "a..b", "-", "a.b_c-d", "\xff"} {
		f.Add(s)
	}
	shape := regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$`)
	f.Fuzz(func(t *testing.T, s string) {
		id, err := ParseNodeID(s)
		if err == nil && (string(id) != s || !shape.MatchString(s) || strings.Contains(s, "..") || len(s) > 253) {
			t.Errorf("ParseNodeID(%q) accepts it", s)
		}
		if err != nil && len(s) > 9 && strings.Contains(err.Error(), s) {
			t.Errorf("the error repeats %q", s)
		}
	})
}

func FuzzParseRegion(f *testing.F) {
	for _, s := range []string{"", "DE", "EU-DE", "us", "unknown", "-", "EU-"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		r, err := ParseRegion(s)
		if err != nil {
			return
		}
		if again, err := ParseRegion(r.String()); err != nil || again != r {
			t.Errorf("ParseRegion(%q) = %+v, and of its text %+v, %v", s, r, again, err)
		}
	})
}

func FuzzAddress(f *testing.F) {
	for _, s := range []string{"http://10.0.0.1:9200", "https://[::1]:443/", "http://a@b:1", "http://127.1:80", "http://0x7f.1:80"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		u, err := all().Check(s)
		if err != nil {
			return
		}
		again, err := all().Check(u.String())
		if err != nil || again.String() != u.String() {
			t.Errorf("Check(%q) = %v, and of that %v, %v", s, u, again, err)
		}
		if u.User != nil || u.Path != "" || u.RawQuery != "" || u.Fragment != "" || u.Port() == "" || u.Scheme != "http" && u.Scheme != "https" {
			t.Errorf("Check(%q) = %#v", s, u)
		}
	})
}
