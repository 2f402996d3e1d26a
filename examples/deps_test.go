package examples_test

import (
	"slices"
	"strings"
	"testing"
)

// policy says what one module may import of the suite, and how large it may be.
type policy struct {
	siblings []string
	names    int // exported by the root package; 0 = not bounded
	lines    int // of code without tests, blank lines and comments; a nested module counts with its parent
}

// policies is the lattice of docs/architecture.md: leaves know nobody, engines
// never know each other, and only the assembly knows everything. Raising a
// number needs a line in docs/decisions that names the user who asked.
func policies() map[string]policy {
	return map[string]policy{
		"audit":                     {nil, 70, 4500},
		"authmin":                   {nil, 35, 1600},
		"inputvalidation":           {nil, 55, 1900},
		"secrets":                   {nil, 30, 1400},
		"narration":                 {nil, 45, 3000},
		"deadline":                  {nil, 24, 1000},
		"gpuinfo":                   {nil, 60, 3500},
		"gpuinfo/nvml":              {[]string{"gpuinfo"}, 0, 0},
		"poolregistry":              {[]string{"inputvalidation"}, 64, 5200},
		"poolcore":                  {[]string{"poolregistry", "gpuinfo", "inputvalidation", "deadline"}, 60, 15100},
		"orchestrator":              {[]string{"poolregistry", "inputvalidation", "deadline", "audit"}, 90, 26000},
		"orchestrator/store/sqlite": {[]string{"orchestrator"}, 0, 0},
		"examples": {[]string{
			"audit", "authmin", "inputvalidation", "secrets", "narration", "deadline", "gpuinfo", "gpuinfo/nvml",
			"poolregistry", "poolcore", "orchestrator", "orchestrator/store/sqlite",
		}, 0, 10000},
	}
}

// outside says who may import a module of other people. Everything else is
// refused, whoever asks.
func outside(s *source, pkg string) bool {
	under := func(module string) bool { return pkg == module || strings.HasPrefix(pkg, module+"/") }
	metrics := s.ast.Name.Name == "metrics" || s.ast.Name.Name == "metrics_test"
	switch {
	case under("pgregory.net/rapid"), under("github.com/google/go-cmp"):
		return s.test() || s.helper()
	case under("github.com/prometheus/client_golang"):
		return metrics || s.module == "examples"
	case under("github.com/NVIDIA/go-nvml"):
		return s.module == "gpuinfo/nvml"
	case under("modernc.org/sqlite"):
		return s.module == "orchestrator/store/sqlite"
	case under("golang.org/x/time"):
		return s.module == "orchestrator"
	case under("github.com/BurntSushi/toml"), under("golang.org/x/mod"):
		return s.module == "examples"
	}
	return false
}

// unsafeFiles import unsafe, each with its reason.
func unsafeFiles() map[string]string {
	const waitid = "waitid(2) tells that a child has ended without reaping it; package syscall has no call for it"
	return map[string]string{"gpuinfo/runner_linux.go": waitid}
}

// TestImports proves MOD-1's lattice, for every build tag and for tests too.
func TestImports(t *testing.T) {
	w := loadWorkspace(t)
	rules := policies()
	for _, m := range w.modules {
		if _, ok := rules[m]; !ok {
			t.Errorf("module %s is in go.work and has no policy", m)
		}
	}
	if len(rules) != len(w.modules) {
		t.Errorf("%d policies for %d modules", len(rules), len(w.modules))
	}
	for _, s := range w.files {
		for _, pkg := range s.imports() {
			to := w.owner(pkg)
			switch first, _, _ := strings.Cut(pkg, "/"); {
			case to == s.module:
			case to != "" && !slices.Contains(rules[s.module].siblings, to):
				t.Errorf("%s imports %s: %s may not know %s", s.name, pkg, s.module, to)
			case to != "" && strings.Contains(pkg+"/", "/internal/"):
				t.Errorf("%s imports %s: another module's internal package", s.name, pkg)
			case to == "" && strings.Contains(first, ".") && !outside(s, pkg):
				t.Errorf("%s imports %s: not allowed here", s.name, pkg)
			case pkg == "testing" && !s.test() && !s.helper():
				t.Errorf("%s imports testing: only packages named ...test may", s.name)
			case pkg == "C" || pkg == "unsafe" && unsafeFiles()[s.name] == "":
				t.Errorf("%s imports %s", s.name, pkg)
			}
		}
	}
}
