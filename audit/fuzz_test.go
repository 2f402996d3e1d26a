package audit_test

import (
	"bytes"
	"encoding/binary"
	"os"
	"testing"
	"testing/fstest"

	"github.com/llorch/llorch/audit"
)

func FuzzParseRecord(f *testing.F) {
	two, err := os.ReadFile("testdata/vectors/two/2026-01-02.audit")
	if err != nil {
		f.Fatal(err)
	}
	for l := range bytes.Lines(two) {
		f.Add(l)
		f.Add(l[:len(l)/2])
	}
	f.Add([]byte(`{"v":1,"seq":-1}`))
	f.Add([]byte(`null`))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := audit.ParseRecord(b)
		if err == nil && (!bytes.Equal(r.Raw, bytes.TrimSuffix(b, []byte("\n"))) || r.Emit == 0 || r.Event.Type == "") {
			t.Errorf("ParseRecord(%q) = %+v", b, r)
		}
	})
}

func FuzzManifest(f *testing.F) {
	f.Add([]byte(`{"created":"","files":[],"min_index":0,"origin":"o","service":"s","v":1}`))
	f.Add([]byte(`{"v":1,"files":[{"name":"2000-01-01.audit"}]}`))
	dir := f.TempDir() + "/log"
	l, err := audit.Open(f.Context(), config(dir))
	if err != nil {
		f.Fatal(err)
	}
	mustClose(f, l)
	b, err := os.ReadFile(dir + "/manifest.json")
	if err != nil {
		f.Fatal(err)
	}
	for _, rest := range []string{"]", "}", "1", "{}"} {
		if audit.ParseManifest(append(bytes.Clone(b), rest...)) == nil {
			f.Errorf("a manifest with %s behind it is read", rest)
		}
	}
	if err := audit.ParseManifest(b); err != nil {
		f.Error(err)
	}
	f.Add(b)
	f.Fuzz(func(_ *testing.T, b []byte) { _ = audit.ParseManifest(b) })
}

// unpack makes a directory of length-prefixed contents.
func unpack(b []byte) fstest.MapFS {
	names := []string{
		"manifest.json", "2000-01-01.audit", "2000-01-01-1.audit", "2000-01-01.audit.sha256", "2000-01-02.audit.gz", "2000-01-03.audit",
	}
	out := make(fstest.MapFS)
	for _, name := range names {
		if len(b) < 2 {
			break
		}
		n := min(int(binary.BigEndian.Uint16(b)), len(b)-2)
		if n > 0 {
			out[name] = &fstest.MapFile{Data: b[2 : 2+n]}
		}
		b = b[2+n:]
	}
	return out
}

func FuzzVerify(f *testing.F) { // a whole directory
	pack := func(parts ...[]byte) []byte {
		var out []byte
		for _, p := range parts {
			out = append(binary.BigEndian.AppendUint16(out, uint16(len(p))), p...)
		}
		return out
	}
	two, err := os.ReadFile("testdata/vectors/two/2026-01-02.audit")
	if err != nil {
		f.Fatal(err)
	}
	half := bytes.IndexByte(two, '\n') + 1
	f.Add(pack(nil, two))
	f.Add(pack(nil, two[:half], two[half:]))
	f.Add(pack([]byte(`{"created":"","files":[],"min_index":0,"origin":"o","service":"s","v":1}`), two[half:], two[:half], []byte("x"), []byte{0x1f, 0x8b}))
	f.Fuzz(func(t *testing.T, b []byte) {
		rep, err := audit.Verify(t.Context(), unpack(b), audit.VerifyOptions{Workers: 2})
		if err == nil && rep.OK != (len(rep.Findings) == 0) {
			t.Errorf("OK = %v with %v", rep.OK, rep.Findings)
		}
	})
}
