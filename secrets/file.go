package secrets

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Bounds of files where Rules set none, and of those that Rules may set: a file is
// held in memory as a whole.
const defaultMaxBytes, maxMaxBytes = 1 << 20, 64 << 20

// Rules say what a file may hold and where it may lie. The zero value is one line
// of text of at most 1 MiB, anywhere.
type Rules struct {
	// MaxBytes bounds the file, at most 64 MiB. 0 = 1 MiB.
	MaxBytes int64
	// Binary takes the bytes as they are. Otherwise the file is one line: exactly
	// one trailing newline is removed, and what copy and paste leaves behind
	// (blanks around it, control characters, a byte order mark) is [ErrFormat].
	Binary bool
	// Root is the absolute path of a directory that the file must lie beneath, and
	// that must be there: else the file is not absent, but [ErrPermission].
	// "" = anywhere. Credentials always lie beneath $CREDENTIALS_DIRECTORY instead.
	Root string
}

func (r Rules) check(op string) error {
	return errors.Join(wrong(r.MaxBytes < 0 || r.MaxBytes > maxMaxBytes, op, "Rules.MaxBytes is not within 0 and 64 MiB"),
		wrong(r.Root != "" && (!filepath.IsAbs(r.Root) || filepath.Clean(r.Root) != r.Root), op, "Rules.Root is not absolute and clean"))
}

// ReadFile reads the secret in the file at path, which is absolute and clean. The
// file is judged and read through one descriptor; see the package comment for
// the rules. A missing file is [ErrNotFound].
func ReadFile(ctx context.Context, path string, r Rules) (Secret, Meta, error) {
	return thisMachine(processEnv).readFile(ctx, path, r)
}

func (s site) readFile(ctx context.Context, path string, rules Rules) (Secret, Meta, error) {
	if err := ctx.Err(); err != nil {
		return Secret{}, Meta{}, fmt.Errorf("read secret: %w", err)
	}
	if err := errors.Join(cleanPath(path), rules.check("read")); err != nil {
		return Secret{}, Meta{}, err
	}
	p, top := s.place(path)
	root, err := openDir(path, rules.Root, top)
	if err != nil {
		return Secret{}, Meta{}, err
	}
	defer root.Close()
	r := reading{path: path, rules: rules, place: p, step: s.step}
	if r.volume = r.volumeIn(root); r.volume != nil {
		return r.fromVolume(root, filepath.Base(path))
	}
	return r.from(root, filepath.Base(path))
}

// reading is the read of one file.
type reading struct {
	path   string // told to people
	rules  Rules
	place  place
	volume fs.FileInfo // of the directory above a generation, if there is one
	step   func(name string, b []byte)
}

func (r reading) refusal(kind error, reason string) *Error {
	return fault("read", kind, reason).at(r.path)
}

// from reads name beneath root.
func (r reading) from(root *os.Root, name string) (Secret, Meta, error) {
	b, m, err := r.bytes(root, name)
	for i := 1; i < maxTries && errors.Is(err, errReplaced); i++ {
		b, m, err = r.bytes(root, name)
	}
	defer clear(b[:cap(b)])
	if err != nil {
		return Secret{}, Meta{}, err
	}
	text, reason := r.rules.content(b)
	if reason != "" {
		return Secret{}, Meta{}, r.refusal(ErrFormat, reason)
	}
	s := New(text)
	m.Version = version(s)
	return s, m, nil
}

// errReplaced is worth another try: most replace files by renaming.
var errReplaced = fmt.Errorf("replaced: %w", ErrPermission)

// bytes returns the content; the caller wipes it, also beside an error.
func (r reading) bytes(root *os.Root, name string) ([]byte, Meta, error) {
	dir, err := root.Stat(".")
	if err != nil {
		return nil, Meta{}, system("read", r.path, err)
	}
	f, fi, err := r.open(root, name)
	if err != nil {
		return nil, Meta{}, err
	}
	defer f.Close()
	warning, err := judge(r.place, os.Geteuid(), r.path, fi, dir, r.volume)
	if err != nil {
		return nil, Meta{}, err
	}
	limit := cmp.Or(r.rules.MaxBytes, defaultMaxBytes)
	if fi.Size() > limit {
		return nil, Meta{}, r.refusal(ErrFormat, fmt.Sprintf("it is longer than %d bytes", limit))
	}
	b := make([]byte, fi.Size()+1)
	r.step("judged", b)
	n, err := io.ReadFull(f, b)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) {
		return b, Meta{}, system("read", r.path, err)
	}
	after, err := f.Stat()
	if err != nil || int64(n) != fi.Size() || !after.ModTime().Equal(fi.ModTime()) {
		return b, Meta{}, r.refusal(ErrFormat, "it changed while it was read")
	}
	return b[:n], Meta{Origin: "file", Path: r.path, Warning: warning, ModTime: fi.ModTime()}, nil
}

// open returns a regular file, the very one that name named before: a handle
// alone would follow a link in the last place.
func (r reading) open(root *os.Root, name string) (*os.File, fs.FileInfo, error) {
	found, err := root.Lstat(name)
	if err == nil && found.Mode().Type() == fs.ModeSymlink {
		if !r.place.mounted {
			return nil, nil, r.refusal(ErrPermission, "it is a symbolic link; name the file itself")
		}
		if foreign(r.place, found) {
			return nil, nil, r.refusal(ErrPermission, "a link to it was made by another user")
		}
		if found, err = root.Stat(name); errors.Is(err, fs.ErrNotExist) {
			return nil, nil, r.dangling()
		}
	}
	if err != nil {
		return nil, nil, system("read", r.path, err)
	}
	if kind := found.Mode().Type(); kind != 0 { // opening a device may do something
		what := map[fs.FileMode]string{fs.ModeDir: "a directory", fs.ModeNamedPipe: "a FIFO"}
		return nil, nil, r.refusal(ErrFormat, "it is "+cmp.Or(what[kind], "not a regular file"))
	}
	r.step("found", nil)
	f, err := root.OpenFile(name, openFlags, 0)
	if err != nil {
		return nil, nil, system("read", r.path, err)
	}
	r.step("opened", nil)
	fi, err := f.Stat()
	if err != nil || !fi.Mode().IsRegular() || !os.SameFile(found, fi) {
		_ = f.Close()
		return nil, nil, r.refusal(errReplaced, "it was replaced while it was opened")
	}
	return f, fi, nil
}

// cleanPath checks the form of a path, before anything is opened.
func cleanPath(path string) error {
	if filepath.IsAbs(path) && filepath.Clean(path) == path && !strings.Contains(path, "\x00") && filepath.Base(path) != string(filepath.Separator) {
		return nil
	}
	return fault("read", ErrFormat, "its path is not absolute and clean")
}
