package orchestrator_test

import (
	"os"
	"slices"
	"strings"
	"testing"
)

// TestReadmeIsTheExample: every line of the README's program stands in the
// example that runs, in the same order.
func TestReadmeIsTheExample(t *testing.T) {
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	example, err := os.ReadFile("example_test.go")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, found := strings.Cut(string(readme), "```go\n")
	block, _, closed := strings.Cut(rest, "```")
	if !found || !closed {
		t.Fatal("the README has no Go program")
	}
	var code []string
	for line := range strings.Lines(string(example)) {
		code = append(code, strings.TrimSpace(line))
	}
	lines := 0
	for line := range strings.Lines(block) {
		line = strings.TrimSpace(line)
		at := slices.Index(code, line)
		if at < 0 {
			t.Fatalf("not in the example, or not in this order: %s", line)
		}
		code = code[at+1:]
		lines++
	}
	if lines < 10 {
		t.Errorf("the program of the README has %d lines", lines)
	}
}
