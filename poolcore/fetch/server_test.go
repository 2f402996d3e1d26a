package fetch_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/iotest"
	"time"

	"github.com/llorch/llorch/inputvalidation"
	"github.com/llorch/llorch/poolcore/fetch"
)

// failing answers the first n requests for content with a status.
func failing(n, status int, retryAfter string) func(int, string, http.ResponseWriter, *http.Request) bool {
	return func(i int, _ string, rw http.ResponseWriter, _ *http.Request) bool {
		if i > n {
			return false
		}
		if retryAfter != "" {
			rw.Header().Set("Retry-After", retryAfter)
		}
		http.Error(rw, "the server's own words "+token, status)
		return true
	}
}

// TestRetries proves PCO-69: which statuses are tried again, how long the pauses
// are, and that the fifth failure in a row is the last.
func TestRetries(t *testing.T) {
	for _, c := range []struct {
		status, times int
		after         string
		least, most   time.Duration // in all
		code          fetch.Code    // "" = it succeeds
		requests      int
	}{
		{429, 1, "", 900 * time.Millisecond, 1100 * time.Millisecond, "", 2},
		{408, 2, "", 2700 * time.Millisecond, 3300 * time.Millisecond, "", 3},
		{500, 3, "", 6300 * time.Millisecond, 7700 * time.Millisecond, "", 4},
		{503, 4, "", 13500 * time.Millisecond, 16500 * time.Millisecond, "", 5},
		{599, 9, "", 13500 * time.Millisecond, 16500 * time.Millisecond, fetch.Unreachable, 5},
		{429, 1, "120", 2 * time.Minute, 2 * time.Minute, "", 2},
		{503, 1, "86400", 5 * time.Minute, 5 * time.Minute, "", 2},
		{429, 1, "soon", 900 * time.Millisecond, 1100 * time.Millisecond, "", 2},
		{403, 1, "9", 0, 0, fetch.Refused, 1},
		{404, 1, "", 0, 0, fetch.EntryNotFound, 1},
		{400, 1, "", 0, 0, fetch.Refused, 1},
	} {
		t.Run(fmt.Sprint(c.status, c.times, c.after), func(t *testing.T) {
			inWorld(t, map[string][]byte{model: content(1, 4<<10)}, func(w *world) {
				w.hub.fault = failing(c.times, c.status, c.after)
				plan := w.resolve(modelRef)
				start := time.Now()
				got, err := w.sources.Download(w.Context(), plan, w.root, nil)
				if c.code != "" {
					refused(w, err, c.code)
				} else if err != nil {
					t.Fatal(err)
				} else {
					w.compare(plan, got)
				}
				if d := time.Since(start); d < c.least || d > c.most || w.hub.requests() != c.requests {
					t.Errorf("%d requests in %v, want %d in %v to %v", w.hub.requests(), d, c.requests, c.least, c.most)
				}
			})
		})
	}
}

// breaking is a stranger's source of one file, whose connection breaks after each
// step bytes.
type breaking struct{ size, step int64 }

func (b breaking) Resolve(context.Context, inputvalidation.ModelRef, fetch.Options) (fetch.Plan, error) {
	return fetch.Plan{Files: []fetch.File{{Path: model, Size: b.size}}}, nil
}

func (b breaking) Open(_ context.Context, _ fetch.File, from int64, _ string) (*fetch.Body, error) {
	rest := io.MultiReader(io.LimitReader(zeros{}, min(b.step, b.size-from)), iotest.ErrReader(io.ErrUnexpectedEOF))
	return &fetch.Body{ReadCloser: io.NopCloser(rest), Start: from, Total: b.size, Tag: `"a"`}, nil
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) { clear(b); return len(b), nil }

// TestProgressClearsFailures proves the second sentence of PCO-69: 16 MiB between
// failures make the count begin anew, less does not.
func TestProgressClearsFailures(t *testing.T) {
	for _, step := range []int64{16 << 20, 1 << 20} {
		s := fetch.Sources{HF: breaking{7 * step, step}}
		_, got, err := download(t, s, modelRef, fetch.Options{})
		if step < 16<<20 {
			if refused(t, err, fetch.Unreachable); got != nil {
				t.Error(got)
			}
		} else if err != nil || got[0].Size != 7*step {
			t.Errorf("%v %v", got, err)
		}
	}
}

// TestStall proves PCO-69's stall: 30 s without a byte end a try, before the
// answer and within it; slow bytes do not, however long the file takes.
func TestStall(t *testing.T) {
	const size = 64 << 10
	b := content(1, size)
	t.Run("silence", func(t *testing.T) {
		for _, sent := range []int{-1, 0, size / 2} {
			inWorld(t, map[string][]byte{model: b}, func(w *world) {
				w.hub.fault = func(n int, _ string, rw http.ResponseWriter, r *http.Request) bool {
					if n > 1 {
						return false
					}
					if sent >= 0 {
						rw.Header().Set("Content-Length", fmt.Sprint(size))
						rw.Write(b[:sent])
						http.NewResponseController(rw).Flush()
					}
					<-r.Context().Done()
					return true
				}
				plan := w.resolve(modelRef)
				start := time.Now()
				w.get(plan)
				if d := time.Since(start); d < 30900*time.Millisecond || d > 31100*time.Millisecond {
					t.Errorf("after %d bytes: took %v, want 30 s and a pause", sent, d)
				}
			})
		}
	})
	t.Run("for ever", func(t *testing.T) {
		inWorld(t, map[string][]byte{model: b}, func(w *world) {
			w.hub.fault = func(_ int, _ string, rw http.ResponseWriter, r *http.Request) bool {
				rw.Header().Set("Content-Length", fmt.Sprint(size))
				http.NewResponseController(rw).Flush()
				<-r.Context().Done()
				return true
			}
			_, err := w.sources.Download(w.Context(), w.resolve(modelRef), w.root, nil)
			refused(w, err, fetch.Stalled)
		})
	})
	t.Run("slow", func(t *testing.T) {
		inWorld(t, map[string][]byte{model: b[:64]}, func(w *world) {
			w.hub.fault = func(_ int, _ string, rw http.ResponseWriter, _ *http.Request) bool {
				rw.Header().Set("Content-Length", "64")
				for i := range 64 {
					time.Sleep(29 * time.Second) // in the bubble
					rw.Write(b[i : i+1])
					http.NewResponseController(rw).Flush()
				}
				return true
			}
			w.get(w.resolve(modelRef))
			if w.hub.requests() != 1 {
				t.Errorf("%d requests", w.hub.requests())
			}
		})
	})
}

// TestHubCodes proves the typed errors of PCO-66: each has a hint, none a word of
// the server.
func TestHubCodes(t *testing.T) {
	for _, c := range []struct {
		header string
		status int
		code   fetch.Code
	}{
		{"GatedRepo", 403, fetch.GatedRepo},
		{"RepoNotFound", 401, fetch.RepoNotFound},
		{"RevisionNotFound", 404, fetch.RevisionNotFound},
		{"EntryNotFound", 404, fetch.EntryNotFound},
		{"", 401, fetch.Refused},
		{"SomethingNew", 403, fetch.Refused},
	} {
		inWorld(t, nil, func(w *world) {
			w.hub.sealed, w.hub.status = c.header, c.status
			_, err := w.sources.Resolve(w.Context(), ref(w, modelRef), fetch.Options{})
			refused(w, err, c.code)
			if len(w.hub.asked) != 1 || !strings.Contains(err.Error(), string(c.code)+": ") {
				t.Errorf("%s: %d requests, %v", c.header, len(w.hub.asked), err)
			}
		})
	}
}

// TestRepository proves the choice of files and the paging of PCO-66.
func TestRepository(t *testing.T) {
	files := map[string][]byte{
		"README.md": nil, "config.json": []byte("{}"), "merges.txt": []byte("m"), "model-00001-of-00002.safetensors": content(1, 3000),
		"model-00002-of-00002.safetensors": content(2, 2000), "original/consolidated.safetensors": content(3, 10), "pytorch_model.bin": []byte("p"),
		"tokenizer.model": []byte("t"), "tokenizer.pkl": []byte("k"), "tokenizer.pickle": []byte("k"), "a-Q4_K_M.gguf": content(4, 10), "a-Q8_0-00001-of-00002.gguf": content(5, 10),
		"a-Q8_0-00002-of-00002.gguf": content(6, 10),
	}
	inWorld(t, files, func(w *world) {
		w.hub.page = 2
		w.hub.small["config.json"] = true
		paths := func(s string) (out []string) {
			plan := w.resolve(s)
			for _, f := range plan.Files {
				out = append(out, f.Path)
			}
			w.get(plan)
			return out
		}
		for s, want := range map[string][]string{
			"org/repo":                               {"config.json", "merges.txt", "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors", "tokenizer.model"},
			"org/repo:q4_k_m":                        {"a-Q4_K_M.gguf"},
			"org/repo:Q8_0":                          {"a-Q8_0-00001-of-00002.gguf", "a-Q8_0-00002-of-00002.gguf"},
			"org/repo/a-Q8_0-00002-of-00002.gguf":    {"a-Q8_0-00001-of-00002.gguf", "a-Q8_0-00002-of-00002.gguf"},
			"org/repo@" + commitTwo + "/config.json": {"config.json"},
		} {
			if got := paths(s); !slices.Equal(got, want) {
				t.Errorf("%s: %v, want %v", s, got, want)
			}
		}
		for s, code := range map[string]fetch.Code{
			"org/repo:Q5_0":              fetch.EntryNotFound,
			"org/repo/none.gguf":         fetch.EntryNotFound,
			"org/other":                  fetch.RepoNotFound,
			"org/repo/pytorch_model.bin": fetch.HostNotAllowed,
			"llama3:8b":                  fetch.AliasNotAllowed,
			"file:x.gguf":                fetch.HostNotAllowed, // no such source here
		} {
			_, err := w.sources.Resolve(w.Context(), ref(w, s), fetch.Options{})
			refused(w, err, code)
		}
		if _, err := w.sources.Resolve(w.Context(), ref(w, "org/repo/pytorch_model.bin"), fetch.Options{AllowPickle: true}); err != nil {
			t.Error(err)
		}
	})
}

// TestPins proves PCO-63's strict policy and PCO-68's where a download is
// resolved: without a pinned digest nothing, with a wrong one nothing either.
func TestPins(t *testing.T) {
	inWorld(t, map[string][]byte{model: content(1, 100)}, func(w *world) {
		good, bad := sum(w.hub.files[model]), sum(nil)
		for _, c := range []struct {
			ref, pin string
			strict   bool
			code     fetch.Code
		}{
			{modelRef, "", true, fetch.HostNotAllowed},
			{modelRef, good, true, ""},
			{modelRef + "#sha256=" + good, "", true, ""},
			{modelRef + "#sha256=" + good, bad, false, fetch.DigestMismatch},
			{modelRef, bad, false, fetch.DigestMismatch},
			{modelRef, "ABC", false, fetch.InvalidParams},
		} {
			_, err := w.sources.Resolve(w.Context(), ref(w, c.ref), fetch.Options{SHA256: c.pin, Strict: c.strict})
			if c.code != "" {
				refused(w, err, c.code)
			} else if err != nil {
				t.Error(err)
			}
		}
	})
}

// TestTwoAtOnce proves PCO-64's "2 files at once", and that the failure of one
// ends the others.
func TestTwoAtOnce(t *testing.T) {
	files := map[string][]byte{}
	for i := range 6 {
		files[fmt.Sprintf("m-%05d-of-00006.gguf", i+1)] = content(uint64(i), 1000)
	}
	inWorld(t, files, func(w *world) {
		var now, most atomic.Int64
		w.hub.fault = func(_ int, _ string, _ http.ResponseWriter, _ *http.Request) bool {
			most.Store(max(most.Load(), now.Add(1)))
			time.Sleep(time.Second) // in the bubble
			now.Add(-1)
			return false
		}
		plan := w.resolve("org/repo/m-00001-of-00006.gguf")
		start := time.Now()
		w.get(plan)
		if d := time.Since(start); most.Load() != 2 || d != 3*time.Second {
			t.Errorf("%d at once, %v in all", most.Load(), d)
		}
		if err := fetch.Discard(w.root, plan); err != nil {
			t.Fatal(err)
		}
		w.hub.fault = func(_ int, name string, rw http.ResponseWriter, r *http.Request) bool {
			if strings.Contains(name, "00002-of") {
				rw.WriteHeader(http.StatusForbidden)
				return true
			}
			<-r.Context().Done()
			return true
		}
		_, err := w.sources.Download(w.Context(), plan, w.root, nil)
		refused(w, err, fetch.Refused)
		if !strings.Contains(err.Error(), "m-00002-of-00006.gguf") {
			t.Errorf("the error does not name the file: %v", err)
		}
	})
}
