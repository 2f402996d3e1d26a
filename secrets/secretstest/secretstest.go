// Package secretstest helps to test programs that load secrets: directories as
// package secrets accepts them, a mounted volume that can be swapped, keys that are
// the same in every run, and a search for leaks.
//
// Everything fails the test that it was given instead of returning an error.
package secretstest

import (
	"crypto/sha256"
	"encoding/binary"
	"os"
	"path/filepath"
	"testing"

	"github.com/llorch/llorch/secrets"
)

// Dir returns a private directory with one private file per entry, of the given
// content. It ends with the test.
func Dir(t testing.TB, files map[string]string) string {
	t.Helper()
	return fill(t, t.TempDir(), files, 0o600)
}

// Credentials returns an environment, for [secrets.Config.LookupEnv], that holds
// nothing but CREDENTIALS_DIRECTORY, and there one credential per entry.
func Credentials(t testing.TB, files map[string]string) (lookup func(string) (string, bool)) {
	t.Helper()
	dir := fill(t, t.TempDir(), files, 0o440)
	return func(name string) (string, bool) {
		if name != "CREDENTIALS_DIRECTORY" {
			return "", false
		}
		return dir, true
	}
}

// Key returns a key that depends on seed alone. It is for tests: whoever knows the
// seed knows the key.
func Key(seed uint64) secrets.Key {
	sum := sha256.Sum256(binary.BigEndian.AppendUint64([]byte("a key for tests "), seed))
	k, err := secrets.NewKey(sum[:])
	if err != nil {
		panic("secretstest: " + err.Error()) // 32 bytes are a key
	}
	return k
}

// fill writes files of that mode, whatever the umask is.
func fill(t testing.TB, dir string, files map[string]string, mode os.FileMode) string {
	t.Helper()
	if err := os.Chmod(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}
