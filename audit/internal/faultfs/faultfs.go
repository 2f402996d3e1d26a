// Package faultfs is a file system in memory for tests of durability. It keeps
// apart what a process sees and what a disk holds, so that a test can fail any
// single step, kill the process between two steps, or cut the power.
package faultfs

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"path"
	"slices"
	"strings"
	"sync"

	"github.com/llorch/llorch/audit/internal/vfs"
)

// Step is one operation that may fail.
type Step struct {
	N    int    // from 0, over the life of the FS
	Op   string // create, open, write, truncate, sync, chmod, rename, remove, mkdir, syncdir, linked, free, list
	Name string
}

// Fault says how a step fails. A write with Short > 0 writes that many bytes
// first. A failed sync loses the unsynced bytes for good, as disks do: a later
// sync succeeds without them.
type Fault struct {
	Err   error
	Short int
	Kill  bool // the process dies before the step; Err does not matter
}

// ErrDead is what every step returns after a kill.
var ErrDead = errors.New("faultfs: process was killed")

// FS is a [vfs.FS]. All methods are safe for concurrent use.
type FS struct {
	mu     sync.Mutex
	hook   func(Step) *Fault
	before func(name string)
	steps  int
	dead   bool
	locked bool
	free   int64
	names  map[string]*inode // as the process sees them
	disk   map[string]*inode // as they are on the disk
	log    []change          // changes of names since the last SyncDir
}

type inode struct {
	data   []byte // as the process sees it
	synced []byte
	dirty  []span
	mode   fs.FileMode
}

type span struct{ from, to int }

type change struct {
	folder, name string
	node         *inode // nil: removed
	also         string // the other name of a rename, removed with it
}

// New returns an empty file system with 1 TiB of free space.
func New() *FS {
	return &FS{names: make(map[string]*inode), disk: make(map[string]*inode), free: 1 << 40}
}

// Hook sets what decides over each step; nil lets all succeed.
func (f *FS) Hook(hook func(Step) *Fault) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.hook = hook
}

// BeforeSync sets what runs before each sync of a file, and may block it; nil
// is nothing.
func (f *FS) BeforeSync(do func(name string)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.before = do
}

// SetFree sets the free space.
func (f *FS) SetFree(n int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.free = n
}

// Steps returns how many steps were taken.
func (f *FS) Steps() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.steps
}

// Kill makes every later step fail, as if the process were gone.
func (f *FS) Kill() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.dead = true
}

// Survivor returns the file system that a new process finds after a kill: all
// that was written, synced or not. What a later power cut may still lose stays
// lost for it too.
func (f *FS) Survivor() *FS {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := New()
	copies := make(map[*inode]*inode)
	dup := func(i *inode) *inode {
		if copies[i] == nil {
			copies[i] = &inode{data: slices.Clone(i.data), synced: slices.Clone(i.synced), dirty: slices.Clone(i.dirty), mode: i.mode}
		}
		return copies[i]
	}
	for name, i := range f.names {
		n.names[name] = dup(i)
	}
	for name, i := range f.disk {
		n.disk[name] = dup(i)
	}
	for _, c := range f.log {
		if c.node != nil {
			c.node = dup(c.node)
		}
		n.log = append(n.log, c)
	}
	return n
}

// PowerCut returns what the disk holds after the power went: all that was
// synced, of every unsynced write a random prefix in sectors of 512 bytes, and
// a random prefix of the unsynced changes of names.
func (f *FS) PowerCut(r *rand.Rand) *FS {
	f.mu.Lock()
	defer f.mu.Unlock()
	names := maps.Clone(f.disk)
	for _, c := range f.log[:r.IntN(len(f.log)+1)] {
		apply(names, c)
	}
	n := New()
	for name, i := range names {
		data := slices.Clone(i.synced)
		for _, d := range i.dirty {
			to := min(d.to, len(i.data))
			if to > d.from {
				to = min(to, (d.from+r.IntN(to-d.from+512))/512*512)
			}
			if to > d.from {
				data = append(data, make([]byte, max(0, to-len(data)))...)
				copy(data[d.from:to], i.data[d.from:to])
			}
		}
		n.names[name] = &inode{data: data, synced: slices.Clone(data), mode: i.mode}
	}
	n.disk = maps.Clone(n.names)
	return n
}

// Snapshot returns the files as the process sees them.
func (f *FS) Snapshot() map[string][]byte {
	f.mu.Lock()
	defer f.mu.Unlock()
	all := make(map[string][]byte)
	for name, i := range f.names {
		if !i.mode.IsDir() {
			all[name] = slices.Clone(i.data)
		}
	}
	return all
}

// Put places a durable file, as somebody outside could.
func (f *FS) Put(name string, data []byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	i := &inode{data: slices.Clone(data), synced: slices.Clone(data), mode: 0o600}
	f.names[name], f.disk[name] = i, i
}

// Delete takes a file away, as somebody outside could.
func (f *FS) Delete(name string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.names, name)
	delete(f.disk, name)
}

func apply(names map[string]*inode, c change) {
	if c.also != "" {
		delete(names, c.also)
	}
	if c.node == nil {
		delete(names, c.name)
	} else {
		names[c.name] = c.node
	}
}

// stepLocked counts a step and asks the hook.
func (f *FS) stepLocked(op, name string) *Fault {
	if f.dead {
		return &Fault{Err: ErrDead}
	}
	s := Step{N: f.steps, Op: op, Name: name}
	f.steps++
	if f.hook == nil {
		return nil
	}
	fault := f.hook(s)
	if fault != nil && fault.Kill {
		f.dead = true
		fault = &Fault{Err: ErrDead, Short: fault.Short}
	}
	return fault
}

func (f *FS) changeLocked(c change) {
	c.folder = path.Dir(c.name)
	apply(f.names, c)
	f.log = append(f.log, c)
}

// do runs a step that has nothing between all and nothing.
func (f *FS) do(op, name string, act func() error) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if fault := f.stepLocked(op, name); fault != nil {
		return fault.Err
	}
	return act()
}

// Lock implements [vfs.FS].
func (f *FS) Lock(string, string) (io.Closer, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.locked {
		return nil, fmt.Errorf("%w: by this process", vfs.ErrLocked)
	}
	f.locked = true
	return unlocker{f}, nil
}

type unlocker struct{ f *FS }

func (u unlocker) Close() error {
	u.f.mu.Lock()
	defer u.f.mu.Unlock()
	u.f.locked = false
	return nil
}

// Create implements [vfs.FS].
func (f *FS) Create(name string) (vfs.File, error) {
	i := &inode{mode: 0o600}
	err := f.do("create", name, func() error {
		if f.names[name] != nil {
			return fs.ErrExist
		}
		f.changeLocked(change{name: name, node: i})
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &file{fs: f, node: i, name: name, write: true}, nil
}

// Open implements [vfs.FS].
func (f *FS) Open(name string, write bool) (vfs.File, error) {
	var i *inode
	err := f.do("open", name, func() error {
		if i = f.names[name]; i == nil {
			return fs.ErrNotExist
		}
		if write && i.mode&0o200 == 0 {
			return fs.ErrPermission
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &file{fs: f, node: i, name: name, write: write}, nil
}

// Rename implements [vfs.FS].
func (f *FS) Rename(from, to string) error {
	return f.do("rename", from, func() error {
		i := f.names[from]
		if i == nil {
			return fs.ErrNotExist
		}
		f.changeLocked(change{name: to, node: i, also: from})
		return nil
	})
}

// Remove implements [vfs.FS].
func (f *FS) Remove(name string) error {
	return f.do("remove", name, func() error {
		if f.names[name] == nil {
			return fs.ErrNotExist
		}
		f.changeLocked(change{name: name})
		return nil
	})
}

// Mkdir implements [vfs.FS].
func (f *FS) Mkdir(name string) error {
	return f.do("mkdir", name, func() error {
		if f.names[name] == nil {
			f.changeLocked(change{name: name, node: &inode{mode: fs.ModeDir | 0o700}})
		}
		return nil
	})
}

// List implements [vfs.FS].
func (f *FS) List() ([]vfs.Entry, error) {
	var list []vfs.Entry
	err := f.do("list", ".", func() error {
		for name, i := range f.names {
			if path.Dir(name) == "." && i.mode.IsRegular() {
				list = append(list, vfs.Entry{Name: path.Base(name), Size: int64(len(i.data))})
			}
		}
		return nil
	})
	slices.SortFunc(list, func(a, b vfs.Entry) int { return strings.Compare(a.Name, b.Name) })
	return list, err
}

// SyncDir implements [vfs.FS].
func (f *FS) SyncDir(folder string) error {
	return f.do("syncdir", folder, func() error {
		f.log = slices.DeleteFunc(f.log, func(c change) bool {
			if c.folder == folder {
				apply(f.disk, c)
			}
			return c.folder == folder
		})
		return nil
	})
}

// Linked implements [vfs.FS].
func (f *FS) Linked(name string, h vfs.File) (ok bool, err error) {
	err = f.do("linked", name, func() error {
		of, mine := h.(*file)
		ok = mine && f.names[name] == of.node
		return nil
	})
	return ok, err
}

// Free implements [vfs.FS].
func (f *FS) Free() (n int64, err error) {
	err = f.do("free", ".", func() error { n = f.free; return nil })
	return n, err
}

// Close implements [vfs.FS].
func (f *FS) Close() error { return nil }
