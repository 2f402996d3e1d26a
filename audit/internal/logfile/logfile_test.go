package logfile_test

import (
	"bytes"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/llorch/llorch/audit/internal/logfile"
)

func TestReadDirOrder(t *testing.T) { // AUD-17
	want := []string{"2026-11-20.audit.gz", "2026-11-21.audit", "2026-11-21-2.audit", "2026-11-21-10.audit"}
	dir := fstest.MapFS{"2026-11-21.audit.gz": {}, "2026-11-21-02.audit": {}, "2026-13-21.audit": {}, "lock": {}}
	for _, name := range want {
		dir[name] = &fstest.MapFile{}
	}
	files, err := logfile.ReadDir(dir)
	var got []string
	for _, f := range files {
		got = append(got, f.Stored())
	}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("ReadDir() = %q, %v, want %q", got, err, want)
	}
}

func FuzzParseName(f *testing.F) {
	for _, s := range []string{"2026-11-21.audit", "2026-11-21-9999.audit", "2026-11-21-0.audit", "2026-11-21--1.audit", "-1.audit", ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		n, err := logfile.ParseName(s)
		if err == nil && (n.String() != s || n.Number < 0 || n.Number > logfile.MaxNumber || n.Compare(n) != 0) {
			t.Errorf("ParseName(%q) = %+v", s, n)
		}
	})
}

func FuzzLines(f *testing.F) {
	f.Add([]byte("a\nbb\n\nc"), uint8(0))
	f.Add([]byte("x\ny"), uint8(3))
	f.Fuzz(func(t *testing.T, b []byte, long uint8) {
		b = append(bytes.Repeat([]byte("z"), int(long%4)*logfile.MaxLine/2), b...)
		want := slices.Collect(bytes.Lines(b))
		i, off := 0, int64(0)
		for l, err := range logfile.Lines(bytes.NewReader(b)) {
			if err != nil || i >= len(want) {
				t.Fatalf("line %d: %v", i, err)
			}
			w := want[i]
			i++
			if l.Number != int64(i) || l.Off != off || l.Size != int64(len(w)) || !bytes.HasPrefix(w, l.Raw) ||
				len(w) <= logfile.MaxLine && len(l.Raw) != len(w) {
				t.Fatalf("line %d of %d bytes came as %d of %d at %d", i, len(w), len(l.Raw), l.Size, l.Off)
			}
			off += l.Size
		}
		if i != len(want) {
			t.Errorf("%d of %d lines", i, len(want))
		}
	})
}

func TestLinesError(t *testing.T) {
	src := io.MultiReader(strings.NewReader("a\nb"), iotestErr{})
	n := 0
	var last error
	for _, err := range logfile.Lines(src) {
		n, last = n+1, err
	}
	if n != 2 || last == nil {
		t.Errorf("%d lines, error %v: want the whole line, then the error", n, last)
	}
}

type iotestErr struct{}

func (iotestErr) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }
