package audit

import (
	"bytes"
	"context"
	"errors"
	"io"
	"sync"

	"github.com/llorch/llorch/audit/internal/logfile"
)

const batchSize = 256 << 10 // bytes of lines that are parsed at once

// eachFact calls do for every line of src, in order, and lets so many workers
// parse. Its memory does not depend on the size of src.
func eachFact(ctx context.Context, src io.Reader, workers int, do func(*fact)) error {
	var batch []logfile.Line
	size := 0
	flush := func() {
		facts := make([]fact, len(batch))
		var wg sync.WaitGroup
		for w := range workers {
			wg.Go(func() {
				for i := w; i < len(batch); i += workers {
					facts[i] = newFact(batch[i])
				}
			})
		}
		wg.Wait()
		for i := range facts {
			do(&facts[i])
		}
		batch, size = batch[:0], 0
	}
	defer flush() // the lines before an error count
	for l, err := range logfile.Lines(src) {
		if err != nil {
			return err
		}
		l.Raw = bytes.Clone(l.Raw)
		batch, size = append(batch, l), size+len(l.Raw)
		if size < batchSize {
			continue
		}
		if flush(); ctx.Err() != nil {
			return context.Cause(ctx)
		}
	}
	return nil
}

// opener opens a stored file for reading.
type opener func(name string) (io.ReadCloser, error)

// lines hands the content of a file of lines to do.
func (open opener) lines(f logfile.File, do func(io.Reader) error) error {
	h, err := open(f.Stored())
	if err != nil {
		return err
	}
	src, err := f.Reader(h)
	if err == nil {
		err = do(src)
	}
	return errors.Join(err, h.Close())
}

// first reads the first line of a file.
func (open opener) first(f logfile.File) (first fact, err error) {
	err = open.lines(f, func(src io.Reader) error {
		for l, err := range logfile.Lines(src) {
			first = newFact(l)
			return err
		}
		first.bad = "a line"
		return nil
	})
	return first, err
}

// small reads up to limit bytes of a file, from off on.
func (open opener) small(name string, off, limit int64) ([]byte, error) {
	h, err := open(name)
	if err != nil {
		return nil, err
	}
	_, err = io.CopyN(io.Discard, h, off)
	var b []byte
	if err == nil {
		b, err = io.ReadAll(io.LimitReader(h, limit))
	}
	return b, errors.Join(err, h.Close())
}
