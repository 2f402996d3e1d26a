package sqlite

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/llorch/llorch/orchestrator/store"
)

type files struct {
	path    string // absolute
	lock    *os.File
	unclean bool // the last owner did not close the store
}

// openFiles makes what is missing, takes the lock and sets the modes before
// SQLite sees the file: its log and index inherit the file's mode.
func openFiles(path string) (f files, err error) {
	if f.path, err = filepath.Abs(path); err != nil {
		return f, fmt.Errorf("resolve path: %w", err)
	}
	dir, name := filepath.Split(f.path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return f, fmt.Errorf("make directory: %w", err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return f, fmt.Errorf("open directory: %w", err)
	}
	defer root.Close()
	if err := checkDir(root); err != nil {
		return f, err
	}
	f.lock, err = root.OpenFile(name+".lock", os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return f, fmt.Errorf("open lock file: %w", err)
	}
	if err := lockFile(f.lock); err != nil {
		return f, errors.Join(err, f.lock.Close())
	}
	if err := checkFile(root, name); err != nil {
		return f, errors.Join(err, f.lock.Close())
	}
	// A clean close truncates the log.
	if wal, err := root.Stat(name + "-wal"); err == nil && wal.Size() > 0 {
		f.unclean = true
	}
	return f, nil
}

// checkDir refuses a directory in which others could replace the file.
func checkDir(root *os.Root) error {
	info, err := root.Stat(".")
	if err != nil {
		return fmt.Errorf("stat directory: %w", err)
	}
	if info.Mode().Perm()&0o022 != 0 {
		return fmt.Errorf("directory of the store is writable by others (mode %#o): %w", info.Mode().Perm(), fs.ErrPermission)
	}
	return nil
}

// header begins every SQLite file that holds anything.
const header = "SQLite format 3\x00"

// checkFile makes the file if it is missing, takes it from everybody else and
// refuses one that holds something else: the engine takes a short file for an
// empty one and would overwrite it.
func checkFile(root *os.Root, name string) error {
	file, err := root.OpenFile(name, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return fmt.Errorf("open file: %w", err)
	}
	return errors.Join(inspect(root, file, name), file.Close())
}

func inspect(root *os.Root, file *os.File, name string) error {
	info, err := file.Stat()
	if err != nil {
		return fmt.Errorf("stat file: %w", err)
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("path: not a regular file: %w", store.ErrInvalid)
	}
	if info.Mode().Perm()&0o077 != 0 {
		if err := file.Chmod(0o600); err != nil {
			return fmt.Errorf("set mode of file: %w", err)
		}
	}
	begin := make([]byte, min(info.Size(), int64(len(header))))
	if _, err := file.ReadAt(begin, 0); err != nil {
		return fmt.Errorf("read header of file: %w", err)
	}
	if len(begin) == 0 || string(begin) == header {
		return nil
	}
	if _, err := root.Stat(name + "-journal"); err == nil {
		return nil // cut off while it was made; the engine rolls it back
	}
	return fmt.Errorf("%w: the file is no SQLite database", store.ErrCorrupt)
}
