package poolregistry

import (
	"cmp"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/llorch/llorch/inputvalidation"
)

// An AddressPolicy says which addresses this process may connect to. The zero
// value allows private addresses, over http and https, from port 1024 on.
type AddressPolicy struct {
	RequireTLS bool
	Allow      []inputvalidation.AddrKind // public, private, loopback; nil = private only
	MinPort    uint16                     // 80 and 443 are always allowed; 0 = 1024
}

const maxAddress = 2048

// kinds returns what may be dialled: metadata, link-local and reserved
// addresses never, whatever the policy says.
func (p AddressPolicy) kinds() []inputvalidation.AddrKind {
	if p.Allow == nil {
		return []inputvalidation.AddrKind{inputvalidation.AddrPrivate}
	}
	return slices.DeleteFunc(slices.Clone(p.Allow), never)
}

func never(k inputvalidation.AddrKind) bool {
	return k != inputvalidation.AddrPublic && k != inputvalidation.AddrPrivate && k != inputvalidation.AddrLoopback
}

func (p AddressPolicy) validate() error {
	if slices.ContainsFunc(p.Allow, never) {
		return errors.New("address.allow: only public, private and loopback can be allowed")
	}
	return nil
}

// Check reads the address of a node or worker: http or https, host and explicit
// port, no path but "/", no user, query, fragment or zone. An IP address must be
// of an allowed kind; a name is judged when it is dialled, by [AddressPolicy.Transport].
// The error is an [*Error] with code [AddressNotAllowed] that names the rule.
func (p AddressPolicy) Check(raw string) (*url.URL, error) {
	u, fault := p.check(raw)
	if fault != "" {
		return nil, &Error{Code: AddressNotAllowed, Fields: []string{"address: " + fault}}
	}
	return u, nil
}

func (p AddressPolicy) check(raw string) (u *url.URL, fault string) {
	switch {
	case raw == "":
		return nil, faultRequired
	case len(raw) > maxAddress:
		return nil, faultTooLong
	case strings.ContainsFunc(raw, func(r rune) bool { return r <= ' ' || r >= 0x7f || r == '\\' }):
		return nil, faultCharset
	case strings.ContainsAny(raw, "@?#%"):
		return nil, faultSyntax
	}
	u, err := url.Parse(raw)
	if err != nil || u.Opaque != "" || u.Host == "" || u.Path != "" && u.Path != "/" {
		return nil, faultSyntax
	}
	if u.Scheme != "https" && (u.Scheme != "http" || p.RequireTLS) {
		return nil, faultScheme
	}
	u.Path = ""
	if fault := p.checkHost(u.Hostname()); fault != "" {
		return nil, fault
	}
	if strings.HasPrefix(u.Port(), "+") || !p.portAllowed(u.Port()) {
		return nil, faultPort
	}
	return u, ""
}

func (p AddressPolicy) checkHost(host string) string {
	if ip, err := netip.ParseAddr(host); err == nil {
		if !slices.Contains(p.kinds(), inputvalidation.ClassifyAddr(ip)) {
			return faultAddress
		}
		return ""
	}
	if host == "" || len(host) > 253 || strings.ContainsFunc(host, func(r rune) bool {
		return !('a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || strings.ContainsRune(".-_", r))
	}) {
		return faultSyntax
	}
	return ""
}

func (p AddressPolicy) portAllowed(s string) bool {
	port, err := strconv.ParseUint(s, 10, 16)
	return err == nil && port > 0 && (port == 80 || port == 443 || port >= uint64(cmp.Or(p.MinPort, 1024)))
}

// Transport returns a new transport whose dialer judges the address that is
// really connected, on every dial, so that odd spellings and names that change
// their answer need no rule of their own. It ignores proxy variables, and leaves an
// HTTP/2 connection on which nothing comes for ten seconds. Redirects
// are the client's business: see [http.Client.CheckRedirect].
func (p AddressPolicy) Transport() *http.Transport {
	dialer := &net.Dialer{Timeout: 5 * time.Second, Control: inputvalidation.DialControl(p.kinds()...)}
	return &http.Transport{
		DialContext:           dialer.DialContext,
		TLSClientConfig:       &tls.Config{MinVersion: tls.VersionTLS12},
		TLSHandshakeTimeout:   5 * time.Second,
		ResponseHeaderTimeout: 15 * time.Second,
		MaxIdleConnsPerHost:   4,
		IdleConnTimeout:       90 * time.Second,
		ForceAttemptHTTP2:     true,
		// HTTP/2 would go on sending over a connection that nobody answers any more
		// until the kernel gives it up, a quarter of an hour later.
		HTTP2: &http.HTTP2Config{SendPingTimeout: 5 * time.Second, PingTimeout: 5 * time.Second},
	}
}
