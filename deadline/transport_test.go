package deadline_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
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

// DL-21: the context made for Default is released as soon as the body is done.
func TestTransportReleasesContext(t *testing.T) {
	for name, finish := range map[string]func(io.ReadCloser){
		"EOF":   func(b io.ReadCloser) { _, _ = io.ReadAll(b) },
		"Close": func(b io.ReadCloser) { _ = b.Close() },
	} {
		var inner context.Context
		tr := &deadline.Transport{Default: time.Hour, Base: roundTripper(func(r *http.Request) (*http.Response, error) {
			inner = r.Context()
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
