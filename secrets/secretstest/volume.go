package secretstest

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"testing"
)

// Volume is a directory like a mounted volume of a container platform:
//
//	token   -> ..data/token
//	..data  -> ..1
//	..1/token
//
// Its methods are for one goroutine; what it holds may be read at any time.
type Volume struct {
	Dir string // absolute

	t          testing.TB
	generation int
}

// Projected returns a Volume that holds the files.
func Projected(t testing.TB, files map[string]string) *Volume {
	t.Helper()
	v := &Volume{Dir: t.TempDir(), t: t}
	if err := os.Chmod(v.Dir, 0o755); err != nil {
		t.Fatal(err)
	}
	v.Swap(files)
	return v
}

// Path returns the path of a file, present or not.
func (v *Volume) Path(name string) string { return filepath.Join(v.Dir, name) }

// Swap replaces all files at once, as the platform does: a new generation is
// written beside, one rename makes it the present one, and the old one is removed.
func (v *Volume) Swap(files map[string]string) {
	v.t.Helper()
	v.generation++
	if err := v.swap(files, ".."+strconv.Itoa(v.generation), ".."+strconv.Itoa(v.generation-1)); err != nil {
		v.t.Fatalf("swap the volume: %v", err)
	}
}

func (v *Volume) swap(files map[string]string, next, last string) error {
	if err := os.Mkdir(v.Path(next), 0o755); err != nil {
		return err
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(v.Path(next), name), []byte(text), 0o400); err != nil {
			return err
		}
	}
	beside := v.Path("..data_tmp")
	if err := errors.Join(os.Symlink(next, beside), os.Rename(beside, v.Path("..data"))); err != nil {
		return err
	}
	for name := range files {
		if err := os.Symlink(filepath.Join("..data", name), v.Path(name)); err != nil && !errors.Is(err, os.ErrExist) {
			return err
		}
	}
	old, err := os.ReadDir(v.Path(last))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	for _, f := range old {
		if _, still := files[f.Name()]; !still {
			err = errors.Join(err, os.Remove(v.Path(f.Name())))
		}
	}
	return errors.Join(err, os.RemoveAll(v.Path(last)))
}
