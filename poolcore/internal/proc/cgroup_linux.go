package proc

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"
)

// Cgroup is the cgroup v2 folder of one worker, below a folder that was delegated
// to this program.
type Cgroup struct{ dir string }

// NewCgroup returns the folder name below dir and makes it if there is none. It is
// an error where dir is no cgroup v2 folder that can be written.
func NewCgroup(dir, name string) (*Cgroup, error) {
	c := &Cgroup{dir: filepath.Join(dir, name)}
	if err := os.Mkdir(c.dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("make cgroup: %w", err)
	}
	if _, err := os.Stat(filepath.Join(c.dir, "cgroup.kill")); err != nil {
		c.Discard()
		return nil, fmt.Errorf("make cgroup: not a cgroup v2 folder of Linux 5.14 or newer: %w", err)
	}
	return c, nil
}

// FindCgroup returns the folder name below dir, or nil if there is none.
func FindCgroup(dir, name string) *Cgroup {
	c := &Cgroup{dir: filepath.Join(dir, name)}
	if _, err := os.Stat(filepath.Join(c.dir, "cgroup.kill")); err != nil {
		return nil
	}
	return c
}

func (c *Cgroup) open() (*os.File, error) {
	dir, err := os.Open(c.dir)
	if err != nil {
		return nil, fmt.Errorf("open cgroup: %w", err)
	}
	return dir, nil
}

// Discard removes the folder; it stays while somebody lives in it.
func (c *Cgroup) Discard() {
	if c != nil {
		_ = syscall.Rmdir(c.dir)
	}
}

// kill ends everybody in the folder, forks under way included.
func (c *Cgroup) kill() { _ = os.WriteFile(filepath.Join(c.dir, "cgroup.kill"), []byte("1"), 0o200) }

// populated reports whether a process that is not a zombie lives there; a folder
// that is gone has nobody.
func (c *Cgroup) populated() bool { return c.number("cgroup.events", "populated") == 1 }

// killAndWait kills until nobody is left, or for within.
func (c *Cgroup) killAndWait(within time.Duration) {
	sweep(within, func() bool {
		alive := c.populated()
		if alive {
			c.kill()
		}
		return alive
	})
}

// number reads one value of a flat keyed file, 0 if it is not there.
func (c *Cgroup) number(file, key string) uint64 {
	b, err := os.ReadFile(filepath.Join(c.dir, file))
	if err != nil {
		return 0
	}
	for line := range bytes.Lines(b) {
		name, value, ok := bytes.Cut(bytes.TrimSpace(line), []byte(" "))
		if n, err := strconv.ParseUint(string(value), 10, 64); ok && err == nil && string(name) == key {
			return n
		}
	}
	return 0
}

func (c *Cgroup) pids() []int {
	b, err := os.ReadFile(filepath.Join(c.dir, "cgroup.procs"))
	if err != nil {
		return nil
	}
	var out []int
	for line := range bytes.Lines(b) {
		if pid, err := strconv.Atoi(string(bytes.TrimSpace(line))); err == nil && pid > 0 {
			out = append(out, pid)
		}
	}
	return out
}

// KillCgroups ends everybody in the folders below dir whose name is a tag that
// keep does not want, removes those folders and returns how many people it found.
// On each folder it gives up after within.
func KillCgroups(dir string, within time.Duration, keep func(tag string) bool) int {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return 0
	}
	n := 0
	for _, e := range entries {
		c := &Cgroup{dir: filepath.Join(dir, e.Name())}
		if !e.IsDir() || keep(e.Name()) {
			continue
		}
		n += len(c.pids())
		c.killAndWait(within)
		c.Discard()
	}
	return n
}
