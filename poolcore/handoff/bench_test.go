package handoff_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	. "github.com/llorch/llorch/poolcore/handoff"
)

// BenchmarkLook is the first look at 64 files and a later one, beside the same with os.ReadFile and
// encoding/json, which believes links, FIFOs, anybody's files and half of one.
func BenchmarkLook(b *testing.B) {
	const n = 64
	root, dir := openDir(b)
	for i := range n {
		f := version(i)
		f.ReplicaID = fmt.Sprintf("r%d", i)
		if err := Write(root, f); err != nil {
			b.Fatal(err)
		}
	}
	b.Run("watch", func(b *testing.B) {
		for b.Loop() {
			seen := 0
			for _, err := range Watch(b.Context(), WatchConfig{Dir: dir}) {
				if err != nil {
					b.Fatal(err)
				}
				if seen++; seen == n {
					break
				}
			}
		}
	})
	b.Run("watch unchanged", func(b *testing.B) {
		look, err := Looks(WatchConfig{Dir: dir})
		if err != nil {
			b.Fatal(err)
		}
		for b.Loop() {
			if seen, err := look(); err != nil || seen != n {
				b.Fatal(seen, err)
			}
		}
	})
	b.Run("naive", func(b *testing.B) {
		for b.Loop() {
			paths, err := filepath.Glob(filepath.Join(dir, "*.json"))
			if err != nil || len(paths) != n {
				b.Fatal(err)
			}
			for _, path := range paths {
				data, err := os.ReadFile(path)
				if err != nil {
					b.Fatal(err)
				}
				var f File
				if err := json.Unmarshal(data, &f); err != nil {
					b.Fatal(err)
				}
			}
		}
	})
}
