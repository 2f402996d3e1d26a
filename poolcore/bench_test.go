package poolcore_test

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/llorch/llorch/poolcore"
	"github.com/llorch/llorch/poolcore/engine"
	"github.com/llorch/llorch/poolregistry"
)

// benchHost runs n pools with the test binary as their engine.
func benchHost(b *testing.B, n int, timing poolcore.Timing) *poolcore.Host {
	b.Helper()
	self, err := os.Executable()
	if err != nil {
		b.Fatal(err)
	}
	host, err := poolcore.New(poolcore.Config{
		NodeID: "gpu-7", StateDir: filepath.Join(b.TempDir(), "run"), Binaries: map[string]string{"simulator": self}, Timing: timing,
		Engines: []engine.Kind{engine.Simulator{Args: []string{stubWord}}},
	})
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- host.Run(ctx) }()
	b.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			b.Error(err)
		}
	})
	for i := range n {
		benchPreload(b, host, "p"+strconv.Itoa(i))
	}
	return host
}

func benchPreload(b *testing.B, host *poolcore.Host, id string) *poolcore.Pool {
	b.Helper()
	op, err := host.Preload(b.Context(), poolcore.PoolConfig{ID: id, Engine: "simulator", Model: "demo", Slots: 4})
	if err == nil {
		err = op.Wait(b.Context())
	}
	if err != nil {
		b.Fatal(err)
	}
	return host.Pool(poolregistry.PoolID(id))
}

// BenchmarkCrash is the time from SIGKILL of an engine to a status without it.
func BenchmarkCrash(b *testing.B) {
	timing := fastTiming()
	timing.BreakerAfter = 1 << 30
	p := benchHost(b, 1, timing).Pool("p0")
	b.ResetTimer()
	for range b.N {
		b.StopTimer()
		for !p.Status().Ready {
			time.Sleep(time.Millisecond)
		}
		pid := slices.Collect(p.Workers())[0].PID
		b.StartTimer()
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			b.Fatal(err)
		}
		for p.Status().Ready {
			time.Sleep(50 * time.Microsecond)
		}
	}
}

// BenchmarkStop ends an engine that obeys SIGTERM.
func BenchmarkStop(b *testing.B) {
	host := benchHost(b, 0, fastTiming())
	for range b.N {
		b.StopTimer()
		p := benchPreload(b, host, "p")
		b.StartTimer()
		if err := p.Stop(b.Context(), 0); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkStatus reads the published value; the other way would be to ask the loop,
// as Acquire has to.
func BenchmarkStatus(b *testing.B) {
	p := benchHost(b, 1, poolcore.Timing{}).Pool("p0")
	b.Run("published", func(b *testing.B) {
		b.ReportAllocs()
		for range b.N {
			_ = p.Status()
		}
	})
	b.Run("by the loop", func(b *testing.B) {
		b.ReportAllocs()
		for range b.N {
			_, release, err := p.Acquire(b.Context())
			if err != nil {
				b.Fatal(err)
			}
			release()
		}
	})
}

// BenchmarkIdleHost is what 16 pools cost while nothing happens, with the intervals
// that are the defaults.
func BenchmarkIdleHost(b *testing.B) {
	benchHost(b, 16, poolcore.Timing{})
	const long = 12 * time.Second // a health probe of each among it
	before := cpuTime()
	b.ResetTimer()
	for range b.N {
		time.Sleep(long)
	}
	b.ReportMetric(100*(cpuTime()-before).Seconds()/(time.Duration(b.N)*long).Seconds(), "%core")
	b.ReportMetric(rss(b), "MB-RSS")
}

func cpuTime() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func rss(b *testing.B) float64 {
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		b.Skip("no /proc")
	}
	_, rest, _ := strings.Cut(string(text), "VmRSS:")
	kb, err := strconv.Atoi(strings.Fields(rest)[0])
	if err != nil {
		b.Fatal(err)
	}
	return float64(kb) / 1000
}
