package fetch_test

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/llorch/llorch/poolcore/fetch"
)

const model = "model.gguf"

const modelRef = "hf:org/repo::file=" + model

// TestDownload proves PCO-66 and the steps resolve and download of PCO-64.
func TestDownload(t *testing.T) {
	inWorld(t, map[string][]byte{model: content(1, 64<<10)}, func(w *world) {
		plan := w.resolve(modelRef)
		want := fetch.File{Path: model, Size: 64 << 10, SHA256: sum(w.hub.files[model]), ETag: sum(w.hub.files[model])}
		f := plan.Files[0]
		if plan.Repo != "org/repo" || plan.Revision != commitOne || plan.Ref != modelRef || f.Path != want.Path || f.Size != want.Size || f.SHA256 != want.SHA256 || f.ETag != want.ETag {
			t.Errorf("plan %+v", plan)
		}
		w.get(plan)
		if err := fetch.Discard(w.root, plan); err != nil || len(w.names()) != 0 {
			t.Errorf("%v, left %v", err, w.names())
		}
	})
}

// TestCutEverywhere proves PCO-65 and PCO-69: a connection that breaks after
// each sixteenth of a file costs one pause, and no byte is sent twice.
func TestCutEverywhere(t *testing.T) {
	const size = 64 << 10
	for k := range 16 {
		t.Run(fmt.Sprint(k), func(t *testing.T) {
			inWorld(t, map[string][]byte{model: content(1, size)}, func(w *world) {
				w.hub.fault = func(n int, name string, rw http.ResponseWriter, r *http.Request) bool {
					if n == 1 {
						cut(rw, r, w.hub.files[name], `"a"`, k*size/16)
					}
					return false
				}
				w.hub.etag = `"a"`
				start := time.Now()
				w.get(w.resolve(modelRef))
				if d := time.Since(start); d < 900*time.Millisecond || d > 1100*time.Millisecond {
					t.Errorf("took %v, want the first pause of the schedule", d)
				}
				last := w.hub.asked[len(w.hub.asked)-1]
				wantRange, wantIf := fmt.Sprintf("bytes=%d-", k*size/16), `"a"`
				if k == 0 {
					wantRange, wantIf = "", ""
				}
				if w.hub.bytes() != size || last.Header.Get("Range") != wantRange || last.Header.Get("If-Range") != wantIf {
					t.Errorf("sent %d bytes of %d; Range %q If-Range %q", w.hub.bytes(), size, last.Header.Get("Range"), last.Header.Get("If-Range"))
				}
			})
		})
	}
}

// TestAnswers goes through what a server may answer to the request that
// continues a file: the right bytes come, whatever it does (PCO-65).
func TestAnswers(t *testing.T) {
	const size = 64 << 10
	b := content(1, size)
	send := func(rw http.ResponseWriter, status int, span string, tag string, part []byte) {
		rw.Header().Set("ETag", tag)
		if span != "" {
			rw.Header().Set("Content-Range", span)
		}
		rw.WriteHeader(status)
		rw.Write(part)
	}
	half := size / 2
	cases := map[string]struct {
		answer func(rw http.ResponseWriter, r *http.Request)
		sent   int64 // by the hub altogether
	}{
		"the whole file": {func(rw http.ResponseWriter, _ *http.Request) { send(rw, 200, "", `"b"`, b) }, size + size/2},
		"another start": {func(rw http.ResponseWriter, _ *http.Request) {
			send(rw, 206, fmt.Sprintf("bytes %d-%d/%d", half-1, size-1, size), `"a"`, b[half-1:])
		}, -1},
		"another total": {func(rw http.ResponseWriter, _ *http.Request) {
			send(rw, 206, fmt.Sprintf("bytes %d-%d/%d", half, size, size+1), `"a"`, b[half:])
		}, -1},
		"no total": {func(rw http.ResponseWriter, _ *http.Request) {
			send(rw, 206, fmt.Sprintf("bytes %d-%d/*", half, size-1), `"a"`, b[half:])
		}, -1},
		"a part of the rest": {func(rw http.ResponseWriter, _ *http.Request) {
			send(rw, 206, fmt.Sprintf("bytes %d-%d/%d", half, half+9, size), `"a"`, b[half:half+10])
		}, -1},
		"no range at all": {func(rw http.ResponseWriter, _ *http.Request) { send(rw, 206, "", `"a"`, b[half:]) }, -1},
		"another tag": {func(rw http.ResponseWriter, _ *http.Request) {
			send(rw, 206, fmt.Sprintf("bytes %d-%d/%d", half, size-1, size), `"b"`, b[half:])
		}, -1},
		"416": {func(rw http.ResponseWriter, _ *http.Request) {
			send(rw, 416, fmt.Sprintf("bytes */%d", half), `"a"`, nil)
		}, size + size/2},
		"an unasked coding": {func(rw http.ResponseWriter, _ *http.Request) {
			rw.Header().Set("Content-Encoding", "gzip")
			send(rw, 200, "", `"a"`, b)
		}, 0},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			inWorld(t, map[string][]byte{model: b}, func(w *world) {
				w.hub.etag = `"a"`
				w.hub.fault = func(n int, _ string, rw http.ResponseWriter, r *http.Request) bool {
					switch n {
					case 1:
						cut(rw, r, b, `"a"`, half)
					case 2:
						if r.Header.Get("Range") != fmt.Sprintf("bytes=%d-", half) {
							t.Errorf("Range %q", r.Header.Get("Range"))
						}
						c.answer(rw, r)
						return true
					case 3:
						if r.Header.Get("Range") != "" {
							t.Errorf("after a wrong answer: Range %q", r.Header.Get("Range"))
						}
						if c.sent == -1 { // a wrong part was no wrong content: that is still forgiven once
							rw.Write(make([]byte, size))
							return true
						}
					}
					return false
				}
				plan := w.resolve(modelRef)
				if c.sent == 0 {
					_, err := w.sources.Download(w.Context(), plan, w.root, nil)
					refused(w, err, fetch.SourceInvalid)
					return
				}
				before := len(w.hub.asked)
				w.get(plan)
				if c.sent == -1 && w.hub.requests() != 4 {
					t.Errorf("%d requests, want that with the wrong part and two from the start", w.hub.requests())
				}
				if c.sent > 0 && w.hub.bytes() != c.sent {
					t.Errorf("sent %d bytes, want %d", w.hub.bytes(), c.sent)
				}
				resolved := false // again
				for _, r := range w.hub.asked[before:] {
					resolved = resolved || strings.HasPrefix(r.URL.Path, "/api/models/org/repo/tree/"+commitOne)
				}
				if want := name == "416"; want && !resolved {
					t.Error("416 did not resolve the file again")
				}
			})
		})
	}
}

// TestCorruptDownloadRefused is a trap of PCO-66 and PCO-70: wrong bytes of the right size are asked for once more and then refused,
// and nothing of them stays.
func TestCorruptDownloadRefused(t *testing.T) {
	const size = 64 << 10
	wrong := content(2, size)
	for _, small := range []bool{false, true} {
		for times := 1; times <= 2; times++ {
			t.Run(fmt.Sprint(small, times), func(t *testing.T) {
				inWorld(t, map[string][]byte{model: content(1, size)}, func(w *world) {
					w.hub.small[model] = small // known by its git blob
					w.hub.fault = func(n int, _ string, rw http.ResponseWriter, _ *http.Request) bool {
						if n <= times {
							rw.Write(wrong)
						}
						return n <= times
					}
					plan := w.resolve(modelRef)
					if small != (plan.Files[0].SHA256 == "") {
						t.Fatalf("plan %+v", plan)
					}
					if times == 1 {
						w.get(plan)
						return
					}
					got, err := w.sources.Download(w.Context(), plan, w.root, nil)
					refused(w, err, fetch.DigestMismatch)
					if got != nil || len(w.names()) != 0 || w.hub.requests() != 2 {
						t.Errorf("got %v, left %v after %d requests", got, w.names(), w.hub.requests())
					}
				})
			})
		}
	}
}

// TestWrongLength proves the second half of PCO-70: short and long bodies are
// errors, also where nothing but their length shows it.
func TestWrongLength(t *testing.T) {
	const size = 64 << 10
	b := content(1, size)
	for name, c := range map[string]struct {
		sent []byte
		code fetch.Code
	}{
		"longer":  {append(b[:size:size], 'x'), fetch.DigestMismatch},
		"shorter": {b[:size-1], fetch.DigestMismatch},
		"empty":   {nil, fetch.DigestMismatch},
	} {
		t.Run(name, func(t *testing.T) {
			for _, chunked := range []bool{false, true} {
				inWorld(t, map[string][]byte{model: b}, func(w *world) {
					w.hub.fault = func(_ int, _ string, rw http.ResponseWriter, r *http.Request) bool {
						if r.Header.Get("Range") != "" {
							return false
						}
						if chunked {
							http.NewResponseController(rw).Flush()
						} else {
							rw.Header().Set("Content-Length", strconv.Itoa(len(c.sent)))
						}
						rw.Write(c.sent)
						return true
					}
					got, err := w.sources.Download(w.Context(), w.resolve(modelRef), w.root, nil)
					switch {
					case chunked && name == "shorter": // continued where it ended
						if err != nil {
							t.Error(err)
						}
						w.compare(w.resolve(modelRef), got)
					case chunked && name == "empty":
						refused(w, err, fetch.Unreachable)
					default:
						refused(w, err, c.code)
					}
				})
			}
		})
	}
}

// TestResumeAfterFileChanged is the trap of PCO-65: what an earlier run left is
// continued only if it is the same content, and never mixed with another.
func TestResumeAfterFileChanged(t *testing.T) {
	const size = 64 << 10
	t.Run("revision", func(t *testing.T) {
		inWorld(t, map[string][]byte{model: content(1, size)}, func(w *world) {
			old := w.resolve(modelRef)
			if err := fetch.WritePart(w.root, old, old.Files[0], w.hub.files[model][:size/2], `"a"`, 0); err != nil {
				t.Fatal(err)
			}
			w.hub.files[model], w.hub.commit = content(2, size), commitTwo
			plan := w.resolve(modelRef)
			w.get(plan)
			if w.hub.bytes() != size {
				t.Errorf("sent %d bytes, want the whole new file", w.hub.bytes())
			}
			for _, n := range w.names() {
				if strings.HasPrefix(n, fetch.PartName(old, old.Files[0])) {
					t.Errorf("the partial of the old revision is still there: %s", n)
				}
			}
		})
	})
	t.Run("etag of an earlier run", func(t *testing.T) {
		inWorld(t, map[string][]byte{model: content(1, size)}, func(w *world) {
			plan := w.resolve(modelRef)
			old := plan.Files[0]
			old.ETag = "another"
			w.hub.etag = `"a"`
			if err := fetch.WritePart(w.root, plan, old, w.hub.files[model][:size/2], `"a"`, 0); err != nil {
				t.Fatal(err)
			}
			w.get(plan)
			if w.hub.bytes() != size {
				t.Errorf("sent %d bytes, want all", w.hub.bytes())
			}
		})
	})
	t.Run("hub's tag while it comes", func(t *testing.T) {
		inWorld(t, map[string][]byte{model: content(1, size)}, func(w *world) {
			plan := w.resolve(modelRef)
			w.hub.files[model] = content(2, size) // X-Linked-ETag says so
			_, err := w.sources.Download(w.Context(), plan, w.root, nil)
			refused(w, err, fetch.DigestMismatch) // the commit is resolved again and says something else
			trees := 0
			for _, r := range w.hub.asked {
				if strings.Contains(r.URL.Path, "/tree/") {
					trees++
				}
			}
			if trees != 2 {
				t.Errorf("the list was asked for %d times: X-Linked-ETag went unnoticed", trees)
			}
			if len(w.names()) != 0 {
				t.Errorf("left %v", w.names())
			}
		})
	})
}

// TestCancelKeepsPartial proves PCO-64's last sentence: the next run asks for the
// rest only.
func TestCancelKeepsPartial(t *testing.T) {
	const size = 64 << 10
	inWorld(t, map[string][]byte{model: content(1, size)}, func(w *world) {
		ctx, cancel := context.WithCancel(w.Context())
		w.hub.etag = `"a"`
		w.hub.fault = func(n int, _ string, rw http.ResponseWriter, r *http.Request) bool {
			if n > 1 {
				return false
			}
			rw.Header().Set("ETag", `"a"`)
			rw.Header().Set("Content-Length", fmt.Sprint(size))
			rw.Write(w.hub.files[model][:size/4])
			http.NewResponseController(rw).Flush()
			cancel()
			<-r.Context().Done()
			return true
		}
		plan := w.resolve(modelRef)
		if _, err := w.sources.Download(ctx, plan, w.root, nil); !strings.Contains(fmt.Sprint(err), "canceled") {
			t.Fatalf("got %v", err)
		}
		var phases []fetch.Progress
		got, err := w.sources.Download(w.Context(), plan, w.root, func(p fetch.Progress) { phases = append(phases, p) })
		if err != nil {
			t.Fatal(err)
		}
		w.compare(plan, got)
		if w.hub.bytes() != size || phases[0].Phase != fetch.PhaseVerifying || phases[0].BytesDone != size/4 {
			t.Errorf("sent %d bytes, first report %+v", w.hub.bytes(), phases[0])
		}
	})
}
