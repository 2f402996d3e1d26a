package audit

import (
	"bytes"
	"compress/flate"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"hash"
	"io"
	"sync"
)

const chunkSize = 256 << 10 // what one worker reads at a time

// gunzip reads a compressed file of lines.
func gunzip(src io.Reader) (io.Reader, error) {
	z, err := gzip.NewReader(src)
	if err != nil {
		return nil, fmt.Errorf("read compressed file: %w", err)
	}
	return z, nil
}

// damaged reports whether err speaks of the bytes of a compressed file, not of
// the reading of it.
func damaged(err error) bool {
	_, corrupt := errors.AsType[flate.CorruptInputError](err)
	return corrupt || errors.Is(err, gzip.ErrHeader) || errors.Is(err, gzip.ErrChecksum) ||
		errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF)
}

// chunk is a run of lines of one file, on its way through a worker.
type chunk struct {
	data  []byte
	off   int64
	line  int64 // number of its first line
	cut   bool  // data goes on beyond what a line may hold, and was cut there
	facts chan []fact
}

// factReader reads the facts of a file with several workers, and hands them
// out in order. Its memory does not depend on the size of the file.
type factReader struct {
	workers int
	sum     hash.Hash // over all bytes read
	bytes   int64
	readErr error
}

// read calls judge for every line, in order. When it returns, sum and bytes
// tell of the whole file. src holding a line that is too long ends early.
func (r *factReader) read(ctx context.Context, src io.Reader, judge func(fact)) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var wg sync.WaitGroup
	work := make(chan *chunk, r.workers)
	order := make(chan *chunk, 2*r.workers)
	for range r.workers {
		wg.Go(func() {
			for c := range work {
				c.facts <- c.parse()
			}
		})
	}
	wg.Go(func() {
		defer close(order)
		defer close(work)
		r.readErr = r.split(ctx, src, func(c *chunk) bool {
			select {
			case order <- c:
			case <-ctx.Done():
				return false
			}
			work <- c // taken by a worker, none of which can block
			return true
		})
	})
	for c := range order {
		for _, f := range <-c.facts {
			judge(f)
		}
	}
	wg.Wait()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return r.readErr
}

// split cuts src into chunks of whole lines.
func (r *factReader) split(ctx context.Context, src io.Reader, send func(*chunk) bool) error {
	var rest []byte
	off, line := int64(0), int64(1)
	for {
		buf := make([]byte, chunkSize)
		n := copy(buf, rest)
		m, err := io.ReadFull(src, buf[n:])
		end := errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
		if err != nil && !end {
			return fmt.Errorf("read lines: %w", err)
		}
		r.sum.Write(buf[n : n+m])
		r.bytes += int64(m)
		buf = buf[:n+m]
		whole := len(buf)
		if !end {
			whole = bytes.LastIndexByte(buf, '\n') + 1
		}
		c := &chunk{data: buf[:whole], off: off, line: line, facts: make(chan []fact, 1)}
		if whole == 0 && len(buf) > 0 { // a line longer than any chunk
			c.data, c.cut = buf[:maxLine], true
			skipped, tail, err := r.skipLine(src)
			if err != nil {
				return err
			}
			off, line, rest = off+int64(len(buf))+skipped, line+1, tail
		} else {
			off += int64(whole)
			line += int64(bytes.Count(c.data, []byte("\n")))
			rest = buf[whole:]
		}
		if len(c.data) > 0 && !send(c) || end {
			return ctx.Err()
		}
	}
}

// skipLine reads to the end of a line that is too long to be one. It returns
// how many bytes of it there were, and what it read of the next lines.
func (r *factReader) skipLine(src io.Reader) (n int64, tail []byte, err error) {
	buf := make([]byte, chunkSize)
	for {
		m, err := io.ReadFull(src, buf)
		r.sum.Write(buf[:m])
		r.bytes += int64(m)
		if i := bytes.IndexByte(buf[:m], '\n'); i >= 0 {
			return n + int64(i) + 1, buf[i+1 : m], nil
		}
		n += int64(m)
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return n, nil, nil
		}
		if err != nil {
			return n, nil, fmt.Errorf("read lines: %w", err)
		}
	}
}

func (c *chunk) parse() []fact {
	if c.cut {
		return []fact{{off: c.off, line: c.line, size: len(c.data), lf: true, bad: "a line of at most 61440 bytes"}}
	}
	facts := make([]fact, 0, len(c.data)/256)
	off, n := c.off, c.line
	for raw := range bytes.Lines(c.data) {
		body, whole := bytes.CutSuffix(raw, []byte("\n"))
		f := newFact(body, whole)
		f.off, f.line = off, n
		off, n = off+int64(len(raw)), n+1
		facts = append(facts, f)
	}
	return facts
}
