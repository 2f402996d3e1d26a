package inputvalidation_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/llorch/llorch/inputvalidation"
)

// versus measures ours beside what a program would write without this module,
// in turns, so that a busy machine disturbs both alike. It reports the quickest
// turn of each, in ns/op and naive-ns/op, and their ratio.
func versus(b *testing.B, perTurn int, ours, naive func()) {
	b.Helper()
	turn := func(do func()) float64 {
		start := time.Now()
		for range perTurn {
			do()
		}
		return float64(time.Since(start).Nanoseconds()) / float64(perTurn)
	}
	best, bestNaive := math.Inf(1), math.Inf(1)
	for b.Loop() {
		best, bestNaive = min(best, turn(ours)), min(bestNaive, turn(naive))
	}
	b.ReportMetric(best, "ns/op")
	b.ReportMetric(bestNaive, "naive-ns/op")
	b.ReportMetric(best/bestNaive, "ratio")
}

// BenchmarkEscape: beside strconv.Quote.
func BenchmarkEscape(b *testing.B) {
	for name, s := range map[string]string{
		"clean-ascii128": strings.Repeat("clean... ", 15)[:128],
		"dirty128":       strings.Repeat("\x1b[31m\u202e\\\xff..", 16)[:128],
	} {
		b.Run(name, func(b *testing.B) {
			versus(b, 200, func() { _ = inputvalidation.Escape(s) }, func() { _ = strconv.Quote(s) })
		})
	}
}

// BenchmarkParsePrompt: beside utf8.ValidString, utf8.RuneCountInString and a
// search for NUL.
func BenchmarkParsePrompt(b *testing.B) {
	s := strings.Repeat("The quick brown fox. ", 200)[:4096]
	b.Run("4KiB", func(b *testing.B) {
		versus(b, 50, func() {
			if _, err := inputvalidation.ParsePrompt("prompt", s, 0, 0); err != nil {
				b.Fatal(err)
			}
		}, func() {
			if !utf8.ValidString(s) || utf8.RuneCountInString(s) > 100_000 || strings.IndexByte(s, 0) >= 0 {
				b.Fatal("invalid")
			}
		})
	})
}

// BenchmarkTreeOpen: beside os.Root.Open, which follows links and opens
// anything.
func BenchmarkTreeOpen(b *testing.B) {
	root := b.TempDir()
	if err := os.MkdirAll(filepath.Join(root, "d/e"), 0o755); err != nil {
		b.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(root, "d/e/f"), nil, 0o600); err != nil {
		b.Fatal(err)
	}
	tree := openTree(b, root, inputvalidation.TreeConfig{})
	p := relPath(b, "d/e/f")
	plain, err := os.OpenRoot(root)
	if err != nil {
		b.Fatal(err)
	}
	defer plain.Close()
	b.Run("depth3", func(b *testing.B) {
		versus(b, 20, func() {
			f, _, err := tree.Open(p)
			if err != nil {
				b.Fatal(err)
			}
			_ = f.Close() // read only: nothing can be lost
		}, func() {
			f, err := plain.Open("d/e/f")
			if err != nil {
				b.Fatal(err)
			}
			_ = f.Close()
		})
	})
}

// BenchmarkCheckJSON: beside json.Valid and decoding into any, which find
// neither duplicates nor damaged text.
func BenchmarkCheckJSON(b *testing.B) {
	var body bytes.Buffer
	body.WriteString(`{"model":"m","messages":[`)
	for i := 0; body.Len() < 64<<10; i++ {
		if i > 0 {
			body.WriteByte(',')
		}
		fmt.Fprintf(&body, `{"role":"user","content":"line %d\n%s","n":%d}`, i, strings.Repeat("some words ", 20), i)
	}
	body.WriteString(`]}`)
	raw := body.Bytes()
	b.Run("64KiB", func(b *testing.B) {
		versus(b, 1, func() {
			if err := inputvalidation.CheckJSON("body", raw, 0); err != nil {
				b.Fatal(err)
			}
		}, func() {
			var v any
			if !json.Valid(raw) || json.Unmarshal(raw, &v) != nil {
				b.Fatal("invalid")
			}
		})
	})
}
