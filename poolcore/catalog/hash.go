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

	"github.com/llorch/llorch/inputvalidation"
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
		buf []byte
		n   int
		err error
	}
	free, full := make(chan []byte, 2), make(chan piece, 2)
	free <- make([]byte, readSize)
	free <- make([]byte, readSize)
	go func() { // ends at the first error, the end of r included, or when free is closed
		defer close(full)
		for buf := range free {
			n, err := io.ReadFull(r, buf)
			full <- piece{buf, n, err}
			if err != nil {
				return
			}
		}
	}()
	h := sha256.New()
	for p := range full {
		h.Write(p.buf[:p.n])
		size += int64(p.n)
		m.add(p.n)
		if p.err == nil {
			p.err = ctx.Err()
		}
		switch {
		case p.err == nil:
			free <- p.buf
			continue
		case errors.Is(p.err, io.EOF), errors.Is(p.err, io.ErrUnexpectedEOF):
		default:
			err = p.err
		}
		break
	}
	close(free)
	for range full { // so that nobody reads r any more
	}
	return hex.EncodeToString(h.Sum(nil)), size, err
}

// hashFile computes what the index says of one file in in. A file that changes
// meanwhile has an old time in the result, so that the next quick check finds it.
func hashFile(ctx context.Context, in *inputvalidation.Tree, path string, m *meter) (File, error) {
	p, err := inputvalidation.ParseRelPath("path", path)
	if err != nil {
		return File{}, err
	}
	f, fi, err := in.Open(p)
	if err != nil {
		return File{}, fmt.Errorf("open model file: %w", err)
	}
	defer f.Close()
	sum, size, err := hashReader(ctx, f, m)
	if err != nil {
		return File{}, fmt.Errorf("read model file: %w", err)
	}
	return File{
		Path: path, SizeBytes: size, SHA256: sum, MtimeNS: fi.ModTime().UnixNano(), Inode: inodeOf(fi),
		VerifiedAt: time.Now().UTC(),
	}, nil
}

// same reports whether a file looks as it did when it was hashed.
func (f *File) same(fi fs.FileInfo) bool {
	return fi.Mode().IsRegular() && fi.Size() == f.SizeBytes && fi.ModTime().UnixNano() == f.MtimeNS && inodeOf(fi) == f.Inode
}
