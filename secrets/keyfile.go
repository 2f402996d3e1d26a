package secrets

import (
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"strings"
)

// maxKeyFile bounds a key file; the longest form is 64 digits and a newline.
const maxKeyFile = 1 << 10

// EnsureKeyFile returns the key in the file name directly beneath root. If there
// is none it makes one first, 64 hex digits and a newline with mode 0600, and
// reports true. The file appears whole or not at all and is durable before the
// call returns; processes that race agree on one key. A file that is there but
// empty, malformed or open to others is an error and is never replaced. On
// systems without flock only one process may create.
func EnsureKeyFile(root *os.Root, name string) (Key, bool, error) {
	return ensureKeyFile(root, name, func(string) error { return nil })
}

// ensureKeyFile calls before with the name of each step, so that tests can end the
// process or fail there.
func ensureKeyFile(root *os.Root, name string, before func(step string) error) (Key, bool, error) {
	if name == "" || name == "." || name == ".." || strings.ContainsAny(name, "/\\\x00") {
		return Key{}, false, fault("create", ErrFormat, "the name of a key file has no directory in it")
	}
	dir, err := root.Open(".")
	if err != nil {
		return Key{}, false, system("create", root.Name(), err)
	}
	defer dir.Close() // also ends the lock
	if err := lock(dir); err != nil {
		return Key{}, false, system("create", root.Name(), err)
	}
	k, err := readKey(root, name)
	switch {
	case err == nil: // whoever created it may have died before this
		if err := step(before, "sync directory", dir.Sync); err != nil {
			return Key{}, false, system("create", name, err)
		}
		return k, false, nil
	case !errors.Is(err, ErrNotFound):
		return Key{}, false, err
	}
	if err := createKey(root, dir, name, before); err != nil {
		return Key{}, false, system("create", name, err)
	}
	k, err = readKey(root, name)
	return k, err == nil, err
}

// step does one step of a durable write.
func step(before func(string) error, name string, do func() error) error {
	if err := before(name); err != nil {
		return err
	}
	return do()
}

func readKey(root *os.Root, name string) (Key, error) {
	r := reading{path: root.Name() + string(os.PathSeparator) + name, rules: Rules{MaxBytes: maxKeyFile, Binary: true}, step: func(string, []byte) {}}
	s, _, err := r.from(root, name)
	if err != nil {
		return Key{}, err
	}
	defer s.Destroy()
	return ParseKey(s)
}

// createKey writes beside and renames, under the lock of dir. What a crash left
// beside is thrown away by the next call.
func createKey(root *os.Root, dir *os.File, name string, before func(step string) error) error {
	beside := "." + name + ".new"
	if err := root.Remove(beside); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	var f *os.File
	defer func() { _ = f.Close() }() // what matters was synced
	for _, s := range []struct {
		name string
		do   func() error
	}{
		{"create", func() (err error) {
			f, err = root.OpenFile(beside, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
			return err
		}},
		{"write", func() error { return writeKey(f) }},
		{"sync file", func() error { return f.Sync() }},
		{"rename", func() error { return root.Rename(beside, name) }},
		{"sync directory", dir.Sync},
	} {
		if err := step(before, s.name, s.do); err != nil {
			return err
		}
	}
	return nil
}

// writeKey writes the hex digits of a new key.
func writeKey(f *os.File) error {
	k, err := GenerateKey()
	if err != nil {
		return err
	}
	defer k.Destroy()
	return k.Use(func(b *[32]byte) error {
		text := append(hex.AppendEncode(make([]byte, 0, 2*keyLen+1), b[:]), '\n')
		defer clear(text)
		_, err := f.Write(text)
		return err
	})
}
