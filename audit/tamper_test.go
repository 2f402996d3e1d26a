package audit_test

import (
	"bytes"
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/llorch/llorch/audit"
)

// threeFiles makes a log of three files, cleanly closed, as a map that tests
// may damage.
func threeFiles(t testing.TB) (fstest.MapFS, []string) {
	t.Helper()
	dir := t.TempDir() + "/log"
	c := config(dir)
	c.RotateBytes = 64 << 10
	l := mustOpen(t, c)
	text := strings.Repeat("x", 1000)
	for i := range 100 {
		if _, err := l.Append(t.Context(), audit.Event{Data: note{N: int64(i), Text: text, List: []string{text[:200]}}}); err != nil {
			t.Fatal(err)
		}
	}
	mustClose(t, l)
	fsys := readDir(t, dir)
	var names []string
	for name := range fsys {
		if strings.HasSuffix(name, ".audit") {
			names = append(names, name)
		}
	}
	slices.SortFunc(names, func(a, b string) int { return cmp.Or(len(a)-len(b), strings.Compare(a, b)) })
	if len(names) != 3 {
		t.Fatalf("files: %v", names)
	}
	return fsys, names
}

func check(t testing.TB, fsys fstest.MapFS) *audit.Report {
	t.Helper()
	rep, err := audit.Verify(t.Context(), fsys, audit.VerifyOptions{})
	if err != nil {
		t.Fatalf("Verify() = %v", err)
	}
	return rep
}

// edited returns a copy of fsys in which one file was changed.
func edited(fsys fstest.MapFS, name string, change func([]byte) []byte) fstest.MapFS {
	out := maps.Clone(fsys)
	out[name] = &fstest.MapFile{Data: change(bytes.Clone(fsys[name].Data)), Mode: 0o600}
	return out
}

func linesOf(b []byte) [][]byte { return slices.Collect(bytes.Lines(b)) }

// located reports whether a finding of the kind points at the line.
func located(rep *audit.Report, kind audit.Kind, file string, line int64) bool {
	return slices.ContainsFunc(rep.Findings, func(f audit.Finding) bool {
		return f.Kind == kind && f.File == file && f.Line == line
	})
}

func TestTamperMatrix(t *testing.T) { // AUD-80, AUD-10, G3 below a trusted head
	fsys, names := threeFiles(t)
	if rep := check(t, fsys); !rep.OK || rep.Records != 104 || rep.Files != 3 {
		t.Fatalf("untouched: %+v", rep)
	}
	type damage struct {
		what string
		kind audit.Kind
		file string
		line int64
		do   func(l [][]byte) [][]byte
	}
	var all []damage
	for fi, name := range names {
		n := int64(len(linesOf(fsys[name].Data)))
		for _, k := range []int64{1, 2, n / 2, n - 1, n} {
			i := int(k - 1)
			all = append(
				all,
				damage{"flip", audit.Broken, name, k, func(l [][]byte) [][]byte {
					l[i] = bytes.Replace(bytes.Clone(l[i]), []byte(`"svc":"test"`), []byte(`"svc":"tess"`), 1)
					return l
				}},
				damage{"break", audit.Broken, name, k, func(l [][]byte) [][]byte {
					l[i] = append([]byte{'['}, l[i][1:]...)
					return l
				}},
				damage{"prev", audit.Broken, name, k, func(l [][]byte) [][]byte {
					at := bytes.Index(l[i], []byte(`"prev":"`)) + 8
					l[i] = bytes.Clone(l[i])
					l[i][at] = "01"[l[i][at]&1^1]
					return l
				}},
				damage{"seq", audit.Broken, name, k, func(l [][]byte) [][]byte {
					l[i] = bytes.Replace(bytes.Clone(l[i]), []byte(`"seq":`), []byte(`"seq":9`), 1)
					return l
				}},
				damage{"at", audit.Broken, name, k, func(l [][]byte) [][]byte {
					at := bytes.Index(l[i], []byte(`"at":"`)) + 6
					l[i] = append(append(bytes.Clone(l[i][:at]), '1'), l[i][at+1:]...)
					return l
				}},
				damage{"duplicate", audit.Repeated, name, k + 1, func(l [][]byte) [][]byte {
					return slices.Insert(slices.Clone(l), i+1, l[i])
				}},
			)
			if k < n {
				all = append(
					all,
					damage{"delete", audit.Missing, name, k, func(l [][]byte) [][]byte {
						return slices.Delete(slices.Clone(l), i, i+1)
					}},
					damage{"swap", audit.Repeated, name, k + 1, func(l [][]byte) [][]byte {
						l = slices.Clone(l)
						l[i], l[i+1] = l[i+1], l[i]
						return l
					}},
					damage{"join", audit.Broken, name, k, func(l [][]byte) [][]byte {
						l = slices.Clone(l)
						l[i] = append(bytes.Clone(l[i][:len(l[i])-1]), ' ')
						return l
					}},
				)
			}
			kind := audit.Missing
			if fi == len(names)-1 {
				kind = audit.Truncated
			}
			all = append(all, damage{"cut", kind, name, k, func(l [][]byte) [][]byte { return l[:i] }})
		}
	}
	for _, d := range all {
		t.Run(fmt.Sprintf("%s/%s/%d", d.what, d.file, d.line), func(t *testing.T) {
			rep := check(t, edited(fsys, d.file, func(b []byte) []byte {
				return bytes.Join(d.do(linesOf(b)), nil)
			}))
			if rep.OK || !located(rep, d.kind, d.file, d.line) {
				t.Errorf("want %s at line %d, found %v", d.kind, d.line, rep.Findings)
			}
			if len(rep.Findings) > 3 {
				t.Errorf("one damage, %d findings: %v", len(rep.Findings), rep.Findings)
			}
		})
	}
}

func TestEveryFlippedByteFound(t *testing.T) { // AUD-80: zero misses
	dir := t.TempDir() + "/log"
	l := mustOpen(t, config(dir))
	for i := range 10 {
		mustAppend(t, l, audit.Event{Data: note{N: int64(i)}})
	}
	mustClose(t, l)
	fsys := readDir(t, dir)
	name := records(t, dir)[0].At.Format("2006-01-02") + ".audit"
	size := len(fsys[name].Data)
	for i := range size {
		rep := check(t, edited(fsys, name, func(b []byte) []byte { b[i] ^= 1 << (i % 8); return b }))
		line := int64(bytes.Count(fsys[name].Data[:i], []byte("\n"))) + 1
		near := slices.ContainsFunc(rep.Findings, func(f audit.Finding) bool { return f.File == name && f.Line == line })
		if rep.OK || !near {
			t.Fatalf("byte %d (line %d): %v", i, line, rep.Findings)
		}
	}
	for n := 0; n < size; n += 3 { // a line has about 400 bytes: each is cut in many places
		if rep := check(t, edited(fsys, name, func(b []byte) []byte { return b[:n] })); rep.OK {
			t.Fatalf("cut to %d of %d bytes passed", n, size)
		}
	}
}

func TestTamperedFiles(t *testing.T) { // AUD-80: whole files, sidecars, manifest
	fsys, names := threeFiles(t)
	move := func(from, to string) fstest.MapFS {
		out := maps.Clone(fsys)
		out[to] = out[from]
		delete(out, from)
		return out
	}
	without := func(name string) fstest.MapFS {
		out := maps.Clone(fsys)
		delete(out, name)
		return out
	}
	swapped := maps.Clone(fsys)
	swapped[names[0]], swapped[names[1]] = swapped[names[1]], swapped[names[0]]
	day := strings.TrimSuffix(names[0], ".audit")
	copied := maps.Clone(fsys)
	copied[day+"-3.audit"] = copied[names[1]]
	grown := edited(fsys, names[0], func(b []byte) []byte { return append(b, b[:bytes.IndexByte(b, '\n')+1]...) })
	for what, c := range map[string]struct {
		fsys fstest.MapFS
		kind audit.Kind
		file string
	}{
		"first removed":    {without(names[0]), audit.Missing, names[0]},
		"middle removed":   {without(names[1]), audit.Missing, names[1]},
		"last removed":     {without(names[2]), audit.Missing, names[2]},
		"renamed":          {move(names[0], "2001-01-01.audit"), audit.Missing, names[0]},
		"swapped":          {swapped, audit.Missing, names[0]},
		"copied":           {copied, audit.Repeated, day + "-3.audit"},
		"grown":            {grown, audit.Repeated, names[0]},
		"sidecar removed":  {without(names[0] + ".sha256"), audit.Missing, names[0] + ".sha256"},
		"sidecar edited":   {edited(fsys, names[1]+".sha256", func(b []byte) []byte { b[3] ^= 1; return b }), audit.Broken, names[1] + ".sha256"},
		"manifest removed": {without("manifest.json"), audit.Missing, "manifest.json"},
		"manifest edited":  {edited(fsys, "manifest.json", func(b []byte) []byte { return b[1:] }), audit.Broken, "manifest.json"},
	} {
		rep := check(t, c.fsys)
		found := slices.ContainsFunc(rep.Findings, func(f audit.Finding) bool { return f.Kind == c.kind && f.File == c.file })
		if rep.OK || !found || len(rep.Findings) > 3 {
			t.Errorf("%s: want %s in %s, found %v", what, c.kind, c.file, rep.Findings)
		}
	}
}

func TestLineFromElsewhere(t *testing.T) { // AUD-80: an inserted line is the finding, not its neighbours
	fsys, names := threeFiles(t)
	rep := check(t, edited(fsys, names[0], func(b []byte) []byte {
		l := linesOf(b)
		foreign := bytes.Replace(l[3], []byte(`"svc":"test"`), []byte(`"svc":"evil"`), 1)
		return bytes.Join(slices.Insert(l, 20, foreign), nil)
	}))
	if len(rep.Findings) != 1 || !located(rep, audit.Repeated, names[0], 21) {
		t.Errorf("found %v", rep.Findings)
	}
}
