package decisionlog

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"slices"
	"time"

	"github.com/llorch/llorch/orchestrator/internal/sched"
)

// segments is the side of a Writer that owns the files; only Run uses it.
type segments struct {
	w    *Writer
	root *os.Root
	cuts []Cut // for the next first line

	name  string   // of the open segment; "" = none
	file  *os.File // nil: what comes is lost until a segment begins
	out   *bufio.Writer
	sum   hash.Hash
	size  int64
	born  time.Time
	asked bool      // for the next segment
	last  string    // SHA-256 of the segment that was sealed last, while nothing was lost since
	tried time.Time // when a segment could not be written last
	buf   []byte
}

// retryAfter is how long a failing disk is left alone.
const retryAfter = time.Second

// write puts one entry on the disk.
func (s *segments) write(ctx context.Context, e *entry) {
	var err error
	switch {
	case e.begin != nil:
		s.seal(ctx)
		err = s.open(e.begin)
	case s.file == nil:
		if e.gap == 0 {
			s.w.gaps.Add(1)
		}
		if time.Since(s.tried) > retryAfter {
			s.tried = time.Now()
			s.w.want.Store(true)
		}
		return
	case e.gap > 0:
		s.w.cfg.Logger.WarnContext(ctx, "Decisions were not recorded because the disk was too slow.",
			slog.String("event", "decision_gap"), slog.Uint64("steps", e.gap))
		err = s.put(fmt.Appendf(s.buf[:0], "{\"gap\":%d}\n", e.gap))
		s.last = ""
	default:
		if s.buf, err = appendStep(s.buf[:0], e.at, e.ev, e.fx); err == nil {
			err = s.put(s.buf)
		}
	}
	if err != nil {
		s.fail(ctx, err)
		return
	}
	s.rotate(s.size >= s.w.cfg.MaxBytes)
}

// rotate asks for a new segment, once.
func (s *segments) rotate(full bool) {
	if full && !s.asked {
		s.asked = true
		s.w.want.Store(true)
	}
}

// put appends bytes to the open segment.
func (s *segments) put(b []byte) error {
	s.sum.Write(b)
	s.size += int64(len(b))
	_, err := s.out.Write(b)
	return err
}

// fail gives the open segment up; what was written stays as after a crash.
func (s *segments) fail(ctx context.Context, err error) {
	s.w.gaps.Add(1)
	s.w.cfg.Logger.ErrorContext(ctx, "Decisions can not be written.", slog.String("event", "decision_gap"), slog.Any("err", err))
	if s.file != nil {
		_ = s.file.Close() // err says why already
	}
	s.file, s.last, s.tried = nil, "", time.Now()
}

func (s *segments) flush(ctx context.Context) {
	if s.file == nil {
		return
	}
	if err := s.out.Flush(); err != nil {
		s.fail(ctx, err)
	}
}

// aged asks for a new segment when the open one is old enough.
func (s *segments) aged() { s.rotate(s.file != nil && time.Since(s.born) >= s.w.cfg.MaxAge) }

// open begins a segment under the next free number.
func (s *segments) open(b *beginning) error {
	first, err := s.header(b)
	if err != nil {
		return err
	}
	known, err := list(s.root)
	if err != nil {
		return err
	}
	next := uint64(1)
	for _, k := range known {
		if k.epoch == b.epoch {
			next = max(next, k.n+1)
		}
	}
	s.prune(known)
	s.name = segment{epoch: b.epoch, n: next}.String()
	if s.file, err = s.root.OpenFile(s.name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600); err != nil {
		return err
	}
	s.out, s.sum, s.size, s.born, s.asked, s.cuts = bufio.NewWriterSize(s.file, 64<<10), sha256.New(), 0, time.Now(), false, nil
	return s.put(append(first, '\n'))
}

func (s *segments) header(b *beginning) ([]byte, error) {
	state, err := b.state.JSON()
	if err != nil {
		return nil, err
	}
	h := header{
		Format: format, Core: sched.Version, Replica: s.w.cfg.Replica, Epoch: b.epoch, Origin: b.start.UTC(), Cut: s.cuts,
		Seed: b.config.Seed, Policy: b.state.Policy, Hash: b.state.Policy.Hash(), Config: b.config, State: state,
	}
	if b.chain {
		h.Prev = s.last
	}
	return json.Marshal(h)
}

// seal ends the open segment with its digest and tells who wants to know.
func (s *segments) seal(ctx context.Context) {
	if s.file == nil {
		return
	}
	sum := hex.EncodeToString(s.sum.Sum(nil))
	err := s.put(fmt.Appendf(nil, "{\"sha256\":%q}\n", sum))
	err = errors.Join(err, s.out.Flush(), s.file.Sync())
	if err != nil {
		s.fail(ctx, err)
		return
	}
	if err := s.file.Close(); err != nil {
		s.file = nil
		s.fail(ctx, err)
		return
	}
	s.file, s.last = nil, sum
	if s.w.cfg.Sealed != nil {
		s.w.cfg.Sealed(s.name, sum)
	}
}

// prune removes segments that are kept long enough.
func (s *segments) prune(known []segment) {
	if s.w.cfg.Keep < 0 {
		return
	}
	for _, k := range known {
		if time.Since(k.changed) > s.w.cfg.Keep {
			_ = s.root.Remove(k.String()) // the next segment tries again
		}
	}
}

// segment is the name of a file.
type segment struct {
	epoch, n uint64
	changed  time.Time
}

func (s segment) String() string { return fmt.Sprintf("decisions-%d-%d.ndjson", s.epoch, s.n) }

// list returns the segments of a directory, oldest first.
func list(root *os.Root) ([]segment, error) {
	entries, err := fs.ReadDir(root.FS(), ".")
	if err != nil {
		return nil, err
	}
	var out []segment
	for _, e := range entries {
		var s segment
		if _, err := fmt.Sscanf(e.Name(), "decisions-%d-%d.ndjson", &s.epoch, &s.n); err != nil || s.String() != e.Name() {
			continue
		}
		info, err := e.Info()
		if err != nil {
			continue // gone meanwhile
		}
		s.changed = info.ModTime()
		out = append(out, s)
	}
	slices.SortFunc(out, func(a, b segment) int { return cmp.Or(cmp.Compare(a.epoch, b.epoch), cmp.Compare(a.n, b.n)) })
	return out, nil
}

// mend cuts the torn last line of segments that a crash left.
func mend(root *os.Root) ([]Cut, error) {
	known, err := list(root)
	if err != nil {
		return nil, err
	}
	var cuts []Cut
	for _, k := range known {
		n, err := cutTorn(root, k.String())
		if err != nil {
			return cuts, err
		}
		if n > 0 {
			cuts = append(cuts, Cut{k.String(), n})
		}
	}
	return cuts, nil
}

// cutTorn removes what follows the last newline of a file and says how much it was.
func cutTorn(root *os.Root, name string) (int64, error) {
	f, err := root.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	end, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return 0, err
	}
	keep, buf := end, make([]byte, 64<<10)
	for keep > 0 {
		from := max(0, keep-int64(len(buf)))
		part := buf[:keep-from]
		if _, err := f.ReadAt(part, from); err != nil {
			return 0, err
		}
		if at := bytes.LastIndexByte(part, '\n'); at >= 0 {
			keep = from + int64(at) + 1
			break
		}
		keep = from
	}
	if keep == end {
		return 0, nil
	}
	return end - keep, errors.Join(f.Truncate(keep), f.Sync())
}
