package fetch

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/llorch/llorch/inputvalidation"
)

const (
	maxRedirects = 5
	maxURL       = 8 << 10 // bytes; signed addresses of delivery hosts have about 2,000
	dialTimeout  = 10 * time.Second
)

// Egress says whom a source may talk to. The zero value allows nobody.
type Egress struct {
	// Hosts are names of hosts, of redirects too, at any port. "*.example.com"
	// stands for each name below example.com, not for example.com itself.
	Hosts []string
	// Allow lists the kinds of addresses that may be connected; nil = public.
	Allow []inputvalidation.AddrKind
	// Proxy honours HTTPS_PROXY, HTTP_PROXY and NO_PROXY. The proxy then chooses
	// the address, and Allow judges the proxy's own.
	Proxy bool
	// HTTPLoopback admits http:// to 127.0.0.0/8, ::1 and localhost, for tests.
	HTTPLoopback bool
	// RootCAs sign the servers' certificates; nil = those of the system.
	RootCAs *x509.CertPool

	reroute func(dialFunc) dialFunc // tests stand in for name servers
}

type dialFunc = func(ctx context.Context, network, address string) (net.Conn, error)

// HuggingFaceHosts returns huggingface.co and the domains that deliver its files.
func HuggingFaceHosts() []string {
	return []string{"huggingface.co", "*.huggingface.co", "*.hf.co"}
}

// check refuses an address that is not in e.
func (e Egress) check(u *url.URL) error {
	host := strings.ToLower(u.Hostname())
	shown := inputvalidation.EscapeMax(host, 253)
	switch {
	case u.User != nil, host == "", u.Opaque != "", len(u.RawQuery)+len(u.Path) > maxURL:
		return &Error{Code: HostNotAllowed, Host: shown, Hint: "the form of the address is refused"}
	case u.Scheme != "https" && (u.Scheme != "http" || !e.HTTPLoopback || !isLoopback(host)):
		return &Error{Code: HostNotAllowed, Host: shown, Hint: "only https is spoken"}
	case !e.allows(host):
		return &Error{Code: HostNotAllowed, Host: shown, Hint: "the host is not in the list of hosts to download from"}
	}
	return nil
}

func (e Egress) allows(host string) bool {
	return slices.ContainsFunc(e.Hosts, func(pattern string) bool {
		suffix, wild := strings.CutPrefix(strings.ToLower(pattern), "*")
		if !wild {
			return host == suffix
		}
		return len(suffix) > 1 && suffix[0] == '.' && len(host) > len(suffix) && strings.HasSuffix(host, suffix)
	})
}

func isLoopback(host string) bool {
	a, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && a.Unmap().IsLoopback()
}

// client makes requests within an Egress.
type client struct {
	egress    Egress
	transport http.RoundTripper
}

func newClient(e Egress) *client {
	allow := e.Allow
	if allow == nil {
		allow = []inputvalidation.AddrKind{inputvalidation.AddrPublic}
	}
	d := &net.Dialer{Timeout: dialTimeout, Control: inputvalidation.DialControl(allow...)}
	dial := d.DialContext
	if e.reroute != nil {
		dial = e.reroute(dial)
	}
	t := &http.Transport{
		DialContext:            dial,
		TLSHandshakeTimeout:    dialTimeout,
		ResponseHeaderTimeout:  stallAfter,
		MaxResponseHeaderBytes: 64 << 10,
		DisableCompression:     true, // bytes are hashed as they are
		DisableKeepAlives:      true, // requests are few; nothing has to be closed
		TLSClientConfig:        &tls.Config{RootCAs: e.RootCAs, MinVersion: tls.VersionTLS12},
	}
	if e.Proxy {
		t.Proxy = http.ProxyFromEnvironment
	}
	return &client{e, t}
}

// get follows redirects from an address. It returns the last answer and the head
// of the first. The token goes to the first host, and not any more once another
// host was asked.
func (c *client) get(ctx context.Context, method, address, token string, header http.Header) (last *http.Response, first http.Header, err error) {
	req, err := http.NewRequestWithContext(ctx, method, address, nil)
	if err != nil {
		return nil, nil, &Error{Code: SourceInvalid, Hint: "the address can not be read"}
	}
	maps.Copy(req.Header, header)
	req.Header.Set("Accept-Encoding", "identity")
	req.Header.Set("User-Agent", "llorch")
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	if err := c.egress.check(req.URL); err != nil {
		return nil, nil, err
	}
	host := req.URL.Hostname()
	hops := http.Client{Transport: c.transport, CheckRedirect: func(next *http.Request, before []*http.Request) error {
		if len(before) == 1 {
			first = next.Response.Header
		}
		host = next.URL.Hostname()
		return c.hop(next, before)
	}}
	last, err = hops.Do(req)
	if err != nil {
		return nil, nil, transportError(ctx, host, err)
	}
	if first == nil {
		first = last.Header
	}
	return last, first, nil
}

// hop judges the next request of a chain of redirects, which has the first one's
// header again.
func (c *client) hop(next *http.Request, before []*http.Request) error {
	if len(before) > maxRedirects {
		return &Error{Code: SourceInvalid, Host: next.URL.Hostname(), Hint: "more than 5 redirects"}
	}
	next.Header.Del("Referer")
	home := before[0].URL
	away := func(r *http.Request) bool { return r.URL.Scheme != home.Scheme || r.URL.Host != home.Host }
	if away(next) || slices.ContainsFunc(before, away) {
		next.Header.Del("Authorization")
	}
	return c.egress.check(next.URL)
}

// readAll reads the body of a short answer.
func readAll(ctx context.Context, r *http.Response, most int64) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(r.Body, most+1))
	switch {
	case err != nil:
		return nil, transportError(ctx, r.Request.URL.Hostname(), err)
	case int64(len(b)) > most:
		return nil, &Error{Code: SourceInvalid, Host: r.Request.URL.Hostname(), Hint: "the answer is too long"}
	}
	return b, nil
}
