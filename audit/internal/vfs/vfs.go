// Package vfs is the narrow door between the log and a disk: one directory,
// files written at explicit offsets, and every durability step as its own call,
// so that a test can make each of them fail.
package vfs

import (
	"errors"
	"io"
	"io/fs"
)

// Conditions that callers branch on.
var (
	ErrLocked     = errors.New("audit: directory is in use")
	ErrUnsafePath = errors.New("audit: unsafe path")
)

// FS is one directory tree. Names are slash-separated, relative, without dots.
// A name is durable only after SyncDir of the folder that holds it; "." is the
// directory itself. Missing names are fs.ErrNotExist.
type FS interface {
	// Lock takes the exclusive lock of the directory, else ErrLocked. The text
	// is written into the lock file for people to read.
	Lock(name, text string) (io.Closer, error)
	// Create makes a regular file of mode 0600 and refuses an existing name.
	Create(name string) (File, error)
	// Open opens an existing file for reading, and for writing if write is set.
	Open(name string, write bool) (File, error)
	Rename(from, to string) error
	Remove(name string) error
	// Mkdir makes a folder of mode 0700; an existing one is no error.
	Mkdir(name string) error
	// List returns the regular files of the directory itself, sorted by name.
	List() ([]Entry, error)
	SyncDir(folder string) error
	// Linked reports whether name still is the file f.
	Linked(name string, f File) (bool, error)
	// Free returns the bytes that this process may still write.
	Free() (int64, error)
	Close() error
}

// Entry is a file in a listing.
type Entry struct {
	Name string
	Size int64
}

// File is an open file. Writes may fall short only with an error.
type File interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
	Truncate(size int64) error
	Sync() error
	Chmod(mode fs.FileMode) error
}
