//go:build linux

package gpuinfo_test

import (
	"bytes"
	"encoding/csv"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/llorch/llorch/gpuinfo"
)

// BenchmarkAuto: a machine without a driver is told in 2 ms and without a child; the
// kernel's files of this machine are really read.
func BenchmarkAuto(b *testing.B) {
	b.Run("no-driver", func(b *testing.B) {
		p := gpuinfo.Auto(gpuinfo.AutoConfig{SMIPath: noSMI})
		for b.Loop() {
			if _, err := p.Snapshot(b.Context()); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("two-vendors", func(b *testing.B) {
		p := gpuinfo.Auto(gpuinfo.AutoConfig{SMIPath: noSMI, Root: tree(b, "two_vendors")})
		for b.Loop() {
			if _, err := p.Snapshot(b.Context()); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkParseSMI stands beside encoding/csv reading the same bytes.
func BenchmarkParseSMI(b *testing.B) {
	in, err := os.ReadFile("testdata/smi/h200x8.csv")
	if err != nil {
		b.Fatal(err)
	}
	b.Run("8gpu", func(b *testing.B) {
		b.SetBytes(int64(len(in)))
		for b.Loop() {
			if devices, _ := gpuinfo.ParseSMI(in, false); len(devices) != 8 {
				b.Fatal(len(devices))
			}
		}
	})
	b.Run("encoding-csv", func(b *testing.B) {
		b.SetBytes(int64(len(in)))
		for b.Loop() {
			r := csv.NewReader(bytes.NewReader(in))
			r.TrimLeadingSpace = true
			for {
				if _, err := r.Read(); err == io.EOF {
					break
				} else if err != nil {
					b.Fatal(err)
				}
			}
		}
	})
}

// BenchmarkCache answers from a kept snapshot of eight cards.
func BenchmarkCache(b *testing.B) {
	c := gpuinfo.NewCache(gpuinfo.Static(golden(b, "h200x8")), time.Hour)
	for b.Loop() {
		if _, err := c.Snapshot(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkToolCall is what the guard around the tool costs beside the bare tool.
func BenchmarkToolCall(b *testing.B) {
	csv, err := filepath.Abs("testdata/smi/h200x8.csv")
	if err != nil {
		b.Fatal(err)
	}
	path := filepath.Join(b.TempDir(), "nvidia-smi")
	if err := os.WriteFile(path, []byte("#!/bin/sh\nexec cat "+csv+"\n"), 0o755); err != nil {
		b.Fatal(err)
	}
	b.Run("bare", func(b *testing.B) {
		for b.Loop() {
			if _, err := exec.Command(path).Output(); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("ours", func(b *testing.B) {
		p := gpuinfo.NewSMIUnchecked(gpuinfo.AutoConfig{SMIPath: path})
		for b.Loop() {
			if s, err := p.Snapshot(b.Context()); err != nil || len(s.Devices) != 8 {
				b.Fatal(s.Reason, err)
			}
		}
	})
}
