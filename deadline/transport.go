package deadline

import (
	"context"
	"errors"
	"io"
	"net/http"
	"sync"
	"time"
)

// Transport tells the next hop what is left of the context's deadline and
// refuses to call it when nothing is. It may be used by several goroutines; the
// caller's request is not changed. A 504 from below comes back as a response.
type Transport struct {
	// Base does the work. nil = http.DefaultTransport.
	Base http.RoundTripper
	// Margin is kept back for the way home: enough that the other side's 504
	// arrives while there is time to pass it on. 0, or negative = nothing.
	Margin time.Duration
	// Default bounds requests whose context has no deadline, body included.
	// 0 = unbounded.
	Default time.Duration
	// Hop names the other side in errors. "" = the URL's host.
	Hop string
}

// RoundTrip implements [http.RoundTripper]. After the deadline its error, and
// that of reading the body, is an [*Exceeded] of stage dispatch.
func (t *Transport) RoundTrip(r *http.Request) (*http.Response, error) {
	ctx, cancel := r.Context(), context.CancelFunc(func() {})
	d, ok := From(ctx)
	if !ok && t.Default > 0 {
		d = After(t.Default)
		ctx, cancel = with(ctx, d, StageDispatch)
	}
	out := r.Clone(ctx)
	if out.Header == nil {
		out.Header = http.Header{}
	}
	if err := Inject(ctx, out.Header, t.Margin); err != nil {
		cancel()
		if r.Body != nil {
			_ = r.Body.Close() // a RoundTripper owes this even when it refuses
		}
		return nil, t.named(err, r)
	}
	base := t.Base
	if base == nil {
		base = http.DefaultTransport
	}
	resp, err := base.RoundTrip(out)
	if err != nil {
		err = t.explain(ctx, d, err, r)
		cancel()
		return nil, err
	}
	if resp.StatusCode == http.StatusSwitchingProtocols {
		return resp, nil // its body is also a writer and must stay as it is
	}
	if resp.Body == nil { // http.Client knows what to do about such a Base
		cancel()
		return resp, nil
	}
	resp.Body = &body{ReadCloser: resp.Body, cancel: sync.OnceFunc(cancel), explain: func(err error) error {
		return t.explain(ctx, d, err, r)
	}}
	return resp, nil
}

// explain replaces an error that the deadline caused.
func (t *Transport) explain(ctx context.Context, d Deadline, err error, r *http.Request) error {
	if !errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return err
	}
	return t.named(&Exceeded{Stage: StageDispatch, Budget: d.budget, At: d.at}, r)
}

func (t *Transport) named(err error, r *http.Request) error {
	if e, ok := errors.AsType[*Exceeded](err); ok {
		e.Hop = t.Hop
		if e.Hop == "" {
			e.Hop = r.URL.Host
		}
	}
	return err
}

// body explains read errors and releases the context that Default made.
type body struct {
	io.ReadCloser
	cancel  func()
	explain func(error) error
}

func (b *body) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil {
		if !errors.Is(err, io.EOF) {
			err = b.explain(err)
		}
		b.cancel()
	}
	return n, err
}

func (b *body) Close() error {
	defer b.cancel()
	return b.ReadCloser.Close()
}
