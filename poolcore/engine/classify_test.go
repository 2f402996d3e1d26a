package engine_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/llorch/llorch/poolcore/engine"
)

// readExit reads a golden log: "# code=1 signal=SIGABRT uptime=9s answered asked
// oomkills=1 xid=79", then the lines.
func readExit(t testing.TB, path string) engine.Exit {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	head, log, _ := strings.Cut(string(data), "\n")
	e := engine.Exit{Lines: strings.Split(strings.TrimSuffix(log, "\n"), "\n")}
	for word := range strings.FieldsSeq(strings.TrimPrefix(head, "#")) {
		name, value, _ := strings.Cut(word, "=")
		var err error
		switch name {
		case "code":
			e.Code, err = strconv.Atoi(value)
		case "signal":
			e.Signal = value
		case "uptime":
			e.Uptime, err = time.ParseDuration(value)
		case "answered":
			e.Answered = true
		case "asked":
			e.Asked = true
		case "oomkills":
			e.OOMKills, err = strconv.Atoi(value)
		case "xid":
			n, bad := strconv.Atoi(value)
			e.Xids, err = append(e.Xids, n), bad
		default:
			err = fmt.Errorf("unknown word %q", word)
		}
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
	}
	return e
}

// TestClassifyGoldenLogs (PCO-33): testdata/<kind>/<class>[-…].log ends in that
// class, and every class that a log can show has a log.
func TestClassifyGoldenLogs(t *testing.T) {
	covered := map[string]bool{}
	for _, k := range engine.All() {
		paths, err := filepath.Glob(filepath.Join("testdata", k.Name(), "*.log"))
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range paths {
			want, _, _ := strings.Cut(strings.TrimSuffix(filepath.Base(path), ".log"), "-")
			if got := k.Classify(readExit(t, path)); got != want {
				t.Errorf("%s: %s, want %s", path, got, want)
			}
			covered[want] = true
		}
	}
	for _, class := range shownByLogs() {
		if !covered[class] {
			t.Errorf("no golden log of class %s", class)
		}
	}
}

// shownByLogs are the classes that Classify may return.
func shownByLogs() []string {
	return []string{
		engine.ClassGraceful, engine.ClassOOMVRAM, engine.ClassOOMHost, engine.ClassCUDA, engine.ClassDriverReset, engine.ClassSegfault,
		engine.ClassAbort, engine.ClassKilled, engine.ClassConfig, engine.ClassPortConflict, engine.ClassUnknown,
	}
}

// TestClasses (PCO-33): the words of the specification, each once.
func TestClasses(t *testing.T) {
	classes := engine.Classes()
	for want := range strings.FieldsSeq(`graceful oom_vram oom_host cuda_error driver_reset partial_offload mask_violation segfault abort killed
		config_error port_conflict start_timeout health_timeout vram_leak unknown unknown_exit version_mismatch`) {
		if !slices.Contains(classes, want) {
			t.Errorf("%s is missing", want)
		}
	}
	slices.Sort(classes)
	if len(slices.Compact(slices.Clone(classes))) != len(classes) {
		t.Errorf("twice: %q", classes)
	}
}

// TestConfigErrorIsEarly (PCO-33): the same words count only within 5 s of the
// start and before any answer.
func TestConfigErrorIsEarly(t *testing.T) {
	e := engine.Exit{Code: 1, Lines: []string{"error: unknown argument: --foo"}, Uptime: 4999 * time.Millisecond}
	for _, c := range []struct {
		change func(*engine.Exit)
		want   string
	}{
		{func(*engine.Exit) {}, engine.ClassConfig},
		{func(e *engine.Exit) { e.Uptime = 5 * time.Second }, engine.ClassUnknown},
		{func(e *engine.Exit) { e.Answered = true }, engine.ClassUnknown},
		{func(e *engine.Exit) { e.Signal = "SIGBUS" }, engine.ClassSegfault},
		{func(e *engine.Exit) { e.Signal = "SIGINT" }, engine.ClassKilled},
		{func(e *engine.Exit) { e.Xids = []int{63} }, engine.ClassConfig}, // a row remapped explains no exit
		{func(e *engine.Exit) { e.Asked = true }, engine.ClassGraceful},
	} {
		exit := e
		c.change(&exit)
		for _, k := range []engine.Kind{engine.LlamaCPP{}, engine.VLLM{}, engine.Ollama{}, engine.Simulator{}} {
			if got := k.Classify(exit); got != c.want {
				t.Errorf("%s: %+v is %s, want %s", k.Name(), exit, got, c.want)
			}
		}
	}
	if got := (engine.External{}).Classify(e); got != engine.ClassUnknown {
		t.Errorf("external: %s", got)
	}
}

// FuzzClassify: no panic, and always a class of the closed set.
func FuzzClassify(f *testing.F) {
	paths, err := filepath.Glob("testdata/*/*.log")
	if err != nil || len(paths) == 0 {
		f.Fatal(err)
	}
	for _, path := range paths {
		e := readExit(f, path)
		f.Add(strings.Join(e.Lines, "\n"), e.Signal, e.Code, e.OOMKills, len(e.Xids)*79)
	}
	f.Fuzz(func(t *testing.T, text, signal string, code, kills, xid int) {
		e := engine.Exit{Code: code, Signal: signal, Lines: strings.Split(text, "\n"), OOMKills: kills, Xids: []int{xid}}
		for _, k := range engine.All() {
			if got := k.Classify(e); !slices.Contains(shownByLogs(), got) {
				t.Errorf("%s: class %q is not in the closed set", k.Name(), got)
			}
		}
	})
}
