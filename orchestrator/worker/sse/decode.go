// Package sse reads and writes server-sent events as the WHATWG EventSource
// standard defines them.
//
// The decoder gives the same frames and the same error however the bytes were
// cut on their way, hands out a frame as soon as its blank line is in, and
// holds at most one frame. [UTF8] repairs text that was cut inside a rune.
package sse

import (
	"bytes"
	"errors"
	"io"
	"strconv"
	"time"
)

// Errors of [Decoder.Next]. Errors of the reader are returned as they are.
var (
	// ErrTruncated: the input ended inside a frame.
	ErrTruncated = errors.New("sse: input ends inside a frame")
	// ErrFrameTooLarge: a line or a frame passed its limit.
	ErrFrameTooLarge = errors.New("sse: frame too large")
)

// Limits bound what a decoder holds, in bytes. Zero means the default.
type Limits struct {
	Line  int // one line without its end; default 1 MiB
	Frame int // all fields of one frame; default 4 MiB
}

// Frame is one event.
type Frame struct {
	ID    string        // of the decoder: the last id seen, as the standard has it
	Event string        // "" means "message"
	Retry time.Duration // whole milliseconds; 0 = none in this frame
	Data  []byte        // lines joined by LF; of the decoder: valid until the next call of Next
}

const (
	defaultLine  = 1 << 20
	defaultFrame = 4 << 20
	readSize     = 4 << 10
	// maxEmptyReads stops a reader that neither delivers nor fails.
	maxEmptyReads = 100
)

// Decoder reads frames. It has one user at a time.
type Decoder struct {
	r   io.Reader
	lim Limits

	buf     []byte // buf[start:] is read and not yet consumed
	start   int
	scanned int // bytes of buf[start:] known to hold no line end
	err     error

	begun  bool // the byte order mark is behind us
	skipLF bool // the last line ended in CR: an LF that follows belongs to it

	id      string
	event   string
	retry   time.Duration
	data    []byte
	hasData bool
	pending bool // a field was seen since the last blank line
	size    int  // bytes of the frame's lines so far
}

// NewDecoder reads from r.
func NewDecoder(r io.Reader, lim Limits) *Decoder {
	if lim.Line <= 0 {
		lim.Line = defaultLine
	}
	if lim.Frame <= 0 {
		lim.Frame = defaultFrame
	}
	return &Decoder{r: r, lim: lim, data: make([]byte, 0, 512)}
}

// Next returns the next frame that has data. After the last one it returns
// io.EOF, [ErrTruncated], [ErrFrameTooLarge] or the reader's error, and the
// same again on every later call.
func (d *Decoder) Next() (Frame, error) {
	d.data, d.hasData = d.data[:0], false
	for {
		line, err := d.line()
		if err != nil {
			return Frame{}, err
		}
		if len(line) == 0 {
			if f, ok := d.dispatch(); ok {
				return f, nil
			}
			continue
		}
		if line[0] == ':' {
			continue
		}
		d.pending = true
		if d.size += len(line); d.size > d.lim.Frame {
			return Frame{}, d.fail(ErrFrameTooLarge)
		}
		name, value, _ := bytes.Cut(line, []byte{':'})
		if len(value) > 0 && value[0] == ' ' {
			value = value[1:]
		}
		d.field(name, value)
	}
}

// dispatch ends a frame; a frame without data is forgotten, except for its id.
func (d *Decoder) dispatch() (Frame, bool) {
	f, ok := Frame{ID: d.id, Event: d.event, Retry: d.retry, Data: d.data}, d.hasData
	d.event, d.retry, d.pending, d.size = "", 0, false, 0
	return f, ok
}

func (d *Decoder) field(name, value []byte) {
	switch string(name) {
	case "data":
		if d.hasData {
			d.data = append(d.data, '\n')
		}
		d.data, d.hasData = append(d.data, value...), true
	case "event":
		d.event = string(value)
	case "id":
		if bytes.IndexByte(value, 0) < 0 {
			d.id = string(value)
		}
	case "retry":
		if ms, ok := millis(value); ok {
			d.retry = ms
		}
	}
}

// millis reads ASCII digits only, as the standard demands; a number that no
// Duration holds counts as not sent.
func millis(b []byte) (time.Duration, bool) {
	if len(b) == 0 || bytes.ContainsFunc(b, func(r rune) bool { return r < '0' || r > '9' }) {
		return 0, false
	}
	ms, err := strconv.ParseInt(string(b), 10, 64)
	if err != nil || ms > int64(1<<63-1)/int64(time.Millisecond) {
		return 0, false
	}
	return time.Duration(ms) * time.Millisecond, true
}

// line returns the next line without its end, valid until the next call.
func (d *Decoder) line() ([]byte, error) {
	for {
		if d.skipLF && d.start < len(d.buf) {
			d.skipLF = false
			if d.buf[d.start] == '\n' {
				d.start++
			}
		}
		if line, ok := d.cut(); ok {
			if len(line) > d.lim.Line {
				return nil, d.fail(ErrFrameTooLarge)
			}
			return line, nil
		}
		if len(d.buf)-d.start > d.lim.Line+len(bom) {
			return nil, d.fail(ErrFrameTooLarge)
		}
		if d.err != nil {
			return nil, d.end()
		}
		d.fill()
	}
}

const bom = "\ufeff"

// cut takes one complete line out of the buffer.
func (d *Decoder) cut() ([]byte, bool) {
	rest := d.buf[d.start:]
	i := bytes.IndexAny(rest[d.scanned:], "\r\n")
	if i < 0 {
		d.scanned = len(rest)
		return nil, false
	}
	i += d.scanned
	line := rest[:i]
	d.skipLF = rest[i] == '\r'
	d.start, d.scanned = d.start+i+1, 0
	if !d.begun {
		d.begun = true
		line = bytes.TrimPrefix(line, []byte(bom))
	}
	return line, true
}

// fill reads once more into the buffer, or sets err.
func (d *Decoder) fill() {
	if d.start > 0 {
		d.buf = d.buf[:copy(d.buf, d.buf[d.start:])]
		d.start = 0
	}
	if cap(d.buf)-len(d.buf) < readSize {
		grown := make([]byte, len(d.buf), max(2*cap(d.buf), 2*readSize))
		copy(grown, d.buf)
		d.buf = grown
	}
	for range maxEmptyReads {
		n, err := d.r.Read(d.buf[len(d.buf):cap(d.buf)])
		d.buf = d.buf[:len(d.buf)+n]
		if err != nil {
			d.err = err
		}
		if n > 0 || err != nil {
			return
		}
	}
	d.err = io.ErrNoProgress
}

// fail makes err the answer of this call and all later ones.
func (d *Decoder) fail(err error) error {
	d.err, d.buf, d.start, d.scanned = err, nil, 0, 0
	return err
}

// end is what the end of the input means where it came.
func (d *Decoder) end() error {
	if d.err != io.EOF {
		return d.err
	}
	rest := d.buf[d.start:]
	if !d.begun && string(rest) == bom {
		rest = nil
	}
	if d.pending || len(rest) > 0 {
		return d.fail(ErrTruncated)
	}
	return d.err
}
