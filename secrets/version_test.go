//go:build unix

package secrets_test

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"github.com/llorch/llorch/secrets"
)

func versionOf(t *testing.T, text string) string {
	t.Helper()
	_, m, err := secrets.ReadFile(t.Context(), put(t, text), secrets.Rules{})
	if err != nil {
		t.Fatal(err)
	}
	return m.Version
}

// SCR-6: versions compare contents inside one process and nothing else: another
// process, or a hash of a guess, gives another one.
func TestVersion(t *testing.T) {
	const inside = "LLORCH_SECRETS_VERSION"
	if os.Getenv(inside) != "" {
		fmt.Println("version=" + versionOf(t, "content"))
		return
	}
	version := versionOf(t, "content")
	if !regexp.MustCompile("^[0-9a-f]{8}$").MatchString(version) {
		t.Errorf("version %q", version)
	}
	if again := versionOf(t, "content\n"); again != version {
		t.Errorf("versions %s and %s of one content", version, again)
	}
	if other := versionOf(t, "Content"); other == version {
		t.Errorf("one version of two contents: %s", version)
	}
	if sum := sha256.Sum256([]byte("content")); strings.HasPrefix(hex.EncodeToString(sum[:]), version) {
		t.Error("a guess can be confirmed with SHA-256")
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestVersion$")
	cmd.Env = append(os.Environ(), inside+"=1")
	out, err := cmd.Output()
	if err != nil || !strings.Contains(string(out), "version=") || strings.Contains(string(out), version) {
		t.Errorf("version %s; another process said %s, %v", version, out, err)
	}
}
