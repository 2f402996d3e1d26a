package secrets

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"unicode"
	"unicode/utf8"
)

// defaultMaxBytes bounds files where Rules do not.
const defaultMaxBytes = 1 << 20

// Rules say what a file may hold and where it may lie. The zero value is one line
// of text of at most 1 MiB, anywhere.
type Rules struct {
	// MaxBytes bounds the file. 0 = 1 MiB.
	MaxBytes int64
	// Binary takes the bytes as they are. Otherwise the file is one line: exactly
	// one trailing newline is removed, and what copy and paste leaves behind
	// (blanks around it, control characters, a byte order mark) is [ErrFormat].
	Binary bool
	// Root is the absolute path of a directory that the file must lie beneath.
	// "" = anywhere.
	Root string
}

// ReadFile reads the secret in the file at path, which is absolute and clean. The
// file is judged and read through one descriptor; see the package comment for
// the rules. A missing file is [ErrNotFound].
func ReadFile(ctx context.Context, path string, r Rules) (Secret, Meta, error) {
	if err := ctx.Err(); err != nil {
		return Secret{}, Meta{}, fmt.Errorf("read secret: %w", err)
	}
	if err := cleanPath(path); err != nil {
		return Secret{}, Meta{}, err
	}
	root, err := openDir(filepath.Dir(path), path, r.Root)
	if err != nil {
		return Secret{}, Meta{}, err
	}
	defer root.Close()
	return readIn(root, filepath.Base(path), r, path)
}

// openDir opens dir, beneath top if there is one.
func openDir(dir, path, top string) (*os.Root, error) {
	if top == "" {
		root, err := os.OpenRoot(dir)
		if err != nil {
			return nil, system("read", path, err)
		}
		return root, nil
	}
	rel, err := filepath.Rel(top, dir)
	if err != nil || !filepath.IsLocal(rel) {
		e := fault("read", ErrPermission, "it lies outside of the directory that is allowed")
		e.Path = path
		return nil, e
	}
	above, err := os.OpenRoot(top)
	if err != nil {
		return nil, system("read", top, err)
	}
	defer above.Close()
	root, err := above.OpenRoot(rel)
	if err != nil {
		return nil, system("read", path, err)
	}
	return root, nil
}

// readIn reads name directly beneath root; path is only told to people.
func readIn(root *os.Root, name string, r Rules, path string) (Secret, Meta, error) {
	b, m, err := readBytes(root, name, r, path)
	defer clear(b[:cap(b)])
	if err != nil {
		return Secret{}, Meta{}, err
	}
	if !r.Binary {
		line, reason := oneLine(b)
		if reason != "" {
			e := fault("read", ErrFormat, reason)
			e.Path = path
			return Secret{}, Meta{}, e
		}
		b = line
	}
	s := New(b)
	m.Version = version(s)
	return s, m, nil
}

// readBytes returns the content; the caller wipes it, also beside an error.
func readBytes(root *os.Root, name string, r Rules, path string) ([]byte, Meta, error) {
	refuse := func(kind error, reason string) ([]byte, Meta, error) {
		e := fault("read", kind, reason)
		e.Path = path
		return nil, Meta{}, e
	}
	dir, err := root.Stat(".")
	if err != nil {
		return nil, Meta{}, system("read", path, err)
	}
	before, err := root.Lstat(name)
	if err != nil {
		return nil, Meta{}, system("read", path, err)
	}
	if before.Mode().Type() == fs.ModeSymlink {
		return refuse(ErrPermission, "it is a symbolic link; name the file itself")
	}
	if !before.Mode().IsRegular() {
		return refuse(ErrFormat, "it is not a regular file")
	}
	f, err := root.OpenFile(name, openFlags, 0)
	if err != nil {
		return nil, Meta{}, system("read", path, err)
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return nil, Meta{}, system("read", path, err)
	}
	if !os.SameFile(before, fi) || !fi.Mode().IsRegular() {
		return refuse(ErrPermission, "it was replaced while it was opened")
	}
	warning, e := judge(dir, fi, path)
	if e != nil {
		return nil, Meta{}, e
	}
	limit := r.MaxBytes
	if limit == 0 {
		limit = defaultMaxBytes
	}
	if fi.Size() == 0 {
		return refuse(ErrFormat, "it is empty")
	}
	if fi.Size() > limit {
		return refuse(ErrFormat, fmt.Sprintf("it is longer than %d bytes", limit))
	}
	b := make([]byte, fi.Size()+1)
	n, err := io.ReadFull(f, b)
	switch {
	case err != nil && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF):
		return b, Meta{}, system("read", path, err)
	case int64(n) != fi.Size():
		clear(b)
		return refuse(ErrFormat, "it changed while it was read")
	}
	return b[:n], Meta{Origin: "file", Path: path, Warning: warning, ModTime: fi.ModTime()}, nil
}

// cleanPath checks the form of a path, before anything is opened.
func cleanPath(path string) error {
	if filepath.IsAbs(path) && filepath.Clean(path) == path && !strings.Contains(path, "\x00") && filepath.Base(path) != string(filepath.Separator) {
		return nil
	}
	return fault("read", ErrFormat, "its path is not absolute and clean")
}

// oneLine returns b without its one trailing newline, or what is wrong with it.
func oneLine(b []byte) (line []byte, reason string) {
	line = trimNewline(b)
	switch {
	case len(line) == 0:
		return nil, "it is empty"
	case bytes.HasPrefix(line, []byte("\ufeff")):
		return nil, "it begins with a byte order mark; save it as plain UTF-8"
	case !utf8.Valid(line):
		return nil, "it is not valid UTF-8"
	case bytes.ContainsFunc(line, unicode.IsControl):
		return nil, "it holds a control character or more than one line"
	}
	first, _ := utf8.DecodeRune(line)
	last, _ := utf8.DecodeLastRune(line)
	if unicode.IsSpace(first) || unicode.IsSpace(last) {
		return nil, "it begins or ends with a blank"
	}
	return line, ""
}

// trimNewline removes one LF or CRLF.
func trimNewline(b []byte) []byte {
	if rest, ok := bytes.CutSuffix(b, []byte("\r\n")); ok {
		return rest
	}
	return bytes.TrimSuffix(b, []byte("\n"))
}
