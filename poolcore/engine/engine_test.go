package engine_test

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"

	"github.com/llorch/llorch/poolcore/engine"
)

// server answers path → status and body; other paths are 404.
func server(t testing.TB, answers map[string]string) engine.Endpoint {
	t.Helper()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/health" && r.Header.Get("Authorization") != "Bearer key" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		status, body, ok := strings.Cut(answers[r.URL.Path], " ")
		if !ok {
			http.NotFound(w, r)
			return
		}
		var code int
		if _, err := fmt.Sscan(status, &code); err != nil {
			t.Error(err)
		}
		w.WriteHeader(code)
		_, _ = w.Write([]byte(body))
	}))
	t.Cleanup(srv.Close)
	return engine.Endpoint{URL: srv.URL, Token: "key", Client: srv.Client()}
}

// TestProbe is the table of answers for the kinds that speak like llama-server
// (PCO-29, PCO-53).
func TestProbe(t *testing.T) {
	good := map[string]string{"/health": `200 {"status":"ok"}`, "/v1/models": `200 {"data":[{"id":"w-1"}]}`, "/props": `200 {"total_slots":4}`}
	with := func(path, answer string) map[string]string {
		m := map[string]string{}
		maps.Copy(m, good)
		m[path] = answer
		return m
	}
	for _, c := range []struct {
		name    string
		answers map[string]string
		want    engine.Report
		slots   int
		bad     bool
	}{
		{"ready", good, engine.Report{Live: true, Ready: true, Detail: "ok", Alias: "w-1"}, 4, false},
		{"loading", with("/health", "503 loading model"), engine.Report{Live: true, Loading: true, Detail: "loading"}, 0, false},
		{"props closed", with("/props", "501 no"), engine.Report{Live: true, Ready: true, Detail: "ok", Alias: "w-1"}, 0, false},
		{"absurd slots", with("/props", `200 {"total_slots":1000000}`), engine.Report{Live: true, Ready: true, Detail: "ok", Alias: "w-1"}, 0, false},
		{"other program", with("/health", "404 x"), engine.Report{}, 0, true},
		{"no model", with("/v1/models", `200 {"data":[]}`), engine.Report{}, 0, true},
		{"garbage", with("/v1/models", "200 <html>"), engine.Report{}, 0, true},
		{"garbage props", with("/props", "200 <html>"), engine.Report{}, 0, true},
		{"huge", with("/v1/models", "200 "+strings.Repeat(" ", 2<<20)), engine.Report{}, 0, true},
	} {
		for _, kind := range []engine.Kind{engine.LlamaCPP{}, engine.Simulator{}} {
			r, err := kind.Probe(t.Context(), server(t, c.answers))
			if c.bad != errors.Is(err, engine.ErrBadAnswer) {
				t.Errorf("%s %s: err = %v, want bad answer %v", kind.Name(), c.name, err, c.bad)
				continue
			}
			slots := 0
			if r.SlotsTotal != nil {
				slots = *r.SlotsTotal
			}
			r.SlotsTotal = nil
			if !c.bad && (r != c.want || slots != c.slots) {
				t.Errorf("%s %s: %+v slots %d, want %+v slots %d", kind.Name(), c.name, r, slots, c.want, c.slots)
			}
		}
	}
}

func TestProbeWithoutKeyIsNotReady(t *testing.T) {
	ep := server(t, map[string]string{"/health": "200 ok", "/v1/models": `200 {"data":[{"id":"w"}]}`})
	ep.Token = "another"
	if r, err := (engine.LlamaCPP{}).Probe(t.Context(), ep); err == nil || r.Ready {
		t.Errorf("Probe with a wrong key = %+v, %v", r, err)
	}
}

func TestExternalProbe(t *testing.T) {
	ep := server(t, map[string]string{"/health": "200 ok", "/v1/models": `200 {"data":[{"id":"a"},{"id":"b"}]}`})
	for model, want := range map[string]bool{"": true, "b": true, "c": false} {
		ep.Model = model
		r, err := (engine.External{}).Probe(t.Context(), ep)
		if err != nil || r.Ready != want {
			t.Errorf("model %q: %+v, %v; want ready %v", model, r, err, want)
		}
	}
}

// TestCommandNeverHoldsTheKey (PCO-32) and its arguments stay arguments.
func TestCommandNeverHoldsTheKey(t *testing.T) {
	r := engine.Request{
		Binary: "/opt/llama-server", Model: "/m/x.gguf", WorkerID: "p-r0-abc", Addr: netip.MustParseAddrPort("127.0.0.1:8001"),
		Ctx: 4096, Slots: 2, KeyFile: "/run/key", Flags: []string{"--threads=8", "--jinja"},
	}
	cmd, err := engine.LlamaCPP{}.Command(r)
	if err != nil {
		t.Fatal(err)
	}
	want := "-m /m/x.gguf --host 127.0.0.1 --port 8001 --alias p-r0-abc -c 8192 -np 2 --api-key-file /run/key -ngl 999 --metrics --slots --threads 8 --jinja"
	if got := strings.Join(cmd.Args, " "); got != want || cmd.TieStdin {
		t.Errorf("llamacpp: %s\nwant      %s", got, want)
	}
	r.Flags = []string{"--preset=fast"}
	cmd, err = engine.Simulator{Args: []string{"engine"}}.Command(r)
	if err != nil {
		t.Fatal(err)
	}
	want = "engine -m /m/x.gguf --host 127.0.0.1 --port 8001 --alias p-r0-abc -c 8192 -np 2 --api-key-file /run/key --exit-with-stdin --preset fast"
	if got := strings.Join(cmd.Args, " "); got != want || !cmd.TieStdin {
		t.Errorf("simulator: %s\nwant       %s", got, want)
	}
	if _, err := (engine.External{}).Command(r); !errors.Is(err, engine.ErrUnsupported) {
		t.Errorf("external: %v, want ErrUnsupported", err)
	}
}

func ExampleProfileOf() {
	p := engine.ProfileOf(engine.LlamaCPP{})
	fmt.Println(p.ModelFile, p.External, p.Flags["--threads"])
	// Output: true false true
}
