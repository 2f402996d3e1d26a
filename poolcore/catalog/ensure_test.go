package catalog_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/llorch/llorch/inputvalidation"
	"github.com/llorch/llorch/poolcore/catalog"
	"github.com/llorch/llorch/poolcore/fetch"
)

// hub is a source of one file that the test controls.
type hub struct {
	file     fetch.File
	data     []byte
	err      error
	gate     chan struct{} // Download waits for it, nil = it does not
	begun    chan struct{} // Download closes it, nil = it does not
	resolved atomic.Int32
	resumed  atomic.Int32 // downloads that found the partial
}

func (h *hub) Resolve(_ context.Context, ref inputvalidation.ModelRef, o fetch.Options) (fetch.Plan, error) {
	h.resolved.Add(1)
	if h.err != nil {
		return fetch.Plan{}, h.err
	}
	return fetch.Plan{
		Ref: ref.String(), Repo: "acme/tiny", Revision: strings.Repeat("0a", 20), URL: "https://hub.example/acme/tiny", Files: []fetch.File{h.file},
	}, nil
}

func (h *hub) Download(ctx context.Context, _ fetch.Plan, into *os.Root, progress func(fetch.Progress)) ([]fetch.Got, error) {
	if _, err := into.Stat("x.part"); err == nil {
		h.resumed.Add(1)
	}
	if err := into.WriteFile("x.part", h.data, 0o600); err != nil {
		return nil, err
	}
	progress(fetch.Progress{Phase: fetch.PhaseDownloading, BytesDone: 1, BytesTotal: h.file.Size})
	if h.begun != nil {
		close(h.begun)
	}
	if h.gate != nil {
		select {
		case <-h.gate:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	progress(fetch.Progress{Phase: fetch.PhaseVerifying, BytesDone: h.file.Size, BytesTotal: h.file.Size})
	part, err := inputvalidation.ParseRelPath("part", "x.part")
	return []fetch.Got{{Path: h.file.Path, Part: part, Size: int64(len(h.data)), SHA256: sum(h.data)}}, err
}

func newHub(data []byte) *hub {
	return &hub{file: fetch.File{Path: "tiny.gguf", Size: int64(len(data)), SHA256: sum(data), ETag: `"e"`}, data: data}
}

func ensure(t testing.TB, c *catalog.Catalog, ref string, o catalog.EnsureOptions) (catalog.Model, error) {
	t.Helper()
	f, err := c.Ensure(t.Context(), ref, o)
	if err != nil {
		return catalog.Model{}, err
	}
	return f.Wait(t.Context())
}

func partials(t testing.TB, dir string) int {
	t.Helper()
	left, err := os.ReadDir(filepath.Join(dir, "partial"))
	must(t, err)
	return len(left)
}

// PCO-64, PCO-57: what is not there is fetched, hashed and committed; what is there
// is not asked for again.
func TestEnsure(t *testing.T) {
	dir, h := t.TempDir(), newHub(tiny(1))
	c := open(t, catalog.Config{Dir: dir, Sources: h})
	f, err := c.Ensure(t.Context(), ref, catalog.EnsureOptions{Tags: []string{"chat"}})
	must(t, err)
	m, err := f.Wait(t.Context())
	must(t, err)
	if m.Verification != catalog.Pass || m.Source != (catalog.Source{URL: "https://hub.example/acme/tiny", Repo: "acme/tiny", Revision: strings.Repeat("0a", 20), ETag: `"e"`}) ||
		m.Tags[0] != "chat" || filepath.Base(filepath.Dir(located(t, c, ref))) != m.Source.Revision {
		t.Errorf("entry = %+v", m)
	}
	if p := f.Progress(); p.Human != "100 % verified" || p.Phase != fetch.PhaseDone || p.BytesDone != m.SizeBytes || p.BytesTotal != m.SizeBytes || p.Op == "" {
		t.Errorf("Progress at the end = %+v", p)
	}
	must(t, second(ensure(t, c, ref, catalog.EnsureOptions{SHA256: sum(tiny(1))})))
	if h.resolved.Load() != 1 || partials(t, dir) != 0 {
		t.Errorf("resolved %d times, %d partials", h.resolved.Load(), partials(t, dir))
	}
	// A byte that changed on the disk: fetched anew.
	must(t, os.WriteFile(located(t, c, ref), tiny(9), 0o600))
	must(t, second(ensure(t, c, ref, catalog.EnsureOptions{})))
	must(t, second(c.Ready(t.Context(), ref)))
	if h.resolved.Load() != 2 {
		t.Errorf("resolved %d times, want again after the change", h.resolved.Load())
	}
	must(t, c.SetState(m.ID, catalog.Retired, m.AddedAt))
	_, err = c.Ensure(t.Context(), ref, catalog.EnsureOptions{})
	wantCode(t, "Ensure(retired)", err, catalog.ModelRetired)
}

// PCO-64: later callers join the fetch that runs and see the same progress; a
// caller that gives up ends nothing.
func TestEnsureJoins(t *testing.T) {
	h := newHub(tiny(1))
	h.gate = make(chan struct{})
	c := open(t, catalog.Config{Dir: t.TempDir(), Sources: h})
	first, err := c.Ensure(t.Context(), ref, catalog.EnsureOptions{})
	must(t, err)
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := first.Wait(gone); !errors.Is(err, context.Canceled) {
		t.Errorf("Wait with an ended context = %v", err)
	}
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			f, err := c.Ensure(t.Context(), ref, catalog.EnsureOptions{})
			if err != nil || f != first {
				t.Errorf("Ensure = %p, %v, want the running %p", f, err, first)
			}
		})
	}
	all.Wait()
	_, err = c.Ensure(t.Context(), ref, catalog.EnsureOptions{SHA256: sum(tiny(2))})
	wantCode(t, "Ensure(other digest)", err, catalog.ModelInUse)
	close(h.gate)
	must(t, second(first.Wait(t.Context())))
	if h.resolved.Load() != 1 {
		t.Errorf("resolved %d times, want once", h.resolved.Load())
	}
}

// PCO-64: a cancelled fetch keeps what came, unless the caller discards it, and
// closing the catalogue ends what runs.
func TestEnsureCancel(t *testing.T) {
	for _, how := range []string{"keep", "discard", "close"} {
		t.Run(how, func(t *testing.T) {
			dir, h := t.TempDir(), newHub(tiny(1))
			h.gate, h.begun = make(chan struct{}), make(chan struct{})
			cfg := catalog.Config{Dir: dir, Sources: h, FreeSpace: plenty}
			c := open(t, cfg)
			f, err := c.Ensure(t.Context(), ref, catalog.EnsureOptions{})
			must(t, err)
			<-h.begun
			if p := f.Progress(); p.Phase != fetch.PhaseDownloading || p.BytesDone != 1 {
				t.Errorf("Progress = %+v", p)
			}
			if how == "close" {
				must(t, c.Close())
			} else {
				f.Cancel(how == "discard")
			}
			if _, err := f.Wait(t.Context()); !errors.Is(err, context.Canceled) || f.Progress().Phase != fetch.PhaseFailed {
				t.Errorf("Wait = %v in phase %s", err, f.Progress().Phase)
			}
			if how == "close" {
				c = open(t, cfg)
			}
			want := 1
			if how == "discard" {
				want = 0
			}
			if got := partials(t, dir); got != want {
				t.Errorf("%d partials, want %d", got, want)
			}
			h.gate, h.begun = nil, nil
			must(t, second(ensure(t, c, ref, catalog.EnsureOptions{})))
			if int(h.resumed.Load()) != want {
				t.Errorf("resumed %d times, want %d", h.resumed.Load(), want)
			}
		})
	}
}

// G7, PCO-70: what does not hash to what is expected gets no name, whoever says so.
func TestEnsureDigestMismatch(t *testing.T) {
	dir, h := t.TempDir(), newHub(tiny(1))
	h.data = tiny(2)
	c := open(t, catalog.Config{Dir: dir, Sources: h})
	_, err := ensure(t, c, ref, catalog.EnsureOptions{})
	wantCode(t, "wrong bytes", err, catalog.DigestMismatch)
	h.data = tiny(1)
	_, err = ensure(t, c, ref, catalog.EnsureOptions{SHA256: sum(tiny(3))})
	wantCode(t, "another digest than the caller's", err, catalog.DigestMismatch)
	_, err = ensure(t, c, ref+"#sha256="+sum(tiny(3)), catalog.EnsureOptions{})
	wantCode(t, "another digest than the reference's", err, catalog.DigestMismatch)
	if models, err := os.ReadDir(filepath.Join(dir, "models")); err != nil || len(models) != 0 || len(c.List()) != 0 || partials(t, dir) != 0 {
		t.Errorf("left: %v %v, %d partials", models, c.List(), partials(t, dir))
	}
}

// PCO-63: what trust refuses is not downloaded, and the code of a source's refusal
// arrives.
func TestEnsureRefused(t *testing.T) {
	h := newHub(tiny(1))
	strict := open(t, catalog.Config{Dir: t.TempDir(), Sources: h, Trust: catalog.Trust{Strict: true}})
	_, err := ensure(t, strict, ref, catalog.EnsureOptions{})
	wantCode(t, "strict without a digest", err, catalog.Untrusted)
	if h.resolved.Load() != 0 {
		t.Error("the source was asked all the same")
	}
	must(t, second(ensure(t, strict, ref, catalog.EnsureOptions{SHA256: sum(tiny(1))})))
	h = newHub(tiny(1))
	h.file.Path = "model.bin"
	c := open(t, catalog.Config{Dir: t.TempDir(), Sources: h})
	_, err = ensure(t, c, ref, catalog.EnsureOptions{})
	wantCode(t, "pickle", err, catalog.Untrusted)
	h.err = &fetch.Error{Code: fetch.GatedRepo, Hint: "ask for access"}
	_, err = ensure(t, c, ref, catalog.EnsureOptions{})
	if !errors.Is(err, fetch.GatedRepo) || !errors.Is(err, catalog.Code("GATED_REPO")) {
		t.Errorf("gated = %v", err)
	}
	_, err = ensure(t, c, "llama3", catalog.EnsureOptions{})
	wantCode(t, "alias", err, catalog.AliasNotAllowed)
	_, err = ensure(t, open(t, catalog.Config{Dir: t.TempDir()}), ref, catalog.EnsureOptions{})
	wantCode(t, "no sources", err, catalog.Untrusted)
}

// PCO-56: what a source says of names is not believed either.
func TestEnsureHostileNames(t *testing.T) {
	h := newHub(tiny(1))
	c := open(t, catalog.Config{Dir: t.TempDir(), Sources: h})
	for name, rule := range map[string]inputvalidation.Rule{
		"../tiny.gguf": inputvalidation.RuleTraversal, "/tiny.gguf": inputvalidation.RuleTraversal, "a//b.gguf": inputvalidation.RuleSyntax,
		"-rf.gguf": inputvalidation.RuleSyntax, "nul.gguf": inputvalidation.RuleSyntax, "a\\b.gguf": inputvalidation.RuleCharset,
		strings.Repeat("x", 251) + ".gguf": inputvalidation.RuleTooLong, "x\n.gguf": inputvalidation.RuleCharset,
	} {
		h.file.Path = name
		if _, err := ensure(t, c, ref, catalog.EnsureOptions{}); !errors.Is(err, rule) {
			t.Errorf("Ensure(file %q) = %v, want %q", name, err, rule)
		}
	}
	h.file.Path = "tiny-00001-of-00002.gguf"
	_, err := ensure(t, c, ref, catalog.EnsureOptions{})
	wantCode(t, "Ensure(a split with a part missing)", err, catalog.ModelIncompatible)
}

// A model in use is not replaced, and that is said before anything is downloaded;
// one that failed its verification has nothing left to replace.
func TestEnsureInUse(t *testing.T) {
	h := newHub(tiny(1))
	c := open(t, catalog.Config{Dir: t.TempDir(), Sources: h})
	m := add(t, c, ref, tiny(2))
	release, err := c.Use(m.ID)
	must(t, err)
	defer release()
	_, err = c.Ensure(t.Context(), ref, catalog.EnsureOptions{SHA256: sum(tiny(1))})
	wantCode(t, "Ensure(in use)", err, catalog.ModelInUse)
	if h.resolved.Load() != 0 {
		t.Error("the source was asked all the same")
	}
	must(t, os.WriteFile(located(t, c, ref), tiny(3), 0o600))
	got, err := ensure(t, c, ref, catalog.EnsureOptions{SHA256: sum(tiny(1))})
	if err != nil || got.Files[0].SHA256 != sum(tiny(1)) {
		t.Errorf("Ensure(failed) = %+v, %v", got, err)
	}
}

// PCO-64: the space is asked for before anything is written; a partial counts.
func TestEnsureSpace(t *testing.T) {
	h := newHub(tiny(1))
	free := uint64(len(h.data)) + 1<<30 - 1
	dir := t.TempDir()
	c := open(t, catalog.Config{Dir: dir, Sources: h, FreeSpace: func(string) (uint64, error) { return free, nil }})
	_, err := ensure(t, c, ref, catalog.EnsureOptions{})
	wantCode(t, "one byte too little", err, catalog.InsufficientDisk)
	_, err = c.Put(t.Context(), catalog.Put{Ref: ref, From: write(t, "tiny.gguf", tiny(1))})
	wantCode(t, "Put with one byte too little", err, catalog.InsufficientDisk)
	left, err := filepath.Glob(filepath.Join(dir, "partial", "fetch-*"))
	must(t, err)
	if len(left) != 1 {
		t.Fatalf("partials = %v", left)
	}
	must(t, os.WriteFile(filepath.Join(left[0], "x.part"), []byte("1"), 0o600))
	must(t, second(ensure(t, c, ref, catalog.EnsureOptions{})))
}

// PCO-68 with the real source: a file below an allowed folder.
func TestEnsureLocalFile(t *testing.T) {
	from := write(t, "sub/tiny.gguf", tiny(1))
	allowed := filepath.Dir(filepath.Dir(from))
	c := open(t, catalog.Config{Dir: t.TempDir(), Sources: fetch.Sources{File: fetch.LocalFile(fetch.LocalFileConfig{AllowedDirs: []string{allowed}})}})
	m, err := ensure(t, c, "file:sub/tiny.gguf", catalog.EnsureOptions{SHA256: sum(tiny(1))})
	must(t, err)
	if m.Files[0].SHA256 != sum(tiny(1)) {
		t.Errorf("entry = %+v", m)
	}
	must(t, second(c.Ready(t.Context(), "file:sub/tiny.gguf")))
	if _, err := ensure(t, c, "file:tiny.gguf", catalog.EnsureOptions{}); err == nil {
		t.Error("a file outside was fetched")
	}
}

// PCO-48: unfinished downloads can be removed.
func TestDiscardPartials(t *testing.T) {
	dir, h := t.TempDir(), newHub(tiny(1))
	h.gate = make(chan struct{})
	c := open(t, catalog.Config{Dir: dir, Sources: h})
	f, err := c.Ensure(t.Context(), ref, catalog.EnsureOptions{})
	must(t, err)
	f.Cancel(false)
	_, _ = f.Wait(t.Context())
	must(t, os.MkdirAll(filepath.Join(dir, "partial", "fetch-0"), 0o700))
	must(t, c.DiscardPartials())
	if partials(t, dir) != 0 {
		t.Errorf("%d partials", partials(t, dir))
	}
}

// A model that comes into use while another content is downloaded is not replaced,
// and what came is not lost: the next Ensure finds it (PCO-64).
func TestEnsureInUseMeanwhile(t *testing.T) {
	dir, h := t.TempDir(), newHub(tiny(1))
	h.gate, h.begun = make(chan struct{}), make(chan struct{})
	c := open(t, catalog.Config{Dir: dir, Sources: h})
	m := add(t, c, ref, tiny(2))
	want := catalog.EnsureOptions{SHA256: sum(tiny(1))}
	f, err := c.Ensure(t.Context(), ref, want)
	must(t, err)
	<-h.begun
	release, err := c.Use(m.ID)
	must(t, err)
	close(h.gate)
	_, err = f.Wait(t.Context())
	wantCode(t, "Wait(in use meanwhile)", err, catalog.ModelInUse)
	must(t, second(c.Ready(t.Context(), ref)))
	release()
	h.gate, h.begun = nil, nil
	got, err := ensure(t, c, ref, want)
	if err != nil || got.Files[0].SHA256 != sum(tiny(1)) || h.resumed.Load() != 1 {
		t.Errorf("Ensure(again) = %+v, %v, resumed %d times, want once", got, err, h.resumed.Load())
	}
}

// After Close nothing is written and the next owner finds the directory free, also
// while others still call (PCO-58).
func TestConcurrentSafeClose(t *testing.T) {
	dir := quickDir(t)
	c := open(t, catalog.Config{Dir: dir})
	m := add(t, c, ref, tiny(1))
	other := write(t, "tiny.gguf", tiny(2))
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			var err error
			for err == nil {
				_, err = c.Put(t.Context(), catalog.Put{Ref: "file:other.gguf", From: other})
				err = errors.Join(err, c.SetState(m.ID, catalog.Retired, m.AddedAt))
			}
		})
	}
	must(t, c.Close())
	next := open(t, catalog.Config{Dir: dir})
	before, err := os.ReadFile(filepath.Join(dir, "index.json"))
	must(t, err)
	all.Wait()
	after, err := os.ReadFile(filepath.Join(dir, "index.json"))
	must(t, err)
	if string(before) != string(after) {
		t.Error("the index changed after Close")
	}
	wantCode(t, "Remove(closed)", c.Remove(t.Context(), m.ID, true), catalog.Closed)
	must(t, next.Remove(t.Context(), m.ID, false))
}
