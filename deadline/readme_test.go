package deadline_test

import (
	"os"
	"strings"
	"testing"
)

// What the README shows is compiled: it stands in the examples, line by line.
func TestReadme(t *testing.T) {
	page, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	examples, err := os.ReadFile("example_test.go")
	if err != nil {
		t.Fatal(err)
	}
	code := strings.ReplaceAll(string(examples), "\n\t", "\n")
	parts := strings.Split(string(page), "```go\n")[1:]
	if len(parts) == 0 {
		t.Error("the README shows no code")
	}
	for _, part := range parts {
		shown, _, _ := strings.Cut(part, "```")
		if !strings.Contains(code, "\n"+shown) {
			t.Errorf("no example holds\n%s", shown)
		}
	}
}
