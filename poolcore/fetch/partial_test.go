package fetch_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/llorch/llorch/poolcore/fetch"
)

// TestResume proves PCO-65 for an earlier run's partial: it is hashed again, so
// that damage in it is found, and only the rest is asked for.
func TestResume(t *testing.T) {
	const size = 64 << 10
	b := content(1, size)
	damaged := slices.Clone(b[:size/2])
	damaged[100] ^= 1
	for _, c := range []struct {
		name string
		left []byte
		sent int64
	}{
		{"half", b[:size/2], size / 2},
		{"nothing", nil, size},
		{"all", b, 0},
		{"damaged", damaged, size/2 + size}, // found at the end, then once more from the start
		{"too much", append(slices.Clone(b), 1), size},
	} {
		t.Run(c.name, func(t *testing.T) {
			inWorld(t, map[string][]byte{model: b}, func(w *world) {
				plan := w.resolve(modelRef)
				if err := fetch.WritePart(w.root, plan, plan.Files[0], c.left, "", 0); err != nil {
					t.Fatal(err)
				}
				w.get(plan)
				if w.hub.bytes() != c.sent {
					t.Errorf("sent %d bytes, want %d", w.hub.bytes(), c.sent)
				}
			})
		})
	}
}

// TestForeignPartial: what else stands at the partial's name is neither written
// through nor believed.
func TestForeignPartial(t *testing.T) {
	const size = 10_000
	b := content(1, size)
	for _, suffix := range []string{fetch.PartSuffix, fetch.MetaSuffix, ".new"} {
		t.Run("symlink "+suffix, func(t *testing.T) {
			inWorld(t, map[string][]byte{model: b}, func(w *world) {
				plan := w.resolve(modelRef)
				// a link that stays inside the folder, which os.Root would follow
				if err := w.root.WriteFile("victim", []byte("precious"), 0o600); err != nil {
					t.Fatal(err)
				}
				if err := w.root.Symlink("victim", fetch.PartName(plan, plan.Files[0])+suffix); err != nil {
					t.Skip(err)
				}
				w.get(plan)
				if data, err := w.root.ReadFile("victim"); err != nil || string(data) != "precious" {
					t.Errorf("the file behind the link holds %d bytes, %v", len(data), err)
				}
			})
		})
	}
	t.Run("directory", func(t *testing.T) {
		inWorld(t, map[string][]byte{model: b}, func(w *world) {
			plan := w.resolve(modelRef)
			if err := w.root.Mkdir(fetch.PartName(plan, plan.Files[0])+fetch.PartSuffix, 0o700); err != nil {
				t.Fatal(err)
			}
			_, err := w.sources.Download(w.Context(), plan, w.root, nil)
			refused(w, err, fetch.Storage)
			if strings.Contains(err.Error(), w.dir) {
				t.Errorf("the error shows a path: %v", err)
			}
		})
	})
}

// TestPlanIsJudged: a source that gives names, sizes or digests that no file may
// have is refused before anything is written.
func TestPlanIsJudged(t *testing.T) {
	good := fetch.File{Path: "m.gguf", Size: 1, URL: "x"}
	change := func(f func(*fetch.File)) []fetch.File { bad := good; f(&bad); return []fetch.File{bad} }
	for name, files := range map[string][]fetch.File{
		"none":       nil,
		"twice":      {good, good},
		"traversal":  change(func(f *fetch.File) { f.Path = "../m.gguf" }),
		"option":     change(func(f *fetch.File) { f.Path = "-m.gguf" }),
		"size":       change(func(f *fetch.File) { f.Size = -2 }),
		"large":      change(func(f *fetch.File) { f.Size = 5 << 40 }),
		"digest":     change(func(f *fetch.File) { f.SHA256 = "ab" }),
		"git digest": change(func(f *fetch.File) { f.GitSHA1 = sum(nil) }),
		"tag":        change(func(f *fetch.File) { f.ETag = strings.Repeat("x", 300) }),
		"too many":   slices.Repeat([]fetch.File{good}, 10_001),
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, nil, func(w *world) {
				_, err := w.sources.Download(w.Context(), fetch.Plan{Ref: modelRef, Files: files}, w.root, nil)
				refused(w, err, fetch.SourceInvalid)
				if len(w.names()) != 0 {
					t.Error(w.names())
				}
			})
		})
	}
}

// TestHostileTree: names in the hub's list that no reference would take are
// passed over, and those that would be taken are refused.
func TestHostileTree(t *testing.T) {
	inWorld(t, map[string][]byte{"m.safetensors": []byte("w"), "../x.txt": []byte("x"), "sub/../../x.txt": nil}, func(w *world) {
		if plan := w.resolve("org/repo"); len(plan.Files) != 1 {
			t.Errorf("%+v", plan.Files)
		}
		w.hub.files[".. .txt"] = nil
		w.hub.files["-rf.txt"] = nil
		_, err := w.sources.Resolve(w.Context(), ref(w, "org/repo"), fetch.Options{})
		refused(w, err, fetch.SourceInvalid)
	})
}

// FuzzMeta: whatever lies beside a partial, reading it does not panic, and what
// is accepted is within bounds and written back as the same.
func FuzzMeta(f *testing.F) {
	f.Add([]byte(`{"schema":1,"path":"m.gguf","url":"https://a/b","etag":"x","size":5,"sha256":"","git_sha1":"","tag":"\"a\"","synced":0}`))
	f.Add([]byte(`{"schema":2}`))
	f.Add([]byte(`{"schema":1,"size":-5,"synced":-1}`))
	f.Add([]byte("{"))
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := fetch.ParseMeta(data)
		if err != nil {
			return
		}
		if m.Size < -1 || m.Synced < 0 || m.Schema != 1 {
			t.Errorf("accepted %+v", m)
		}
		again, err := json.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		if n, err := fetch.ParseMeta(again); err != nil || n != m {
			t.Errorf("%s is read as %+v, %v", again, n, err)
		}
	})
}

// FuzzHeaders: no answer's head makes the readers panic or go out of bounds.
func FuzzHeaders(f *testing.F) {
	f.Add("bytes 0-9/10", `<https://a/b?c>; rel="next"`, `"tag"`, "120")
	f.Add("bytes 5-4/5", `<a>;rel=prev, <b>; rel=next`, `W/"x"`, "Wed, 21 Oct 2015 07:28:00 GMT")
	f.Add("bytes 1-2/*", "<", "\"\n\"", "-1")
	f.Add("bytes 0-99999999999999999999/5", ">", `""`, "99999999999999999999")
	f.Fuzz(func(t *testing.T, contentRange, link, tag, after string) {
		if start, total, ok := fetch.ParseContentRange(contentRange); ok {
			var first, last, size int64
			n, err := fmt.Sscanf(contentRange, "bytes %d-%d/%d", &first, &last, &size)
			if n != 3 || err != nil || first != start || size != total || last != total-1 || start < 0 || start >= total || total > 4<<40 {
				t.Errorf("%q is %d of %d", contentRange, start, total)
			}
		}
		if next := fetch.NextPage([]string{link}); next != "" && !strings.Contains(link, "<"+next+">") {
			t.Errorf("%q has the next page %q", link, next)
		}
		if s := fetch.StrongTag(tag); s != "" && (s != tag || strings.ContainsAny(s, "\r\n\x00 ") || !strings.HasPrefix(s, `"`)) {
			t.Errorf("%q is the tag %q", tag, s)
		}
		if d := fetch.ParseRetryAfter(after, epoch()); d < 0 || d > 5*60*1e9 {
			t.Errorf("%q is %v", after, d)
		}
		fetch.SplitParts(link)
		fetch.HasVariant(link, tag)
	})
}

// TestMetaBesideBytes: the description never has the tag of newer bytes than
// those beside it: the file is emptied first.
func TestMetaBesideBytes(t *testing.T) {
	const size = 8 << 10
	inWorld(t, map[string][]byte{model: content(1, size)}, func(w *world) {
		plan := w.resolve(modelRef)
		if err := fetch.WritePart(w.root, plan, plan.Files[0], w.hub.files[model][:size/2], `"a"`, 0); err != nil {
			t.Fatal(err)
		}
		w.hub.etag = `"b"` // so If-Range fails and the whole file comes
		w.hub.fault = func(_ int, _ string, rw http.ResponseWriter, r *http.Request) bool {
			if r.Header.Get("If-Range") != `"a"` {
				t.Errorf("If-Range %q", r.Header.Get("If-Range"))
			}
			return false
		}
		w.get(plan)
		data, err := w.root.ReadFile(fetch.PartName(plan, plan.Files[0]) + fetch.MetaSuffix)
		if err != nil || !bytes.Contains(data, []byte(`\"b\"`)) {
			t.Errorf("%s %v", data, err)
		}
	})
}
