package workertest_test

import (
	"strings"
	"testing"

	"github.com/llorch/llorch/orchestrator/worker/workertest"
)

func TestParseFault(t *testing.T) {
	for in, want := range map[string]string{
		"reset":                            "reset",
		"reset@token=3":                    "reset@token=3",
		"status":                           "status:500",
		"status:503@p=0.25":                "status:503@p=0.25",
		"slow-start:250ms@request=2":       "slow-start:250ms@request=2",
		"stall@request=1,token=2,after=1m": "stall@token=2,request=1,after=1m0s",
		"exit:KILL@after=5s":               "exit:KILL@after=5s",
		"bad-utf8:cut":                     "bad-utf8:cut",
	} {
		f, err := workertest.ParseFault(in)
		if err != nil || f.String() != want {
			t.Errorf("ParseFault(%s) = %s, %v, want %s", in, f, err, want)
		}
	}
	for _, in := range []string{
		"", "nonsense", "Reset", "reset:1", "reset@", "reset@token", "reset@token=-1", "reset@token=x", "reset@token=99999999999", "reset@when=1",
		"reset@request=0", "reset@after=-1s", "reset@after=5", "reset@p=0", "reset@p=1.5", "reset@p=NaN", "split@token=1", "status:200", "status:x",
		"retry-after:-1", "retry-after:5s", "slow-start:-1s", "slow-start:x", "bad-utf8:x",
	} {
		if f, err := workertest.ParseFault(in); err == nil {
			t.Errorf("ParseFault(%s) = %s", in, f)
		}
	}
	_, err := workertest.ParseFault("canary")
	for _, k := range workertest.Kinds() {
		if err == nil || !strings.Contains(err.Error(), k) || strings.Contains(err.Error(), "canary") {
			t.Fatalf("an unknown kind: %v, want all kinds", err)
		}
	}
}

func TestConfigFaults(t *testing.T) {
	_, err := workertest.New(workertest.Config{Preset: "x", Slots: -1, Latency: &workertest.Latency{Jitter: 2}, Faults: []workertest.Fault{{Kind: "x"}}})
	for _, part := range []string{"Preset", "negative", "Jitter", "unknown fault"} {
		if err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("New = %v, want %q in it", err, part)
		}
	}
	for _, p := range append(workertest.Presets(), "") {
		if _, err := workertest.New(workertest.Config{Preset: p}); err != nil {
			t.Errorf("preset %q: %v", p, err)
		}
	}
}

func FuzzParseFault(f *testing.F) {
	for _, k := range workertest.Kinds() {
		f.Add(k + "@request=1,token=2,after=3s,p=0.4")
		f.Add(k + ":5")
	}
	f.Fuzz(func(t *testing.T, s string) {
		one, err := workertest.ParseFault(s)
		if err != nil {
			return
		}
		back, err := workertest.ParseFault(one.String())
		if err != nil || back != one {
			t.Fatalf("%q = %+v, read back %+v, %v", s, one, back, err)
		}
		if _, err := workertest.New(workertest.Config{Faults: []workertest.Fault{one}}); err != nil {
			t.Fatalf("New refuses %q: %v", s, err)
		}
	})
}
