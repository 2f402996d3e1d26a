package faultfs

import (
	"io"
	"io/fs"
	"slices"
)

// file is an open file of an FS, whose mutex guards the inode.
type file struct {
	fs    *FS
	node  *inode
	name  string
	write bool
}

func (f *file) ReadAt(p []byte, off int64) (int, error) {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if off >= int64(len(f.node.data)) {
		return 0, io.EOF
	}
	n := copy(p, f.node.data[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (f *file) WriteAt(p []byte, off int64) (int, error) {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if !f.write {
		return 0, fs.ErrPermission
	}
	fault := f.fs.stepLocked("write", f.name)
	if fault != nil {
		p = p[:min(len(p), fault.Short)]
	}
	from, to := int(off), int(off)+len(p)
	if len(p) > 0 {
		f.node.data = append(f.node.data, make([]byte, max(0, to-len(f.node.data)))...)
		copy(f.node.data[from:to], p)
		f.node.dirty = append(f.node.dirty, span{from, to})
	}
	if fault != nil {
		return len(p), fault.Err
	}
	return len(p), nil
}

func (f *file) Truncate(size int64) error {
	return f.fs.do("truncate", f.name, func() error {
		f.node.data = slices.Clone(f.node.data[:min(int64(len(f.node.data)), size)])
		return nil
	})
}

func (f *file) Sync() error {
	f.fs.mu.Lock()
	before := f.fs.before
	f.fs.mu.Unlock()
	if before != nil {
		before(f.name)
	}
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	fault := f.fs.stepLocked("sync", f.name)
	if f.fs.dead { // the page cache outlives the process
		return fault.Err
	}
	dirty := f.node.dirty
	f.node.dirty = nil
	if fault != nil {
		return fault.Err
	}
	n := len(f.node.data)
	if len(f.node.synced) > n {
		f.node.synced = f.node.synced[:n]
	}
	for _, d := range dirty {
		if to := min(d.to, n); to > d.from {
			f.node.synced = append(f.node.synced, make([]byte, max(0, to-len(f.node.synced)))...)
			copy(f.node.synced[d.from:to], f.node.data[d.from:to])
		}
	}
	return nil
}

func (f *file) Chmod(mode fs.FileMode) error {
	return f.fs.do("chmod", f.name, func() error { f.node.mode = mode; return nil })
}

func (f *file) Close() error { return nil }
