package audit_test

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/llorch/llorch/audit"
)

// readDir takes a copy of a directory.
func readDir(t testing.TB, dir string) fstest.MapFS {
	t.Helper()
	out := make(fstest.MapFS)
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.Type().IsRegular() {
			b, err := os.ReadFile(filepath.Join(dir, e.Name()))
			if err != nil {
				t.Fatal(err)
			}
			out[e.Name()] = &fstest.MapFile{Data: b, Mode: 0o600}
		}
	}
	return out
}

func TestVerifyLiveLogStable(t *testing.T) { // AUD-70; trap: a live log "fails"
	dir := t.TempDir() + "/log"
	c := config(dir)
	c.RotateBytes = 64 << 10
	l := mustOpen(t, c)
	done := make(chan error)
	go func() {
		text := strings.Repeat("y", 900)
		for range 300 {
			if _, err := l.Append(t.Context(), audit.Event{Data: note{Text: text}}); err != nil {
				done <- err
				return
			}
		}
		done <- nil
	}()
	for {
		rep := verifyDir(t, dir)
		if !rep.OK {
			t.Fatalf("live log: %v", rep.Findings)
		}
		select {
		case err := <-done:
			if err != nil {
				t.Fatal(err)
			}
			if rep := mustVerify(t, dir); rep.Records != 300+uint64(rep.Files) || rep.UncleanRuns != 1 {
				t.Errorf("report = %+v", rep)
			}
			return
		default:
		}
	}
}

func TestLiveTail(t *testing.T) { // AUD-70
	dir := t.TempDir() + "/log"
	l := mustOpen(t, config(dir))
	mustAppend(t, l, audit.Event{Data: note{}})
	fsys := readDir(t, dir)
	for name := range fsys {
		if strings.HasSuffix(name, ".audit") {
			fsys = edited(fsys, name, func(b []byte) []byte { return append(b, `{"actor":`...) })
		}
	}
	if rep := check(t, fsys); !rep.OK || !rep.LiveTail {
		t.Errorf("report = %+v", rep)
	}
}

func TestVerifyWritesNothing(t *testing.T) { // trap: verifying appended events
	dir := t.TempDir() + "/log"
	l := mustOpen(t, config(dir))
	mustClose(t, l)
	before := readDir(t, dir)
	mustVerify(t, dir)
	after := readDir(t, dir)
	same := maps.EqualFunc(before, after, func(a, b *fstest.MapFile) bool { return bytes.Equal(a.Data, b.Data) })
	if !same {
		t.Error("Verify changed the directory")
	}
}

func TestVerifyCompressed(t *testing.T) { // AUD-67
	fsys, names := threeFiles(t)
	var z bytes.Buffer
	w := gzip.NewWriter(&z)
	if _, err := w.Write(fsys[names[0]].Data); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	delete(fsys, names[0])
	fsys[names[0]+".gz"] = &fstest.MapFile{Data: z.Bytes()}
	if rep := check(t, fsys); !rep.OK || rep.Records != 104 {
		t.Errorf("compressed: %+v", rep)
	}
	plain := func(b []byte) []byte { // what gunzip makes of it, or nil
		r, err := gzip.NewReader(bytes.NewReader(b))
		if err != nil {
			return nil
		}
		out, err := io.ReadAll(r)
		if err != nil {
			return nil
		}
		return out
	}
	want := plain(z.Bytes())
	for i := 0; i < z.Len(); i += 41 {
		bad := edited(fsys, names[0]+".gz", func(b []byte) []byte { b[i] ^= 0x10; return b })
		harmless := bytes.Equal(plain(bad[names[0]+".gz"].Data), want) // header time, padding bits
		if rep := check(t, bad); rep.OK != harmless {
			t.Errorf("flipped byte %d: OK = %v, want %v", i, rep.OK, harmless)
		}
	}
}

func TestVerifyNothing(t *testing.T) {
	if _, err := audit.Verify(t.Context(), fstest.MapFS{}, audit.VerifyOptions{}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Verify(empty) = %v", err)
	}
	if _, err := audit.Verify(t.Context(), fstest.MapFS{}, audit.VerifyOptions{Workers: -1}); err == nil {
		t.Error("Verify accepted -1 workers")
	}
}

func TestVerifyLongLines(t *testing.T) { // AUD-68: bounded, whatever is in the file
	fsys, names := threeFiles(t)
	for _, n := range []int{61_440, 300 << 10, 1 << 20} {
		long := append(bytes.Repeat([]byte("z"), n), '\n')
		rep := check(t, edited(fsys, names[1], func(b []byte) []byte {
			l := linesOf(b)
			return bytes.Join([][]byte{l[0], l[1], long, bytes.Join(l[2:], nil)}, nil)
		}))
		if !located(rep, audit.Broken, names[1], 3) || len(rep.Findings) > 2 || rep.Records != 104 {
			t.Errorf("line of %d bytes: %d records, %v", n, rep.Records, rep.Findings)
		}
	}
}

func TestReportAsJSON(t *testing.T) { // AUD-71
	fsys, names := threeFiles(t)
	rep := check(t, edited(fsys, names[0], func(b []byte) []byte { b[2] ^= 1; return b }))
	b, err := json.Marshal(rep)
	if err != nil || !strings.Contains(string(b), `"assurance":"none"`) || !strings.Contains(string(b), `"kind":"broken"`) {
		t.Errorf("%s, %v", b, err)
	}
	all := check(t, edited(fsys, names[0], func(b []byte) []byte { return bytes.Repeat([]byte("x\n"), 500) }))
	if len(all.Findings) != 100 || all.More < 400 {
		t.Errorf("%d findings and %d more", len(all.Findings), all.More)
	}
}
