package fetch

import (
	"context"
	"net/http"
	"net/url"
	"path"

	"github.com/llorch/llorch/inputvalidation"
)

// HTTPSConfig configures [HTTPS].
type HTTPSConfig struct {
	Egress Egress // must hold the reference's host and those that it redirects to
}

// HTTPS returns a source for references of scheme https. The name of a file
// comes from the reference, never from an answer. Nothing on the web says what a
// file must hash to: without a pinned digest its tag alone tells one content
// from another.
func HTTPS(cfg HTTPSConfig) Source { return &web{newClient(cfg.Egress)} }

type web struct{ client *client }

// Resolve asks for size and tag of each file.
func (w *web) Resolve(ctx context.Context, ref inputvalidation.ModelRef, _ Options) (Plan, error) {
	host := ref.Host()
	if ref.Port() != "" {
		host += ":" + ref.Port()
	}
	plan := Plan{URL: (&url.URL{Scheme: "https", Host: host, Path: "/" + ref.Path()}).String()}
	for _, p := range SplitParts(ref.Path()) {
		f := File{Path: path.Base(p), Size: -1, URL: (&url.URL{Scheme: "https", Host: host, Path: "/" + p}).String()}
		if err := w.look(ctx, &f); err != nil {
			return Plan{}, at(err, f.Path)
		}
		plan.Files = append(plan.Files, f)
	}
	return plan, nil
}

// look fills size and tag as far as the server tells them.
func (w *web) look(ctx context.Context, f *File) error {
	ctx, cancel := context.WithTimeoutCause(ctx, 2*stallAfter, &Error{Code: Stalled, Retriable: true, Hint: "the server did not answer in time"})
	defer cancel()
	r, _, err := w.client.get(ctx, http.MethodHead, f.URL, "", nil)
	if err != nil {
		return err
	}
	_ = r.Body.Close() // an answer to HEAD has no body
	switch r.StatusCode {
	case http.StatusOK:
		f.Size, f.ETag = r.ContentLength, strongTag(r.Header.Get("ETag"))
		return nil
	case http.StatusMethodNotAllowed, http.StatusNotImplemented:
		return nil // found out while downloading
	}
	return statusError(r)
}

// Open asks for the file.
func (w *web) Open(ctx context.Context, f File, from int64, tag string) (*Body, error) {
	b, _, err := w.client.open(ctx, f.URL, "", from, tag)
	if err != nil {
		return nil, err
	}
	if f.ETag != "" && b.Tag != "" && b.Tag != f.ETag {
		_ = b.Close() // these are other bytes
		return nil, &Error{Code: Changed, Retriable: true, Hint: "the file has changed since it was looked at"}
	}
	return b, nil
}
