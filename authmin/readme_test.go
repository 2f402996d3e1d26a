package authmin_test

import (
	"os"
	"strings"
	"testing"

	"github.com/llorch/llorch/authmin"
)

func page(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestReadmeExample: every line that the README shows stands in the example that
// is compiled and run, in that order.
func TestReadmeExample(t *testing.T) {
	_, shown, _ := strings.Cut(page(t, "README.md"), "```go\n")
	shown, _, _ = strings.Cut(shown, "```")
	_, rest, _ := strings.Cut(page(t, "example_test.go"), "func Example() {\n")
	rest, _, _ = strings.Cut(rest, "\n}\n")
	if strings.Count(shown, "\n") < 5 {
		t.Fatalf("the README shows %q", shown)
	}
	for line := range strings.Lines(shown) {
		var found bool
		if _, rest, found = strings.Cut(rest, "\t"+line); !found {
			t.Errorf("not in the example, or not there: %s", line)
		}
	}
}

// TestReadmeKeyFile: the key file that the README shows can be read.
func TestReadmeKeyFile(t *testing.T) {
	_, text, _ := strings.Cut(page(t, "README.md"), "```\n# ")
	text, _, _ = strings.Cut(text, "```")
	keys, err := authmin.ParseKeys([]byte("# "+text), "api")
	if err != nil || len(keys) != 2 {
		t.Fatalf("ParseKeys = %d keys, %v", len(keys), err)
	}
	if _, err := authmin.NewKeySet(keys...); err != nil {
		t.Error(err)
	}
}

// TestReadmeErrors: the table names every sentinel.
func TestReadmeErrors(t *testing.T) {
	for line := range strings.Lines(page(t, "errors.go")) {
		if name, _, ok := strings.Cut(strings.TrimSpace(line), " "); ok && strings.HasPrefix(name, "Err") && !strings.Contains(page(t, "README.md"), "`"+name+"`") {
			t.Errorf("the README does not name %s", name)
		}
	}
}
