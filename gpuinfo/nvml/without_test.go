//go:build !linux || !cgo

package nvml_test

import (
	"errors"
	"runtime"
	"testing"

	"github.com/llorch/llorch/gpuinfo"
	"github.com/llorch/llorch/gpuinfo/gpuinfotest"
	"github.com/llorch/llorch/gpuinfo/nvml"
)

// TestWithoutCgo (GPU-20): a program that is built without cgo has a provider too.
func TestWithoutCgo(t *testing.T) {
	open := func(t *testing.T) gpuinfo.Provider {
		p, err := nvml.New(nvml.Config{})
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	gpuinfotest.TestProvider(t, open)
	s, err := open(t).Snapshot(t.Context())
	if err != nil || runtime.GOOS == "linux" && (s.Reason != gpuinfo.NoTool || s.Detail != "built without cgo") {
		t.Errorf("Snapshot = %+v, %v", s, err)
	}
	for _, err := range open(t).(gpuinfo.EventSource).Events(t.Context()) {
		if !errors.Is(err, gpuinfo.ErrUnsupported) {
			t.Errorf("Events: %v", err)
		}
	}
}
