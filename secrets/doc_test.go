//go:build unix

package secrets_test

import (
	"os"
	"strings"
	"testing"
)

// SCR-30: both the package comment and the README list what is wiped and what is
// not.
func TestHonestLimits(t *testing.T) {
	for _, name := range []string{"doc.go", "README.md"} {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		text := strings.Join(strings.Fields(strings.NewReplacer("//", "", "`", "").Replace(string(b))), " ")
		_, list, found := strings.Cut(text, "Not wiped:")
		if !found {
			t.Fatalf("%s has no list of what is not wiped", name)
		}
		for _, wiped := range []string{"payloads", "read buffers", "decode buffers", "HKDF"} {
			before, _, _ := strings.Cut(text, "Not wiped:")
			if _, sentence, _ := strings.Cut(before, "Wiped "); !strings.Contains(sentence, wiped) {
				t.Errorf("%s does not say that this is wiped: %s", name, wiped)
			}
		}
		for _, not := range []string{
			"strings made by callers", "net/http headers", "TLS", "bufio buffers", "goroutine stacks moved by growth", "key schedules inside crypto/aes",
			"until collected", "page cache", "swap", "hibernation images", "core dumps", "environment block", "/proc/<pid>/environ", "another process",
		} {
			if !strings.Contains(list, not) {
				t.Errorf("%s does not say that this is not wiped: %s", name, not)
			}
		}
	}
}
