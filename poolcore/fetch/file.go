package fetch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"

	"github.com/llorch/llorch/inputvalidation"
)

// LocalFileConfig configures [LocalFile].
type LocalFileConfig struct {
	// AllowedDirs are absolute. A reference is looked for in each, in this order;
	// with none nothing is allowed.
	AllowedDirs []string
}

// LocalFile returns a source for references of scheme file: regular files below
// the allowed folders, reached without any link. They are copied, and hashed like
// everything else.
func LocalFile(cfg LocalFileConfig) Source { return &local{cfg.AllowedDirs} }

type local struct{ dirs []string }

// Resolve looks for the file and, if it is a part of a split model, for the others.
func (l *local) Resolve(_ context.Context, ref inputvalidation.ModelRef, _ Options) (Plan, error) {
	plan := Plan{URL: "file:" + ref.Path()}
	for _, p := range SplitParts(ref.Path()) {
		f, fi, err := l.open(p)
		if err != nil {
			return Plan{}, at(err, path.Base(p))
		}
		_ = f.Close() // read only: nothing can be lost
		plan.Files = append(plan.Files, File{Path: path.Base(p), Size: fi.Size(), ETag: stamp(fi), URL: "file:" + p})
	}
	return plan, nil
}

// stamp tells one content of a file from another as far as that can be without
// reading it.
func stamp(fi fs.FileInfo) string { return fmt.Sprintf("%d-%d", fi.Size(), fi.ModTime().UnixNano()) }

// open opens the file in the first folder that has it.
func (l *local) open(p string) (*os.File, fs.FileInfo, error) {
	rel, err := inputvalidation.ParseRelPath("path", p)
	if err != nil {
		return nil, nil, &Error{Code: HostNotAllowed, Hint: "the path is refused"}
	}
	for _, dir := range l.dirs {
		tree, err := inputvalidation.OpenTree(dir, inputvalidation.TreeConfig{})
		if err != nil {
			return nil, nil, &Error{Code: Storage, Hint: "an allowed folder can not be opened"}
		}
		f, fi, err := tree.Open(rel)
		_ = tree.Close() // the file stays open
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, nil, &Error{Code: HostNotAllowed, Hint: "there stands no regular file that may be read"}
		}
		return f, fi, nil
	}
	return nil, nil, &Error{Code: EntryNotFound, Hint: "no allowed folder has this file"}
}

// Open opens the file at a byte.
func (l *local) Open(_ context.Context, f File, from int64, _ string) (*Body, error) {
	file, fi, err := l.open(f.URL[len("file:"):])
	if err != nil {
		return nil, err
	}
	if stamp(fi) == f.ETag {
		if _, err = file.Seek(from, io.SeekStart); err == nil {
			return &Body{ReadCloser: file, Start: from, Total: fi.Size(), Ended: true}, nil
		}
	} else {
		err = &Error{Code: Changed, Retriable: true, Hint: "the file has changed since it was looked at"}
	}
	_ = file.Close() // read only: nothing can be lost
	return nil, storageError(err)
}
