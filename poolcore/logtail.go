package poolcore

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
	"sync"

	"github.com/llorch/llorch/inputvalidation"
)

// Limits of an engine's log.
const (
	keptLines   = 200
	maxLine     = 2 << 10
	maxLogBytes = 64 << 20
	maxReadOnce = 4 << 20 // per look, so that a flood cannot hold the tailer
)

// logTail follows the file that an engine writes to. A file, never a pipe: neither
// a process that inherited it nor our own end can block the engine.
type logTail struct {
	dir   *os.Root
	name  string
	limit int64
	hide  string // the engine's key: whoever reads lines must not learn it from an engine that prints it

	mu    sync.Mutex
	file  *os.File
	at    int64 // bytes read
	part  []byte
	lines []string
	total int64 // bytes ever read
}

// openLogTail opens a log that exists; hide is what none of its readers may see.
func openLogTail(dir *os.Root, name string, limit int64, hide string) (*logTail, error) {
	f, err := dir.Open(name)
	if err != nil {
		return nil, fmt.Errorf("open engine log: %w", err)
	}
	return &logTail{dir: dir, name: name, limit: limit, hide: hide, file: f}, nil
}

// look reads what is new and rotates a log that is too large. Of a flood it reads
// only the end, so that the file is emptied in time whatever comes.
func (t *logTail) look() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	info, err := t.file.Stat()
	if err != nil {
		return fmt.Errorf("read engine log: %w", err)
	}
	if info.Size() < t.at {
		t.at = 0 // the engine emptied it
	}
	if behind := info.Size() - t.at - maxReadOnce; behind > 0 {
		t.at += behind
		t.total += behind
		t.part = nil
		t.lines = append(t.lines, fmt.Sprintf("[%d bytes left out]", behind))
	}
	buf := make([]byte, 64<<10)
	for range maxReadOnce / len(buf) {
		n, err := t.file.ReadAt(buf, t.at)
		t.at += int64(n)
		t.total += int64(n)
		t.takeLocked(buf[:n])
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return fmt.Errorf("read engine log: %w", err)
		}
	}
	if t.at >= t.limit {
		return t.rotateLocked()
	}
	return nil
}

// rotateLocked keeps two older files. The engine's handle appends, so it goes on
// at the start of the emptied file; what it writes between copy and truncation is
// lost to the copy.
func (t *logTail) rotateLocked() error {
	if err := t.dir.Rename(t.name+".1", t.name+".2"); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("rotate engine log: %w", err)
	}
	copied, err := t.dir.OpenFile(t.name+".1", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("rotate engine log: %w", err)
	}
	from := max(0, t.at-t.limit)
	_, err = io.Copy(copied, io.NewSectionReader(t.file, from, t.at-from))
	if err = errors.Join(err, copied.Close()); err != nil {
		return fmt.Errorf("copy engine log: %w", err)
	}
	w, err := t.dir.OpenFile(t.name, os.O_WRONLY, 0)
	if err != nil {
		return fmt.Errorf("rotate engine log: %w", err)
	}
	t.at = 0
	return errors.Join(w.Truncate(0), w.Close())
}

func (t *logTail) takeLocked(b []byte) {
	for len(b) > 0 {
		i := bytes.IndexByte(b, '\n')
		if i < 0 {
			t.part = append(t.part, b[:min(len(b), maxLine-min(len(t.part), maxLine))]...)
			return
		}
		line := append(t.part, b[:min(i, maxLine)]...)
		line, t.part, b = line[:min(len(line), maxLine)], nil, b[i+1:]
		t.lines = append(t.lines, t.show(bytes.TrimRight(line, "\r")))
		if over := len(t.lines) - keptLines; over > 0 {
			t.lines = slices.Delete(t.lines, 0, over)
		}
	}
}

// show is a line as it may be read.
func (t *logTail) show(line []byte) string {
	text := string(line)
	if t.hide != "" {
		text = strings.ReplaceAll(text, t.hide, "[key]")
	}
	return inputvalidation.EscapeMax(text, maxLine)
}

// tail returns the last n lines, escaped, with an unfinished one at the end.
func (t *logTail) tail(n int) []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	lines := slices.Clone(t.lines)
	if len(t.part) > 0 {
		lines = append(lines, t.show(t.part))
	}
	return lines[max(0, len(lines)-n):]
}

// bytes returns how much was ever read.
func (t *logTail) bytes() int64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.total
}

func (t *logTail) close() error { return t.file.Close() }
