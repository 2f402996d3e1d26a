package secrets

import "os"

// EnsureKeyFileSteps is EnsureKeyFile with a look at each step.
func EnsureKeyFileSteps(root *os.Root, name string, before func(step string)) (Key, bool, error) {
	return ensureKeyFile(root, name, before)
}
