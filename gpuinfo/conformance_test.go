//go:build linux

package gpuinfo_test

import (
	"context"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/llorch/llorch/gpuinfo"
	"github.com/llorch/llorch/gpuinfo/gpuinfotest"
)

// TestConformance runs the suite for strangers' providers over all of ours.
func TestConformance(t *testing.T) {
	csv, err := filepath.Abs("testdata/smi/h100_mig.csv")
	if err != nil {
		t.Fatal(err)
	}
	list := strings.TrimSuffix(csv, ".csv") + ".list"
	tool := `case "$1" in -L) exec cat ` + list + `;; --query-gpu=*) exec cat ` + csv + `;; esac; echo "GPU-1, 5, 6, x"`
	auto := func(t *testing.T) gpuinfo.Provider {
		p, _ := autoWith(t, tool, "two_vendors")
		return p
	}
	for name, open := range map[string]func(t *testing.T) gpuinfo.Provider{
		"auto": auto,
		"auto alone": func(t *testing.T) gpuinfo.Provider {
			return gpuinfo.Auto(gpuinfo.AutoConfig{SMIPath: noSMI, Root: tree(t, "rx7900")})
		},
		"no device": func(*testing.T) gpuinfo.Provider {
			return gpuinfo.Auto(gpuinfo.AutoConfig{SMIPath: noSMI, Root: fstest.MapFS{}})
		},
		"disabled": func(*testing.T) gpuinfo.Provider { return gpuinfo.Auto(gpuinfo.AutoConfig{Disable: true}) },
		"mismatch": func(t *testing.T) gpuinfo.Provider {
			p, _ := autoWith(t, "exit 18", "nvidia_no_driver")
			return p
		},
		"this machine":  func(*testing.T) gpuinfo.Provider { return gpuinfo.Auto(gpuinfo.AutoConfig{}) },
		"static":        func(*testing.T) gpuinfo.Provider { return gpuinfo.Static(gpuinfo.Snapshot{}) },
		"first":         func(t *testing.T) gpuinfo.Provider { return gpuinfo.First(because(gpuinfo.NoTool), auto(t)) },
		"first of none": func(*testing.T) gpuinfo.Provider { return gpuinfo.First() },
		"cache":         func(t *testing.T) gpuinfo.Provider { return gpuinfo.NewCache(auto(t), time.Millisecond) },
	} {
		t.Run(name, func(t *testing.T) { gpuinfotest.TestProvider(t, open) })
	}
}

// TestCacheCancelled: a caller that gave up gets its own error and nothing else.
func TestCacheCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := gpuinfo.NewCache(because(gpuinfo.NoDevice), time.Hour).Snapshot(ctx); err == nil {
		t.Error("an ended context got an answer")
	}
}
