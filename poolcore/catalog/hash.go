package catalog

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"time"
)

// readSize is what is read at once; two such buffers are in use, so that the disk
// and the processor work at the same time.
const readSize = 4 << 20

// meter counts the bytes of several files that are read after one another.
type meter struct {
	done, total int64
	report      func(done, total int64) // nil = nobody asks
}

func (m *meter) add(n int) {
	m.done += int64(n)
	if m.report != nil {
		m.report(m.done, m.total)
	}
}

// hashReader returns the SHA-256 of everything that r has, and its length.
func hashReader(ctx context.Context, r io.Reader, m *meter) (sum string, size int64, err error) {
	type piece struct {
		bytes []byte
		err   error
	}
	pieces := make(chan piece, 1)
	read := func(buf []byte) {
		n, err := io.ReadFull(r, buf)
		pieces <- piece{buf[:n], err}
	}
	go read(make([]byte, readSize))
	h, spare := sha256.New(), make([]byte, readSize)
	for {
		p := <-pieces
		last := p.err != nil || ctx.Err() != nil
		if !last {
			go read(spare)
		}
		h.Write(p.bytes)
		size += int64(len(p.bytes))
		m.add(len(p.bytes))
		spare = p.bytes
		if !last {
			continue
		}
		if p.err == nil {
			p.err = ctx.Err()
		}
		if errors.Is(p.err, io.EOF) || errors.Is(p.err, io.ErrUnexpectedEOF) {
			p.err = nil
		}
		return hex.EncodeToString(h.Sum(nil)), size, p.err
	}
}

// hashAll computes what the index says of files, named below dir. A file that
// changes meanwhile has an old time in the result, so that the next quick check
// finds it.
func (c *Catalog) hashAll(ctx context.Context, dir string, names []string, m *meter) ([]File, error) {
	files := make([]File, len(names))
	for i, name := range names {
		f, fi, err := c.openFile(dir + "/" + name)
		if err != nil {
			return nil, err
		}
		sum, size, err := hashReader(ctx, f, m)
		_ = f.Close() // read only: nothing can be lost
		if err != nil {
			return nil, fmt.Errorf("read model file: %w", err)
		}
		files[i] = File{
			Path: name, SizeBytes: size, SHA256: sum, MtimeNS: fi.ModTime().UnixNano(), Inode: inodeOf(fi), VerifiedAt: time.Now().UTC(),
		}
	}
	return files, nil
}

// same reports whether a file looks as it did when it was hashed.
func (f *File) same(fi fs.FileInfo) bool {
	return fi.Mode().IsRegular() && fi.Size() == f.SizeBytes && fi.ModTime().UnixNano() == f.MtimeNS && inodeOf(fi) == f.Inode
}
