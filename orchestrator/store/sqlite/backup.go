package sqlite

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// Backup writes a copy of the store, as of now, to a new file at path with mode
// 0600; writers go on meanwhile. An existing file is [io/fs.ErrExist], and a failed
// backup leaves none. The copy holds sealed bodies and the wrapped keys to them,
// also those of persons who are erased later. Whoever puts it in the place of the
// store must lead with LeaseRequest.Seen, and then Force.
func (s *Store) Backup(ctx context.Context, path string) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("back up store: %w", err)
	}
	if err := s.enter(); err != nil {
		return fmt.Errorf("back up store: %w", err)
	}
	defer s.gate.RUnlock()
	root, err := os.OpenRoot(filepath.Dir(path))
	if err != nil {
		return fmt.Errorf("back up store: open directory: %w", err)
	}
	defer root.Close()
	name := filepath.Base(path)
	file, err := root.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600) // the engine fills an empty file
	if err != nil {
		return fmt.Errorf("back up store: make file: %w", err)
	}
	err = s.copyTo(ctx, path)
	if err == nil {
		err = errors.Join(file.Sync(), syncDir(root))
	}
	if err = errors.Join(err, file.Close()); err != nil {
		return fmt.Errorf("back up store: %w", errors.Join(err, root.Remove(name)))
	}
	return nil
}

// copyTo fills an empty file over a connection of its own: the readers may not write.
func (s *Store) copyTo(ctx context.Context, path string) error {
	db := openPool(s.path, []string{"busy_timeout=5000", "mmap_size=0"}, 1)
	_, err := db.ExecContext(ctx, "VACUUM INTO ?", path)
	if ctx.Err() != nil { // the engine's own word for it is "interrupted"
		err = ctx.Err()
	}
	return errors.Join(classify(err), db.Close())
}

// syncDir makes the name of a new file durable.
func syncDir(root *os.Root) error {
	dir, err := root.Open(".")
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
