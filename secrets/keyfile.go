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
	return ensureKeyFile(root, name, func(string) {})
}

// ensureKeyFile calls before with the name of each step, so that tests can end the
// process there.
func ensureKeyFile(root *os.Root, name string, before func(step string)) (Key, bool, error) {
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
	if !errors.Is(err, ErrNotFound) {
		return k, false, err
	}
	if err := createKey(root, dir, name, before); err != nil {
		return Key{}, false, system("create", name, err)
	}
	k, err = readKey(root, name)
	return k, err == nil, err
}

func readKey(root *os.Root, name string) (Key, error) {
	s, _, err := readIn(root, name, Rules{MaxBytes: maxKeyFile, Binary: true}, root.Name()+string(os.PathSeparator)+name)
	if err != nil {
		return Key{}, err
	}
	defer s.Destroy()
	return ParseKey(s)
}

// createKey writes beside and renames, under the lock of dir. What a crash left
// beside is thrown away by the next call.
func createKey(root *os.Root, dir *os.File, name string, before func(step string)) error {
	beside := "." + name + ".new"
	if err := root.Remove(beside); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	before("create")
	f, err := root.OpenFile(beside, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	k, err := GenerateKey()
	if err != nil {
		return err
	}
	defer k.Destroy()
	before("write")
	err = k.Use(func(b *[32]byte) error {
		text := make([]byte, hex.EncodedLen(len(b))+1)
		defer clear(text)
		hex.Encode(text, b[:])
		text[len(text)-1] = '\n'
		_, err := f.Write(text)
		return err
	})
	if err != nil {
		return err
	}
	before("sync file")
	if err := f.Sync(); err != nil {
		return err
	}
	before("rename")
	if err := root.Rename(beside, name); err != nil {
		return err
	}
	before("sync directory")
	return dir.Sync()
}
