package authmin_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/llorch/llorch/authmin"
)

// recorder is a RoundTripper that answers by a function and keeps what it saw.
type recorder struct {
	mu     sync.Mutex
	seen   []string // "<host> <Authorization> <body>"
	answer func(n int) int
}

func (rt *recorder) RoundTrip(r *http.Request) (*http.Response, error) {
	rt.mu.Lock()
	defer rt.mu.Unlock()
	body := ""
	if r.Body != nil {
		raw, err := io.ReadAll(r.Body)
		if err != nil {
			return nil, err
		}
		body = string(raw)
		r.Body.Close()
	}
	rt.seen = append(rt.seen, strings.TrimSpace(r.URL.Host+" "+r.Header.Get("Authorization")+" "+body))
	status := http.StatusOK
	if rt.answer != nil {
		status = rt.answer(len(rt.seen))
	}
	return &http.Response{StatusCode: status, Header: http.Header{}, Body: io.NopCloser(strings.NewReader("x")), Request: r}, nil
}

// closing notices that a body was closed.
type closing struct {
	io.Reader
	closed *bool
}

func (c closing) Close() error { *c.closed = true; return nil }

func staticToken(tok authmin.Token) func(context.Context) (authmin.Token, error) {
	return func(context.Context) (authmin.Token, error) { return tok, nil }
}

func request(t *testing.T, method, url string, body io.Reader) *http.Request {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, url, body)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// AUTH-39, AUTH-40: where the token may go.
func TestTransportHosts(t *testing.T) {
	tok := parsed(t, "abc")
	for _, c := range []struct {
		url   string
		hosts []string
		plain bool
		want  error
	}{
		{url: "https://a.example/x", hosts: []string{"a.example"}},
		{url: "https://A.Example:443/x", hosts: []string{"a.example"}},
		{url: "https://a.example/x", hosts: []string{"A.EXAMPLE:443"}},
		{url: "https://a.example:8443/x", hosts: []string{"a.example:8443"}},
		{url: "https://a.example:8443/x", hosts: []string{"a.example"}, want: authmin.ErrHostNotListed},
		{url: "https://a.example/x", hosts: []string{"a.example:8443"}, want: authmin.ErrHostNotListed},
		{url: "https://x.a.example/x", hosts: []string{"a.example"}, want: authmin.ErrHostNotListed},
		{url: "http://a.example/x", hosts: []string{"a.example"}, want: authmin.ErrPlaintext},
		{url: "http://a.example/x", hosts: []string{"a.example"}, plain: true},
		{url: "http://localhost/x", hosts: []string{"localhost"}, want: authmin.ErrPlaintext},
		{url: "http://127.0.0.1:81/x", hosts: []string{"127.0.0.1:81"}},
		{url: "http://[::1]:81/x", hosts: []string{"[::1]:81"}},
		{url: "http://[::1]/x", hosts: []string{"[::1]"}},
		{url: "ftp://127.0.0.1/x", hosts: []string{"127.0.0.1"}, want: authmin.ErrHostNotListed},
	} {
		rt := &recorder{}
		tr := &authmin.Transport{Base: rt, Token: staticToken(tok), Hosts: c.hosts, AllowPlaintext: c.plain}
		closed := false
		r := request(t, http.MethodPost, c.url, closing{strings.NewReader("b"), &closed})
		resp, err := tr.RoundTrip(r)
		if !errors.Is(err, c.want) || !closed {
			t.Errorf("%s to %v = %v (body closed %v), want %v", c.url, c.hosts, err, closed, c.want)
		}
		if err == nil {
			resp.Body.Close()
			if len(rt.seen) != 1 || !strings.HasSuffix(rt.seen[0], " Bearer abc b") || resp.Request != r || r.Header.Get("Authorization") != "" {
				t.Errorf("%s: sent %q; the caller's request carries %q", c.url, rt.seen, r.Header.Get("Authorization"))
			}
		} else if len(rt.seen) != 0 {
			t.Errorf("%s was sent", c.url)
		}
	}
}

// AUTH-39: every refusal closes the body and sends nothing.
func TestTransportRefuses(t *testing.T) {
	bad := errors.New("file gone")
	good := staticToken(parsed(t, "abc"))
	for name, c := range map[string]struct {
		tr           authmin.Transport
		spelled, own string
		want         error
		says         string
	}{
		"no hosts":  {tr: authmin.Transport{Token: good}, says: "needs Token and Hosts"},
		"no func":   {tr: authmin.Transport{Hosts: []string{"a.example"}}, says: "needs Token and Hosts"},
		"own field": {tr: authmin.Transport{Token: good, Hosts: []string{"a.example"}}, spelled: "Authorization", own: "Bearer mine"},
		"odd field": {tr: authmin.Transport{Token: good, Hosts: []string{"a.example"}}, spelled: "authorization", own: "Bearer mine"},
		"no token":  {tr: authmin.Transport{Token: staticToken(authmin.Token{}), Hosts: []string{"a.example"}}, want: authmin.ErrMissing},
		"failing":   {tr: authmin.Transport{Token: func(context.Context) (authmin.Token, error) { return authmin.Token{}, bad }, Hosts: []string{"a.example"}}, want: bad},
	} {
		rt := &recorder{}
		c.tr.Base = rt
		closed := false
		r := request(t, http.MethodPost, "https://a.example/", closing{strings.NewReader("b"), &closed})
		if c.own != "" {
			r.Header[c.spelled] = []string{c.own}
		}
		resp, err := c.tr.RoundTrip(r)
		if resp != nil {
			resp.Body.Close()
		}
		if err == nil || c.want != nil && !errors.Is(err, c.want) || !closed || len(rt.seen) > 0 || strings.Contains(err.Error(), "mine") || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, body closed %v, sent %v", name, err, closed, rt.seen)
		}
	}
}

// AUTH-41: one repetition, only with another token and a body that can be had
// again.
func TestTransportRetries(t *testing.T) {
	reader := func() io.Reader { return strings.NewReader("body") } // NewRequest gives it a GetBody
	for name, c := range map[string]struct {
		tokens []string
		body   func() io.Reader
		answer []int
		want   []string
		status int
	}{
		"changed":        {[]string{"one", "two"}, reader, []int{401, 200}, []string{"a.example Bearer one body", "a.example Bearer two body"}, 200},
		"no body":        {[]string{"one", "two"}, nil, []int{401, 200}, []string{"a.example Bearer one", "a.example Bearer two"}, 200},
		"only once":      {[]string{"one", "two", "three"}, nil, []int{401, 401}, []string{"a.example Bearer one", "a.example Bearer two"}, 401},
		"same token":     {[]string{"one", "one"}, nil, []int{401}, []string{"a.example Bearer one"}, 401},
		"none any more":  {[]string{"one", ""}, nil, []int{401}, []string{"a.example Bearer one"}, 401},
		"one-way body":   {[]string{"one", "two"}, func() io.Reader { return io.MultiReader(reader()) }, []int{401}, []string{"a.example Bearer one body"}, 401},
		"403 is final":   {[]string{"one", "two"}, nil, []int{403}, []string{"a.example Bearer one"}, 403},
		"first one fits": {[]string{"one", "two"}, nil, []int{200}, []string{"a.example Bearer one"}, 200},
	} {
		rt := &recorder{answer: func(n int) int { return c.answer[n-1] }}
		asked := 0
		tr := &authmin.Transport{Base: rt, Hosts: []string{"a.example"}, Token: func(context.Context) (authmin.Token, error) {
			asked++
			if c.tokens[asked-1] == "" {
				return authmin.Token{}, nil
			}
			return authmin.ParseToken(c.tokens[asked-1])
		}}
		var body io.Reader
		if c.body != nil {
			body = c.body()
		}
		resp, err := tr.RoundTrip(request(t, http.MethodPost, "https://a.example/", body))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if rest, err := io.ReadAll(resp.Body); string(rest) != "x" || err != nil {
			t.Errorf("%s: the answer that is returned was drained", name)
		}
		resp.Body.Close()
		if fmt.Sprint(rt.seen) != fmt.Sprint(c.want) || resp.StatusCode != c.status {
			t.Errorf("%s: sent %q, status %d, want %q, %d", name, rt.seen, resp.StatusCode, c.want, c.status)
		}
	}
}

// countingBody is an answer that goes on and on.
type countingBody struct {
	read   int
	closed bool
}

func (b *countingBody) Read(p []byte) (int, error) { b.read += len(p); return len(p), nil }
func (b *countingBody) Close() error               { b.closed = true; return nil }

// AUTH-41: before the repetition the first answer is read, so that its connection
// can be used again, but not beyond 64 KiB, and closed.
func TestTransportDrains(t *testing.T) {
	first, asked := new(countingBody), 0
	base := roundTripFunc(func(r *http.Request) (*http.Response, error) {
		if asked == 1 {
			return &http.Response{StatusCode: http.StatusUnauthorized, Body: first, Request: r}, nil
		}
		if !first.closed {
			t.Error("the request is repeated before the first answer is closed")
		}
		return &http.Response{StatusCode: http.StatusOK, Body: http.NoBody, Request: r}, nil
	})
	tr := &authmin.Transport{Base: base, Hosts: []string{"a.example"}, Token: func(context.Context) (authmin.Token, error) {
		asked++
		return authmin.ParseToken(fmt.Sprint("token", asked))
	}}
	resp, err := tr.RoundTrip(request(t, http.MethodGet, "https://a.example/", http.NoBody))
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatal(resp, err)
	}
	resp.Body.Close()
	if first.read < 1 || first.read > 64<<10 || !first.closed {
		t.Errorf("read %d bytes of the first answer, closed %v", first.read, first.closed)
	}
}

type roundTripFunc func(*http.Request) (*http.Response, error)

func (f roundTripFunc) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// AUTH-40: a RoundTripper that adds the field on every hop hands it to whoever
// redirects. This one looks at every hop.
func TestTrap_RedirectLeaksToken(t *testing.T) {
	var stolen []string
	thief := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { stolen = append(stolen, r.Header.Get("Authorization")) }))
	defer thief.Close()
	first := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, thief.URL, http.StatusFound) }))
	defer first.Close()
	tr := &authmin.Transport{Token: staticToken(parsed(t, canary)), Hosts: []string{strings.TrimPrefix(first.URL, "http://")}}
	resp, err := (&http.Client{Transport: tr}).Do(request(t, http.MethodGet, first.URL, http.NoBody))
	if resp != nil {
		resp.Body.Close()
	}
	if !errors.Is(err, authmin.ErrHostNotListed) || len(stolen) != 0 || leaks(fmt.Sprintf("%v %+v", err, resp)) {
		t.Errorf("Get = %v, the other host saw %q", err, stolen)
	}
}

// The way through a real gate: the token of the client is the principal there.
func TestTransportMeetsGate(t *testing.T) {
	tok := authmin.Generate("demo")
	gate := newGate(t, authmin.Config{Keys: keySet(t, authmin.Key{Name: "node-1", Token: tok})})
	srv := httptest.NewServer(gate.Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p, _ := authmin.PrincipalFrom(r.Context())
		fmt.Fprint(w, p.Name, " ", p)
	})))
	defer srv.Close()
	client := &http.Client{Transport: &authmin.Transport{Token: staticToken(tok), Hosts: []string{strings.TrimPrefix(srv.URL, "http://")}}}
	resp, err := client.Do(request(t, http.MethodPost, srv.URL+"/v2/nodes", bytes.NewReader([]byte("{}"))))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if want := "node-1 token:" + authmin.FP6(tok.Reveal()); string(body) != want || err != nil {
		t.Errorf("answer = %q, %v, want %q", body, err, want)
	}
}
