package logfile

import (
	"bufio"
	"compress/flate"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"iter"
)

// MaxLine bounds a line in bytes, LF included; it is below the 64 KiB at which
// common tools split lines.
const MaxLine = 61440

// Line is one line of a file.
type Line struct {
	Raw    []byte // as stored, with its LF; only the beginning of one that is too long
	Number int64  // from 1
	Off    int64  // of its first byte, in bytes before compression
	Size   int64  // of all of it
}

// Lines reads src line by line; the bytes of a line are good until the next.
// The last line may lack its LF. After an error there are no more lines.
func Lines(src io.Reader) iter.Seq2[Line, error] {
	return func(yield func(Line, error) bool) {
		r := bufio.NewReaderSize(src, MaxLine+1)
		l := Line{}
		for {
			l.Off, l.Number = l.Off+l.Size, l.Number+1
			raw, err := r.ReadSlice('\n')
			l.Raw, l.Size = raw, int64(len(raw))
			if errors.Is(err, bufio.ErrBufferFull) {
				l.Raw = append([]byte(nil), raw...)
			}
			for errors.Is(err, bufio.ErrBufferFull) {
				raw, err = r.ReadSlice('\n')
				l.Size += int64(len(raw))
			}
			switch end := errors.Is(err, io.EOF); {
			case err != nil && !end:
				yield(Line{}, fmt.Errorf("read lines: %w", err))
				return
			case l.Size > 0 && !yield(l, nil), end:
				return
			}
		}
	}
}

// Reader reads the lines out of the file as it is stored.
func (f File) Reader(stored io.Reader) (io.Reader, error) {
	if !f.Gzip {
		return stored, nil
	}
	z, err := gzip.NewReader(stored)
	if err != nil {
		return nil, fmt.Errorf("read compressed file: %w", err)
	}
	return z, nil
}

// Damaged reports whether err speaks of the bytes of a compressed file, not of
// the reading of it.
func Damaged(err error) bool {
	_, corrupt := errors.AsType[flate.CorruptInputError](err)
	return corrupt || errors.Is(err, gzip.ErrHeader) || errors.Is(err, gzip.ErrChecksum) ||
		errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF)
}
