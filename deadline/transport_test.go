package deadline_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"github.com/llorch/llorch/deadline"
)

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

type closeCounter struct {
	io.Reader
	closed *int
}

func (c closeCounter) Close() error { *c.closed++; return nil }

// DL-20: nothing left → nothing dialled, body closed, caller's request as it was.
func TestTransportRefuses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tr := &deadline.Transport{Margin: time.Second, Hop: "worker", Base: roundTripper(func(*http.Request) (*http.Response, error) {
			t.Error("dialled")
			return nil, io.EOF
		})}
		ctx, cancel := deadline.With(t.Context(), deadline.After(time.Second))
		defer cancel()
		closed := 0
		r, _ := http.NewRequestWithContext(ctx, http.MethodPost, "http://hop/", closeCounter{strings.NewReader("x"), &closed})
		r.Header.Set("Grpc-Timeout", "9S")
		_, err := (&http.Client{Transport: tr}).Do(r)
		e, ok := errors.AsType[*deadline.Exceeded](err)
		if !ok || e.Hop != "worker" || e.Stage != deadline.StageDispatch || closed != 1 || r.Header.Get("Grpc-Timeout") != "9S" {
			t.Errorf("%v, closed %d times, %v", err, closed, r.Header)
		}
	})
}

// DL-20, DL-21: Default bounds the call; the error names the hop and is a timeout
// for everybody who looks, before and after the header.
func TestTransportExpires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/stream" {
				w.WriteHeader(http.StatusOK)
				w.(http.Flusher).Flush()
			}
			<-r.Context().Done()
		}))
		client.Transport = &deadline.Transport{Base: client.Transport, Default: 2 * time.Second}
		check := func(err error) {
			t.Helper()
			e, ok := errors.AsType[*deadline.Exceeded](err)
			if !ok || e.Hop != "hop" || e.Stage != deadline.StageDispatch || e.Budget != 2*time.Second || !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("error %#v", err)
			}
			if timeout, ok := err.(interface{ Timeout() bool }); !ok || !timeout.Timeout() {
				t.Errorf("%v is no timeout", err)
			}
		}
		start := time.Now()
		_, err := client.Get("http://hop/silent")
		check(err)
		if e, ok := errors.AsType[*url.Error](err); !ok || !e.Timeout() {
			t.Errorf("%v is no timeout of a url.Error", err)
		}
		resp, err := client.Get("http://hop/stream")
		if err != nil {
			t.Fatal(err)
		}
		_, err = io.ReadAll(resp.Body)
		check(err)
		if err := resp.Body.Close(); err != nil || time.Since(start) != 4*time.Second {
			t.Errorf("closed with %v after %v", err, time.Since(start))
		}
	})
}

// DL-21: the error tells the whole budget that a plain context gave, also when it
// is over.
func TestTransportPlainContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		tr := &deadline.Transport{Base: roundTripper(func(r *http.Request) (*http.Response, error) {
			<-r.Context().Done()
			return nil, r.Context().Err()
		})}
		r, _ := http.NewRequestWithContext(ctx, http.MethodGet, "http://hop/", nil)
		_, err := tr.RoundTrip(r)
		if e, ok := errors.AsType[*deadline.Exceeded](err); !ok || e.Budget != 3*time.Second || e.Hop != "hop" || e.Over() != 0 {
			t.Errorf("%#v", err)
		}
		again, stop := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, stop)
		r, _ = http.NewRequestWithContext(again, http.MethodGet, "http://hop/", nil)
		if _, err := tr.RoundTrip(r); !errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a cancelled call: %v", err)
		}
	})
}

// DL-20: Default bounds only calls whose context has no deadline; the margin is
// kept back from what the next hop is told; RoundTrip changes its own copy.
func TestTransportDefault(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, c := range []struct{ ctx, def, margin, want time.Duration }{
			{0, 0, 0, 0},
			{0, 5 * time.Second, 0, 5 * time.Second},
			{0, 5 * time.Second, time.Second, 4 * time.Second},
			{time.Minute, 5 * time.Second, 0, time.Minute},
			{2 * time.Second, 5 * time.Second, 500 * time.Millisecond, 1500 * time.Millisecond},
		} {
			ctx := t.Context()
			if c.ctx > 0 {
				var cancel context.CancelFunc
				ctx, cancel = context.WithTimeout(ctx, c.ctx)
				defer cancel()
			}
			var sent http.Header
			tr := &deadline.Transport{Default: c.def, Margin: c.margin, Base: roundTripper(func(r *http.Request) (*http.Response, error) {
				sent = r.Header
				return &http.Response{StatusCode: 200, Body: http.NoBody}, nil
			})}
			r, _ := http.NewRequestWithContext(ctx, http.MethodGet, "http://hop/", nil)
			r.Header.Set("X-Request-Timeout-Ms", "77")
			resp, err := tr.RoundTrip(r)
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			want := ""
			if c.want > 0 {
				want = strconv.FormatInt(c.want.Milliseconds(), 10)
			}
			if got := sent.Get("X-Request-Timeout-Ms"); got != want || r.Header.Get("X-Request-Timeout-Ms") != "77" || len(r.Header) != 1 {
				t.Errorf("%+v: sent %q, want %q; the caller's header is now %v", c, got, want, r.Header)
			}
		}
	})
}

// DL-21: the context made for Default is released as soon as the body is done,
// or the call has failed.
func TestTransportReleasesContext(t *testing.T) {
	for name, finish := range map[string]func(io.ReadCloser){
		"EOF":   func(b io.ReadCloser) { _, _ = io.ReadAll(b) },
		"Close": func(b io.ReadCloser) { _ = b.Close() },
		"error": func(b io.ReadCloser) { _, _ = b.Read(make([]byte, 1)); _, _ = b.Read(nil) },
	} {
		var inner context.Context
		tr := &deadline.Transport{Default: time.Hour, Base: roundTripper(func(r *http.Request) (*http.Response, error) {
			inner = r.Context()
			if name == "error" {
				return &http.Response{StatusCode: 200, Body: io.NopCloser(iotest.TimeoutReader(strings.NewReader("x")))}, nil
			}
			return &http.Response{StatusCode: 200, Body: io.NopCloser(strings.NewReader("x"))}, nil
		})}
		r, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://hop/", nil)
		r.Header = nil // a RoundTripper may meet such a request
		resp, err := tr.RoundTrip(r)
		if err != nil || inner.Err() != nil {
			t.Fatalf("%s: %v, %v", name, err, inner.Err())
		}
		finish(resp.Body)
		if inner.Err() == nil {
			t.Errorf("after %s the context still lives", name)
		}
	}
	var inner context.Context
	failing := &deadline.Transport{Default: time.Hour, Base: roundTripper(func(r *http.Request) (*http.Response, error) {
		inner = r.Context()
		return nil, io.ErrUnexpectedEOF
	})}
	r, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://hop/", nil)
	if _, err := failing.RoundTrip(r); !errors.Is(err, io.ErrUnexpectedEOF) || inner.Err() == nil {
		t.Errorf("%v, and the context of a failed call still lives", err)
	}
}

// An error that the deadline did not cause stays itself; a 504 from below is a
// response (DL-22).
func TestTransportPassesOn(t *testing.T) {
	refused := errors.New("refused")
	tr := &deadline.Transport{Default: time.Hour, Base: roundTripper(func(r *http.Request) (*http.Response, error) {
		switch r.URL.Path {
		case "/504":
			return &http.Response{StatusCode: 504, Body: http.NoBody}, nil
		case "/101":
			return &http.Response{StatusCode: 101, Body: upgraded{}}, nil
		}
		return nil, refused
	})}
	get := func(path string) (*http.Response, error) {
		r, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://hop"+path, nil)
		return tr.RoundTrip(r)
	}
	if _, err := get("/"); !errors.Is(err, refused) {
		t.Errorf("error %v", err)
	}
	if resp, err := get("/504"); err != nil || resp.StatusCode != 504 {
		t.Errorf("504 from below: %v", err)
	}
	if resp, err := get("/101"); err != nil {
		t.Error(err)
	} else if _, ok := resp.Body.(io.Writer); !ok {
		t.Error("an upgraded connection cannot be written to any more")
	}
}

type upgraded struct{ io.ReadWriteCloser }
