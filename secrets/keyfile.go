package secrets

import (
	"crypto/rand"
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
// call returns; processes that race agree on one key, without locks. A file that
// is there, even one that appears meanwhile, is never replaced: empty, malformed
// or open to others it is an error. The directory must be readable, and its file
// system must know hard links. Files beside it named .NAME.*.new, where * is 26
// characters, are those of a call that died, and are removed.
func EnsureKeyFile(root *os.Root, name string) (Key, bool, error) {
	return ensureKeyFile(root, name, func(string) error { return nil })
}

// ensureKeyFile calls before with the name of each step, so that tests can end the
// process or fail there.
func ensureKeyFile(root *os.Root, name string, before func(step string) error) (k Key, created bool, err error) {
	if name == "" || name == "." || name == ".." || strings.ContainsAny(name, "/\\\x00") {
		return Key{}, false, fault("create", ErrFormat, "the name of a key file has no directory in it")
	}
	dir, err := root.Open(".")
	if err != nil {
		return Key{}, false, system("create", root.Name(), err)
	}
	defer dir.Close() // was only synced
	k, err = readKey(root, name)
	if errors.Is(err, ErrNotFound) {
		if created, err = createKey(root, name, before); err != nil {
			return Key{}, false, system("create", name, err)
		}
		k, err = readKey(root, name)
	}
	if err != nil {
		return Key{}, false, err
	}
	// Also if it was there: whoever created it may have died before this.
	if err = before("sync directory"); err == nil {
		err = dir.Sync()
	}
	if err != nil {
		k.Destroy()
		return Key{}, false, system("create", name, err)
	}
	return k, created, nil
}

func readKey(root *os.Root, name string) (Key, error) {
	r := reading{path: root.Name() + string(os.PathSeparator) + name, rules: Rules{MaxBytes: maxKeyFile, Binary: true}, step: noStep}
	s, _, err := r.from(root, name)
	if errors.Is(err, ErrPermission) { // whoever created it may still have two names for it
		sweep(root, name)
		s, _, err = r.from(root, name)
	}
	if err != nil {
		return Key{}, err
	}
	defer s.Destroy()
	return ParseKey(s)
}

// createKey writes beside and links, so that nothing is ever replaced. It reports
// whether the file called name is the one that it wrote.
func createKey(root *os.Root, name string, before func(step string) error) (created bool, err error) {
	beside := newName(name)
	step := func(name string, do func() error) {
		if err == nil {
			err = before(name)
		}
		if err == nil {
			err = do()
		}
	}
	var f *os.File
	defer func() { _ = f.Close() }() // what matters was synced
	step("create", func() (err error) {
		f, err = root.OpenFile(beside, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		return err
	})
	step("write", func() error { return writeKey(f) })
	step("sync file", func() error { return f.Sync() })
	step("link", func() error {
		err := root.Link(beside, name)
		created = err == nil
		if _, none := root.Lstat(name); none == nil { // if it is another process's, that may have swept
			return nil
		}
		return err
	})
	step("remove", func() error { sweep(root, name); return nil })
	if err != nil {
		_ = root.Remove(beside) // unless it was never made
	}
	return created, err
}

// newName returns a new name for a key file that is not linked yet.
func newName(name string) string { return "." + name + "." + rand.Text() + ".new" }

// sweep removes what calls left beside name that have died, or have lost the race
// for it: name is there.
func sweep(root *os.Root, name string) {
	left, _ := fs.ReadDir(root.FS(), ".") // what stays beside a good key does no harm
	for _, f := range left {
		n := f.Name()
		if strings.HasPrefix(n, "."+name+".") && strings.HasSuffix(n, ".new") && len(n) == len(newName(name)) {
			_ = root.Remove(n)
		}
	}
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
