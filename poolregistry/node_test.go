package poolregistry_test

import (
	"encoding/base64"
	"encoding/json"
	"strings"
	"testing"
	"time"

	. "github.com/llorch/llorch/poolregistry"
)

// PRG-3, PRG-11: both axes in one word, whether new work may be sent, and why not.
func TestPlaceable(t *testing.T) {
	for _, c := range []struct {
		live   Liveness
		want   Schedule
		status string
		why    string // "" = placeable
	}{
		{"", Open, "", "no_beat_yet"},
		{Registering, Open, "registering", "no_beat_yet"},
		{Online, "", "online", ""},
		{Online, Open, "online", ""},
		{Suspect, Open, "suspect", "suspect"},
		{Offline, Open, "offline", "offline"},
		{Failed, Open, "failed", "failed"},
		{Online, Cordoned, "online", "cordoned"},
		{Online, Draining, "draining", "draining"},
		{Online, Drained, "draining", "draining"},
		{Registering, Draining, "registering", "no_beat_yet"},
		{Suspect, Drained, "suspect", "suspect"},
		{Offline, Draining, "offline", "offline"},
		{Failed, Cordoned, "failed", "failed"},
	} {
		n := &Node{Liveness: c.live, Schedule: c.want}
		if ok, why := n.Placeable(); ok != (c.why == "") || why != c.why || n.Status() != c.status {
			t.Errorf("%s, %s: Placeable = %t, %q, Status = %q, want %q, %q", c.live, c.want, ok, why, n.Status(), c.why, c.status)
		}
		raw, err := json.Marshal(n)
		if err != nil {
			t.Fatal(err)
		}
		var m struct {
			Status, Liveness, Schedule string
			Placeable                  bool
		}
		if err := json.Unmarshal(raw, &m); err != nil {
			t.Fatal(err)
		}
		if m.Status != c.status || m.Liveness != string(c.live) || m.Schedule == "" || m.Placeable != (c.why == "") {
			t.Errorf("JSON %s", raw)
		}
	}
}

// PRG-3: a drain in JSON; there is none in that of an open node.
func TestDrainJSON(t *testing.T) {
	inBubble(t, Config{}, func(t *testing.T, w *world) {
		w.register("a")
		raw, err := json.Marshal(w.node("a"))
		w.must(err)
		if strings.Contains(string(raw), `"drain"`) {
			t.Errorf("an open node: %s", raw)
		}
		w.must(w.Drain("a", time.Second))
		raw, err = json.Marshal(w.node("a"))
		w.must(err)
		if !strings.Contains(string(raw), `"drain":{"deadline_ms":946684801000,"forced":false}`) {
			t.Errorf("a draining node: %s", raw)
		}
	})
}

// PRG-15: what a grant says; its token is 128 random bits, another one each time.
func TestGrant(t *testing.T) {
	inBubble(t, Config{}, func(t *testing.T, w *world) {
		seen := map[string]bool{}
		for _, id := range many(20) {
			w.register(id)
			g := w.grants[id]
			raw, err := base64.RawURLEncoding.DecodeString(g.LeaseToken)
			if err != nil || len(raw) != 16 || seen[g.LeaseToken] {
				t.Errorf("token of %d bytes, %v, repeated %t", len(raw), err, seen[g.LeaseToken])
			}
			seen[g.LeaseToken] = true
			if !g.Success || g.Message == "" || g.NodeID != id || g.Epoch != 1 || g.TimeoutMS != 30_000 || g.Status != Registering ||
				g.HeartbeatIntervalMS < 9500 || g.HeartbeatIntervalMS > 10_500 {
				t.Errorf("grant %+v", g)
			}
		}
	})
}

// PRG-4, PRG-38: a number that is absent is unknown, which is not zero; a beat
// changes what it states and nothing else.
func TestUnknownIsNotZero(t *testing.T) {
	inBubble(t, Config{PublishEvery: -1}, func(t *testing.T, w *world) {
		r := describe("a")
		r.Capabilities.GPUs = []GPU{
			{DeviceID: 0, UUID: "g0", VRAMTotalBytes: new(uint64(100)), VRAMFreeBytes: new(uint64(60)), Health: "ok"},
			{DeviceID: 1, UUID: "g1"},
		}
		w.must(w.try(r))
		_, err := w.beatWith("a", func(b *Beat) {
			b.GPUs = []GPU{{UUID: "g0", TemperatureC: new(0.0)}, {DeviceID: 1, Health: "Degraded"}}
		})
		w.must(err)
		raw, err := json.Marshal(w.node("a").Capabilities.GPUs)
		w.must(err)
		want := `[{"device_id":0,"uuid":"g0","vram_total_bytes":100,"vram_free_bytes":60,"temperature_c":0,"health":"ok"},` +
			`{"device_id":1,"uuid":"g1","health":"degraded"}]`
		if string(raw) != want {
			t.Errorf("gpus %s, want %s", raw, want)
		}
	})
}
