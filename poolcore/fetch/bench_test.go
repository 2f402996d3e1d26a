package fetch_test

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/llorch/llorch/inputvalidation"
	"github.com/llorch/llorch/poolcore/fetch"
)

const benchSize = 256 << 20

// plain is a source of one file at an address, with the client of net/http.
type plain struct{ url, digest string }

func (p plain) Resolve(context.Context, inputvalidation.ModelRef, fetch.Options) (fetch.Plan, error) {
	return fetch.Plan{Files: []fetch.File{{Path: model, Size: benchSize, SHA256: p.digest}}}, nil
}

func (p plain) Open(context.Context, fetch.File, int64, string) (*fetch.Body, error) {
	r, err := http.Get(p.url)
	if err != nil {
		return nil, err
	}
	return &fetch.Body{ReadCloser: r.Body, Total: r.ContentLength, Ended: true}, nil
}

// BenchmarkDownload measures downloading and hashing against io.Copy of the same
// answer into a file, synced alike, in turn in one run. The ratio is best to best.
func BenchmarkDownload(b *testing.B) {
	data := content(1, benchSize)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(data))
	}))
	defer srv.Close()
	s := fetch.Sources{HF: plain{srv.URL, sum(data)}}
	dir := b.TempDir()
	naive := func() {
		f, err := os.Create(filepath.Join(dir, "naive"))
		if err != nil {
			b.Fatal(err)
		}
		defer f.Close()
		r, err := http.Get(srv.URL)
		if err != nil {
			b.Fatal(err)
		}
		defer r.Body.Close()
		if n, err := io.Copy(f, r.Body); n != benchSize || err != nil {
			b.Fatal(n, err)
		}
		if err := f.Sync(); err != nil {
			b.Fatal(err)
		}
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		b.Fatal(err)
	}
	defer root.Close()
	ours := func() {
		plan, err := s.Resolve(b.Context(), ref(b, modelRef), fetch.Options{})
		if err != nil {
			b.Fatal(err)
		}
		if _, err := s.Download(b.Context(), plan, root, func(fetch.Progress) {}); err != nil {
			b.Fatal(err)
		}
		if err := fetch.Discard(root, plan); err != nil {
			b.Fatal(err)
		}
	}
	best := func(best time.Duration, f func()) time.Duration {
		start := time.Now()
		f()
		d := time.Since(start)
		if best == 0 {
			return d
		}
		return min(best, d)
	}
	var slow, fast time.Duration
	for b.Loop() {
		slow = best(slow, ours)
		fast = best(fast, naive)
	}
	b.ReportMetric(benchSize/slow.Seconds()/1e6, "MB/s")
	b.ReportMetric(benchSize/fast.Seconds()/1e6, "io.Copy-MB/s")
	b.ReportMetric(fast.Seconds()/slow.Seconds(), "ratio")
}
